"""ResNet: layers that learn what to add to their input, and so can be a hundred deep.

A stack of layers that is to do nothing has only to become zero, which is easier than to become
the identity. The plain networks of the same shape, which the paper compares with and which get
worse with depth, are here too. The addition comes before the last ReLU of a block.

The step of a stage sits on the first 1x1 convolution of its first block, as in the paper and in
Keras's weights; `stride_in="3x3"` moves it to the 3x3, the "v1.5" of torchvision and timm. Keras's
weights have biases before the batch normalization, all others none: `bias=False`.

References:
    - [Deep residual learning for image recognition](https://arxiv.org/abs/1512.03385),
      He, Zhang, Ren and Sun, CVPR 2016
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from keras_cnn_classics.applications._architecture import architecture
from keras_cnn_classics.applications._keras_modules import preprocessing_for
from keras_cnn_classics.blocks.core import cifar_depths, exactly, one_of
from keras_cnn_classics.blocks.heads import gap_dense
from keras_cnn_classics.blocks.residual import pytorchcv_names, stages, stem, torch_names, unit
from keras_cnn_classics.preprocessing import decode_predictions as decode_predictions

preprocess_input = preprocessing_for(__name__)

PAPER: dict[str, Any] = {
    "year": 2015,
    "paper": "Deep residual learning for image recognition",
    "url": "https://arxiv.org/abs/1512.03385",
    "head": gap_dense(),
}


@architecture(
    **PAPER,
    protocol="ten crops",
    torch_names=torch_names,
    features=2048,
    stride=32,
    tiny={"depths": (1, 2, 1, 1), "width": 16},
)
def resnet(
    x: Any,
    *,
    bottleneck: bool,
    depths: Sequence[int],
    width: int = 64,
    shortcut: str = "B",
    stride_in: str = "1x1",
    bias: bool = False,
) -> Any:
    """ResNet, the winner of ILSVRC 2015.

    Args:
        x: Image batch.
        bottleneck: Whether blocks have three convolutions (1x1, 3x3, 1x1), not two (3x3, 3x3).
        depths: Number of blocks in each of the four stages, table 1.
        width: Filters of the first stage; each stage doubles them.
        shortcut: Where the shape changes, `"A"` puts channels of zeros, `"B"` a projection;
            `"C"` has projections everywhere, `"none"` has no shortcuts: a plain network.
        stride_in: Convolution of a bottleneck that makes the steps, `"1x1"` or `"3x3"`.
        bias: Whether convolutions have biases, as in the weights that Keras publishes.

    Returns:
        Feature map of stride 32: 7x7 for an image of 224x224.
    """
    one_of("shortcut", shortcut, ("A", "B", "C", "none"))
    one_of("stride_in", stride_in, ("1x1", "3x3"))
    return stages(
        stem(x, width, bias=bias),
        exactly(4, depths, "depths"),
        width,
        4 * width if bottleneck else width,
        bottleneck=bottleneck,
        shortcut=shortcut,
        stride_in=stride_in,
        bias=bias,
    )


def cifar_torch_names(*, depth: int, **_: Any) -> Mapping[str, Sequence[str]]:
    """The names of akamaster's checkpoints, with shortcuts A, and of pytorchcv's, with B.

    Args:
        depth: Weighted layers, 6n + 2.

    Returns:
        Names of each layer.
    """
    return {
        **pytorchcv_names(bottleneck=False, depths=cifar_depths(depth, 6, 2)),
        "predictions": ("linear", "output"),
        "conv1_conv": ("conv1", "features.init_block.conv"),
        "conv1_bn": ("bn1", "features.init_block.bn"),
    }


@architecture(
    **PAPER,
    protocol="CIFAR-10, test",
    torch_names=cifar_torch_names,
    features=64,
    stride=4,
    input_size=32,
    min_size=8,
    classes=10,
    tiny={"depth": 8},
    notes="The zeros of the shortcuts are put on both sides of the channels.",
)
def resnet_cifar(x: Any, *, depth: int, width: int = 16, shortcut: str = "A") -> Any:
    """ResNet for images of 32x32, section 4.2.

    Args:
        x: Image batch.
        depth: Weighted layers, 6n + 2.
        width: Filters of the first stage; each of the two others doubles them.
        shortcut: As in `ResNet18`; the paper has `"A"` here.

    Returns:
        Feature map of stride 4: 8x8 for an image of 32x32.
    """
    one_of("shortcut", shortcut, ("A", "B", "C", "none"))
    depths = cifar_depths(depth, 6, 2)
    x = unit(x, width, 3, name="conv1")
    return stages(x, depths, width, width, bottleneck=False, shortcut=shortcut)


BASIC: dict[str, Any] = {"bottleneck": False, "features": 512}
BOTTLENECK: dict[str, Any] = {
    "bottleneck": True,
    "bias": True,
    "torch_options": {"stride_in": "3x3", "bias": False},
    "preprocessing": "caffe",
}
D18, D34, D50, D101, D152 = (2, 2, 2, 2), (3, 4, 6, 3), (3, 4, 6, 3), (3, 4, 23, 3), (3, 8, 36, 3)


def _biases(without: int) -> str:
    return (
        f"With the biases of Keras's weights; the paper's has {without:,} parameters: bias=False."
    )


ResNet18 = resnet.variant(
    "ResNet18",
    top1_error=27.88,
    protocol="ten crops, shortcuts A",
    depths=D18,
    params=11_689_512,
    macs=1_814_073_344,
    **BASIC,
)
ResNet34 = resnet.variant(
    "ResNet34",
    top1_error=24.52,
    top5_error=7.46,
    depths=D34,
    params=21_797_672,
    macs=3_663_761_408,
    **BASIC,
)
ResNet50 = resnet.variant(
    "ResNet50",
    top1_error=22.85,
    top5_error=6.71,
    depths=D50,
    params=25_583_592,
    macs=3_857_973_248,
    notes=_biases(25_557_032),
    **BOTTLENECK,
)
ResNet101 = resnet.variant(
    "ResNet101",
    top1_error=21.75,
    top5_error=6.05,
    depths=D101,
    params=44_601_832,
    macs=7_570_194_432,
    notes=_biases(44_549_160),
    **BOTTLENECK,
)
ResNet152 = resnet.variant(
    "ResNet152",
    top1_error=21.43,
    top5_error=5.71,
    depths=D152,
    params=60_268_520,
    macs=11_282_415_616,
    notes=_biases(60_192_808),
    **BOTTLENECK,
)
PlainNet18 = resnet.variant(
    "PlainNet18",
    top1_error=27.94,
    depths=D18,
    shortcut="none",
    params=11_515_688,
    macs=1_794_805_760,
    **BASIC,
)
PlainNet34 = resnet.variant(
    "PlainNet34",
    top1_error=28.54,
    top5_error=10.02,
    depths=D34,
    shortcut="none",
    params=21_623_848,
    macs=3_644_493_824,
    **BASIC,
)

ResNet20 = resnet_cifar.variant(
    "ResNet20", top1_error=8.75, depth=20, params=269_722, macs=40_551_040
)
ResNet32 = resnet_cifar.variant(
    "ResNet32", top1_error=7.51, depth=32, params=464_154, macs=68_862_592
)
ResNet44 = resnet_cifar.variant(
    "ResNet44", top1_error=7.17, depth=44, params=658_586, macs=97_174_144
)
ResNet56 = resnet_cifar.variant(
    "ResNet56", top1_error=6.97, depth=56, params=853_018, macs=125_485_696
)
ResNet110 = resnet_cifar.variant(
    "ResNet110", top1_error=6.43, depth=110, params=1_727_962, macs=252_887_680
)
PLAIN: dict[str, Any] = {"shortcut": "none", "notes": ""}
PlainNet20 = resnet_cifar.variant("PlainNet20", depth=20, params=269_722, macs=40_551_040, **PLAIN)
PlainNet32 = resnet_cifar.variant("PlainNet32", depth=32, params=464_154, macs=68_862_592, **PLAIN)
PlainNet44 = resnet_cifar.variant("PlainNet44", depth=44, params=658_586, macs=97_174_144, **PLAIN)
PlainNet56 = resnet_cifar.variant("PlainNet56", depth=56, params=853_018, macs=125_485_696, **PLAIN)
