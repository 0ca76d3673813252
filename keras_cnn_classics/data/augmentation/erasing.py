"""Operations that take parts of an image away."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from keras_cnn_classics.data.augmentation._operation import (
    Operation,
    below,
    check_count,
    check_number,
    sides,
    split,
    uniform,
)


def _check_fill(fill: Any) -> None:
    for value in fill if isinstance(fill, tuple) else (fill,):
        check_number(value, "fill", 0, 255)


def _filled(image: Any, mask: Any, fill: int | tuple[int, ...]) -> Any:
    """The image with `fill`, one value or one for each channel, where the mask is true."""
    values = np.atleast_1d(np.array(fill, np.uint8))
    if len(values) not in (1, image.shape[-1]):
        raise ValueError(
            f"`fill` must be one value, or one for each of {image.shape[-1]} channels. "
            f"Received: {fill=}"
        )
    return tf.where(mask[..., None], tf.constant(values), image)


@dataclass(frozen=True)
class Cutout(Operation):
    """Erases a square whose centre is anywhere in the image, so it may reach over the border.

    Args:
        size: Side of the square, in pixels. Defaults to `16`, the paper's for CIFAR-10; it has 8
            for CIFAR-100.
        fill: Value from 0 to 255, or a tuple of one for each channel. The paper has the mean.
            Defaults to `128`.

    Raises:
        ValueError: For another size or value.

    References:
        - [DeVries and Taylor, 2017](https://arxiv.org/abs/1708.04552), section 3.2
    """

    size: int = 16
    fill: int | tuple[int, ...] = 128

    def __post_init__(self) -> None:
        check_count(self.size, "size")
        _check_fill(self.fill)

    def change(self, image: Any, seed: Any) -> Any:
        height, width = sides(image)
        start = below(seed, (height, width), [2]) - self.size // 2
        y, x = tf.range(height)[:, None], tf.range(width)
        inside = (y >= start[0]) & (y < start[0] + self.size)
        inside &= (x >= start[1]) & (x < start[1] + self.size)
        return _filled(image, inside, self.fill)


@dataclass(frozen=True)
class CoarseDropout(Operation):
    """Erases some of the rectangles of a coarse grid laid over the image.

    Args:
        rate: Greatest share of the rectangles that are erased, from 0 to 1; each image has its
            own, uniform from 0. Defaults to `0.2`.
        cells: Rectangles along each side. Defaults to `8`.
        fill: Value from 0 to 255, or a tuple of one for each channel. Defaults to `0`.

    Raises:
        ValueError: For other values.
    """

    rate: float = 0.2
    cells: int = 8
    fill: int | tuple[int, ...] = 0

    def __post_init__(self) -> None:
        check_number(self.rate, "rate", 0, 1)
        check_count(self.cells, "cells")
        _check_fill(self.fill)

    def change(self, image: Any, seed: Any) -> Any:
        share, seed = split(seed, 2)
        grid = uniform(seed, (0, 1), (self.cells, self.cells)) < uniform(share, (0, self.rate))
        height, width = sides(image)
        rows = tf.gather(grid, tf.range(height) * self.cells // height)
        return _filled(
            image, tf.gather(rows, tf.range(width) * self.cells // width, axis=1), self.fill
        )
