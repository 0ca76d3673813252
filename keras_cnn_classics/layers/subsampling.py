"""The trainable subsampling of LeNet-5, which became pooling when its weights were dropped."""

from __future__ import annotations

import math
from typing import Any

import keras
from keras import ops

from keras_cnn_classics.layers import _arguments
from keras_cnn_classics.layers.initializers import FanInUniform


@keras.saving.register_keras_serializable(package="keras_cnn_classics")
class TrainableSubsampling(keras.layers.Layer):
    """Sum of a window, times a coefficient, plus a bias; both trainable, one each per channel.

    Args:
        pool_size: Height and width of the window. Defaults to `2`.
        strides: Steps of the window. Defaults to `pool_size`.
        coefficient_initializer: Initial coefficients. By default uniform within 2.4 divided by
            the size of the window, the paper's rule.
        bias_initializer: Initial biases. Defaults to zeros.
        data_format: `"channels_last"`, `"channels_first"`, or `None` for Keras's global setting.

    Input shape:
        4D tensor, `(batch, height, width, channels)` or `(batch, channels, height, width)`.

    Output shape:
        4D tensor of the same layout; incomplete windows at the far edges are dropped.

    References:
        - [LeCun et al., 1998](https://doi.org/10.1109/5.726791), section II.B, layers S2 and S4
    """

    def __init__(
        self,
        pool_size: int | tuple[int, int] = 2,
        strides: int | tuple[int, int] | None = None,
        coefficient_initializer: Any = None,
        bias_initializer: Any = "zeros",
        data_format: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.pool_size = _arguments.pair(pool_size, "pool_size")
        self.strides = self.pool_size if strides is None else _arguments.pair(strides, "strides")
        self.coefficient_initializer = keras.initializers.get(
            coefficient_initializer or FanInUniform(fan_in=math.prod(self.pool_size))
        )
        self.bias_initializer = keras.initializers.get(bias_initializer)
        self.data_format = _arguments.data_format(data_format)
        self.input_spec = keras.layers.InputSpec(ndim=4)

    def build(self, input_shape: Any) -> None:
        channels = (input_shape[_arguments.channel_axis(self.data_format)],)
        self.coefficient = self.add_weight(
            shape=channels, initializer=self.coefficient_initializer, name="coefficient"
        )
        self.bias = self.add_weight(shape=channels, initializer=self.bias_initializer, name="bias")

    def call(self, inputs: Any) -> Any:
        means = ops.average_pool(
            inputs, self.pool_size, self.strides, "valid", data_format=self.data_format
        )
        shape = (1, 1, 1, -1) if self.data_format == "channels_last" else (1, -1, 1, 1)
        window = self.pool_size[0] * self.pool_size[1]
        coefficient = ops.reshape(self.coefficient, shape)
        return means * (window * coefficient) + ops.reshape(self.bias, shape)

    def compute_output_shape(self, input_shape: Any) -> Any:
        pool = keras.layers.AveragePooling2D(
            self.pool_size, self.strides, data_format=self.data_format
        )
        return pool.compute_output_shape(input_shape)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "pool_size": self.pool_size,
            "strides": self.strides,
            "coefficient_initializer": keras.initializers.serialize(self.coefficient_initializer),
            "bias_initializer": keras.initializers.serialize(self.bias_initializer),
            "data_format": self.data_format,
        }
