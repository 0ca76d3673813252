"""Local response normalization."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import ops

from keras_cnn_classics.layers import _arguments


@keras.saving.register_keras_serializable(package="keras_cnn_classics")
class LocalResponseNormalization(keras.layers.Layer):
    """Divides each activation by the energy of its neighbours across channels.

    `y[c] = x[c] / (k + a * sum(x[c'] ** 2)) ** beta`, where `c'` runs over the `size` channels
    centred on `c`, as far as they exist. There are two conventions for `a`:

    - `"paper"`: `a = alpha`, as in Krizhevsky et al. and in TensorFlow, and
    - `"caffe"`: `a = alpha / size`, as in Caffe and PyTorch, which both default to `k=1`.

    The energy is computed in float32 at least, under every dtype policy: the square of a moderate
    activation overflows float16.

    Args:
        size: Odd int, the number of channels in the window. Defaults to `5`.
        alpha: Float, the weight of the energy. Defaults to `1e-4`, as do all defaults here
            AlexNet's.
        beta: Float, the exponent. Defaults to `0.75`.
        k: Float, the constant that keeps the denominator away from zero. Defaults to `2`.
        convention: `"paper"` or `"caffe"`: what `alpha` means. Defaults to `"paper"`.
        data_format: `"channels_last"`, `"channels_first"`, or `None` for Keras's global setting.

    Input shape:
        4D tensor, `(batch, height, width, channels)` or `(batch, channels, height, width)`.

    Output shape:
        The input's.

    References:
        - [Krizhevsky et al., 2012](https://papers.nips.cc/paper/4824), section 3.3
    """

    def __init__(
        self,
        size: int = 5,
        alpha: float = 1e-4,
        beta: float = 0.75,
        k: float = 2.0,
        convention: str = "paper",
        data_format: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.size = _arguments.positive(size)
        if self.size % 2 == 0:
            raise ValueError(f"`size` must be an odd positive integer. Received: {size=}")
        if convention not in ("paper", "caffe"):
            raise ValueError(f"`convention` must be 'paper' or 'caffe'. Received: {convention=}")
        self.alpha, self.beta, self.k = alpha, beta, k
        self.convention = convention
        self.data_format = _arguments.data_format(data_format)
        self.input_spec = keras.layers.InputSpec(ndim=4)

    def build(self, input_shape: Any) -> None:
        channels = input_shape[_arguments.channel_axis(self.data_format)]
        if channels is None:
            raise ValueError(
                f"Layer {self.name!r} needs a known number of channels. "
                f"Received the input shape {tuple(input_shape)}."
            )
        apart = np.abs(np.subtract.outer(np.arange(channels), np.arange(channels)))
        self._near = (apart <= self.size // 2).astype("float32")

    def call(self, inputs: Any) -> Any:
        x = ops.cast(inputs, _arguments.float_type(self.compute_dtype))
        first = self.data_format == "channels_first"
        squares = ops.square(x)
        # A product with a band matrix is several times as fast as a sum of shifted slices, and so
        # are two roots in place of a power (benchmarks/local_response_normalization.py).
        energy = ops.matmul(
            ops.moveaxis(squares, 1, -1) if first else squares, ops.cast(self._near, x.dtype)
        )
        energy = ops.moveaxis(energy, -1, 1) if first else energy
        base = self.k + self.alpha / (self.size if self.convention == "caffe" else 1) * energy
        if self.beta == 0.75:
            scale = ops.rsqrt(base * ops.sqrt(base))
        else:
            scale = ops.power(base, -self.beta)
        return ops.cast(x * scale, self.compute_dtype)

    def compute_output_shape(self, input_shape: Any) -> Any:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "size": self.size,
            "alpha": self.alpha,
            "beta": self.beta,
            "k": self.k,
            "convention": self.convention,
            "data_format": self.data_format,
        }
