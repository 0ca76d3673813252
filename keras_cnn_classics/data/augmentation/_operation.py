"""What the operations share: checks, draws, and the rules of 8-bit pixels.

All draws are TensorFlow's stateless ones, so an operation is a function of the image and the seed.
"""

from __future__ import annotations

import math
import numbers
from dataclasses import dataclass
from typing import Any, ClassVar

import tensorflow as tf


class Operation:
    """An operation on one image that keeps its size; a subclass gives `change`.

    `channels` are the numbers of channels that it can take.
    """

    channels: ClassVar[tuple[int, ...]] = (1, 3)

    def __call__(self, image: Any, seed: Any) -> Any:
        """The changed image.

        Args:
            image: Tensor of uint8, `(height, width, channels)`.
            seed: Tensor of two integers; all that is random comes from it.
        """
        image = check_image(image, self, self.channels)
        changed = self.change(image, seed)
        changed.set_shape(image.shape)
        return changed

    def change(self, image: Any, seed: Any) -> Any:
        """The changed image, of the same size and type."""
        raise NotImplementedError


@dataclass(frozen=True)
class Sometimes:
    """Applies an operation to some of the images.

    Args:
        operation: An operation on one image.
        probability: Share of the images that it is applied to, from 0 to 1. Defaults to `0.5`.

    Raises:
        ValueError: For another probability, or an operation on batches.
    """

    operation: Any
    probability: float = 0.5

    def __post_init__(self) -> None:
        check_number(self.probability, "probability", 0, 1)
        check_single(self.operation, "Sometimes")

    def __call__(self, image: Any, seed: Any) -> Any:
        choice, seed = split(seed, 2)
        return tf.cond(
            uniform(choice, (0, 1)) < self.probability,
            lambda: self.operation(image, seed),
            lambda: tf.convert_to_tensor(image),
        )


def apply(image: Any, operations: Any, seed: Any) -> Any:
    """Applies operations to one image, one after the other.

    Args:
        image: Tensor of uint8, `(height, width, channels)`.
        operations: Operations on one image. Each gets a seed of its own.
        seed: Tensor of two integers.

    Returns:
        The image after the last one.

    Raises:
        ValueError: If one of them mixes the images of a batch.
    """
    for i, operation in enumerate(operations):
        check_single(operation, "apply")
        image = operation(image, tf.random.experimental.stateless_fold_in(seed, i))
    return image


def check_single(operation: Any, where: str) -> None:
    """Refuses what mixes the images of a batch, where one image is changed."""
    if getattr(operation, "mixes", False):
        raise ValueError(
            f"`{where}` takes operations on one image. Received one that mixes a batch: "
            f"{operation!r}. Apply it after the images are batched."
        )


def check_image(image: Any, operation: Any, channels: tuple[int, ...] = (1, 3)) -> Any:
    """The image as a tensor, if it is one that the operation takes."""
    image = tf.convert_to_tensor(image)
    shape = image.shape
    name, wanted = type(operation).__name__, " or ".join(map(str, channels))
    if image.dtype != tf.uint8 or shape.rank != 3:
        raise ValueError(
            f"{name} takes one image of uint8, (height, width, channels) with {wanted} channels. "
            f"Received: {image.dtype.name} of shape {shape}. Augment images one by one, before "
            "they are batched and preprocessed."
        )
    if shape[-1] not in channels:
        raise ValueError(
            f"{name} takes an image with {wanted} channels. Received: {shape[-1]}. Leave it out, "
            "or load the images with other `channels`."
        )
    return image


def check_number(value: Any, name: str, low: float, high: float = math.inf) -> None:
    """Refuses anything but a finite number from `low` to `high`."""
    number = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if not number or not low <= value <= high or math.isinf(value):
        span = f"at least {low:g}" if math.isinf(high) else f"from {low:g} to {high:g}"
        raise ValueError(f"`{name}` must be a number, {span}. Received: {name}={value!r}")


def check_interval(value: Any, name: str, low: float, high: float = math.inf) -> None:
    """Refuses anything but a pair `(least, greatest)` of numbers from `low` to `high`."""
    if not isinstance(value, (tuple, list)) or len(value) != 2:
        raise ValueError(f"`{name}` must be (least, greatest). Received: {name}={value!r}")
    for number in value:
        check_number(number, name, low, high)
    if value[0] > value[1]:
        raise ValueError(f"`{name}` must be (least, greatest). Received: {name}={value!r}")


def check_count(value: Any, name: str) -> None:
    """Refuses anything but an integer from 1 on."""
    if not isinstance(value, numbers.Integral) or isinstance(value, bool) or value < 1:
        raise ValueError(f"`{name}` must be a positive integer. Received: {name}={value!r}")


def split(seed: Any, count: int) -> list[Any]:
    """Independent seeds made of one."""
    return list(tf.unstack(tf.random.split(seed, count)))


def uniform(seed: Any, interval: tuple[float, float], shape: tuple[int, ...] = ()) -> Any:
    """Float32 numbers, uniform from `interval[0]` to `interval[1]`."""
    return tf.random.stateless_uniform(shape, seed, *map(float, interval))


def below(seed: Any, limits: Any, shape: Any) -> Any:
    """Integers from 0 to `limits - 1`, in the shape of `limits` or one that it is spread over."""
    draws = tf.random.stateless_uniform(shape, seed)
    return tf.cast(draws * tf.cast(limits, tf.float32), tf.int32)


def sides(image: Any) -> list[Any]:
    """Height and width of an image: integers where they are known, which saves time."""
    shape = image.shape[:2]
    return shape.as_list() if shape.is_fully_defined() else tf.unstack(tf.shape(image)[:2])


def rounded(pixels: Any) -> Any:
    """Float pixels as uint8: the nearest, within 0 and 255."""
    return tf.saturate_cast(pixels + 0.5, tf.uint8)


def blend(degenerate: Any, image: Any, factor: Any) -> Any:
    """Pillow's `ImageEnhance`: `degenerate` at factor 0, the image at 1, and beyond.

    As in Pillow, fractions are cut off.
    """
    base = tf.cast(degenerate, tf.float32)
    return tf.saturate_cast(base + factor * (tf.cast(image, tf.float32) - base), tf.uint8)
