"""The locally connected layer: a convolution that shares no weights."""

from __future__ import annotations

import math
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_cnn_classics.layers import _arguments


@keras.saving.register_keras_serializable(package="keras_cnn_classics")
class LocallyConnected2D(keras.layers.Layer):
    """A convolution with other kernels at every position.

    Sharing weights takes for granted that what is worth seeing in one place is so in all. In an
    aligned image it is not: eyes are never where the mouth is. Keras had this layer up to version
    2. The shapes of the weights are the same here, so that its weights load, and its configuration
    too; of its arguments there is no `implementation`, which said how to compute.

    The kernel has the shape `(positions, kernel height * width * channels, filters)`, positions row
    by row, and the bias `(height, width, filters)` of the output. Both are the same in the two data
    formats; in Keras 2, `channels_first` had the channels before the window.

    Args:
        filters: Number of output maps.
        kernel_size: Height and width of the kernel.
        strides: Steps of the kernel. Defaults to `1`.
        padding: `"valid"`: windows lie within the map.
        data_format: `"channels_last"`, `"channels_first"`, or `None` for Keras's global setting.
        activation: Activation. Defaults to none.
        use_bias: Whether each output unit has a bias. Defaults to `True`.
        kernel_initializer: Initial kernels. By default those of a convolution, Glorot's uniform
            ones of one window; an initializer that is given sees the shape of all kernels together.
        bias_initializer: Initial biases. Defaults to zeros.
        kernel_regularizer: Penalty on the kernels. Defaults to none.
        bias_regularizer: Penalty on the biases. Defaults to none.
        kernel_constraint: Constraint of the kernels. Defaults to none.
        bias_constraint: Constraint of the biases. Defaults to none.

    Input shape:
        4D tensor, `(batch, height, width, channels)` or `(batch, channels, height, width)`, of
        known height and width.

    Output shape:
        4D tensor of the same layout with `filters` channels.

    References:
        - [Taigman et al., 2014](https://doi.org/10.1109/CVPR.2014.220), section 3.1
    """

    def __init__(
        self,
        filters: int,
        kernel_size: int | tuple[int, int],
        strides: int | tuple[int, int] = 1,
        padding: str = "valid",
        data_format: str | None = None,
        activation: Any = None,
        use_bias: bool = True,
        kernel_initializer: Any = None,
        bias_initializer: Any = "zeros",
        kernel_regularizer: Any = None,
        bias_regularizer: Any = None,
        kernel_constraint: Any = None,
        bias_constraint: Any = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.filters = _arguments.count(filters, "filters")
        if padding != "valid":
            raise ValueError(
                "`padding` must be 'valid'; a `ZeroPadding2D` before the layer lets windows reach "
                f"over the edge. Received: {padding=}"
            )
        self.padding = padding
        self.kernel_size = _arguments.pair(kernel_size, "kernel_size")
        self.strides = _arguments.pair(strides, "strides")
        self.data_format = _arguments.data_format(data_format)
        self.activation = keras.activations.get(activation)
        self.use_bias = use_bias
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.bias_initializer = keras.initializers.get(bias_initializer)
        self.kernel_regularizer = keras.regularizers.get(kernel_regularizer)
        self.bias_regularizer = keras.regularizers.get(bias_regularizer)
        self.kernel_constraint = keras.constraints.get(kernel_constraint)
        self.bias_constraint = keras.constraints.get(bias_constraint)
        self.input_spec = keras.layers.InputSpec(ndim=4)

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> LocallyConnected2D:
        # Keras 2 had several ways to compute the same.
        return cls(**{key: value for key, value in config.items() if key != "implementation"})

    def build(self, input_shape: Any) -> None:
        height, width, channels = self._last(input_shape)
        if None in (height, width, channels):
            raise ValueError(
                f"Layer {self.name!r} has weights for every position, so the height, the width "
                f"and the channels must be known. Received: {input_shape=}"
            )
        area = self._area(height, width)
        if min(area) < 1:
            raise ValueError(
                f"The kernel of layer {self.name!r} is larger than the map. "
                f"Received: {input_shape=}, kernel_size={self.kernel_size}"
            )
        self._output_area = area
        sides = dict(zip(_arguments.area(self.data_format), (height, width), strict=True))
        axes = {**sides, _arguments.channel_axis(self.data_format): channels}
        self.input_spec = keras.layers.InputSpec(ndim=4, axes=axes)
        # For every place of a window the cells that it sees, along each of the two axes.
        self._cells = [
            np.add.outer(step * np.arange(n), np.arange(size))
            for n, size, step in zip(area, self.kernel_size, self.strides, strict=True)
        ]
        self.kernel = self.add_weight(
            shape=(math.prod(area), math.prod(self.kernel_size) * channels, self.filters),
            initializer=self.kernel_initializer or self._initial_kernel,
            regularizer=self.kernel_regularizer,
            constraint=self.kernel_constraint,
            name="kernel",
        )
        if self.use_bias:
            self.bias = self.add_weight(
                shape=(*area, self.filters),
                initializer=self.bias_initializer,
                regularizer=self.bias_regularizer,
                constraint=self.bias_constraint,
                name="bias",
            )

    def _initial_kernel(self, shape: Any, dtype: Any = None) -> Any:
        seen_by = math.prod(self.kernel_size) * self.filters
        limit = math.sqrt(6 / (shape[1] + seen_by))
        return keras.random.uniform(shape, -limit, limit, dtype=dtype)

    def call(self, inputs: Any) -> Any:
        last = self.data_format == "channels_last"
        x = inputs if last else ops.moveaxis(inputs, 1, -1)
        rows, columns = self._cells
        # Keras's `extract_patches` convolves with an identity, as many multiplications as windows
        # have cells, squared; picking cells costs none.
        x = ops.take(ops.take(x, rows, axis=1), columns, axis=3)
        # From (batch, height, row, width, column, channel) to a matrix for every position.
        x = ops.transpose(x, (1, 3, 0, 2, 4, 5))
        positions, window, filters = self.kernel.shape
        # Cast, since on PyTorch `ops.matmul` gives float32 for float64.
        y = ops.cast(
            ops.matmul(ops.reshape(x, (positions, -1, window)), self.kernel), self.compute_dtype
        )
        y = ops.transpose(ops.reshape(y, (*self._output_area, -1, filters)), (2, 0, 1, 3))
        if self.use_bias:
            y = y + self.bias
        if self.activation is not None:
            y = self.activation(y)
        return y if last else ops.moveaxis(y, -1, 1)

    def compute_output_shape(self, input_shape: Any) -> Any:
        height, width, _ = self._last(input_shape)
        area = self._area(height, width)
        last = self.data_format == "channels_last"
        return (input_shape[0], *((*area, self.filters) if last else (self.filters, *area)))

    def _last(self, shape: Any) -> tuple[Any, Any, Any]:
        """Height, width and channels of a shape."""
        _, a, b, c = shape
        return (a, b, c) if self.data_format == "channels_last" else (b, c, a)

    def _area(self, height: Any, width: Any) -> tuple[Any, Any]:
        """Height and width of the output."""
        rows, columns = (
            None if side is None else (side - size) // step + 1
            for side, size, step in zip(
                (height, width), self.kernel_size, self.strides, strict=True
            )
        )
        return rows, columns

    def get_config(self) -> dict[str, Any]:
        own = self.kernel_initializer
        return {
            **super().get_config(),
            "filters": self.filters,
            "kernel_size": self.kernel_size,
            "strides": self.strides,
            "padding": self.padding,
            "data_format": self.data_format,
            "activation": keras.activations.serialize(self.activation),
            "use_bias": self.use_bias,
            "kernel_initializer": keras.initializers.serialize(own) if own else None,
            "bias_initializer": keras.initializers.serialize(self.bias_initializer),
            "kernel_regularizer": keras.regularizers.serialize(self.kernel_regularizer),
            "bias_regularizer": keras.regularizers.serialize(self.bias_regularizer),
            "kernel_constraint": keras.constraints.serialize(self.kernel_constraint),
            "bias_constraint": keras.constraints.serialize(self.bias_constraint),
        }
