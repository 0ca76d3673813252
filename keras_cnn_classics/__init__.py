"""Classic convolutional networks as Keras 3 applications, each faithful to its paper.

`keras_cnn_classics.VGG16(weights="imagenet")` works as `keras.applications.VGG16` does. Importing
this package costs almost nothing: Keras and its backend are imported when a name is first used.
"""

import difflib
from importlib import import_module
from typing import TYPE_CHECKING, Any

from keras_cnn_classics import _after_keras, applications
from keras_cnn_classics._version import __version__
from keras_cnn_classics.registry import (
    ModelSpec,
    WeightsFile,
    WeightsSource,
    build,
    get_builder,
    list_models,
)

if TYPE_CHECKING:
    from keras_cnn_classics import (
        blocks,
        data,
        evaluation,
        inspection,
        layers,
        preprocessing,
        registry,
        testing,
        training,
        transfer,
        weights,
    )
    from keras_cnn_classics.applications import *

_BUILDERS = tuple(dir(applications))
_SUBPACKAGES = (
    "applications",
    "blocks",
    "data",
    "evaluation",
    "inspection",
    "layers",
    "preprocessing",
    "registry",
    "testing",
    "training",
    "transfer",
    "weights",
)

__all__ = [
    "ModelSpec",
    "WeightsFile",
    "WeightsSource",
    "__version__",
    "build",
    "get_builder",
    "list_models",
    *_BUILDERS,
    *_SUBPACKAGES,
]


if not TYPE_CHECKING:  # it would tell a type checker that every name is there

    def __getattr__(name: str) -> Any:
        if name in _BUILDERS:
            return getattr(applications, name)
        if name in _SUBPACKAGES:
            return import_module(f"{__name__}.{name}")
        spelt = {one.lower(): one for one in __all__}
        near = difflib.get_close_matches(name.lower(), spelt, n=1)
        guess = f". Did you mean {spelt[near[0]]!r}?" if near else ""
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}{guess}")


def __dir__() -> list[str]:
    return sorted(__all__)


def _register_saved_classes() -> None:
    """Lets `keras.saving.load_model` find our classes, whichever import came first.

    Keras looks classes of other packages up in its registry only, so they must be imported
    before a model is loaded, and this package imports nothing of its own accord.
    """
    training = ("auxiliary", "losses", "optimizers", "penalties", "schedules")
    transfer: tuple[str, ...] = ("distillation", "feature_extraction", "fine_tuning")
    transfer += ("joint_training", "learning_without_forgetting", "losses")
    for module in (
        "layers",
        *(f"training.{name}" for name in training),
        *(f"transfer.{name}" for name in transfer),
    ):
        import_module(f"{__name__}.{module}")


_after_keras.call(_register_saved_classes)
