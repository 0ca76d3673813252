"""One file per paper. `__init__.pyi` beside this file lists them, oldest first."""

from importlib import import_module
from importlib.util import find_spec
from typing import Any

import lazy_loader

from keras_cnn_classics import registry

_builder, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)


def __getattr__(name: str) -> Any:
    """A builder, or a module of this package, which need not be imported first."""
    module = f"{__name__}.{name}"
    if name in __all__ or name.startswith("_") or find_spec(module) is None:
        return _builder(name)
    return import_module(module)


def _load_all() -> None:
    for name in __all__:
        __getattr__(name)


registry.register_loader(_load_all)
