"""Stochastic depth: a residual branch that training skips now and then."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from keras_cnn_classics.layers import _arguments


@keras.saving.register_keras_serializable(package="keras_cnn_classics")
class StochasticDepth(keras.layers.Layer):
    """Skips a residual branch for a whole batch at a time, as its paper does.

    In training the branch is kept with the probability `survival`, unscaled, and is else zero;
    otherwise it is multiplied by `survival`. The drop path of later networks decides for each
    image, and divides by the probability in training instead. A skipped branch is still computed,
    so its batch normalizations see every batch, where the authors' code leaves them out.

    Args:
        survival: Probability that the branch is kept, above 0 and at most 1.
        seed: Seed of the decisions, an integer. Defaults to `None`: a random one.

    Input shape:
        Any.

    Output shape:
        That of the input.

    Raises:
        ValueError: If `survival` is no such probability.

    References:
        - [Huang et al., 2016](https://arxiv.org/abs/1603.09382), equations 2 and 5
    """

    def __init__(self, survival: float, *, seed: Any = None, **kwargs: Any):
        super().__init__(**kwargs)
        if not _arguments.is_number(survival) or not 0 < survival <= 1:
            raise ValueError(f"`survival` must be above 0 and at most 1. Received: {survival=}")
        self.survival = float(survival)
        self.seed = seed
        self.seed_generator = keras.random.SeedGenerator(seed)
        self.supports_masking = True
        self.built = True

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        if not training:
            return inputs * ops.cast(self.survival, inputs.dtype)
        draw = keras.random.uniform((), dtype="float32", seed=self.seed_generator)
        return inputs * ops.cast(draw < self.survival, inputs.dtype)

    def compute_output_shape(self, input_shape: Any) -> Any:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "survival": self.survival, "seed": self.seed}
