"""Random windows of an image, and its mirror image.

`RandomResizedCrop`, `RandomCrop` and `ScaleJitter` choose a window first and look at the pixels
after. As the first operation of `load(augment=...)` they let the pipeline decode only that window
of a JPEG file.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from keras_cnn_classics.data.augmentation._operation import (
    Operation,
    check_image,
    check_interval,
    check_number,
)
from keras_cnn_classics.data.images import check_size

_ATTEMPTS = 10  # at a window that fits, as in the usual implementations


def resized(image: Any, size: tuple[int, int]) -> Any:
    """Brings pixels to a size by bilinear interpolation.

    TensorFlow's filter looks at the four nearest pixels, which are all there are as long as the
    image shrinks to no less than half. Only below that the three times slower filter that
    averages over more of them (antialiasing) makes a difference, and is taken.

    Args:
        image: Tensor of uint8, `(height, width, channels)`.
        size: `(height, width)` in pixels.

    Returns:
        A tensor of uint8, `(*size, channels)`.
    """
    if image.shape[:2] == size:
        return image
    small = tf.reduce_any(tf.shape(image)[:2] > 2 * tf.constant(size))
    pixels = tf.cond(
        small,
        lambda: tf.image.resize(image, size, antialias=True),
        lambda: tf.image.resize(image, size),
    )
    return tf.cast(pixels + 0.5, tf.uint8)  # half as fast with `round` and a saturating cast


def cut(image: Any, window: Any) -> Any:
    """The window `(top, left, height, width)` of an image."""
    begin, size = tf.pad(window[:2], [[0, 1]]), tf.pad(window[2:], [[0, 1]], constant_values=-1)
    return tf.ensure_shape(tf.slice(image, begin, size), (None, None, image.shape[-1]))


def _placed(window: Any, space: Any, draws: Any) -> Any:
    """A window of `(height, width)` anywhere in the space, by two draws from 0 to 1."""
    free = tf.cast(space - window + 1, tf.float32)
    return tf.concat([tf.cast(draws * free, tf.int32), window], 0)


@dataclass(frozen=True)
class _Window:
    """What the operations that choose a window have in common."""

    size: tuple[int, int]

    def __post_init__(self) -> None:
        object.__setattr__(self, "size", check_size(self.size, "size"))

    def window(self, height: Any, width: Any, seed: Any) -> Any:
        """The window in the image's pixels: int32 `(top, left, height, width)`."""
        raise NotImplementedError

    def __call__(self, image: Any, seed: Any) -> Any:
        image = check_image(image, self)
        height, width, _ = tf.unstack(tf.shape(image))
        return resized(cut(image, self.window(height, width, seed)), self.size)


@dataclass(frozen=True)
class RandomResizedCrop(_Window):
    """A window of random area and aspect ratio, brought to one size.

    The aspect ratio is drawn evenly on a logarithmic scale, so that 3/4 and 4/3 are as likely; the
    paper does not say. If no window of ten fits, the largest of an allowed aspect is taken.

    Args:
        size: Side of a square, or `(height, width)`, of the result in pixels.
        area: Least and greatest share of the image's area, above 0 and at most 1.
        aspect: Least and greatest width of the window divided by its height.

    Raises:
        ValueError: For a size below one pixel, or a pair out of order or range.

    References:
        - [Szegedy et al., 2014](https://arxiv.org/abs/1409.4842), section 6
    """

    area: tuple[float, float] = (0.08, 1.0)
    aspect: tuple[float, float] = (3 / 4, 4 / 3)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_interval(self.area, "area", 1e-6, 1)
        check_interval(self.aspect, "aspect", 0.01, 100)

    def window(self, height: Any, width: Any, seed: Any) -> Any:
        space = tf.stack([height, width])
        sides = tf.cast(space, tf.float32)
        draws = tf.random.stateless_uniform((_ATTEMPTS + 1, 2), seed)
        least, most = self.area
        areas = sides[0] * sides[1] * (least + (most - least) * draws[:-1, 0])
        least, most = self.aspect
        aspects = least * (most / least) ** draws[:-1, 1]
        tries = tf.round(tf.sqrt(tf.stack([areas / aspects, areas * aspects], 1)))
        tries = tf.maximum(tries, 1.0)
        fits = tf.reduce_all(tries <= sides, 1)
        largest = tf.maximum(tf.round(tf.stack([sides[1] / least, sides[0] * most])), 1.0)
        chosen = tf.where(tf.reduce_any(fits), tries[tf.argmax(fits)], tf.minimum(sides, largest))
        return _placed(tf.cast(chosen, tf.int32), space, draws[-1])


