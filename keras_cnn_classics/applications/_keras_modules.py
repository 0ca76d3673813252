"""The modules of `keras.applications`, so that an import of them moves by editing one word.

Each has the networks that Keras's has, and these two functions. What Keras calls `resnet50`,
`vgg16`, `vgg19`, `inception_resnet_v2` and `imagenet_utils` stands beside the papers' files.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from keras_cnn_classics import preprocessing

# How the images are prepared that the weights of `weights="imagenet"` have learned from.
MODES = {
    "densenet": "torch",
    "efficientnet": "none",
    "inception_resnet_v2": "tf",
    "inception_v3": "tf",
    "mobilenet": "tf",
    "mobilenet_v2": "tf",
    "nasnet": "tf",
    "resnet": "caffe",
    "resnet50": "caffe",
    "resnet_v2": "tf",
    "vgg16": "caffe",
    "vgg19": "caffe",
    "xception": "tf",
}


def preprocessing_for(module: str) -> Callable[..., Any]:
    """Gives the `preprocess_input` of one of the modules, by its `__name__`."""
    mode = MODES[module.rpartition(".")[2]]

    def preprocess_input(x: Any, data_format: str | None = None) -> Any:
        return preprocessing.preprocess_input(x, mode, data_format)

    preprocess_input.__module__ = module
    preprocess_input.__qualname__ = "preprocess_input"
    preprocess_input.__doc__ = f"""Prepares pixels as `weights="imagenet"` wants them: {mode!r}.

    Other weights may want something else, which `preprocessing.model_preprocessing(model)` knows.

    Args:
        x: Images with values from 0 to 255, one or a batch: an array, or a tensor of any backend.
            Unlike Keras, this leaves the caller's array as it is.
        data_format: `"channels_last"`, `"channels_first"`, or `None` for Keras's global setting.

    Returns:
        A new float array or tensor of the same shape.

    Raises:
        ValueError: As `preprocessing.preprocess_input` raises it.
    """
    return preprocess_input
