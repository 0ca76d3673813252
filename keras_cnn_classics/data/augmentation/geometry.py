"""Operations that move pixels and keep the size of the image.

Coordinates are those of pixels, from 0 to `width - 1` and `height - 1`, `y` downwards.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from keras_cnn_classics.data.augmentation._operation import (
    Operation,
    check_number,
    rounded,
    sides,
    uniform,
)


def transform(image: Any, matrix: Sequence[Any], fill: int, smooth: bool = False) -> Any:
    """Takes the pixel at `(x, y)` from `(a x + b y + c, d x + e y + f)`.

    Args:
        image: Tensor of uint8, `(height, width, channels)`.
        matrix: The six numbers `(a, b, c, d, e, f)`.
        fill: Value of what lies outside the image.
        smooth: Bilinear interpolation, instead of the nearest pixel.

    Returns:
        A tensor like the image.
    """
    row = tf.stack([tf.cast(number, tf.float32) for number in (*matrix, 0.0, 0.0)])
    moved = tf.raw_ops.ImageProjectiveTransformV3(
        images=(tf.cast(image, tf.float32) if smooth else image)[None],
        transforms=row[None],
        output_shape=tf.convert_to_tensor(sides(image)),
        fill_value=float(fill),
        interpolation="BILINEAR" if smooth else "NEAREST",
        fill_mode="CONSTANT",
    )[0]
    return rounded(moved) if smooth else moved


def about_centre(image: Any, matrix: Sequence[Any], shift: Sequence[Any] = (0.0, 0.0)) -> list[Any]:
    """The six numbers for `transform` of `(a, b, d, e)` about the image's centre, after a shift."""
    a, b, d, e = matrix
    y0, x0 = ((tf.cast(side, tf.float32) - 1) / 2 for side in sides(image))
    x, y = x0 + shift[0], y0 + shift[1]
    return [a, b, x0 - a * x - b * y, d, e, y0 - d * x - e * y]


@dataclass(frozen=True)
class Affine(Operation):
    """The planar distortions of LeNet-5's training, and a rotation.

    In this order, about the centre, with bilinear interpolation: scaling and squeezing,
    horizontal shearing, rotation, translation. The paper gives no amounts; the defaults are for
    digits.

    Args:
        translation: Greatest translation in either direction, as a share of the height and
            width. Defaults to `0.1`.
        scale: Both sides are multiplied by a factor from `1 / (1 + scale)` to `1 + scale`.
            Defaults to `0.1`.
        squeeze: The width is multiplied, and the height divided, by a factor from
            `1 / (1 + squeeze)` to `1 + squeeze`. Defaults to `0.1`.
        shear: Greatest horizontal shift of a row, as a share of its height above or below the
            centre. Defaults to `0.2`.
        rotation: Greatest rotation in either direction, in degrees. Defaults to `0.0`.
        fill: Value of what comes in from outside. Defaults to `0`.

    Raises:
        ValueError: If an amount is negative or `fill` is not from 0 to 255.

    References:
        - [LeCun et al., 1998](https://doi.org/10.1109/5.726791), section III-B
    """

    translation: float = 0.1
    scale: float = 0.1
    squeeze: float = 0.1
    shear: float = 0.2
    rotation: float = 0.0
    fill: int = 0

    def __post_init__(self) -> None:
        for name in ("translation", "scale", "squeeze", "shear", "rotation"):
            check_number(getattr(self, name), name, 0)
        check_number(self.fill, "fill", 0, 255)

    def change(self, image: Any, seed: Any) -> Any:
        draws = tf.unstack(uniform(seed, (-1, 1), (6,)))
        height, width = (tf.cast(side, tf.float32) for side in sides(image))
        shift = (self.translation * draws[0] * width, self.translation * draws[1] * height)
        scale = (1.0 + self.scale) ** draws[2]
        squeeze = (1.0 + self.squeeze) ** draws[3]
        shear = self.shear * draws[4]
        angle = np.deg2rad(self.rotation) * draws[5]
        cos, sin = tf.cos(angle), tf.sin(angle)
        # The inverse of rotation @ shearing @ scaling.
        inverse = (
            (cos + shear * sin) / (scale * squeeze),
            (sin - shear * cos) / (scale * squeeze),
            -sin * squeeze / scale,
            cos * squeeze / scale,
        )
        return transform(image, about_centre(image, inverse, shift), self.fill, smooth=True)


