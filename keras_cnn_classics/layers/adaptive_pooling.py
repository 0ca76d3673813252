"""Average pooling to a given size."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import ops

from keras_cnn_classics.layers import _arguments


@keras.saving.register_keras_serializable(package="keras_cnn_classics")
class AdaptiveAveragePooling(keras.layers.Layer):
    """Averages in as many windows as the output shall have cells.

    Cell i of n is the average of the input's cells from `floor(i * side / n)` up to, and without,
    `ceil((i + 1) * side / n)`: windows overlap where n does not divide the side, and repeat cells
    where the side is less than n. That is PyTorch's definition.

    Args:
        side: Height and width of the output.
        data_format: `"channels_last"`, `"channels_first"`, or `None` for Keras's global setting.

    Input shape:
        4D tensor, `(batch, height, width, channels)` or `(batch, channels, height, width)`, of
        known height and width.

    Output shape:
        4D tensor of the same layout, `side` cells high and wide.

    References:
        - [He et al., 2014](https://arxiv.org/abs/1406.4729), section 2.2
    """

    def __init__(self, side: int, data_format: str | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.side = _arguments.count(side, "side")
        self.data_format = _arguments.data_format(data_format)
        self.input_spec = keras.layers.InputSpec(ndim=4)

    def build(self, input_shape: Any) -> None:
        rows, columns = self._axes
        if None in (input_shape[rows], input_shape[columns]):
            raise ValueError(
                f"{type(self).__name__} needs a known height and width. Received: {input_shape=}"
            )
        super().build(input_shape)

    @property
    def _axes(self) -> tuple[int, int]:
        return _arguments.area(self.data_format)

    def _windows(self, side: int) -> np.ndarray:
        """The matrix that averages along one axis: a row for each window."""
        i = np.arange(self.side)[:, None]
        start, end = i * side // self.side, -(-(i + 1) * side // self.side)
        cells = np.arange(side)
        inside = (start <= cells) & (cells < end)
        return inside / inside.sum(axis=1, keepdims=True)

    def call(self, inputs: Any) -> Any:
        rows, columns = (
            ops.cast(self._windows(inputs.shape[axis]), inputs.dtype) for axis in self._axes
        )
        last = self.data_format == "channels_last"
        equation = "bhwc,ih,jw->bijc" if last else "bchw,ih,jw->bcij"
        return ops.einsum(equation, inputs, rows, columns)

    def compute_output_shape(self, input_shape: Any) -> Any:
        shape = list(input_shape)
        for axis in self._axes:
            shape[axis] = self.side
        return tuple(shape)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "side": self.side, "data_format": self.data_format}
