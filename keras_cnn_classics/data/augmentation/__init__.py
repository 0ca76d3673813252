"""Random changes of images, drawn for each image alone and the same for the same seed."""

from keras_cnn_classics.data.augmentation.crops import (
    PadAndCrop,
    RandomCrop,
    RandomFlip,
    RandomResizedCrop,
    ScaleJitter,
)

__all__ = ["PadAndCrop", "RandomCrop", "RandomFlip", "RandomResizedCrop", "ScaleJitter"]
