"""Operations that mix each pixel with its neighbours."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from keras_cnn_classics.data.augmentation._operation import (
    Operation,
    blend,
    check_interval,
    rounded,
    sides,
    uniform,
)
from keras_cnn_classics.data.augmentation.geometry import gaussian


def filter3x3(image: Any, kernel: Any) -> Any:
    """Correlates each channel with a 3x3 kernel; pixels at the border stay as they are.

    That is what Pillow does there. Images smaller than 3x3 are all border.
    """
    height, width = sides(image)
    channels = image.shape[-1]
    kernels = tf.tile(
        tf.convert_to_tensor(kernel, tf.float32)[..., None, None], (1, 1, channels, 1)
    )
    padded = tf.pad(tf.cast(image, tf.float32), ((1, 1), (1, 1), (0, 0)))
    filtered = tf.nn.depthwise_conv2d(padded[None], kernels, (1, 1, 1, 1), "VALID")[0]
    y, x = tf.range(height)[:, None], tf.range(width)
    inside = (y > 0) & (y < height - 1) & (x > 0) & (x < width - 1)
    return tf.where(inside[..., None], rounded(filtered), image)


def sharpness(image: Any, factor: Any) -> Any:
    """Smoothed at 0, the image at 1, sharpened beyond: `PIL.ImageEnhance.Sharpness`."""
    smooth = tf.constant([[1, 1, 1], [1, 5, 1], [1, 1, 1]], tf.float32) / 13.0
    return blend(filter3x3(image, smooth), image, factor)


@dataclass(frozen=True)
class GaussianBlur(Operation):
    """Blurs by a Gaussian; at the border its weights inside the image are scaled up.

    Args:
        sigma: Least and greatest standard deviation, in pixels, above 0. Defaults to
            `(0.1, 2.0)`, as in SimCLR for 224 pixels.

    Raises:
        ValueError: For another interval.
    """

    sigma: tuple[float, float] = (0.1, 2.0)

    def __post_init__(self) -> None:
        check_interval(self.sigma, "sigma", 1e-3)

    def change(self, image: Any, seed: Any) -> Any:
        sigma = uniform(seed, self.sigma)
        # Channels first, both convolutions are matrix products.
        pixels = tf.transpose(tf.cast(image, tf.float32), (2, 0, 1))
        rows, columns = (gaussian(side, sigma) for side in sides(image))
        rows /= tf.reduce_sum(rows, 1, keepdims=True)
        columns /= tf.reduce_sum(columns, 1, keepdims=True)
        blurred = tf.matmul(tf.matmul(rows[None], pixels), columns[None], transpose_b=True)
        return rounded(tf.transpose(blurred, (1, 2, 0)))


@dataclass(frozen=True)
class Sharpen(Operation):
    """Sharpens as Pillow does: away from the image smoothed by a 3x3 kernel.

    Args:
        factor: Least and greatest factor, at least 0; 1 leaves the image, below 1 it is
            smoothed. Defaults to `(1.0, 3.0)`.

    Raises:
        ValueError: For another interval.
    """

    factor: tuple[float, float] = (1.0, 3.0)

    def __post_init__(self) -> None:
        check_interval(self.factor, "factor", 0)

    def change(self, image: Any, seed: Any) -> Any:
        return sharpness(image, uniform(seed, self.factor))


@dataclass(frozen=True)
class Emboss(Operation):
    """Adds relief, lit from below and from the right.

    The kernel is `[[-s, -s, 0], [-s, 1, s], [0, s, s]]` for a strength `s`; an even area keeps its
    value.

    Args:
        strength: Least and greatest strength, at least 0. Defaults to `(0.2, 1.0)`.

    Raises:
        ValueError: For another interval.
    """

    strength: tuple[float, float] = (0.2, 1.0)

    def __post_init__(self) -> None:
        check_interval(self.strength, "strength", 0)

    def change(self, image: Any, seed: Any) -> Any:
        relief = tf.constant([[-1, -1, 0], [-1, 0, 1], [0, 1, 1]], tf.float32)
        same = tf.constant([[0, 0, 0], [0, 1, 0], [0, 0, 0]], tf.float32)
        return filter3x3(image, same + uniform(seed, self.strength) * relief)
