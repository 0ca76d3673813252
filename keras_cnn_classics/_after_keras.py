"""What is to happen as soon as Keras is imported, by whomever."""

from __future__ import annotations

import contextlib
import importlib.util
import sys
from collections.abc import Callable, Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType


class _Finder:
    """Finds Keras as the other finders do, and calls a function when it has been executed."""

    def __init__(self, action: Callable[[], None]) -> None:
        self.action = action

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name != "keras":
            return None
        with contextlib.suppress(ValueError):  # another thread may just have done so
            sys.meta_path.remove(self)  # or it would find itself
        try:
            spec = importlib.util.find_spec(name)
        finally:
            sys.meta_path.insert(0, self)
        if spec is None or spec.loader is None:
            return spec
        execute = spec.loader.exec_module

        def then_act(module: ModuleType) -> None:
            execute(module)
            self.action()

        spec.loader.exec_module = then_act  # type: ignore[method-assign]
        return spec


def call(action: Callable[[], None]) -> None:
    """Calls a function when Keras has been imported: now, if it is there already.

    It costs nothing before. (wrapt has the same, but takes longer to be imported than all of this
    package, as it brings asyncio.)
    """
    if "keras" in sys.modules:
        action()
    else:
        sys.meta_path.insert(0, _Finder(action))
