"""Initial values of the weights, as the papers chose them."""

from __future__ import annotations

import math
from typing import Any

import keras


@keras.saving.register_keras_serializable(package="keras_cnn_classics")
class FanInUniform(keras.initializers.RandomUniform):
    """Uniform between `-scale / fan_in` and `scale / fan_in`.

    Divides by the number of inputs itself where Keras's `VarianceScaling` divides by its root.

    Args:
        scale: Float, the half-width for a unit with one input. Defaults to `2.4`, LeNet-5's.
        fan_in: Inputs of a unit. By default the product of all dimensions but the last.
        seed: Int or `keras.random.SeedGenerator`.

    References:
        - [LeCun et al., 1998](https://doi.org/10.1109/5.726791), appendix A
    """

    def __init__(self, scale: float = 2.4, fan_in: int | None = None, seed: Any = None) -> None:
        super().__init__(-1.0, 1.0, seed=seed)
        if scale <= 0 or (fan_in is not None and fan_in <= 0):
            raise ValueError(
                f"`scale` and `fan_in` must be positive. Received: {scale=}, {fan_in=}"
            )
        self.scale, self.fan_in = scale, fan_in

    def __call__(self, shape: Any, dtype: Any = None) -> Any:
        fan_in = self.fan_in or math.prod(shape[:-1])
        return super().__call__(shape, dtype) * (self.scale / fan_in)

    def get_config(self) -> dict[str, Any]:
        seed = super().get_config()["seed"]
        return {"scale": self.scale, "fan_in": self.fan_in, "seed": seed}
