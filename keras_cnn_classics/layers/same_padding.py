"""Windows in steps that reach over the edge of a map, as TensorFlow's "same" lays them."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from keras_cnn_classics.layers import _arguments, _windows


@keras.saving.register_keras_serializable(package="keras_cnn_classics")
class SamePadding2D(keras.layers.Layer):
    """The zeros of `padding="same"` as a layer, for pools that shall see them.

    A pool with `padding="same"` leaves out what is beyond the edge; behind this layer, with
    `padding="valid"`, it sees zeros there. How many there are follows the size of each map, be it
    known when the network is built or not.

    Args:
        pool_size: Height and width of the windows that follow. Defaults to `3`.
        strides: Their steps, no longer than the windows. Defaults to `2`.
        data_format: `"channels_last"`, `"channels_first"`, or `None` for Keras's global setting.

    Input shape:
        4D tensor, `(batch, height, width, channels)` or `(batch, channels, height, width)`.

    Output shape:
        4D tensor of the same layout, higher and wider by at most `pool_size - 1`.
    """

    def __init__(
        self,
        pool_size: int = 3,
        strides: int = 2,
        data_format: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.pool_size = _arguments.count(pool_size, "pool_size")
        self.strides = _arguments.count(strides, "strides")
        if self.strides > self.pool_size:
            raise ValueError(
                f"`strides` must be at most `pool_size`. Received: {pool_size=}, {strides=}"
            )
        self.data_format = _arguments.data_format(data_format)
        self.input_spec = keras.layers.InputSpec(ndim=4)

    def call(self, inputs: Any) -> Any:
        return self._padded(inputs)

    def _padded(self, x: Any) -> Any:
        size, strides = (self.pool_size,) * 2, (self.strides,) * 2
        return _windows.pad(x, size, strides, self.data_format)

    def compute_output_shape(self, input_shape: Any) -> Any:
        shape = list(input_shape)
        for axis in _arguments.area(self.data_format):
            if shape[axis] is not None:
                shape[axis] += sum(_windows.same_widths(shape[axis], self.pool_size, self.strides))
        return tuple(shape)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "pool_size": self.pool_size,
            "strides": self.strides,
            "data_format": self.data_format,
        }


@keras.saving.register_keras_serializable(package="keras_cnn_classics")
class OddPadding2D(keras.layers.Layer):
    """Zeros before maps of even height or width, which make it odd, for pools as tf2cv has them.

    Windows of 3x3 in steps of 2 then fit a map of any size; the first ones of an even size hang
    over the near edge.

    Args:
        data_format: `"channels_last"`, `"channels_first"`, or `None` for Keras's global setting.

    Input shape:
        4D tensor, `(batch, height, width, channels)` or `(batch, channels, height, width)`.

    Output shape:
        4D tensor of the same layout, higher and wider by at most 1.
    """

    def __init__(self, data_format: str | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.data_format = _arguments.data_format(data_format)
        self.input_spec = keras.layers.InputSpec(ndim=4)

    def call(self, inputs: Any) -> Any:
        widths, cuts = [(0, 0)] * 4, [slice(None)] * 4
        shape = ops.shape(inputs)
        for axis in _arguments.area(self.data_format):
            # What an odd size does not need is cut off again: maps may be of unknown size.
            widths[axis], cuts[axis] = (1, 0), slice(shape[axis] % 2, None)
        return ops.pad(inputs, widths)[tuple(cuts)]

    def compute_output_shape(self, input_shape: Any) -> Any:
        shape = list(input_shape)
        for axis in _arguments.area(self.data_format):
            if shape[axis] is not None:
                shape[axis] += 1 - shape[axis] % 2
        return tuple(shape)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "data_format": self.data_format}


@keras.saving.register_keras_serializable(package="keras_cnn_classics")
class SameAveragePooling2D(SamePadding2D):
    """`AveragePooling2D` with `padding="same"`, the same on every backend.

    Keras's own, up to 3.15, repeats the edge for maps of even size in steps of two on the PyTorch
    backend, and counts that. This one averages what is in the map, and nothing else.

    Args:
        pool_size: Height and width of the windows. Defaults to `3`.
        strides: Their steps, no longer than the windows. Defaults to `2`.
        data_format: `"channels_last"`, `"channels_first"`, or `None` for Keras's global setting.

    Input shape:
        4D tensor, `(batch, height, width, channels)` or `(batch, channels, height, width)`.

    Output shape:
        4D tensor of the same layout; height and width are divided by the steps and rounded up.

    References:
        - [Keras issue 18452](https://github.com/keras-team/keras/issues/18452)
    """

    def call(self, inputs: Any) -> Any:
        sums, counts = (
            ops.average_pool(
                self._padded(x), self.pool_size, self.strides, "valid", self.data_format
            )
            for x in (inputs, ops.ones_like(inputs))
        )
        return sums / counts

    def compute_output_shape(self, input_shape: Any) -> Any:
        shape = list(input_shape)
        for axis in _arguments.area(self.data_format):
            if shape[axis] is not None:
                shape[axis] = -(-shape[axis] // self.strides)
        return tuple(shape)


@keras.saving.register_keras_serializable(package="keras_cnn_classics")
class CeilAveragePooling2D(SameAveragePooling2D):
    """An average pool whose last windows may hang over the far edge, as Caffe's do.

    The number of windows is rounded up, the first one begins at the near edge, and each averages
    what is in the map, and nothing else.

    Args:
        pool_size: Height and width of the windows. Defaults to `3`.
        strides: Their steps, no longer than the windows. Defaults to `2`.
        data_format: `"channels_last"`, `"channels_first"`, or `None` for Keras's global setting.

    Input shape:
        4D tensor, `(batch, height, width, channels)` or `(batch, channels, height, width)`.

    Output shape:
        4D tensor of the same layout with `ceil((n - pool_size) / strides) + 1` of n cells.
    """

    def _padded(self, x: Any) -> Any:
        widths = [(0, 0)] * 4
        for axis in _arguments.area(self.data_format):
            widths[axis] = (0, self.strides - 1)
        return ops.pad(x, widths)

    def compute_output_shape(self, input_shape: Any) -> Any:
        shape = list(input_shape)
        for axis in _arguments.area(self.data_format):
            if shape[axis] is not None:
                shape[axis] = 1 - (self.pool_size - shape[axis]) // self.strides
        return tuple(shape)
