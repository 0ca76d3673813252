"""The deconvnet of Zeiler and Fergus: what in an image made a unit fire."""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass
from functools import singledispatch
from typing import Any

import keras
import numpy as np
from keras import layers, ops

from keras_cnn_classics.layers import (
    CeilAveragePooling2D,
    LocallyConnected2D,
    LocalResponseNormalization,
    MaxPoolingWithSwitches,
    MaxUnpooling,
    OddPadding2D,
    PreprocessInput,
    SameAveragePooling2D,
    SamePadding2D,
)
from keras_cnn_classics.layers._windows import same_widths


@dataclass(frozen=True)
class Projection:
    """What a deconvnet shows of one activation in each image.

    Attributes:
        pixels: The patterns that caused the activations, an array of the images' shape, and of
            their scale and order of channels, as the network was given them.
        channels: The channel of each activation.
        positions: Its row and column in the map, an array of shape `(batch, 2)`.
        values: How strong it is. Behind a ReLU one that is 0 leaves no pattern.
    """

    pixels: np.ndarray
    channels: np.ndarray
    positions: np.ndarray
    values: np.ndarray


class Deconvnet:
    """Projects activations of one layer back to pixels.

    All activations of the layer but one are set to zero, and the map goes the way back through the
    network: pools put each value where the maximum was, by switches of the way up; what a ReLU gave
    is rectified again, by its own sign; convolutions use their filters transposed, without biases.
    Normalization of responses is passed by, as the authors do, and batch normalization only scales.
    The weights are the network's, those that it has when the deconvnet is called. What the network
    computes with its own dtype goes back in float32.

    Without ReLUs that is the gradient of the activation, times its value. A gradient stops where
    the ReLU on the way up was zero; a deconvnet stops what is negative on the way down.

    The way from the image to the layer must be a sequence of `Conv2D` (grouped ones too),
    `LocallyConnected2D`, ReLU, `MaxPooling2D`, `AveragePooling2D`, padding with zeros, dropout and
    noise, and the two normalizations: all maps of LeNet, AlexNet, ZFNet, OverFeat, NIN, VGG, the
    PReLU networks and DeepFace, and those of other networks up to their first branch. Behind a
    PReLU, a leaky ReLU or an ELU, which the paper does not have, signals are rectified as behind a
    ReLU. Other layers are refused.

    ```python
    model = kcc.VGG16(include_top=False)
    seen = inspection.Deconvnet(model, "block3_conv1")(images)
    seen.pixels, seen.channels, seen.positions
    ```

    Args:
        model: A Functional or Sequential model with one input.
        layer: Name of the layer whose activations are projected.

    Raises:
        ValueError: If there is no such layer, or if something on the way cannot be gone back
            through, such as a branch; the message names it.

    References:
        - [Zeiler and Fergus, 2013](https://arxiv.org/abs/1311.2901), section 2.1
    """

    def __init__(self, model: Any, layer: str) -> None:
        names = [one.name for one in getattr(model, "layers", ())]
        if layer not in names or len(getattr(model, "inputs", None) or ()) != 1:
            raise ValueError(
                "A deconvnet needs a Functional or Sequential model with one input, and the name "
                f"of one of its layers. Received: {model!r} and {layer=}"
            )
        path = _path(model, layer)
        self._steps = [_step(one) for one, _ in path]
        self._first = any(getattr(one, "data_format", None) == "channels_first" for one, _ in path)
        maps = [*(given for _, given in path), model.get_layer(layer).output]
        self._forward = keras.Model(model.inputs[0], maps)

    def __call__(
        self,
        images: Any,
        channel: int | None = None,
        position: tuple[int, int] | None = None,
    ) -> Projection:
        """Projects one activation of each image.

        Args:
            images: Batch of images, prepared as the network wants them.
            channel: Channel of the activation. Defaults to the one with the strongest activation
                in each image, at the position if that is given.
            position: Row and column of the activation. Defaults to the place where the channel is
                strongest in each image.

        Returns:
            The patterns, and which activations they are of.

        Raises:
            ValueError: If the layer has no such channel or position.
        """
        *given, top = map(self._to_last, self._forward(images, training=False))
        maps = ops.convert_to_numpy(top).astype("float32")  # as exact as it may be on the way down
        chosen = _chosen(maps, channel, position)
        signal: Any = ops.convert_to_tensor(np.where(chosen, maps, np.zeros_like(maps)))
        for step, below in zip(reversed(self._steps), reversed(given), strict=True):
            signal = step(signal, below)
        pixels = ops.convert_to_numpy(signal)
        _, rows, columns, channels = np.nonzero(chosen)
        return Projection(
            pixels=np.moveaxis(pixels, -1, 1) if self._first else pixels,
            channels=channels,
            positions=np.stack([rows, columns], axis=1),
            values=maps[chosen],
        )

    def _to_last(self, x: Any) -> Any:
        return ops.moveaxis(x, 1, -1) if self._first else x


