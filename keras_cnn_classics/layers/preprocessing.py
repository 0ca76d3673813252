"""Preparing images inside a model."""

from __future__ import annotations

from typing import Any

import keras

from keras_cnn_classics import preprocessing
from keras_cnn_classics.layers import _arguments


@keras.saving.register_keras_serializable(package="keras_cnn_classics")
class PreprocessInput(keras.layers.Layer):
    """`preprocess_input` as a layer: the model then takes pixels, and a saved file keeps that.

    Images of other than three channels are prepared as with `adapt_channels=True`.

    Args:
        mode: Mode of `preprocess_input`, such as `"caffe"`.
        data_format: `"channels_last"`, `"channels_first"`, or `None` for Keras's global setting.

    Input shape:
        `(batch, height, width, channels)`, with `frames` before the height for clips, or channels
        first; values from 0 to 255.

    Output shape:
        The input's.

    Raises:
        ValueError: For an unknown mode or layout.
    """

    # What `model_preprocessing` asks of layers.
    prepares_images = True

    def __init__(self, mode: str, data_format: str | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        preprocessing.check_mode(mode)
        self.mode, self.data_format = mode, _arguments.data_format(data_format)

    def call(self, inputs: Any) -> Any:
        return preprocessing.preprocess_input(
            inputs, self.mode, self.data_format, adapt_channels=True
        )

    def compute_output_shape(self, input_shape: Any) -> Any:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "mode": self.mode, "data_format": self.data_format}
