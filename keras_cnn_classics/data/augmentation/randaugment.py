"""RandAugment: a few operations drawn from a list, all at one strength.

The operations have Pillow's pixels, those of the paper's own code.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import tensorflow as tf

from keras_cnn_classics.data.augmentation import colour, filters
from keras_cnn_classics.data.augmentation._operation import (
    Operation,
    check_count,
    check_number,
    sides,
    split,
)
from keras_cnn_classics.data.augmentation.geometry import about_centre, transform


def autocontrast(image: Any) -> Any:
    """Stretches each channel to 0 to 255: `PIL.ImageOps.autocontrast`."""
    low = tf.cast(tf.reduce_min(image, (0, 1)), tf.float64)[:, None]
    high = tf.cast(tf.reduce_max(image, (0, 1)), tf.float64)[:, None]
    values = tf.range(256, dtype=tf.float64)
    scale = 255 / tf.maximum(high - low, 1)
    table = tf.where(high > low, values * scale - low * scale, values)
    return colour.lookup(image, tf.saturate_cast(table, tf.uint8))


def equalize(image: Any) -> Any:
    """Makes the histogram of each channel even: `PIL.ImageOps.equalize`."""
    channels = image.shape[-1]
    index = tf.cast(image, tf.int32) + 256 * tf.range(channels)
    counts = tf.math.bincount(tf.reshape(index, [-1]), minlength=256 * channels)
    counts = tf.reshape(counts, (channels, 256))
    below = tf.cumsum(counts, axis=1, exclusive=True)
    # All pixels but those of the greatest value that there is.
    top = tf.reduce_max(tf.where(counts > 0, below, 0), 1, keepdims=True)
    step = top // 255
    table = (step // 2 + below) // tf.maximum(step, 1)
    table = tf.where(step > 0, table, tf.range(256))
    return colour.lookup(image, tf.saturate_cast(table, tf.uint8))


def solarize(image: Any, threshold: Any) -> Any:
    """Inverts values from the threshold on, 256 for none: `PIL.ImageOps.solarize`."""
    return tf.where(tf.cast(image, tf.int32) < threshold, image, 255 - image)


def posterize(image: Any, lost: Any) -> Any:
    """Sets the lowest bits of each value to zero: `PIL.ImageOps.posterize` with the others."""
    return tf.bitwise.bitwise_and(image, tf.cast(256 - 2 ** tf.cast(lost, tf.int32), tf.uint8))


def _rotate(image: Any, degrees: Any, fill: int) -> Any:
    angle = degrees * (np.pi / 180)
    cos, sin = tf.cos(angle), tf.sin(angle)
    return transform(image, about_centre(image, (cos, -sin, sin, cos)), fill)


def _shear(image: Any, x: Any, y: Any, fill: int) -> Any:
    """Shears about the image's corner; the halves are the distance to a pixel's centre."""
    return transform(image, (1.0, x, x / 2, y, 1.0, y / 2), fill)


def _translate(image: Any, x: Any, y: Any, fill: int) -> Any:
    """Moves by shares of the width and height."""
    height, width = (tf.cast(side, tf.float32) for side in sides(image))
    return transform(image, (1.0, 0.0, x * width, 0.0, 1.0, y * height), fill)


def _colour(image: Any, factor: Any) -> Any:
    return image if image.shape[-1] == 1 else colour.saturation(image, factor)


SHIFT = 150 / 331  # AutoAugment's 150 pixels of an image of 331

# Each takes an image, a strength from -1 to 1 and the value that comes in from outside. The
# ranges are AutoAugment's, table 6.
OPERATIONS: dict[str, Callable[[Any, Any, int], Any]] = {
    "identity": lambda image, s, fill: image,
    "autocontrast": lambda image, s, fill: autocontrast(image),
    "equalize": lambda image, s, fill: equalize(image),
    "rotate": lambda image, s, fill: _rotate(image, 30.0 * s, fill),
    "solarize": lambda image, s, fill: solarize(image, tf.cast(256 * (1 - abs(s)), tf.int32)),
    "color": lambda image, s, fill: _colour(image, 1 + 0.9 * s),
    "posterize": lambda image, s, fill: posterize(
        image, 8 - tf.cast(tf.round(4 * abs(s)), "int32")
    ),
    "contrast": lambda image, s, fill: colour.contrast(image, 1 + 0.9 * s),
    "brightness": lambda image, s, fill: colour.brightness(image, 1 + 0.9 * s),
    "sharpness": lambda image, s, fill: filters.sharpness(image, 1 + 0.9 * s),
    "shear_x": lambda image, s, fill: _shear(image, 0.3 * s, 0.0, fill),
    "shear_y": lambda image, s, fill: _shear(image, 0.0, 0.3 * s, fill),
    "translate_x": lambda image, s, fill: _translate(image, SHIFT * s, 0.0, fill),
    "translate_y": lambda image, s, fill: _translate(image, 0.0, SHIFT * s, fill),
}


@dataclass(frozen=True)
class RandAugment(Operation):
    """Applies operations drawn from the paper's fourteen, with replacement, at one strength.

    The strength of every operation grows with the magnitude, up to AutoAugment's strongest, and
    has a random sign where it has two directions. (In the authors' code solarize and posterize
    get weaker with it, and magnitudes above 10 go beyond AutoAugment's strongest.) On grey images
    `color` changes nothing.

    Args:
        num_ops: How many operations an image gets, the paper's N. Defaults to `2`.
        magnitude: Their strength, the paper's M, from 0 to `max_magnitude`. Defaults to `9`, the
            paper's for ResNet-50 on ImageNet.
        max_magnitude: The magnitude of AutoAugment's strongest. Defaults to `10`; other codes
            count to 30.
        fill: Value of what comes in from outside. Defaults to `128`.

    Raises:
        ValueError: For other values.

    References:
        - [Cubuk et al., 2020](https://arxiv.org/abs/1909.13719), section 3
    """

    num_ops: int = 2
    magnitude: float = 9
    max_magnitude: float = 10
    fill: int = 128

    def __post_init__(self) -> None:
        check_count(self.num_ops, "num_ops")
        check_number(self.max_magnitude, "max_magnitude", 1)
        check_number(self.magnitude, "magnitude", 0, self.max_magnitude)
        check_number(self.fill, "fill", 0, 255)

    def change(self, image: Any, seed: Any) -> Any:
        which, sign = split(seed, 2)
        count = len(OPERATIONS)
        drawn = tf.random.stateless_uniform([self.num_ops], which, 0, count, tf.int32)
        signs = tf.random.stateless_uniform([self.num_ops], sign) < 0.5
        strength = self.magnitude / self.max_magnitude
        strengths = tf.where(signs, -strength, strength)
        for slot in range(self.num_ops):
            branches = [
                partial(operation, image, strengths[slot], self.fill)
                for operation in OPERATIONS.values()
            ]
            image = tf.switch_case(drawn[slot], branches)
        return image
