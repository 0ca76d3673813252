"""ResNet's blocks, which ResNeXt, wide ResNet, stochastic depth and SE-ResNet share.

Layers are named as in Keras, `conv2_block1_1_conv`: stage, block, convolution.

References:
    - [Deep residual learning for image recognition](https://arxiv.org/abs/1512.03385),
      He, Zhang, Ren and Sun, CVPR 2016
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from keras import layers

from keras_cnn_classics.blocks.core import (
    ceil_pool,
    channel_axis,
    conv,
    max_pool,
    norm,
    pad_for_steps,
)
from keras_cnn_classics.layers import ChannelPadding, StochasticDepth

# Something done to a feature map in a block, given the block's name for its layers' names.
Step = Callable[[Any, str], Any]


def unit(
    x: Any,
    filters: int,
    kernel: int,
    strides: int = 1,
    *,
    name: str,
    relu: bool = True,
    bias: bool = False,
    groups: int = 1,
) -> Any:
    """Convolution, batch normalization, ReLU: `{name}_conv`, `{name}_bn`, `{name}_relu`.

    Steps of two pad the same on all sides, as PyTorch does; "same" would pad the far sides more.

    Args:
        x: Feature map.
        filters: Number of output maps.
        kernel: Height and width of the kernel, an odd number.
        strides: Steps of the kernel.
        name: Prefix of the layers' names.
        relu: Whether there is a ReLU.
        bias: Whether the convolution has a bias, and batch normalization Keras's epsilon.
        groups: Groups of the convolution.

    Returns:
        A feature map with `filters` channels.
    """
    x, padding = pad_for_steps(x, kernel, strides, "symmetric", name=f"{name}_pad")
    x = conv(
        x,
        filters,
        kernel,
        strides,
        name=f"{name}_conv",
        padding=padding,
        activation=None,
        use_bias=bias,
        groups=groups,
    )
    epsilon = 1.001e-5 if bias else 1e-5  # Keras's own, and everybody's
    x = norm(x, momentum=0.9, epsilon=epsilon, name=f"{name}_bn")
    return layers.ReLU(name=f"{name}_relu")(x) if relu else x


def zero_pad_shortcut(x: Any, filters: int, strides: int, *, name: str) -> Any:
    """Shortcut option A: every other pixel, and channels of zeros on both sides.

    Args:
        x: Feature map.
        filters: Channels of the result, no fewer than those of `x`.
        strides: Steps between the pixels that are kept.
        name: Prefix of the layers' names.

    Returns:
        A feature map with `filters` channels.
    """
    if strides > 1:
        x = max_pool(x, 1, strides, name=f"{name}_skip")
    missing = filters - x.shape[channel_axis()]
    if missing:
        x = ChannelPadding(missing // 2, missing - missing // 2, name=f"{name}_pad_channels")(x)
    return x


def block(
    x: Any,
    filters: int,
    out: int,
    strides: int,
    *,
    name: str,
    bottleneck: bool,
    shortcut: str = "B",
    stride_in: str = "1x1",
    bias: bool = False,
    groups: int = 1,
    refine: Step | None = None,
    survival: float = 1.0,
) -> Any:
    """A residual block, figure 5: two 3x3 convolutions, or 1x1, 3x3 and 1x1.

    Args:
        x: Feature map.
        filters: Filters of the 3x3 convolutions.
        out: Filters of the last convolution.
        strides: Steps of the block.
        name: Prefix of the layers' names.
        bottleneck: Whether the block is the one of three convolutions.
        shortcut: `"A"`, `"B"`, `"C"` or `"none"`, as in the trunk.
        stride_in: `"1x1"` or `"3x3"`: where a bottleneck makes its steps.
        bias: Whether convolutions have biases.
        groups: Groups of a bottleneck's 3x3 convolution.
        refine: What is done to the branch before the addition, such as attention.
        survival: Probability that training keeps the branch.

    Returns:
        A feature map with `out` channels.
    """
    changes = strides > 1 or x.shape[channel_axis()] != out
    way = x
    if shortcut == "C" or (shortcut == "B" and changes):
        way = unit(x, out, 1, strides, name=f"{name}_0", relu=False, bias=bias)
    elif shortcut == "A" and changes:
        way = zero_pad_shortcut(x, out, strides, name=name)
    if bottleneck:
        first, second = (strides, 1) if stride_in == "1x1" else (1, strides)
        x = unit(x, filters, 1, first, name=f"{name}_1", bias=bias)
        x = unit(x, filters, 3, second, name=f"{name}_2", bias=bias, groups=groups)
        x = unit(x, out, 1, name=f"{name}_3", relu=False, bias=bias)
    else:
        x = unit(x, filters, 3, strides, name=f"{name}_1", bias=bias)
        x = unit(x, out, 3, name=f"{name}_2", relu=False, bias=bias)
    if refine:
        x = refine(x, name)
    if survival < 1:
        x = StochasticDepth(survival, name=f"{name}_survival")(x)
    if shortcut != "none":
        x = layers.Add(name=f"{name}_add")([way, x])
    return layers.ReLU(name=f"{name}_out")(x)


def stem(x: Any, width: int, *, bias: bool = False, ceil_mode: bool = False) -> Any:
    """The beginning for ImageNet: a 7x7 convolution and a pool, each in steps of two.

    Args:
        x: Image batch.
        width: Filters.
        bias: Whether the convolution has a bias.
        ceil_mode: Whether the pool is Caffe's, `ceil_pool`, and not padded on all sides.

    Returns:
        A feature map of stride 4.
    """
    x = unit(x, width, 7, 2, name="conv1", bias=bias)
    return first_pool(x, ceil_mode=ceil_mode)


def first_pool(x: Any, *, ceil_mode: bool) -> Any:
    """The pool of 3x3 in steps of two before the stages.

    Args:
        x: Feature map.
        ceil_mode: Whether it is Caffe's, `ceil_pool`, and not padded on all sides.

    Returns:
        A feature map of half the height and width.
    """
    if ceil_mode:
        return ceil_pool(x, name="pool1_pool")
    x = layers.ZeroPadding2D(1, name="pool1_pad")(x)
    return max_pool(x, name="pool1_pool")


def stages(
    x: Any,
    depths: Sequence[int],
    filters: int,
    out: int,
    *,
    survival: float = 1.0,
    before: Step | None = None,
    **kind: Any,
) -> Any:
    """Stages of blocks; each but the first halves the map and doubles the filters.

    Args:
        x: Feature map.
        depths: Number of blocks in each stage.
        filters: Filters of the 3x3 convolutions of the first stage.
        out: Filters of the last convolutions of the first stage.
        survival: Probability that training keeps the last block; it falls linearly from 1.
        before: What is done to the feature map before each block.
        **kind: Further arguments of `block`.

    Returns:
        A feature map.
    """
    number, total = 0, sum(depths)
    for stage, depth in enumerate(depths):
        for i in range(depth):
            number += 1
            name = f"conv{stage + 2}_block{i + 1}"
            x = before(x, name) if before else x
            x = block(
                x,
                filters * 2**stage,
                out * 2**stage,
                2 if stage and not i else 1,
                name=name,
                survival=1 - number / total * (1 - survival),
                **kind,
            )
    return x


def torch_names(*, bottleneck: bool, depths: Sequence[int], **_: Any) -> dict[str, tuple[str, ...]]:
    """The names of torchvision and of timm, which agree.

    Args:
        bottleneck: Whether blocks have three convolutions.
        depths: Number of blocks in each stage.

    Returns:
        Names of each layer.
    """
    names: dict[str, tuple[str, ...]] = {
        "conv1_conv": ("conv1",),
        "conv1_bn": ("bn1",),
        "predictions": ("fc",),
    }
    for stage, depth in enumerate(depths, 1):
        for i in range(depth):
            ours, theirs = f"conv{stage + 1}_block{i + 1}", f"layer{stage}.{i}"
            names |= {
                f"{ours}_0_conv": (f"{theirs}.downsample.0",),
                f"{ours}_0_bn": (f"{theirs}.downsample.1",),
            }
            for n in range(1, 4 if bottleneck else 3):
                names[f"{ours}_{n}_conv"] = (f"{theirs}.conv{n}",)
                names[f"{ours}_{n}_bn"] = (f"{theirs}.bn{n}",)
    return names


def pytorchcv_names(*, bottleneck: bool, depths: Sequence[int]) -> dict[str, tuple[str, ...]]:
    """Those names, and behind them what pytorchcv calls the layers of the blocks.

    Args:
        bottleneck: Whether blocks have three convolutions.
        depths: Number of blocks in each stage.

    Returns:
        Names of each layer.
    """
    names = torch_names(bottleneck=bottleneck, depths=depths)
    branches = ["identity_conv", *(f"body.conv{n}" for n in range(1, 4 if bottleneck else 3))]
    for stage, depth in enumerate(depths, 1):
        for i in range(1, depth + 1):
            ours, theirs = f"conv{stage + 1}_block{i}", f"features.stage{stage}.unit{i}"
            for n, branch in enumerate(branches):
                for part in ("conv", "bn"):
                    names[f"{ours}_{n}_{part}"] += (f"{theirs}.{branch}.{part}",)
    return names
