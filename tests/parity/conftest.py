"""Lets timm be imported without torchvision, of which there is no CPU build beside PyTorch's.

timm imports it for a normalization layer and for data transforms; the networks compared here use
neither, so names without content are enough.
"""

import importlib.util
import sys
import types


class _AnyAttribute(type):
    def __getattr__(cls, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return name


class _Stub(types.ModuleType):
    __path__ = ()

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return _AnyAttribute(name, (), {})


if importlib.util.find_spec("timm") and not importlib.util.find_spec("torchvision"):
    for name in (
        "torchvision",
        "torchvision.datasets",
        "torchvision.models",
        "torchvision.models.feature_extraction",
        "torchvision.ops",
        "torchvision.ops.misc",
        "torchvision.transforms",
        "torchvision.transforms.functional",
    ):
        parent, _, child = name.rpartition(".")
        sys.modules[name] = _Stub(name)
        if parent:
            setattr(sys.modules[parent], child, sys.modules[name])
