"""Transfer: what a trained network knows, put to use for another task."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

# As in `training`.
import keras  # noqa: E402, F401
