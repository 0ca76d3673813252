"""Operations on the colours of an image; the pixels stay where they are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Self

import keras
import numpy as np
import tensorflow as tf

from keras_cnn_classics.data.augmentation._operation import (
    Operation,
    apply,
    blend,
    check_interval,
    check_number,
    rounded,
    split,
    uniform,
)


def luma(image: Any) -> Any:
    """The image in grey, `(height, width, 1)`, as float32 integers: Pillow's fixed-point luma."""
    pixels = tf.cast(image, tf.float32)
    if image.shape[-1] == 1:
        return pixels
    # The sums stay below 2**24, so float32 holds them exactly.
    weights = tf.constant([[19595.0], [38470.0], [7471.0]])
    return tf.floor((tf.tensordot(pixels, weights, 1) + 32768.0) / 65536.0)


def brightness(image: Any, factor: Any) -> Any:
    """Black at 0, the image at 1: `PIL.ImageEnhance.Brightness`."""
    return tf.saturate_cast(tf.cast(image, tf.float32) * factor, tf.uint8)


def contrast(image: Any, factor: Any) -> Any:
    """The mean grey at 0, the image at 1: `PIL.ImageEnhance.Contrast`."""
    return blend(tf.floor(tf.reduce_mean(luma(image)) + 0.5), image, factor)


def saturation(image: Any, factor: Any) -> Any:
    """Grey at 0, the image at 1: `PIL.ImageEnhance.Color`."""
    return blend(luma(image), image, factor)


def hue(image: Any, turns: Any) -> Any:
    """Turns all hues by a share of the colour circle, from -1 to 1."""
    return rounded(tf.image.adjust_hue(tf.cast(image, tf.float32), turns))


def lookup(image: Any, table: Any) -> Any:
    """Replaces each value by `table[value]`, or by `table[channel, value]`."""
    index = tf.cast(image, tf.int32)
    if table.shape.rank == 2:
        index += 256 * tf.range(image.shape[-1])
    return tf.gather(tf.reshape(table, [-1]), index)


@dataclass(frozen=True)
class ColourJitter(Operation):
    """Changes brightness, contrast, saturation and hue, in an order that is random too.

    The first three are Pillow's enhancements by a factor from `1 - strength` to `1 + strength`;
    each result is 8-bit again, as with Pillow. The defaults are those of fb.resnet.torch. Grey
    images take strengths of saturation and hue of 0 only.

    Args:
        brightness: Strength, from 0 to 1. Defaults to `0.4`.
        contrast: Strength, from 0 to 1. Defaults to `0.4`.
        saturation: Strength, from 0 to 1. Defaults to `0.4`.
        hue: Greatest turn of the colour circle, from 0 to 0.5. Defaults to `0.0`.

    Raises:
        ValueError: For strengths outside these ranges.
    """

    brightness: float = 0.4
    contrast: float = 0.4
    saturation: float = 0.4
    hue: float = 0.0

    def __post_init__(self) -> None:
        for name, most in (("brightness", 1), ("contrast", 1), ("saturation", 1), ("hue", 0.5)):
            check_number(getattr(self, name), name, 0, most)

    def change(self, image: Any, seed: Any) -> Any:
        if image.shape[-1] == 1 and (self.saturation or self.hue):
            raise ValueError(
                "A grey image has no saturation and no hue: set both of ColourJitter to 0. "
                f"Received: {self}"
            )
        choices = [
            (change, strength, centre)
            for change, strength, centre in (
                (brightness, self.brightness, 1.0),
                (contrast, self.contrast, 1.0),
                (saturation, self.saturation, 1.0),
                (hue, self.hue, 0.0),
            )
            if strength
        ]
        draws = uniform(seed, (0, 1), (2, len(choices)))
        order = tf.argsort(draws[0])
        amounts = 2 * draws[1] - 1
        for step in range(len(choices)):
            image = tf.switch_case(
                order[step],
                [
                    lambda i=i, image=image, c=choice: c[0](image, c[2] + c[1] * amounts[i])
                    for i, choice in enumerate(choices)
                ],
            )
        return image


@dataclass(frozen=True)
class ColourStatistics:
    """The principal components of the colours of a data set, of pixels scaled to 0 to 1.

    Attributes:
        eigenvalues: Of the 3x3 covariance matrix of red, green and blue, the largest first.
        eigenvectors: One row for each eigenvalue, of length 1.
    """

    eigenvalues: tuple[float, ...]
    eigenvectors: tuple[tuple[float, ...], ...]

    def __post_init__(self) -> None:
        if np.shape(self.eigenvalues) != (3,) or np.shape(self.eigenvectors) != (3, 3):
            raise ValueError(
                "`ColourStatistics` takes three eigenvalues, and three eigenvectors of three "
                f"numbers. Received: {self}"
            )

    @classmethod
    def of(cls, images: Any) -> Self:
        """Measures a data set in one pass.

        Args:
            images: RGB pixels from 0 to 255, channels last: an array, a `tf.data.Dataset` or
                another iterable of arrays, with or without labels, neither augmented nor
                preprocessed; or an `ImageData`, of which the training images are taken, as they
                are before both. Its position stays.

        Raises:
            ValueError: If there are no images, or not such ones.
        """
        axis = -1
        if hasattr(images, "plain"):
            images = images.plain()
            axis = -1 if keras.config.image_data_format() == "channels_last" else 1
        count, total, products = 0, np.zeros(3), np.zeros((3, 3))
        for batch in [images] if hasattr(images, "shape") else images:
            pixels = np.asarray(batch[0] if isinstance(batch, (tuple, list)) else batch, float)
            pixels = np.moveaxis(pixels, axis, -1)
            if pixels.shape[-1:] != (3,) or pixels.min() < 0 or pixels.max() > 255:
                raise ValueError(
                    "`ColourStatistics.of` takes RGB pixels from 0 to 255, channels last, before "
                    f"any preprocessing. Received: shape {pixels.shape}, from {pixels.min():g} to "
                    f"{pixels.max():g}"
                )
            pixels = pixels.reshape(-1, 3) / 255
            count += len(pixels)
            total += pixels.sum(0)
            products += pixels.T @ pixels
        if not count:
            raise ValueError("`ColourStatistics.of` needs at least one image. Received none.")
        mean = total / count
        values, vectors = np.linalg.eigh(products / count - np.outer(mean, mean))
        rows = vectors.T[::-1].tolist()
        return cls(tuple(values[::-1].tolist()), tuple(tuple(row) for row in rows))


