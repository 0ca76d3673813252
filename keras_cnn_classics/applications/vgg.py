"""VGG: nothing but 3x3 convolutions and 2x2 pools, deeper than anyone had gone.

Two 3x3 convolutions see as much as one 5x5, with fewer weights and one more ReLU between them.
The paper's table 1 has six columns: A, A-LRN, B, C, D and E. D and E are Keras's `VGG16` and
`VGG19`; the forms with batch normalization came later and are torchvision's.

References:
    - [Very deep convolutional networks for large-scale image recognition](https://arxiv.org/abs/1409.1556),
      Simonyan and Zisserman, ICLR 2015
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from keras_cnn_classics.applications._architecture import architecture
from keras_cnn_classics.blocks.core import conv, conv_bn, exactly, max_pool
from keras_cnn_classics.blocks.heads import mlp
from keras_cnn_classics.layers import LocalResponseNormalization


def _torch_names(
    *, depths: Sequence[int], batch_norm: bool, **_: Any
) -> Mapping[str, Sequence[str]]:
    """Names of torchvision and of timm, which differ in the classifier."""
    names = {}
    place = 0  # in one nn.Sequential of convolutions, batch norms, ReLUs and pools
    for block, depth in enumerate(depths, 1):
        for i in range(1, depth + 1):
            names[f"block{block}_conv{i}"] = (f"features.{place}",)
            if batch_norm:
                names[f"block{block}_conv{i}_bn"] = (f"features.{place + 1}",)
            place += 3 if batch_norm else 2
        place += 1
    return names | {
        "fc1": ("classifier.0", "pre_logits.fc1"),
        "fc2": ("classifier.3", "pre_logits.fc2"),
        "predictions": ("classifier.6", "head.fc"),
    }


@architecture(
    protocol="one scale, dense",
    year=2014,
    paper="Very deep convolutional networks for large-scale image recognition",
    url="https://arxiv.org/abs/1409.1556",
    head=mlp(),
    torch_names=_torch_names,
    features=512,
    stride=32,
    fixed_top=True,
    preprocessing="caffe",
    tiny={"width": 16, "units": (32, 24)},
    notes="The dropout of the dense layers is the paper's; Keras's VGG has none.",
)
def vgg(
    x: Any,
    *,
    depths: Sequence[int],
    width: int = 64,
    pointwise: bool = False,
    lrn: bool = False,
    batch_norm: bool = False,
) -> Any:
    """VGG, the runner-up of ILSVRC 2014.

    Args:
        x: Image batch.
        depths: Number of convolutions in each of the five blocks, table 1.
        width: Filters of the first block; each block doubles them, up to eightfold.
        pointwise: Whether the last convolution of blocks 3 to 5 is 1x1, column C.
        lrn: Whether the first convolution is normalized, column A-LRN.
        batch_norm: Whether every convolution is followed by batch normalization.

    Returns:
        Feature map of stride 32: 7x7 for an image of 224x224.
    """
    for block, depth in enumerate(exactly(5, depths, "depths"), 1):
        filters = width * min(8, 2 ** (block - 1))
        for i in range(1, depth + 1):
            kernel = 1 if pointwise and block > 2 and i == depth else 3
            layer = conv_bn if batch_norm else conv
            x = layer(x, filters, kernel, name=f"block{block}_conv{i}")
            if lrn and block == i == 1:
                x = LocalResponseNormalization(name="block1_norm1")(x)
        x = max_pool(x, 2, name=f"block{block}_pool")
    return x


A, B, C, D, E = (1, 1, 2, 2, 2), (2, 2, 2, 2, 2), (2, 2, 3, 3, 3), (2, 2, 3, 3, 3), (2, 2, 4, 4, 4)

BATCH_NORM = "The paper had no batch normalization; this form is torchvision's, with biases."

VGG11 = vgg.variant(
    "VGG11", top1_error=29.6, top5_error=10.4, depths=A, params=132_863_336, macs=7_609_090_048
)
VGG11LRN = vgg.variant(
    "VGG11LRN",
    top1_error=29.7,
    top5_error=10.5,
    depths=A,
    lrn=True,
    params=132_863_336,
    macs=7_609_090_048,
)
VGG13 = vgg.variant(
    "VGG13", top1_error=28.7, top5_error=9.9, depths=B, params=133_047_848, macs=11_308_466_176
)
VGG16C = vgg.variant(
    "VGG16C",
    top1_error=28.1,
    top5_error=9.4,
    depths=C,
    pointwise=True,
    params=133_638_952,
    macs=11_770_888_192,
)
VGG16 = vgg.variant(
    "VGG16",
    top1_error=27.0,
    top5_error=8.8,
    depths=D,
    params=138_357_544,
    macs=15_470_264_320,
)
VGG19 = vgg.variant(
    "VGG19",
    top1_error=27.3,
    top5_error=9.0,
    depths=E,
    params=143_667_240,
    macs=19_632_062_464,
)
VGG11BN = vgg.variant(
    "VGG11BN",
    depths=A,
    batch_norm=True,
    params=132_868_840,
    macs=7_609_090_048,
    preprocessing="torch",
    notes=BATCH_NORM,
)
VGG13BN = vgg.variant(
    "VGG13BN",
    depths=B,
    batch_norm=True,
    params=133_053_736,
    macs=11_308_466_176,
    preprocessing="torch",
    notes=BATCH_NORM,
)
VGG16BN = vgg.variant(
    "VGG16BN",
    depths=D,
    batch_norm=True,
    params=138_365_992,
    macs=15_470_264_320,
    preprocessing="torch",
    notes=BATCH_NORM,
)
VGG19BN = vgg.variant(
    "VGG19BN",
    depths=E,
    batch_norm=True,
    params=143_678_248,
    macs=19_632_062_464,
    preprocessing="torch",
    notes=BATCH_NORM,
)
