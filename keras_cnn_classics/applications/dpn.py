"""Dual path networks: ResNet's way of using features again, and DenseNet's way of finding new ones.

Two paths run beside each other. To the first each block adds, as in ResNet; to the second it
appends a few channels, as in DenseNet. A block reads both, and its last convolution writes both:
the first of its channels are added, the others appended. With ResNeXt's grouped convolutions
inside, that won the localization task of ILSVRC 2017.

Batch normalization and ReLU come before each convolution. Where the map shrinks, a projection of
all that is there begins both paths anew.

References:
    - [Dual path networks](https://arxiv.org/abs/1707.01629),
      Chen, Li, Xiao, Jin, Yan and Feng, NIPS 2017
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from keras import layers

from keras_cnn_classics.applications._architecture import architecture
from keras_cnn_classics.blocks.core import concat, exactly, norm_relu, plain_conv
from keras_cnn_classics.blocks.heads import gap_dense
from keras_cnn_classics.blocks.residual import first_pool
from keras_cnn_classics.layers import ChannelSlice

EPSILON = 1e-3  # of MXNet, in which the authors trained


def preactivated(
    x: Any, filters: int, kernel: int, strides: int = 1, *, name: str, groups: int = 1
) -> Any:
    """Batch normalization, ReLU, convolution: `{name}_bn`, `{name}_relu`, `{name}_conv`.

    Args:
        x: Feature map.
        filters: Number of output maps.
        kernel: Height and width of the kernel.
        strides: Steps of the kernel.
        name: Prefix of the layers' names.
        groups: Groups of the convolution.

    Returns:
        A feature map with `filters` channels.
    """
    x = norm_relu(x, name=name, epsilon=EPSILON)
    return plain_conv(x, filters, kernel, strides, name=name, groups=groups)


def split(x: Any, channels: int, *, name: str) -> list[Any]:
    """The share of the first path, and that of the second.

    Args:
        x: Feature map.
        channels: Channels of the first path.
        name: Prefix of the layers' names.

    Returns:
        Two feature maps.
    """
    added = ChannelSlice(0, channels, name=f"{name}_added")(x)
    return [added, ChannelSlice(channels, name=f"{name}_appended")(x)]


def stage(
    x: Any,
    depth: int,
    width: int,
    out: int,
    growth: int,
    strides: int,
    *,
    name: str,
    groups: int,
) -> Any:
    """The blocks of one size of map, figure 2(d).

    Args:
        x: Feature map.
        depth: Number of blocks.
        width: Filters of the grouped convolutions.
        out: Channels of the path that is added to.
        growth: Channels that a block appends to the other path.
        strides: Steps of the first block.
        name: Prefix of the layers' names.
        groups: Groups of the 3x3 convolutions.

    Returns:
        A feature map: both paths, of `out + (depth + 2) * growth` channels.
    """
    paths: list[Any] = []
    for i in range(1, depth + 1):
        block = f"{name}_block{i}"
        if not paths:
            way = preactivated(x, out + 2 * growth, 1, strides, name=f"{block}_0")
            paths = split(way, out, name=f"{block}_0")
        y = preactivated(x, width, 1, name=f"{block}_1")
        y = preactivated(y, width, 3, strides, name=f"{block}_2", groups=groups)
        y = preactivated(y, out + growth, 1, name=f"{block}_3")
        more, new = split(y, out, name=f"{block}_3")
        paths = [layers.Add(name=f"{block}_add")([paths[0], more]), *paths[1:], new]
        x, strides = concat(paths, name=f"{block}_out"), 1
    return x


def _torch_names(*, depths: Sequence[int], **_: Any) -> Mapping[str, Sequence[str]]:
    """The names of timm and of Cadene's package."""
    names = {
        "conv1_conv": ("features.conv1_1.conv",),
        "conv1_bn": ("features.conv1_1.bn",),
        "post_bn": ("features.conv5_bn_ac.bn",),
        "predictions": ("classifier", "last_linear"),
    }
    for number, depth in enumerate(depths, 2):
        projection = "c1x1_w_s1" if number == 2 else "c1x1_w_s2"
        for i in range(1, depth + 1):
            for n, part in enumerate((projection, "c1x1_a", "c3x3_b", "c1x1_c")):
                for kind in ("bn", "conv"):
                    theirs = f"features.conv{number}_{i}.{part}.{kind}"
                    names[f"conv{number}_block{i}_{n}_{kind}"] = (theirs,)
    return names


@architecture(
    year=2017,
    paper="Dual path networks",
    url="https://arxiv.org/abs/1707.01629",
    head=gap_dense(),
    torch_names=_torch_names,
    preprocessing="dpn",
    torch_preprocessing="dpn",
    protocol="one crop",
    features=2688,
    stride=32,
    tiny={
        **{"depths": (1, 2, 1, 1), "growths": (8, 16, 8, 16), "groups": 4},
        **{"first": 16, "width": 16, "out": 32},
    },
)
def dpn(
    x: Any,
    *,
    depths: Sequence[int],
    growths: Sequence[int],
    first: int,
    width: int,
    groups: int,
    out: int = 256,
) -> Any:
    """Dual path network, table 1.

    Args:
        x: Image batch.
        depths: Number of blocks in each of the four stages.
        growths: Channels that each block appends to the second path, in each stage.
        first: Filters of the first convolution.
        width: Filters of the first stage's grouped convolutions; each stage doubles them.
        groups: Groups of the 3x3 convolutions.
        out: Channels of the path that is added to in the first stage; each stage doubles them.

    Returns:
        Feature map of stride 32: 7x7 for an image of 224x224.
    """
    exactly(4, depths, "depths")
    exactly(4, growths, "growths")
    x = plain_conv(x, first, 7, 2, name="conv1")
    x = first_pool(norm_relu(x, name="conv1", epsilon=EPSILON), ceil_mode=False)
    for i, (depth, growth) in enumerate(zip(depths, growths, strict=True)):
        x = stage(
            x,
            depth,
            width * 2**i,
            out * 2**i,
            growth,
            2 if i else 1,
            name=f"conv{i + 2}",
            groups=groups,
        )
    return norm_relu(x, name="post", epsilon=EPSILON)


DPN92 = dpn.variant(
    "DPN92",
    depths=(3, 4, 20, 3),
    growths=(16, 32, 24, 128),
    first=64,
    width=96,
    groups=32,
    params=37_668_392,
    macs=6_501_684_224,
    top1_error=20.73,
    top5_error=5.37,
    notes=(
        "The published weights were trained on the 5,000 classes of ImageNet-5k before the 1,000: "
        "they are better than the paper's, which had only these."
    ),
)
DPN98 = dpn.variant(
    "DPN98",
    depths=(3, 6, 20, 3),
    growths=(16, 32, 32, 128),
    first=96,
    width=160,
    groups=40,
    params=61_570_728,
    macs=11_671_217_152,
    top1_error=20.15,
    top5_error=5.15,
)
DPN131 = dpn.variant(
    "DPN131",
    depths=(4, 8, 28, 3),
    growths=(16, 32, 32, 128),
    first=128,
    width=160,
    groups=40,
    params=79_254_504,
    macs=16_013_648_896,
    top1_error=19.93,
    top5_error=5.12,
)
