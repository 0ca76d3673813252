"""A model's fingerprint: readable, small, and the same on every machine.

Weights are filled from a hash of their names rather than by an initializer, so the fingerprint
depends on no random number generator of a backend.
"""

from __future__ import annotations

import math
import zlib
from typing import Any

import numpy as np


def fill(model: Any) -> None:
    """Gives every weight values that depend only on its name and shape."""
    for layer in model.layers:
        if layer.weights:
            layer.set_weights([_values(f"{layer.name}/{w.name}", w) for w in layer.weights])


def _values(path: str, weight: Any) -> np.ndarray:
    seed = zlib.crc32(path.encode())
    draw = np.random.Generator(np.random.PCG64(seed)).random(weight.shape, "float32") - 0.5
    if weight.name in ("gamma", "moving_variance"):  # around 1, and positive
        return 1 + 0.2 * draw
    fan_in = max(1, math.prod(weight.shape[:-1]))
    return draw * math.sqrt(24 / fan_in)  # keeps the scale of activations through ReLUs


def fingerprint(model: Any, images: Any) -> dict[str, Any]:
    """Describes a model that `fill` has filled.

    Args:
        model: The model; its weights are replaced.
        images: One batch. Rough images tell more than smooth ones, on which a maximum and an
            average agree.

    Returns:
        A dict for JSON: the shape of every layer's output by the layer's name, the numbers of
        trained and of other parameters, a few of the outputs and their norm.
    """
    fill(model)
    y = np.asarray(model.predict(images, verbose=0), "float64")
    return {
        "layers": {layer.name: list(layer.output.shape[1:]) for layer in model.layers},
        "params": sum(math.prod(w.shape) for w in model.trainable_weights),
        "state": sum(math.prod(w.shape) for w in model.non_trainable_weights),
        "output": [float(f"{value:.5g}") for value in y[0].ravel()[:6]],
        "norm": float(f"{np.linalg.norm(y):.5g}"),
    }
