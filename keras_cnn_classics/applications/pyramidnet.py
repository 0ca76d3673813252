"""PyramidNet: a residual network that widens a little in every block.

Others double their channels where they halve the map, and so burden a few blocks; of these they can
do least without. Here each block has a few more channels than the one before, by the same number
from the first to the last, whatever its stage: `alpha` is how many they add up to. Bottlenecks give
four times their width.

A block begins with batch normalization, but without ReLU, and ends with another, before the
addition. Shortcuts have no weights: zeros stand for the channels that they lack, and where the map
shrinks they average 2x2 pixels.

References:
    - [Deep pyramidal residual networks](https://arxiv.org/abs/1610.02915),
      Han, Kim and Kim, CVPR 2017
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from keras import layers

from keras_cnn_classics.applications import resnet_v2
from keras_cnn_classics.applications._architecture import architecture
from keras_cnn_classics.blocks.core import (
    channel_axis,
    cifar_depths,
    exactly,
    norm,
    norm_relu,
    plain_conv,
)
from keras_cnn_classics.blocks.heads import gap_dense
from keras_cnn_classics.blocks.residual import first_pool
from keras_cnn_classics.layers import ChannelPadding

PAPER: dict[str, Any] = {
    "year": 2016,
    "paper": "Deep pyramidal residual networks",
    "url": "https://arxiv.org/abs/1610.02915",
    "head": gap_dense(),
}


def _norm(x: Any, *, name: str) -> Any:
    return norm(x, momentum=0.9, epsilon=1e-5, name=f"{name}_bn")


def block(x: Any, width: int, strides: int, *, name: str, bottleneck: bool) -> Any:
    """The pyramidal block, figures 1(d) and 6(d).

    Args:
        x: Feature map.
        width: Filters of the 3x3 convolutions.
        strides: Steps of the block.
        name: Prefix of the layers' names.
        bottleneck: Whether there are three convolutions, the last with four times the filters.

    Returns:
        A feature map with `width` channels, or with `4 * width` for a bottleneck.
    """
    # Kernel, filters and steps of each convolution.
    steps = [(3, width, strides), (3, width, 1)]
    if bottleneck:
        steps = [(1, width, 1), (3, width, strides), (1, 4 * width, 1)]
    y = _norm(x, name=f"{name}_preact")
    for i, (kernel, filters, stride) in enumerate(steps, 1):
        y = plain_conv(y, filters, kernel, stride, name=f"{name}_{i}")
        if i < len(steps):
            y = norm_relu(y, name=f"{name}_{i}", epsilon=1e-5)
    y = _norm(y, name=f"{name}_{len(steps)}")
    if strides > 1:
        # Of the windows that hang over the far edge, only what is there counts.
        x = layers.AveragePooling2D(2, strides, "same", name=f"{name}_pool")(x)
    missing = y.shape[channel_axis()] - x.shape[channel_axis()]
    if missing:
        x = ChannelPadding(0, missing, name=f"{name}_pad_channels")(x)
    return layers.Add(name=f"{name}_out")([x, y])


def widths(first: int, alpha: float, blocks: int) -> list[int]:
    """The width of each block, equation 2.

    The equation drops fractions as it goes; here, as in the authors' code, they are kept and the
    widths rounded.

    Args:
        first: Filters of the first convolution.
        alpha: How much wider the last block is.
        blocks: Number of blocks.

    Returns:
        A list of `blocks` numbers.
    """
    return [round(first + alpha * i / blocks) for i in range(1, blocks + 1)]


def stages(x: Any, depths: Sequence[int], alpha: float, *, bottleneck: bool) -> Any:
    """The stages, each but the first in half the size; then batch normalization and ReLU.

    Args:
        x: Feature map.
        depths: Number of blocks in each stage.
        alpha: How much wider the last block is than the first convolution.
        bottleneck: Whether blocks have three convolutions.

    Returns:
        A feature map.
    """
    each = iter(widths(x.shape[channel_axis()], alpha, sum(depths)))
    for stage, depth in enumerate(depths):
        for i in range(depth):
            strides = 2 if stage and not i else 1
            name = f"conv{stage + 2}_block{i + 1}"
            x = block(x, next(each), strides, name=name, bottleneck=bottleneck)
    return norm_relu(x, name="post", epsilon=1e-5)


def _names(*, bottleneck: bool, depths: Sequence[int]) -> Mapping[str, Sequence[str]]:
    """The names of pytorchcv, then those of the authors' code in PyTorch."""
    names = dict(resnet_v2.torch_names(bottleneck=bottleneck, depths=depths))
    last = 3 if bottleneck else 2
    names |= {
        "conv1_conv": (*names["conv1_conv"], "conv1"),
        "conv1_bn": (*names["conv1_bn"], "bn1"),
        "post_bn": (*names["post_bn"], "bn_final"),
        "predictions": (*names["predictions"], "fc"),
    }
    for stage, depth in enumerate(depths, 1):
        for i in range(1, depth + 1):
            ours, theirs = f"conv{stage + 1}_block{i}", f"layer{stage}.{i - 1}"
            names[f"{ours}_preact_bn"] = (*names[f"{ours}_preact_bn"], f"{theirs}.bn1")
            names[f"{ours}_{last}_bn"] = (f"features.stage{stage}.unit{i}.bn",)
            for n in range(1, last + 1):
                names[f"{ours}_{n}_conv"] = (*names[f"{ours}_{n}_conv"], f"{theirs}.conv{n}")
                names[f"{ours}_{n}_bn"] = (*names[f"{ours}_{n}_bn"], f"{theirs}.bn{n + 1}")
    return names