def gaussian(size: Any, sigma: Any) -> Any:
    """The matrix of `exp(-(i - j)**2 / (2 sigma**2))`, which convolves a line of that size."""
    at = tf.range(tf.cast(size, tf.float32))
    return tf.exp(-(((at[:, None] - at) / sigma) ** 2) / 2)


def sample(image: Any, y: Any, x: Any, fill: int) -> Any:
    """The image at the points `(y, x)`, bilinear; `fill` stands all around it."""
    height, width = sides(image)
    # One row and column of `fill` at each side is all that points outside can meet.
    padded = tf.pad(tf.cast(image, tf.float32), ((1, 1), (1, 1), (0, 0)), constant_values=fill)
    flat = tf.reshape(padded, (-1, image.shape[-1]))
    y = tf.clip_by_value(y + 1, 0.0, tf.cast(height + 1, tf.float32))
    x = tf.clip_by_value(x + 1, 0.0, tf.cast(width + 1, tf.float32))
    top, left = tf.minimum(tf.cast(y, tf.int32), height), tf.minimum(tf.cast(x, tf.int32), width)
    down = (y - tf.cast(top, tf.float32))[..., None]
    right = (x - tf.cast(left, tf.float32))[..., None]
    corner = top * (width + 2) + left

    def row(start: Any) -> Any:
        first, second = tf.gather(flat, start), tf.gather(flat, start + 1)
        return first + right * (second - first)

    upper, lower = row(corner), row(corner + width + 2)
    return rounded(upper + down * (lower - upper))


@dataclass(frozen=True)
class Elastic(Operation):
    """Moves each pixel along a smooth random field: the distortion behind MNIST's best results.

    The field is uniform noise from -1 to 1, smoothed by a Gaussian and multiplied by `alpha`;
    outside the image there is no noise. The interpolation is bilinear. The paper also speaks of
    fields normalised to a norm of 1; on its 29x29 images that is nearly the same.

    Args:
        alpha: Strength in pixels. A displacement has a standard deviation of about
            `alpha * 0.16 / sigma`. Defaults to `34.0`, the paper's for digits.
        sigma: Standard deviation of the Gaussian, in pixels. Defaults to `4.0`, the paper's.
        fill: Value of what comes in from outside. Defaults to `0`.

    Raises:
        ValueError: If `alpha` is negative, `sigma` is below 0.5 or `fill` not from 0 to 255.

    References:
        - [Simard et al., 2003](https://doi.org/10.1109/ICDAR.2003.1227801), section 2
    """

    alpha: float = 34.0
    sigma: float = 4.0
    fill: int = 0

    def __post_init__(self) -> None:
        check_number(self.alpha, "alpha", 0)
        check_number(self.sigma, "sigma", 0.5)
        check_number(self.fill, "fill", 0, 255)

    def change(self, image: Any, seed: Any) -> Any:
        height, width = sides(image)
        noise = tf.random.stateless_uniform((2, height, width), seed, -1.0, 1.0)
        # For `sigma` from 0.5 on, the sum of a Gaussian over all integers is its integral.
        strength = self.alpha / (2 * np.pi * self.sigma**2)
        rows, columns = gaussian(height, self.sigma), gaussian(width, self.sigma)
        field = strength * tf.matmul(tf.matmul(rows[None], noise), columns[None])
        y = tf.range(tf.cast(height, tf.float32))[:, None] + field[0]
        x = tf.range(tf.cast(width, tf.float32)) + field[1]
        return sample(image, y, x, self.fill)