@dataclass(frozen=True)
class RandomCrop(_Window):
    """A window of one size anywhere in the image, in the image's own pixels.

    An image that is smaller along an axis is taken whole along it, and enlarged.

    Args:
        size: Side of a square, or `(height, width)`, of the window in pixels.

    Raises:
        ValueError: For a size below one pixel.
    """

    def window(self, height: Any, width: Any, seed: Any) -> Any:
        space = tf.stack([height, width])
        window = tf.minimum(space, tf.constant(self.size))
        return _placed(window, space, tf.random.stateless_uniform((2,), seed))


@dataclass(frozen=True)
class ScaleJitter(_Window):
    """A random crop of the image at a random scale: VGG's training scale S.

    The image is scaled so that its shorter side has S pixels, S drawn evenly from a range, and a
    window of `size` is taken from it. What is computed is that window in the image's own pixels,
    to the nearest pixel, which is then scaled.

    Args:
        size: Side of a square, or `(height, width)`, of the result in pixels.
        shorter: Least and greatest S in pixels: VGG's default of (256, 512), ResNet's (256, 480),
            or twice the same for one scale, as AlexNet's 256.

    Raises:
        ValueError: For a size below one pixel or above the least S, or a range out of order.

    References:
        - [Simonyan and Zisserman, 2014](https://arxiv.org/abs/1409.1556), section 3.1
        - [He et al., 2015](https://arxiv.org/abs/1512.03385), section 3.4
    """

    shorter: tuple[int, int] = (256, 512)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_interval(self.shorter, "shorter", max(self.size))

    def window(self, height: Any, width: Any, seed: Any) -> Any:
        space = tf.stack([height, width])
        draws = tf.random.stateless_uniform((3,), seed)
        least, most = self.shorter
        scale = tf.floor(least + (most - least + 1) * draws[0])
        scale /= tf.cast(tf.minimum(height, width), tf.float32)
        sides = tf.round(tf.constant(self.size, tf.float32) / scale)
        window = tf.clip_by_value(tf.cast(sides, tf.int32), 1, space)
        return _placed(window, space, draws[1:])


@dataclass(frozen=True)
class PadAndCrop(Operation):
    """The image moved by up to `padding` pixels along each axis: the augmentation of CIFAR.

    Args:
        padding: Pixels added on each side before a window of the image's own size is taken.
        mode: What is added: `"constant"` for one colour, or `"reflect"` for the image's mirror
            image.
        fill: That colour, from 0 to 255: a number, or one for each channel. The papers subtract
            the mean from the pixels and then pad with zeros, which is to pad with the mean.
            Defaults to `0`.

    Raises:
        ValueError: For negative padding, more of it than `"reflect"` can take, another mode, or a
            colour out of range or of another number of channels.

    References:
        - [Lee et al., 2014](https://arxiv.org/abs/1409.5185), section 3.2
        - [He et al., 2015](https://arxiv.org/abs/1512.03385), section 4.2
    """

    padding: int = 4
    mode: str = "constant"
    fill: int | tuple[int, ...] = 0

    def __post_init__(self) -> None:
        if not isinstance(self.padding, int) or self.padding < 0:
            raise ValueError(f"`padding` must be pixels, 0 or more. Received: {self.padding!r}")
        if self.mode not in ("constant", "reflect"):
            raise ValueError(f"`mode` must be 'constant' or 'reflect'. Received: {self.mode!r}")
        for value in np.ravel(self.fill).tolist():
            check_number(value, "fill", 0, 255)

    def change(self, image: Any, seed: Any) -> Any:
        if np.size(self.fill) not in (1, image.shape[-1]):
            raise ValueError(
                f"`fill` must be one number, or one for each of the {image.shape[-1]} channel(s) "
                f"of the image. Received: fill={self.fill}"
            )
        pad, known = self.padding, [side for side in image.shape[:2] if side is not None]
        if self.mode == "reflect" and known and min(known) <= pad:
            raise ValueError(
                f"`padding` must be below the image's sides to reflect it. Received: {pad} for "
                f"{image.shape[0]} x {image.shape[1]} pixels"
            )
        fill = tf.constant(self.fill, tf.uint8)
        # Differences of 8 bits wrap around, and the sums wrap back.
        padded = tf.pad(image - fill, ((pad, pad), (pad, pad), (0, 0)), self.mode) + fill
        place = tf.random.stateless_uniform((2,), seed, 0, 2 * pad + 1, tf.int32)
        return tf.slice(padded, tf.concat([place, [0]], 0), tf.shape(image))


@dataclass(frozen=True)
class RandomFlip(Operation):
    """The image or its mirror image, left and right exchanged, each half of the times.

    References:
        - [Krizhevsky et al., 2012](https://doi.org/10.1145/3065386), section 4.1
    """

    def change(self, image: Any, seed: Any) -> Any:
        flipped = tf.random.stateless_uniform((), seed) < 0.5
        return tf.cond(flipped, lambda: tf.reverse(image, [1]), lambda: image)