# The values of fb.resnet.torch. They give standard deviations of 0.284, 0.276 and 0.290 for red,
# green and blue.
IMAGENET_COLOURS = ColourStatistics(
    eigenvalues=(0.2175, 0.0188, 0.0045),
    eigenvectors=(
        (-0.5675, -0.5808, -0.5836),
        (0.7192, -0.0045, -0.6948),
        (0.4009, -0.8140, 0.4203),
    ),
)


@dataclass(frozen=True)
class PCANoise(Operation):
    """Adds a random multiple of each principal component of the colours: AlexNet's noise.

    Every pixel gets the same `sum_i a_i * l_i * v_i`, with the eigenvalue `l_i`, the eigenvector
    `v_i` and a normal `a_i`. An eigenvalue is a square, so the sum depends on the scale of the
    pixels, which the paper does not give; here it is 0 to 1, as in fb.resnet.torch.

    Args:
        statistics: Principal components. Defaults to ImageNet's, as in fb.resnet.torch, and so
            does every set of operations that has a name; `ColourStatistics.of` measures those of
            other data.
        std: Standard deviation of the `a_i`. Defaults to `0.1`, the paper's.

    Raises:
        ValueError: If `std` is negative.

    References:
        - [Krizhevsky et al., 2012](https://doi.org/10.1145/3065386), section 4.1
    """

    statistics: ColourStatistics = IMAGENET_COLOURS
    std: float = 0.1
    channels: ClassVar[tuple[int, ...]] = (3,)

    def __post_init__(self) -> None:
        check_number(self.std, "std", 0)

    def change(self, image: Any, seed: Any) -> Any:
        amounts = tf.random.stateless_normal([3], seed, stddev=255.0 * self.std)
        components = np.array(self.statistics.eigenvectors, np.float32)
        components *= np.array(self.statistics.eigenvalues, np.float32)[:, None]
        return rounded(tf.cast(image, tf.float32) + tf.linalg.matvec(components.T, amounts))


@dataclass(frozen=True)
class Photometric(Operation):
    """Howard's photometric distortions, which GoogLeNet was trained with.

    Contrast, brightness and colour by Pillow's enhancements, in a random order, then AlexNet's
    noise.

    Args:
        strength: The factors are uniform from `1 - strength` to `1 + strength`. Defaults to
            `0.5`, the paper's.
        noise: The noise.

    Raises:
        ValueError: For a strength that is not from 0 to 1.

    References:
        - [Howard, 2013](https://arxiv.org/abs/1312.5402), section 2.2
    """

    strength: float = 0.5
    noise: PCANoise = PCANoise()
    channels: ClassVar[tuple[int, ...]] = (3,)

    def __post_init__(self) -> None:
        check_number(self.strength, "strength", 0, 1)

    def change(self, image: Any, seed: Any) -> Any:
        jitter = ColourJitter(self.strength, self.strength, self.strength)
        return apply(image, (jitter, self.noise), seed)


@dataclass(frozen=True)
class Gamma(Operation):
    """Raises pixels, scaled to 0 to 1, to a random power.

    Args:
        exponent: Least and greatest power, above 0. Below 1 the image gets lighter. The power's
            logarithm is uniform. Defaults to `(0.67, 1.5)`.

    Raises:
        ValueError: For another interval.
    """

    exponent: tuple[float, float] = (0.67, 1.5)

    def __post_init__(self) -> None:
        check_interval(self.exponent, "exponent", 1e-3)

    def change(self, image: Any, seed: Any) -> Any:
        low, high = np.log(self.exponent)
        values = tf.range(256, dtype=tf.float32) / 255.0
        return lookup(image, rounded(255.0 * values ** tf.exp(uniform(seed, (low, high)))))


@dataclass(frozen=True)
class Noise(Operation):
    """Adds normal noise, independent for each pixel and channel.

    Args:
        std: Least and greatest standard deviation, in grey levels of 255; each image has its
            own. Defaults to `(0.0, 20.0)`.

    Raises:
        ValueError: For another interval.
    """

    std: tuple[float, float] = (0.0, 20.0)

    def __post_init__(self) -> None:
        check_interval(self.std, "std", 0)

    def change(self, image: Any, seed: Any) -> Any:
        strength, seed = split(seed, 2)
        noise = tf.random.stateless_normal(tf.shape(image), seed)
        return rounded(tf.cast(image, tf.float32) + uniform(strength, self.std) * noise)
