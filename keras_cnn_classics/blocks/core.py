"""Convolution, normalization and pooling in the few idioms that every paper uses.

Each function takes a tensor and returns a tensor, and names its layers from `name`, so that a
model's layer names never depend on what was built before it.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import keras
from keras import layers

from keras_cnn_classics.layers import GroupedConv2D, OddPadding2D


def channel_axis() -> int:
    """The axis of the channels in a batch of maps, in Keras's global data format."""
    return -1 if keras.config.image_data_format() == "channels_last" else 1


def image_shape(side: int, channels: int, frames: int = 0) -> tuple[int, ...]:
    """The shape of a square image, or of a clip of such, in Keras's global data format.

    Args:
        side: Height and width.
        channels: Channels.
        frames: Frames of a clip; 0 for an image.

    Returns:
        Three numbers, or four for a clip.
    """
    area = (frames, side, side) if frames else (side, side)
    return (*area, channels) if channel_axis() == -1 else (channels, *area)


def exactly(count: int, values: Sequence[int], name: str) -> Sequence[int]:
    """The values of an option that must be so many.

    Args:
        count: How many.
        values: What was given.
        name: Name of the option, for the error.

    Returns:
        The values.

    Raises:
        ValueError: If they are more or fewer.
    """
    if len(values) != count:
        raise ValueError(f"`{name}` must hold {count} numbers. Received: {name}={values!r}")
    return values


def cifar_depths(depth: int, step: int, rest: int, *, detail: str = "") -> tuple[int, int, int]:
    """Blocks in each of the three stages of a network for CIFAR.

    Args:
        depth: Weighted layers of the network.
        step: Weighted layers that one more block in each stage brings.
        rest: Weighted layers outside the blocks.
        detail: What else the error should say of the condition.

    Returns:
        Three equal numbers.

    Raises:
        ValueError: If there is no network of that depth.
    """
    blocks, left = divmod(depth - rest, step)
    if blocks < 1 or left:
        raise ValueError(f"`depth` must be {step}n + {rest}{detail}. Received: {depth=}")
    return (blocks, blocks, blocks)


def one_of(name: str, value: str, known: Sequence[str]) -> None:
    """Refuses a value that an option does not have.

    Args:
        name: Name of the option, for the error.
        value: What was given.
        known: What may be given.

    Raises:
        ValueError: If it is none of the known ones.
    """
    if value not in known:
        raise ValueError(
            f"`{name}` must be one of {', '.join(map(repr, known))}. Received: {name}={value!r}"
        )


