"""The partially connected convolution of LeNet-5's layer C3."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_cnn_classics.layers import _arguments


@keras.saving.register_keras_serializable(package="keras_cnn_classics")
class PartiallyConnectedConv2D(keras.layers.Layer):
    """A convolution in which each output map sees only the input maps that a table names.

    Only the connections that exist have weights: the kernel has the shape
    `(height, width, connections)`, and is spread over a dense one, zero elsewhere, in each call.

    Args:
        connections: For each output map, the indices of the input maps that it sees.
        kernel_size: Height and width of the kernel.
        strides: Steps of the kernel. Defaults to `1`.
        padding: `"valid"` or `"same"`. Defaults to `"valid"`.
        use_bias: Whether each output map has a bias. Defaults to `True`.
        kernel_initializer: Initial kernel. By default uniform within `2.4 / fan_in`, where a
            unit's fan-in counts the input maps that it really sees.
        bias_initializer: Initial bias. Defaults to zeros.
        kernel_regularizer: Penalty on the kernel. Defaults to none.
        data_format: `"channels_last"`, `"channels_first"`, or `None` for Keras's global setting.

    Input shape:
        4D tensor, `(batch, height, width, channels)` or `(batch, channels, height, width)`.

    Output shape:
        4D tensor of the same layout with `len(connections)` channels.

    References:
        - [LeCun et al., 1998](https://doi.org/10.1109/5.726791), table I
    """

    def __init__(
        self,
        connections: Sequence[Sequence[int]],
        kernel_size: int | tuple[int, int],
        strides: int | tuple[int, int] = 1,
        padding: str = "valid",
        use_bias: bool = True,
        kernel_initializer: Any = None,
        bias_initializer: Any = "zeros",
        kernel_regularizer: Any = None,
        data_format: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.connections = [[int(i) for i in row] for row in connections]
        if not self.connections or not all(self.connections):
            raise ValueError(
                "`connections` must name at least one input map for each output map. "
                f"Received: {connections=}"
            )
        if any(len(set(row)) < len(row) or min(row) < 0 for row in self.connections):
            raise ValueError(
                "Each row of `connections` must hold different, non-negative indices. "
                f"Received: {connections=}"
            )
        if padding not in ("valid", "same"):
            raise ValueError(f"`padding` must be 'valid' or 'same'. Received: {padding=}")
        self.kernel_size = _arguments.pair(kernel_size, "kernel_size")
        self.strides = _arguments.pair(strides, "strides")
        self.padding = padding
        self.use_bias = use_bias
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.bias_initializer = keras.initializers.get(bias_initializer)
        self.kernel_regularizer = keras.regularizers.get(kernel_regularizer)
        self.data_format = _arguments.data_format(data_format)
        self.input_spec = keras.layers.InputSpec(ndim=4)

    @property
    def filters(self) -> int:
        """Number of output maps."""
        return len(self.connections)

    def build(self, input_shape: Any) -> None:
        maps = input_shape[_arguments.channel_axis(self.data_format)]
        if max(max(row) for row in self.connections) >= maps:
            raise ValueError(
                f"`connections` of layer {self.name!r} names an input map that is not there: "
                f"the input has {maps}. Received: connections={self.connections}"
            )
        edges = [(i, o) for o, row in enumerate(self.connections) for i in row]
        self.kernel = self.add_weight(
            shape=(*self.kernel_size, len(edges)),
            initializer=self.kernel_initializer or self._initial_kernel,
            regularizer=self.kernel_regularizer,
            name="kernel",
        )
        if self.use_bias:
            self.bias = self.add_weight(
                shape=(self.filters,), initializer=self.bias_initializer, name="bias"
            )
        # Row e has a one where connection e stands in a dense kernel.
        self._spread = np.zeros((len(edges), maps * self.filters), "float32")
        for edge, (i, o) in enumerate(edges):
            self._spread[edge, i * self.filters + o] = 1.0
        self._maps = maps

    def _initial_kernel(self, shape: Any, dtype: Any = None) -> Any:
        window = self.kernel_size[0] * self.kernel_size[1]
        limits = np.repeat(
            [2.4 / (window * len(row)) for row in self.connections],
            [len(row) for row in self.connections],
        )
        uniform = keras.random.uniform(shape, -1.0, 1.0, dtype=dtype)
        return uniform * ops.convert_to_tensor(limits, dtype=uniform.dtype)

    def call(self, inputs: Any) -> Any:
        spread = ops.cast(self._spread, self.compute_dtype)
        # On PyTorch, `ops.matmul` gives no float64.
        dense = ops.cast(ops.matmul(self.kernel, spread), self.compute_dtype)
        dense = ops.reshape(dense, (*self.kernel_size, self._maps, self.filters))
        outputs = ops.conv(inputs, dense, self.strides, self.padding, self.data_format)
        if not self.use_bias:
            return outputs
        last = self.data_format == "channels_last"
        return outputs + ops.reshape(self.bias, (1, 1, 1, -1) if last else (1, -1, 1, 1))

    def compute_output_shape(self, input_shape: Any) -> Any:
        conv = keras.layers.Conv2D(
            self.filters,
            self.kernel_size,
            self.strides,
            self.padding,
            data_format=self.data_format,
        )
        return conv.compute_output_shape(input_shape)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "connections": self.connections,
            "kernel_size": self.kernel_size,
            "strides": self.strides,
            "padding": self.padding,
            "use_bias": self.use_bias,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer)
            if self.kernel_initializer
            else None,
            "bias_initializer": keras.initializers.serialize(self.bias_initializer),
            "kernel_regularizer": keras.regularizers.serialize(self.kernel_regularizer),
            "data_format": self.data_format,
        }
