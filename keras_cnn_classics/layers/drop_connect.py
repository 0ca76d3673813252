"""DropConnect: a dense layer of which training drops weights."""

from __future__ import annotations

import math
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_cnn_classics.layers import _arguments

# Of Gauss and Hermite's rule, for activations that are smooth.
NODES = 31
TINY = 1e-30


@keras.saving.register_keras_serializable(package="keras_cnn_classics")
class DropConnect(keras.layers.Dense):
    """`keras.layers.Dense`, of which training drops weights and biases, other ones for each input.

    In training `y = activation((mask * kernel) x + mask' * bias)`, and what is left is not scaled
    up. For inference the paper takes the sum of a unit, which is one over many masks, for a
    Gaussian of the same mean and variance, `p * (kernel x + bias)` and
    `p * (1 - p) * (kernel ** 2 x ** 2 + bias ** 2)` with `p = 1 - rate`, and the mean of the
    activation over it. The paper draws samples of it; this is the integral itself, in closed form
    for a ReLU and by quadrature for others, and gives the same each time.

    The masks of one image are as many numbers as the kernel has, and a batch of them is in memory
    at once: keep `inputs * units * batch` below some hundred millions, or share the mask.

    Args:
        units: Number of units.
        rate: Share of the weights that are dropped, at least 0 and below 1. Defaults to `0.5`.
        activation: A function of each unit by itself. Softmax is none: put it behind the layer.
        inference: `"gaussian"`, the paper's; or `"mean"`, the activation of the mean, which is
            what scaling the weights by `1 - rate` gives, as dropout does. Defaults to `"gaussian"`.
        shared_mask: Whether one mask serves for the whole batch: faster and smaller, with more
            noise in the gradient. Defaults to `False`.
        seed: Seed of the masks, an integer. Defaults to `None`: a random one.
        **kwargs: Further arguments of `keras.layers.Dense`.

    Input shape:
        `(batch, ..., inputs)`.

    Output shape:
        `(batch, ..., units)`.

    References:
        - [Wan et al., 2013](https://proceedings.mlr.press/v28/wan13.html), section 3
    """

    def __init__(
        self,
        units: int,
        rate: float = 0.5,
        activation: Any = None,
        *,
        inference: str = "gaussian",
        shared_mask: bool = False,
        seed: Any = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(units, activation, **kwargs)
        self.rate = _arguments.rate(rate)
        if inference not in ("gaussian", "mean"):
            raise ValueError(f"`inference` must be 'gaussian' or 'mean'. Received: {inference=}")
        if self.activation in (keras.activations.softmax, keras.activations.log_softmax):
            raise ValueError(
                "`activation` must be a function of each unit by itself: put a softmax in a layer "
                f"of its own. Received: {activation=}"
            )
        self.inference, self.shared_mask = inference, shared_mask
        self.seed = seed
        self.seed_generator = keras.random.SeedGenerator(seed)

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        if training and self.rate:
            return self._activate(self._masked(inputs))
        keep = 1 - self.rate
        mean = keep * self._sum(inputs, self.kernel, self.bias)
        if self.inference == "mean" or not self.rate or self._linear:
            return self._activate(mean)
        kind = _arguments.float_type(self.compute_dtype)
        squares = (
            None if x is None else ops.square(ops.cast(x, kind))
            for x in (inputs, self.kernel, self.bias)
        )
        # The root has no gradient at 0, which inputs of zeros give.
        variance = ops.maximum(keep * self.rate * self._sum(*squares), TINY)
        deviation = ops.sqrt(variance)
        mean = ops.cast(mean, kind)
        if self.activation is keras.activations.relu:
            away = mean / deviation
            density = ops.exp(-0.5 * ops.square(away)) / math.sqrt(2 * math.pi)
            share = 0.5 * (1 + ops.erf(away / math.sqrt(2)))
            return ops.cast(mean * share + deviation * density, self.compute_dtype)
        nodes, weights = np.polynomial.hermite_e.hermegauss(NODES)
        outputs = sum(
            float(weight) * self.activation(mean + float(node) * deviation)
            for node, weight in zip(nodes, weights / weights.sum(), strict=True)
        )
        return ops.cast(outputs, self.compute_dtype)

    @property
    def _linear(self) -> bool:
        return self.activation in (None, keras.activations.linear)

    def _activate(self, sums: Any) -> Any:
        outputs = sums if self._linear else self.activation(sums)
        # Cast, since on PyTorch `ops.matmul` gives float32 for float64.
        return ops.cast(outputs, self.compute_dtype)

    def _sum(self, inputs: Any, kernel: Any, bias: Any) -> Any:
        outputs = ops.matmul(inputs, kernel)
        return outputs if bias is None else outputs + bias

    def _masked(self, inputs: Any) -> Any:
        """The sums of the units with weights that are left."""
        rows = () if self.shared_mask else tuple(ops.shape(inputs)[:-1])
        kernel = self.kernel * self._mask((*rows, *self.kernel.shape))
        bias = None if self.bias is None else self.bias * self._mask((*rows, self.units))
        if self.shared_mask:
            return self._sum(inputs, kernel, bias)
        outputs = ops.squeeze(ops.matmul(ops.expand_dims(inputs, -2), kernel), -2)
        return outputs if bias is None else outputs + bias

    def _mask(self, shape: Any) -> Any:
        # float32, since a uniform number of half precision has too few values.
        draw = keras.random.uniform(shape, dtype="float32", seed=self.seed_generator)
        return ops.cast(draw >= self.rate, self.compute_dtype)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "rate": self.rate,
            "inference": self.inference,
            "shared_mask": self.shared_mask,
            "seed": self.seed,
        }