def _path(model: Any, name: str) -> list[tuple[Any, Any]]:
    """The layers from the image to the named one, and what each is given."""
    path: list[tuple[Any, Any]] = []
    tensor = keras.tree.flatten(model.get_layer(name).output)[0]
    while tensor is not model.inputs[0]:
        layer, call, _ = tensor._keras_history
        given = layer._inbound_nodes[call].input_tensors
        if not given:
            raise ValueError(
                f"{name!r} was part of another model before, from whose input {layer.name!r} it "
                "is reached: give that model."
            )
        if len(given) > 1:
            raise ValueError(
                f"The way to {name!r} leads over {layer.name!r}, where {len(given)} branches "
                "meet: a deconvnet can go back along a plain sequence of layers only. Choose a "
                "layer before the first branch."
            )
        path.append((layer, given[0]))
        tensor = given[0]
    if not path:
        raise ValueError(f"{name!r} is the input itself: choose a layer behind it.")
    return path[::-1]


def _chosen(maps: np.ndarray, channel: int | None, position: tuple[int, int] | None) -> np.ndarray:
    """Where the activation is that each image shall show: true in one place of its map."""
    if maps.ndim != 4:
        raise ValueError(f"The layer must give maps. Received the output shape {maps.shape}.")
    allowed = np.zeros(maps.shape[1:], bool)
    try:
        rows, columns = (slice(None), slice(None)) if position is None else position
        allowed[rows, columns, slice(None) if channel is None else operator.index(channel)] = True
    except (IndexError, TypeError, ValueError) as error:
        raise ValueError(
            "`channel` must be one of the layer's, and `position` a row and a column of its maps, "
            f"which have the shape {maps.shape[1:]}. Received: {channel=}, {position=}"
        ) from error
    best = np.where(allowed, maps, -np.inf).reshape(len(maps), -1).argmax(axis=1)
    chosen = np.zeros((len(maps), allowed.size), bool)
    chosen[np.arange(len(maps)), best] = True
    return chosen.reshape(maps.shape)


# The way back through one layer: from what comes down and what the layer was given on the way up,
# both channels last, to what goes further down.
Step = Callable[[Any, Any], Any]


@singledispatch
def _step(layer: Any) -> Step:
    """The way back through a layer."""
    raise ValueError(
        f"A deconvnet cannot go back through {layer.name!r}, a {type(layer).__name__}: it knows "
        "convolutions, ReLU, pooling, padding and normalization. Choose a layer before it."
    )


@_step.register(PreprocessInput)
def _(layer: Any) -> Step:
    raise ValueError(
        f"A deconvnet ends at images as the network sees them, and {layer.name!r} prepares them in "
        "the network: build it with include_preprocessing=False and prepare them before."
    )


@_step.register(layers.AveragePooling2D)
def _(layer: Any) -> Step:
    return _shares(layer.pool_size, layer.strides, same=layer.padding == "same")


@_step.register(SameAveragePooling2D)
def _(layer: Any) -> Step:
    same = not isinstance(layer, CeilAveragePooling2D)
    return _shares((layer.pool_size,) * 2, (layer.strides,) * 2, same=same)


def _shares(size: Any, strides: Any, *, same: bool) -> Step:
    """The way back through an average: each cell of a window gets an equal share."""

    def spread(signal: Any, below: Any) -> Any:
        area = tuple(below.shape[1:3])
        before = _hanging_over(area, size, strides, same)
        # How many cells each window averages: those beyond the edge do not count.
        cells = []
        for axis, windows in enumerate(signal.shape[1:3]):
            start = strides[axis] * np.arange(windows) - before[axis]
            end = np.minimum(start + size[axis], area[axis])
            cells.append(end - np.maximum(start, 0))
        x = signal / np.outer(*cells)[:, :, None].astype("float32")
        # One channel after the other, as images of a batch.
        batch, channels = x.shape[0], x.shape[-1]
        x = ops.reshape(ops.moveaxis(x, -1, 1), (batch * channels, *x.shape[1:3], 1))
        x = _laid_out(x, np.ones((*size, 1, 1), "float32"), strides, before, area)
        return ops.moveaxis(ops.reshape(x, (batch, channels, *area)), 1, -1)

    return spread


@_step.register(LocalResponseNormalization)
@_step.register(layers.Dropout)
@_step.register(layers.SpatialDropout2D)
@_step.register(layers.GaussianNoise)
@_step.register(layers.GaussianDropout)
@_step.register(layers.Identity)
def _(layer: Any) -> Step:
    return lambda signal, _: signal


@_step.register(layers.Activation)
@_step.register(layers.ReLU)
def _(layer: Any) -> Step:
    plain = isinstance(layer, layers.Activation)
    if plain or (layer.max_value is None and not layer.negative_slope and not layer.threshold):
        return _rectification(layer, layer.activation if plain else keras.activations.relu)
    raise ValueError(f"A deconvnet cannot go back through {layer.name!r}, which is no plain ReLU.")


