"""Labelled images: the embedded digits, any TFDS set, or a folder, as batches ready to train on.

`load` gives all splits of a source; `decode_image` and `fit_image` read one image by the same
rules, for prediction. Nothing heavy is imported until one of them is called.
"""

from keras_cnn_classics.data.images import decode_image, fit_image
from keras_cnn_classics.data.loading import ImageData, load

__all__ = ["ImageData", "decode_image", "fit_image", "load"]