def make_divisible(filters: float, divisor: int = 8) -> int:
    """Rounds a number of filters to a multiple that hardware likes, by at most a tenth down.

    Args:
        filters: What a width multiplier gives.
        divisor: What the result is a multiple of, and its least.

    Returns:
        A number of filters.

    References:
        - [Sandler et al., 2018](https://arxiv.org/abs/1801.04381), the authors' code
    """
    rounded = max(divisor, int(filters + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * filters else rounded


# Where a convolution in steps of two puts its zeros: as TensorFlow does, which puts more of them,
# or all, on the far sides of a map of even size, or as PyTorch does, the same on all sides.
PADDINGS = ("same", "symmetric")


def pad_for_steps(x: Any, kernel: int, strides: int, padding: str, *, name: str) -> tuple[Any, str]:
    """Pads for a convolution that keeps the size of a map but for its steps.

    Args:
        x: Feature map.
        kernel: Height and width of the kernel, an odd number.
        strides: Steps of the kernel. Without steps the two paddings are the same.
        padding: One of `PADDINGS`.
        name: Name of the layer that pads, if there must be one.

    Returns:
        The feature map, and what to give the layer of the convolution for its `padding`.
    """
    if strides == 1 or kernel == 1 or padding == "same":
        return x, "same"
    return layers.ZeroPadding2D(kernel // 2, name=name)(x), "valid"


def conv(
    x: Any,
    filters: int,
    kernel: int,
    strides: int = 1,
    *,
    name: str,
    padding: str | int = "same",
    activation: str | None = "relu",
    groups: int = 1,
    **kwargs: Any,
) -> Any:
    """Convolution with bias and activation in one layer: the style before batch normalization.

    Args:
        x: Feature map.
        filters: Number of output maps.
        kernel: Height and width of the kernel.
        strides: Steps of the kernel.
        name: Name of the layer.
        padding: `"same"`, `"valid"`, or the number of zeros to put on every side.
        activation: Activation, or `None`.
        groups: Number of groups that maps see only their own of; with several, the layer is a
            `GroupedConv2D`.
        **kwargs: Further arguments of `keras.layers.Conv2D`.

    Returns:
        A feature map with `filters` channels.
    """
    if isinstance(padding, int):
        x = layers.ZeroPadding2D(padding, name=f"{name}_pad")(x)
        padding = "valid"
    kind = layers.Conv2D if groups == 1 else functools.partial(GroupedConv2D, groups=groups)
    return kind(filters, kernel, strides, padding, activation=activation, name=name, **kwargs)(x)


def conv_bn(
    x: Any,
    filters: int,
    kernel: int,
    strides: int = 1,
    *,
    name: str,
    epsilon: float = 1e-5,
    **kwargs: Any,
) -> Any:
    """Convolution, batch normalization and ReLU: `{name}`, `{name}_bn`, `{name}_relu`.

    The convolution has a bias, as in torchvision's VGG, unless `use_bias=False` says otherwise.

    Args:
        x: Feature map.
        filters: Number of output maps.
        kernel: Height and width of the kernel.
        strides: Steps of the kernel.
        name: Name of the convolution, and prefix of the others.
        epsilon: Added to the variance in batch normalization.
        **kwargs: Further arguments of `conv`.

    Returns:
        A feature map with `filters` channels.
    """
    x = conv(x, filters, kernel, strides, name=name, activation=None, **kwargs)
    return norm_relu(x, name=name, epsilon=epsilon)


def concat(branches: Sequence[Any], *, name: str) -> Any:
    """Concatenation along the channels.

    Args:
        branches: Feature maps of one height and width.
        name: Name of the layer.

    Returns:
        A feature map with the channels of all.
    """
    return layers.Concatenate(axis=channel_axis(), name=name)(branches)


def norm(x: Any, *, name: str, **kwargs: Any) -> Any:
    """Batch normalization of the channels.

    Args:
        x: Feature map.
        name: Name of the layer.
        **kwargs: Further arguments of `keras.layers.BatchNormalization`, with its defaults.

    Returns:
        A feature map of the same shape.
    """
    return layers.BatchNormalization(axis=channel_axis(), name=name, **kwargs)(x)


def norm_relu(x: Any, *, name: str, epsilon: float = 1.001e-5) -> Any:
    """Batch normalization and ReLU, in front of a convolution or behind: `{name}_bn`, `_relu`.

    Args:
        x: Feature map.
        name: Prefix of the layers' names.
        epsilon: Added to the variance; the default is that of Keras's residual networks.

    Returns:
        A feature map of the same shape.
    """
    x = norm(x, momentum=0.9, epsilon=epsilon, name=f"{name}_bn")
    return layers.ReLU(name=f"{name}_relu")(x)


def plain_conv(
    x: Any, filters: int, kernel: int, strides: int = 1, *, name: str, groups: int = 1
) -> Any:
    """Convolution without bias, `{name}_conv`; steps pad the same on all sides.

    Args:
        x: Feature map.
        filters: Number of output maps.
        kernel: Height and width of the kernel, an odd number.
        strides: Steps of the kernel.
        name: Prefix of the layers' names.
        groups: Number of groups, as in `conv`.

    Returns:
        A feature map with `filters` channels.
    """
    x, padding = pad_for_steps(x, kernel, strides, "symmetric", name=f"{name}_pad")
    return conv(
        x,
        filters,
        kernel,
        strides,
        name=f"{name}_conv",
        padding=padding,
        activation=None,
        use_bias=False,
        groups=groups,
    )


def squeeze_excite(
    x: Any, ratio: int, *, name: str, activation: str = "relu", **kwargs: Any
) -> Any:
    """Squeeze-and-excitation: weighs each channel by what is seen in all of them.

    Args:
        x: Feature map.
        ratio: How many times fewer units than channels lie between the two dense layers.
        name: Prefix of the layers' names.
        activation: Activation of the first dense layer.
        **kwargs: Further arguments of the two 1x1 convolutions, which are the dense layers.

    Returns:
        A feature map of the same shape.

    References:
        - [Squeeze-and-excitation networks](https://arxiv.org/abs/1709.01507), section 3
    """
    channels = x.shape[channel_axis()]
    weight = layers.GlobalAveragePooling2D(keepdims=True, name=f"{name}_squeeze")(x)
    weight = conv(
        weight, channels // ratio, 1, activation=activation, name=f"{name}_reduce", **kwargs
    )
    weight = conv(weight, channels, 1, activation="sigmoid", name=f"{name}_expand", **kwargs)
    return layers.Multiply(name=f"{name}_excite")([x, weight])


def max_pool(x: Any, size: int = 3, strides: int = 2, *, name: str, padding: str = "valid") -> Any:
    """Max pooling, by default of whole windows of 3x3 in steps of 2.

    Args:
        x: Feature map.
        size: Height and width of the windows.
        strides: Steps of the windows.
        name: Name of the layer.
        padding: `"valid"` or `"same"`.

    Returns:
        A feature map with as many channels.
    """
    return layers.MaxPooling2D(size, strides, padding, name=name)(x)


def ceil_pool(x: Any, *, name: str) -> Any:
    """Maximum of 3x3 in steps of 2, with a last window that may hang over the far edge, as Caffe's.

    Behind a ReLU, zeros beyond the edge change no maximum; where no window reaches them they are
    not seen at all.

    Args:
        x: Feature map, not negative.
        name: Name of the pool, and prefix of `_pad`.

    Returns:
        A feature map of half the height and width.
    """
    x = layers.ZeroPadding2D(((0, 1), (0, 1)), name=f"{name}_pad")(x)
    return max_pool(x, name=name)


def near_pool(x: Any, *, name: str) -> Any:
    """Maximum of 3x3 in steps of 2, with a first window that may hang over the near edge: tf2cv's.

    Args:
        x: Feature map, not negative.
        name: Name of the pool, and prefix of `_pad`.

    Returns:
        A feature map of half the height and width.
    """
    return max_pool(OddPadding2D(name=f"{name}_pad")(x), name=name)


def smooth(x: Any, *, name: str, count_padding: bool = False) -> Any:
    """Average of 3x3 around each cell.

    Args:
        x: Feature map.
        name: Name of the layer.
        count_padding: Whether the zeros beyond the edge count, as in Caffe and by default in
            PyTorch; else windows at the edge average what they see, as in TensorFlow.

    Returns:
        A feature map of the same shape.
    """
    if count_padding:
        x = layers.ZeroPadding2D(1, name=f"{name}_pad")(x)
    padding = "valid" if count_padding else "same"
    return layers.AveragePooling2D(3, 1, padding, name=name)(x)
