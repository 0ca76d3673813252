"""Edges that are repeated, and maps that are given the size of others."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from keras_cnn_classics.layers import _arguments


@keras.saving.register_keras_serializable(package="keras_cnn_classics")
class EdgePadding2D(keras.layers.Layer):
    """Repeats the first and last rows and columns, so that a maximum does not see the padding.

    Before a `MaxPooling2D(3, 2)`, one on the far sides gives Caffe's pool, whose last window may
    hang over the edge, and one on all sides PyTorch's with `padding=1`; unlike zeros, for numbers
    below zero too.

    Args:
        before: How often the first row and column are repeated. Defaults to `0`.
        after: How often the last row and column are repeated. Defaults to `0`.
        data_format: `"channels_last"`, `"channels_first"`, or `None` for Keras's global setting.

    Input shape:
        4D tensor, `(batch, height, width, channels)` or `(batch, channels, height, width)`.

    Output shape:
        4D tensor of the same layout, higher and wider by `before + after`.

    Raises:
        ValueError: If `before` or `after` is negative.
    """

    def __init__(
        self, before: int = 0, after: int = 0, data_format: str | None = None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.before, self.after = _arguments.both_sides(before, after)
        self.data_format = _arguments.data_format(data_format)
        self.input_spec = keras.layers.InputSpec(ndim=4)

    def call(self, inputs: Any) -> Any:
        x = inputs
        for axis in _arguments.area(self.data_format):
            before = (slice(None),) * axis
            first, last = x[(*before, slice(None, 1))], x[(*before, slice(-1, None))]
            x = ops.concatenate([first] * self.before + [x] + [last] * self.after, axis)
        return x

    def compute_output_shape(self, input_shape: Any) -> Any:
        shape = list(input_shape)
        for axis in _arguments.area(self.data_format):
            if shape[axis] is not None:
                shape[axis] += self.before + self.after
        return tuple(shape)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "before": self.before,
            "after": self.after,
            "data_format": self.data_format,
        }


@keras.saving.register_keras_serializable(package="keras_cnn_classics")
class ResizeLike(keras.layers.Layer):
    """Interpolates a map bilinearly to the size of another one, corners on corners.

    Row i of n is read at `i * (m - 1) / (n - 1)` of the m rows that there are, and so for columns:
    Caffe's "Interp" layer, and PyTorch's `interpolate` with `align_corners=True`. Keras's
    `UpSampling2D` and `ops.image.resize` put half pixels on half pixels.

    Args:
        data_format: `"channels_last"`, `"channels_first"`, or `None` for Keras's global setting.

    Input shape:
        Two 4D tensors, `(batch, height, width, channels)` or `(batch, channels, height, width)`:
        what is resized, and what has the size wanted, of which nothing else matters.

    Output shape:
        4D tensor of the height and width of the second with the channels of the first.

    References:
        - [Wang et al., 2017](https://arxiv.org/abs/1704.06904), section 3.2
    """

    def __init__(self, data_format: str | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.data_format = _arguments.data_format(data_format)

    def build(self, input_shape: Any) -> None:
        shapes = [tuple(shape) for shape in input_shape if isinstance(shape, (tuple, list))]
        if [len(shape) for shape in shapes] != [4, 4]:
            raise ValueError(
                f"Layer {self.name!r} needs two maps [x, like]. Received the shapes {input_shape}"
            )

    def call(self, inputs: Any) -> Any:
        x, like = inputs
        rows, columns = (
            ops.cast(_interpolation(ops.shape(x)[axis], ops.shape(like)[axis]), x.dtype)
            for axis in _arguments.area(self.data_format)
        )
        last = self.data_format == "channels_last"
        equation = "bhwc,ih,jw->bijc" if last else "bchw,ih,jw->bcij"
        return ops.einsum(equation, x, rows, columns)

    def compute_output_shape(self, input_shape: Any) -> Any:
        x, like = input_shape
        shape = list(x)
        for axis in _arguments.area(self.data_format):
            shape[axis] = like[axis]
        return tuple(shape)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "data_format": self.data_format}


def _interpolation(given: Any, wanted: Any) -> Any:
    """The matrix that interpolates along one axis: a row for each cell wanted."""
    i = ops.cast(ops.arange(wanted), "float32")
    cells = ops.cast(ops.arange(given), "float32")
    steps = ops.cast(ops.maximum(wanted - 1, 1), "float32")
    places = i * ops.cast(given - 1, "float32") / steps
    return ops.relu(1 - ops.abs(places[:, None] - cells))
