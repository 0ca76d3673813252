"""One file per paper. `__init__.pyi` beside this file lists them, oldest first."""

import lazy_loader

from keras_cnn_classics import registry

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)


def _load_all() -> None:
    for name in __all__:
        __getattr__(name)


registry.register_loader(_load_all)
