"""Local contrast normalization: each cell against its surroundings in all maps."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import ops

from keras_cnn_classics.layers import _arguments


@keras.saving.register_keras_serializable(package="keras_cnn_classics")
class LocalContrastNormalization(keras.layers.Layer):
    """Takes from each cell the mean of its surroundings, and divides by their deviation.

    Surroundings are a Gaussian window over all maps, whose weights have the sum 1:

    - subtractive: `v = x - mean(x)`, of the window at each cell;
    - divisive: `y = v / max(c, s)`, where `s = sqrt(mean(v ** 2))`, of the window too, and `c` is
      the mean of `s` over the image: contrast that is below the average is not raised.

    Nothing is learned. The paper does not say what a window sees beyond the edge: here nothing, and
    the weights of what it does see have the sum 1. Nor does it give the deviation of the Gaussian;
    a quarter of the window is Torch's. Statistics are computed in float32 at least.

    Args:
        size: Odd height and width of the window. Defaults to `9`, the paper's.
        sigma: Standard deviation of the Gaussian, in cells. Defaults to `size / 4`.
        divisive: Whether to divide, too. Defaults to `True`.
        epsilon: Least number to divide by. Defaults to `1e-4`.
        data_format: `"channels_last"`, `"channels_first"`, or `None` for Keras's global setting.

    Input shape:
        4D tensor, `(batch, height, width, channels)` or `(batch, channels, height, width)`.

    Output shape:
        The input's.

    References:
        - [Jarrett et al., 2009](https://doi.org/10.1109/ICCV.2009.5459469), section 2
    """

    def __init__(
        self,
        size: int = 9,
        sigma: float | None = None,
        divisive: bool = True,
        epsilon: float = 1e-4,
        data_format: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.size = _arguments.positive(size)
        if self.size % 2 == 0:
            raise ValueError(f"`size` must be an odd positive integer. Received: {size=}")
        self.sigma = self.size / 4 if sigma is None else float(sigma)
        if not (self.sigma > 0 and epsilon > 0):
            raise ValueError(
                f"`sigma` and `epsilon` must be positive. Received: {sigma=}, {epsilon=}"
            )
        self.divisive, self.epsilon = divisive, float(epsilon)
        self.data_format = _arguments.data_format(data_format)
        self.input_spec = keras.layers.InputSpec(ndim=4)

    def call(self, inputs: Any) -> Any:
        x = ops.cast(inputs, _arguments.float_type(self.compute_dtype))
        # Which changes nothing but how exact float32 is: the windows' means are taken next.
        x = x - ops.mean(x, axis=(1, 2, 3), keepdims=True)
        weight = self._blur(ops.ones_like(x[:1]))
        x = x - self._blur(x) / weight
        if self.divisive:
            energy = self._blur(ops.square(x)) / weight
            deviation = ops.sqrt(ops.maximum(energy, self.epsilon**2))
            mean = ops.mean(deviation, axis=(1, 2, 3), keepdims=True)
            x = x / ops.maximum(mean, deviation)
        return ops.cast(x, self.compute_dtype)

    def _blur(self, x: Any) -> Any:
        """The sum over the window at each cell, of the mean of the maps: a tensor of one map."""
        away = np.arange(self.size) - self.size // 2
        bell = np.exp(-0.5 * np.square(away / self.sigma))
        kernel = ops.cast(bell / bell.sum(), x.dtype)
        axis = _arguments.channel_axis(self.data_format)
        x = ops.expand_dims(ops.mean(x, axis=axis), -1)
        for shape in ((-1, 1, 1, 1), (1, -1, 1, 1)):  # down, and across
            x = ops.conv(x, ops.reshape(kernel, shape), 1, "same", data_format="channels_last")
        return ops.moveaxis(x, -1, axis)

    def compute_output_shape(self, input_shape: Any) -> Any:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "size": self.size,
            "sigma": self.sigma,
            "divisive": self.divisive,
            "epsilon": self.epsilon,
            "data_format": self.data_format,
        }
