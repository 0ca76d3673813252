"""The layer `LocalResponseNormalization` against TensorFlow's own operation, in one run.

    python benchmarks/local_response_normalization.py

Prints milliseconds, the least of several calls, and their ratio, for a batch of 16 maps of
AlexNet's conv1 (55x55x96), forward and with the gradient.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from keras_cnn_classics.layers import LocalResponseNormalization

CALLS = 15


def least(function: Callable[[Any], Any], x: Any) -> float:
    """The least time of several calls, in milliseconds."""
    function(x)
    times = []
    for _ in range(CALLS):
        start = time.perf_counter()
        function(x).numpy()
        times.append(time.perf_counter() - start)
    return 1000 * min(times)


def with_gradient(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """The gradient of the sum of squares of what the function gives."""

    def gradient(x: Any) -> Any:
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = tf.reduce_sum(function(x) ** 2)
        return tape.gradient(y, x)

    return gradient


def main() -> None:
    """Measures both and prints a table."""
    x = tf.constant(np.random.default_rng(0).normal(size=(16, 55, 55, 96)).astype("float32"))
    ours = LocalResponseNormalization()

    def theirs(y: Any) -> Any:
        return tf.nn.local_response_normalization(y, 2, 2.0, 1e-4, 0.75)

    np.testing.assert_allclose(ours(x), theirs(x), rtol=1e-5)
    print("           ours   tf.nn   ratio")
    for name, wrap in (("forward", lambda f: f), ("gradient", with_gradient)):
        a, b = (least(tf.function(wrap(f)), x) for f in (ours, theirs))
        print(f"{name:9}{a:6.1f}{b:8.1f}{a / b:8.2f}")


if __name__ == "__main__":
    main()
