"""Augmentation of images, one by one, in `tf.data`.

An image operation is called as `operation(image, seed)`, with one image of uint8, channels last,
and gives one; a mixer as `operation(images, labels, seed)`, with a batch and one-hot labels. All
that is random comes from the seed: the same image and seed give the same result, in whatever order
and in however many threads.
"""

from keras_cnn_classics.data.augmentation._operation import Sometimes, apply
from keras_cnn_classics.data.augmentation.colour import (
    IMAGENET_COLOURS,
    ColourJitter,
    ColourStatistics,
    Gamma,
    Noise,
    PCANoise,
    Photometric,
)
from keras_cnn_classics.data.augmentation.erasing import CoarseDropout, Cutout
from keras_cnn_classics.data.augmentation.filters import Emboss, GaussianBlur, Sharpen
from keras_cnn_classics.data.augmentation.geometry import Affine, Elastic
from keras_cnn_classics.data.augmentation.mixing import CutMix, MixUp
from keras_cnn_classics.data.augmentation.randaugment import RandAugment

__all__ = [
    "Affine",
    "CoarseDropout",
    "ColourJitter",
    "ColourStatistics",
    "CutMix",
    "Cutout",
    "Elastic",
    "Emboss",
    "Gamma",
    "GaussianBlur",
    "IMAGENET_COLOURS",
    "MixUp",
    "Noise",
    "PCANoise",
    "Photometric",
    "RandAugment",
    "Sharpen",
    "Sometimes",
    "apply",
]