@_step.register(layers.Conv2D)
def _(layer: Any) -> Step:
    rectify = _rectification(layer, layer.activation)
    return lambda signal, below: _transposed(layer, rectify(signal, below), below.shape[1:3])


@_step.register(layers.PReLU)
@_step.register(layers.LeakyReLU)
@_step.register(layers.ELU)
def _(layer: Any) -> Step:
    return _rectification(layer, keras.activations.relu)


@_step.register(LocallyConnected2D)
def _(layer: Any) -> Step:
    rectify = _rectification(layer, layer.activation)

    def lay_out(signal: Any, below: Any) -> Any:
        positions, window, filters = layer.kernel.shape
        signal = rectify(signal, below)
        batch, *places = signal.shape[:3]
        # What each position gives its window, and where that is.
        x = ops.transpose(ops.reshape(signal, (batch, positions, filters)), (1, 2, 0))
        x = ops.matmul(ops.cast(layer.kernel, x.dtype), x)
        x = ops.reshape(ops.transpose(x, (2, 0, 1)), (batch, *places, window))
        cells = np.eye(window, dtype="float32").reshape(*layer.kernel_size, -1, window)
        return _laid_out(x, cells, layer.strides, (0, 0), tuple(below.shape[1:3]))

    return lay_out


@_step.register(layers.BatchNormalization)
def _(layer: Any) -> Step:
    def scale(signal: Any, _: Any) -> Any:
        factor = ops.rsqrt(layer.moving_variance + layer.epsilon)
        factor = factor * layer.gamma if layer.scale else factor
        return signal * ops.cast(factor, signal.dtype)

    return scale


@_step.register(layers.MaxPooling2D)
def _(layer: Any) -> Step:
    windows = layer.pool_size, layer.strides, layer.padding
    how: dict[str, Any] = {"data_format": "channels_last", "dtype": "float32"}

    def unpool(signal: Any, below: Any) -> Any:
        _, switches = MaxPoolingWithSwitches(*windows, **how)(below)
        area = tuple(below.shape[1:3])
        return MaxUnpooling(*windows, area, **how)([signal, switches])

    return unpool


@_step.register(layers.ZeroPadding2D)
def _(layer: Any) -> Step:
    (top, _), (left, _) = layer.padding
    return lambda signal, below: _cut(signal, (top, left), below.shape[1:3])


@_step.register(SamePadding2D)
def _(layer: Any) -> Step:
    def cut(signal: Any, below: Any) -> Any:
        area = below.shape[1:3]
        before = [same_widths(side, layer.pool_size, layer.strides)[0] for side in area]
        return _cut(signal, before, area)

    return cut


@_step.register(OddPadding2D)
def _(layer: Any) -> Step:
    return lambda signal, below: signal[:, -below.shape[1] :, -below.shape[2] :]


def _rectification(layer: Any, activation: Any) -> Step:
    if activation is keras.activations.relu:
        return lambda signal, _: ops.relu(signal)
    if activation is keras.activations.linear:
        return lambda signal, _: signal
    raise ValueError(
        f"A deconvnet cannot go back through {layer.name!r}: it rectifies what a ReLU gave, and "
        f"here the activation is {getattr(activation, '__name__', activation)!r}."
    )


def _transposed(layer: Any, signal: Any, area: tuple[int, int]) -> Any:
    """The filters of a convolution transposed: the gradient of what it computes."""
    kernel = ops.convert_to_numpy(layer.kernel).astype("float32")
    size = [
        (n - 1) * apart + 1 for n, apart in zip(kernel.shape, layer.dilation_rate, strict=False)
    ]
    apart = np.zeros((*size, *kernel.shape[2:]), kernel.dtype)
    apart[:: layer.dilation_rate[0], :: layer.dilation_rate[1]] = kernel
    parts = zip(ops.split(signal, layer.groups, -1), np.split(apart, layer.groups, -1), strict=True)
    before = _hanging_over(area, size, layer.strides, layer.padding == "same")
    maps = [_laid_out(x, k, layer.strides, before, area) for x, k in parts]
    return ops.concatenate(maps, axis=-1)


def _hanging_over(area: Any, size: Any, strides: Any, same: bool) -> list[int]:
    """How far the first window reaches over the near edge, along both axes."""
    axes = zip(area, size, strides, strict=True)
    return [same_widths(*axis)[0] if same else 0 for axis in axes]


def _laid_out(x: Any, kernel: Any, strides: Any, before: Any, area: tuple[int, int]) -> Any:
    """The sum of kernels that are laid on a map where a layer's windows were."""
    x = ops.conv_transpose(x, kernel, strides, "valid", data_format="channels_last")
    # No window may have seen the last rows and columns.
    x = ops.pad(x, [(0, 0), *((0, step) for step in strides), (0, 0)])
    return _cut(x, before, area)


def _cut(x: Any, before: Any, area: tuple[int, int]) -> Any:
    (top, left), (height, width) = before, area
    return x[:, top : top + height, left : left + width]
