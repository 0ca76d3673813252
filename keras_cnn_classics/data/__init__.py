"""Labelled images: the embedded digits, any TFDS set, or a folder, as batches ready to train on.

`load` gives all splits of a source; `decode_image` and `fit_image` read one image by the same
rules, for prediction; `augmentation` has the random changes, and `contact_sheet` shows what comes
of them. Nothing heavy is imported until one of them is called.
"""

from keras_cnn_classics.data import augmentation
from keras_cnn_classics.data.images import decode_image, fit_image
from keras_cnn_classics.data.loading import ImageData, load
from keras_cnn_classics.data.sheets import contact_sheet

__all__ = ["ImageData", "augmentation", "contact_sheet", "decode_image", "fit_image", "load"]
