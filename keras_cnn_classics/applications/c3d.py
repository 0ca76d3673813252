"""C3D: VGG for video, with kernels that reach over time as well.

Convolutions of 3x3x3 see motion where those of single frames see none. Eight of them, five pools
and two dense layers turn a clip of 16 frames into 4096 numbers that served many other tasks on
video. The first pool leaves time alone, so as not to merge frames too early.

References:
    - [Learning spatiotemporal features with 3D convolutional networks](https://arxiv.org/abs/1412.0767),
      Tran, Bourdev, Fergus, Torresani and Paluri, ICCV 2015
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from keras import layers

from keras_cnn_classics.applications._architecture import architecture
from keras_cnn_classics.blocks.core import PADDINGS, one_of
from keras_cnn_classics.blocks.heads import mlp

# Figure 3: the convolutions of each block, whose filters double up to eightfold.
BLOCKS = (("1a",), ("2a",), ("3a", "3b"), ("4a", "4b"), ("5a", "5b"))


def _torch_names(**_: Any) -> Mapping[str, Sequence[str]]:
    """Names of c3d-pytorch.

    Returns:
        Names of each layer.
    """
    convolutions = {f"conv{name}": (f"conv{name}",) for block in BLOCKS[2:] for name in block}
    first = {"conv1a": ("conv1",), "conv2a": ("conv2",)}
    return first | convolutions | {"fc6": ("fc6",), "fc7": ("fc7",), "predictions": ("fc8",)}


@architecture(
    year=2014,
    paper="Learning spatiotemporal features with 3D convolutional networks",
    url="https://arxiv.org/abs/1412.0767",
    head=mlp(first=6),
    torch_names=_torch_names,
    torch_preprocessing="caffe",
    torch_options={"padding": "symmetric"},
    features=512,
    stride=32,
    input_size=112,
    min_size=16,
    frames=16,
    classes=487,
    fixed_top=True,
    preprocessing="caffe",
)
def c3d(x: Any, *, width: int = 64, padding: str = "same") -> Any:
    """C3D, a VGG with time as a third dimension.

    Args:
        x: Batch of clips.
        width: Filters of the first convolution; each block doubles them, up to eightfold.
        padding: Where the windows of the last pool hang over the edge of a map of odd size:
            `"same"`, the far one, as Caffe's, or `"symmetric"`, both by one cell, as c3d-pytorch's.

    Returns:
        Feature map of stride 32, and 16 in time: 1x4x4 for a clip of 16 frames of 112x112.
    """
    one_of("padding", padding, PADDINGS)
    for number, names in enumerate(BLOCKS, 1):
        filters = width * min(8, 2 ** (number - 1))
        for name in names:
            x = layers.Conv3D(filters, 3, padding="same", activation="relu", name=f"conv{name}")(x)
        if number < 5:
            x = layers.MaxPooling3D((1 if number == 1 else 2, 2, 2), name=f"pool{number}")(x)
    if padding == "symmetric":
        x = layers.ZeroPadding3D((0, 1, 1), name="pool5_pad")(x)  # changes no maximum after a ReLU
        padding = "valid"
    return layers.MaxPooling3D(2, padding=padding, name="pool5")(x)


C3D = c3d.variant(
    "C3D",
    protocol="Sports-1M, whole videos",
    top1_error=40.0,
    top5_error=15.6,
    params=79_991_015,
    macs=38_548_959_232,
    tiny={"width": 8, "units": (32, 24)},
    notes="The authors subtract the mean clip of Sports-1M from BGR pixels, which is published "
    "with their weights (16 frames of 128x171, of which the middle 112x112 is cut); the mode "
    "`caffe` subtracts one mean for each channel, ImageNet's. Their files, which are for "
    "non-commercial use only, are not among the published weights here, but conversions load by "
    "path. TensorFlow on a CPU pools no clips in float16; `mixed_bfloat16` works.",
)
