"""Training: losses, recipes, and runs that leave usable files behind whatever happens."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

# Whenever Keras is imported, the classes that it may have to load are, and they need one another.
# That must not begin in the middle of one of them.
import keras  # noqa: E402, F401