@architecture(
    **PAPER,
    protocol="one crop",
    torch_names=lambda depths, **_: _names(bottleneck=True, depths=depths),
    stride=32,
    tiny={"depths": (1, 2, 1, 1), "alpha": 12, "width": 16},
)
def pyramidnet(x: Any, *, depths: Sequence[int], alpha: float, width: int = 64) -> Any:
    """PyramidNet with bottlenecks, for ImageNet.

    Args:
        x: Image batch.
        depths: Number of blocks in each of the four stages.
        alpha: How much wider the last block is than the first convolution.
        width: Filters of the first convolution.

    Returns:
        Feature map of stride 32: 7x7 for an image of 224x224.
    """
    exactly(4, depths, "depths")
    x = plain_conv(x, width, 7, 2, name="conv1")
    x = first_pool(norm_relu(x, name="conv1", epsilon=1e-5), ceil_mode=False)
    return stages(x, depths, alpha, bottleneck=True)


def _cifar_depths(depth: int, bottleneck: bool) -> tuple[int, ...]:
    return cifar_depths(depth, 9 if bottleneck else 6, 2, detail=f" with {bottleneck=}")


def _cifar_names(*, depth: int, bottleneck: bool, **_: Any) -> Mapping[str, Sequence[str]]:
    return _names(bottleneck=bottleneck, depths=_cifar_depths(depth, bottleneck))


@architecture(
    **PAPER,
    protocol="CIFAR-10, test",
    torch_names=_cifar_names,
    preprocessing="cifar10",
    torch_preprocessing="cifar10",
    stride=4,
    input_size=32,
    min_size=8,
    classes=10,
    tiny={"depth": 14, "alpha": 10},
)
def pyramidnet_cifar(
    x: Any, *, depth: int, alpha: float, bottleneck: bool = False, width: int = 16
) -> Any:
    """PyramidNet for images of 32x32, table 1.

    Args:
        x: Image batch.
        depth: Weighted layers: 6n + 2, or 9n + 2 with bottlenecks.
        alpha: How much wider the last block is than the first convolution.
        bottleneck: Whether blocks have three convolutions.
        width: Filters of the first convolution.

    Returns:
        Feature map of stride 4: 8x8 for an image of 32x32.
    """
    depths = _cifar_depths(depth, bottleneck)
    x = _norm(plain_conv(x, width, 3, name="conv1"), name="conv1")
    return stages(x, depths, alpha, bottleneck=bottleneck)


PyramidNet200 = pyramidnet.variant(
    "PyramidNet200",
    depths=(3, 24, 36, 3),
    alpha=300,
    features=1456,
    params=62_368_168,
    macs=16_550_501_282,
    top1_error=20.47,
    top5_error=5.29,
    notes=(
        "The paper's 62.1 million parameters leave out those of batch normalization. Widths are "
        "rounded, as in the authors' code; the paper's equation drops fractions in every block. "
        "The paper's wider network, alpha=450, had dropout besides, which is not here."
    ),
)
PyramidNet110 = pyramidnet_cifar.variant(
    "PyramidNet110",
    depth=110,
    alpha=48,
    features=64,
    params=1_772_706,
    macs=403_813_504,
    top1_error=4.62,
)
PyramidNet110_270 = pyramidnet_cifar.variant(
    "PyramidNet110_270",
    depth=110,
    alpha=270,
    features=286,
    params=28_485_477,
    macs=4_717_983_724,
    top1_error=3.73,
)
