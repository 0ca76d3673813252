"""What `keras.applications.imagenet_utils` has."""

from typing import Any

from keras_cnn_classics import preprocessing
from keras_cnn_classics.preprocessing import decode_predictions as decode_predictions


def preprocess_input(x: Any, data_format: str | None = None, mode: str = "caffe") -> Any:
    """`preprocessing.preprocess_input` with the arguments in Keras's order."""
    return preprocessing.preprocess_input(x, mode, data_format)
