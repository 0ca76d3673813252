"""Spatial pyramid pooling."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_cnn_classics.layers import _arguments
from keras_cnn_classics.layers._largest import largest


@keras.saving.register_keras_serializable(package="keras_cnn_classics")
class SpatialPyramidPooling(keras.layers.Layer):
    """Maxima of a feature map in grids of several sizes: a vector of one length for any image.

    In a grid of n x n bins, bin i of an axis has the cells from `floor(i * side / n)` up to, and
    without, `ceil((i + 1) * side / n)`: bins overlap where n does not divide the side.

    Args:
        bins: Bins in each direction of each grid, such as `(7, 3, 2, 1)`.
        data_format: `"channels_last"`, `"channels_first"`, or `None` for Keras's global setting.

    Input shape:
        4D tensor, `(batch, height, width, channels)` or `(batch, channels, height, width)`. Height
        and width need not be known when the layer is built.

    Output shape:
        2D tensor, `(batch, channels * sum(n * n for n in bins))`: grid after grid, their bins row
        by row, and for each bin its channels, in both layouts.

    Raises:
        ValueError: If `bins` are not positive integers.

    References:
        - [He et al., 2014](https://arxiv.org/abs/1406.4729), section 2.2, and appendix A for the
          bins
    """

    def __init__(self, bins: Sequence[int], data_format: str | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.bins = tuple(map(_arguments.positive, bins)) if hasattr(bins, "__iter__") else ()
        if not self.bins or 0 in self.bins:
            raise ValueError(f"`bins` must be one or more positive integers. Received: {bins=}")
        self.data_format = _arguments.data_format(data_format)
        self.input_spec = keras.layers.InputSpec(ndim=4)

    def build(self, input_shape: Any) -> None:
        if input_shape[_arguments.channel_axis(self.data_format)] is None:
            raise ValueError(
                f"Layer {self.name!r} needs a known number of channels. "
                f"Received the input shape {tuple(input_shape)}."
            )

    def call(self, inputs: Any) -> Any:
        rows, columns = _arguments.area(self.data_format)
        grids = []
        for n in self.bins:
            grid = _maxima(_maxima(inputs, rows, n), columns, n)
            if self.data_format == "channels_first":
                grid = ops.transpose(grid, (0, 2, 3, 1))
            grids.append(ops.reshape(grid, (-1, n * n * grid.shape[-1])))
        return ops.concatenate(grids, axis=-1)

    def compute_output_shape(self, input_shape: Any) -> Any:
        channels = input_shape[_arguments.channel_axis(self.data_format)]
        return input_shape[0], channels * sum(n * n for n in self.bins)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "bins": self.bins, "data_format": self.data_format}


def _maxima(x: Any, axis: int, n: int) -> Any:
    """Maxima along one axis, of which n are left."""
    side = ops.shape(x)[axis]
    before = (slice(None),) * axis
    bins = [x[(*before, slice(i * side // n, -(-(i + 1) * side // n)))] for i in range(n)]
    return ops.stack([largest(one, axis) for one in bins], axis=axis)
