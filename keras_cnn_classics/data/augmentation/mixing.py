"""Operations that mix the images of a batch, and their labels with them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import tensorflow as tf

from keras_cnn_classics.data.augmentation._operation import below, check_number, rounded, split


@dataclass(frozen=True)
class Mixer:
    """Mixes each image of a batch with another one, in a share from a Beta distribution.

    Args:
        alpha: Both parameters of the Beta distribution, above 0: near 0 one image rules, at 1
            all shares are as likely.

    Raises:
        ValueError: If `alpha` is not positive.
    """

    alpha: float
    mixes: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_number(self.alpha, "alpha", 1e-6)

    def __call__(self, images: Any, labels: Any, seed: Any) -> tuple[Any, Any]:
        """The mixed images and labels.

        Args:
            images: Tensor of uint8 or float32, `(batch, height, width, channels)`.
            labels: One-hot or mixed labels, float32, `(batch, classes)`.
            seed: Tensor of two integers.
        """
        images, labels = check_batch(images, labels, self)
        order, share, place = split(seed, 3)
        count = tf.shape(images)[0]
        others = tf.random.experimental.stateless_shuffle(tf.range(count), order)
        shares = beta(share, self.alpha, count)
        mixed, shares = self.mix(images, tf.gather(images, others), shares, place)
        shares = shares[:, None]
        return mixed, shares * labels + (1 - shares) * tf.gather(labels, others)

    def mix(self, images: Any, others: Any, shares: Any, seed: Any) -> tuple[Any, Any]:
        """The mixed images, and the share of the first ones that they have in truth."""
        raise NotImplementedError


def check_batch(images: Any, labels: Any, operation: Any) -> tuple[Any, Any]:
    """Images and labels as tensors, if they are a batch that a mixer takes."""
    images, labels = tf.convert_to_tensor(images), tf.convert_to_tensor(labels)
    if images.shape.rank != 4 or labels.shape.rank != 2 or not labels.dtype.is_floating:
        raise ValueError(
            f"{type(operation).__name__} takes a batch of images and one-hot labels of float32, "
            f"(batch, classes). Received: images of shape {images.shape} and labels of shape "
            f"{labels.shape}, {labels.dtype.name}. Make labels one-hot by `tf.one_hot`."
        )
    return images, labels


def beta(seed: Any, alpha: float, count: Any) -> Any:
    """Draws from Beta(alpha, alpha), in the logarithm, so that a small `alpha` is no 0 / 0.

    A draw from Gamma(alpha) is one from Gamma(alpha + 1) times the power `1 / alpha` of a
    uniform one (Marsaglia and Tsang, 2000).
    """
    first, second = split(seed, 2)
    gamma = tf.random.stateless_gamma((2, count), first, alpha + 1.0)
    tiny = 2.0**-24  # half of the step of the uniform numbers, which may be 0
    power = tf.math.log(tf.random.stateless_uniform((2, count), second) + tiny) / alpha
    logarithm = tf.math.log(gamma) + power
    return tf.sigmoid(logarithm[0] - logarithm[1])


@dataclass(frozen=True)
class MixUp(Mixer):
    """Weighted means of two images and of their labels, with a weight for each image.

    Args:
        alpha: See `Mixer`. Defaults to `0.2`, the paper's for ImageNet; for CIFAR it has 1.

    References:
        - [Zhang et al., 2017](https://arxiv.org/abs/1710.09412), equation 1
    """

    alpha: float = 0.2

    def mix(self, images: Any, others: Any, shares: Any, seed: Any) -> tuple[Any, Any]:
        weights = shares[:, None, None, None]
        mixed = weights * tf.cast(images, tf.float32) + (1 - weights) * tf.cast(others, tf.float32)
        return (rounded(mixed) if images.dtype == tf.uint8 else mixed), shares


@dataclass(frozen=True)
class CutMix(Mixer):
    """Puts a rectangle of another image in, and mixes the labels by the area it really covers.

    The rectangle has the image's aspect; its centre is anywhere, so it may be cut off at the
    border.

    Args:
        alpha: See `Mixer`. Defaults to `1.0`, the paper's.

    References:
        - [Yun et al., 2019](https://arxiv.org/abs/1905.04899), section 3.1
    """

    alpha: float = 1.0

    def mix(self, images: Any, others: Any, shares: Any, seed: Any) -> tuple[Any, Any]:
        shape = tf.shape(images)
        size = tf.cast(shape[1:3], tf.float32)
        sides = tf.cast(tf.sqrt(1 - shares)[:, None] * size, tf.int32)
        centres = below(seed, shape[1:3], (shape[0], 2))
        start = tf.maximum(centres - sides // 2, 0)
        end = tf.minimum(centres - sides // 2 + sides, shape[1:3])
        y, x = tf.range(shape[1])[:, None], tf.range(shape[2])
        start, end = start[:, :, None, None], end[:, :, None, None]
        inside = (y >= start[:, 0]) & (y < end[:, 0]) & (x >= start[:, 1]) & (x < end[:, 1])
        covered = tf.reduce_mean(tf.cast(inside, tf.float32), (1, 2))
        return tf.where(inside[..., None], others, images), 1 - covered
