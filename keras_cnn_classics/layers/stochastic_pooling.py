"""Stochastic pooling: a place of each window, drawn by its activation."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from keras_cnn_classics.layers import _arguments, _windows


@keras.saving.register_keras_serializable(package="keras_cnn_classics")
class StochasticPooling2D(_windows.Pooling2D):
    """Draws one place of each window, with a probability in proportion to its activation.

    In training the output is the activation at a place drawn with the probabilities
    `p[i] = a[i] / sum(a)`, for each window by itself; the gradient goes to that place alone. For
    inference it is the mean over the draws, `sum(p[i] * a[i])`. Activations must not be negative,
    as those behind a ReLU: negative ones count as zero. A window of zeros gives zero.

    Args:
        pool_size: Height and width of the window. Defaults to `3`, the paper's.
        strides: Steps of the window. Defaults to `pool_size`; the paper has 2.
        padding: `"valid"` or `"same"`: zeros around the maps, which are never drawn.
        data_format: `"channels_last"`, `"channels_first"`, or `None` for Keras's global setting.
        seed: Seed of the draws, an integer. Defaults to `None`: a random one.

    Input shape:
        4D tensor, `(batch, height, width, channels)` or `(batch, channels, height, width)`.

    Output shape:
        4D tensor of the same layout, as that of `keras.layers.MaxPooling2D`.

    References:
        - [Zeiler & Fergus, 2013](https://arxiv.org/abs/1301.3557), section 3
    """

    def __init__(
        self,
        pool_size: int | tuple[int, int] = 3,
        strides: int | tuple[int, int] | None = None,
        padding: str = "valid",
        data_format: str | None = None,
        *,
        seed: Any = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(pool_size, strides, padding, data_format, **kwargs)
        self.seed = seed
        self.seed_generator = keras.random.SeedGenerator(seed)

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        x = ops.relu(ops.cast(inputs, _arguments.float_type(self.compute_dtype)))
        seen = self.windows(x)
        if training:
            outputs = ops.sum(seen * self._drawn(seen), axis=0)
        else:
            total = ops.sum(seen, axis=0, keepdims=True)
            share = seen / ops.where(total > 0, total, 1.0)
            outputs = ops.sum(share * seen, axis=0)
        return ops.cast(outputs, self.compute_dtype)

    def _drawn(self, seen: Any) -> Any:
        """One at the place of each window that was drawn, and zero elsewhere."""
        # Of independent waiting times with the rates a[i], the i-th is the shortest with the
        # probability a[i] / sum(a).
        uniform = keras.random.uniform(
            ops.shape(seen), 1e-7, 1.0, dtype=seen.dtype, seed=self.seed_generator
        )
        waiting = ops.maximum(-ops.log(uniform), 1e-7)
        place = ops.argmax(ops.stop_gradient(seen) / waiting, axis=0)
        return ops.one_hot(place, seen.shape[0], axis=0, dtype=seen.dtype)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "seed": self.seed}
