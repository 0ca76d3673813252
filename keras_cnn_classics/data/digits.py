"""Scikit-learn's handwritten digits: real images that need no download."""

from __future__ import annotations

import numpy as np

from keras_cnn_classics.data.images import fit_image
from keras_cnn_classics.data.sources import Arrays, Source


def load_digits() -> Source:
    """The 1,797 digits of the UCI test set, made to look like MNIST.

    An image has 8 x 8 pixels from 0 to 16. It is scaled to 0 to 255, enlarged to 24 x 24 and
    centred on 28 x 28, as MNIST's digits are centred with a margin.

    The test split is the same for everyone: with the images ordered by class, and within a class
    as scikit-learn gives them, every third one, 599 in all. No random number is involved. The
    same 13 people wrote both splits.
    """
    from sklearn import datasets

    digits = datasets.load_digits()
    small = np.rint(digits.images * (255 / 16)).astype(np.uint8)[..., None]
    pixels = np.stack([fit_image(fit_image(image, 24, "stretch"), 28, "pad") for image in small])
    images = Arrays(pixels, digits.target.astype(np.int32))
    by_class = np.argsort(images.labels, kind="stable")
    test = np.sort(by_class[2::3])
    train = np.setdiff1d(by_class, test)
    return Source(
        name="digits",
        class_names=tuple(str(digit) for digit in range(10)),
        shape=(28, 28, 1),
        train=images.select(train),
        test=images.select(test),
    )
