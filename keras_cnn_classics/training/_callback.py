"""What the callbacks of this package have in common: a state that a checkpoint can hold."""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Iterator
from typing import Any

import keras

_CALLBACKS: weakref.WeakKeyDictionary[Any, list[weakref.ref[Any]]] = weakref.WeakKeyDictionary()


class Callback(keras.callbacks.Callback):
    """A callback whose counters survive a restart.

    `TrainingState` keeps what `get_state` gives and hands it to `set_state` of the callback at the
    same place in a later run. Keras does not let one callback see the others, so each of ours puts
    itself on a list of its model.
    """

    def set_model(self, model: Any) -> None:
        super().set_model(model)
        # `self.model` is a property of Keras that on JAX reads the variables back, which costs time
        # after each step, and within one breaks it.
        self.bare_model = model
        others = _CALLBACKS.get(model, [])
        _CALLBACKS[model] = [one for one in others if one() not in (None, self)]
        _CALLBACKS[model].append(weakref.ref(self))

    def companions(self) -> list[Callback]:
        """The callbacks of this package in the same `fit`, this one too, in their order."""
        listed = [one() for one in _CALLBACKS[self.bare_model]]
        # Keras gives all callbacks of one `fit` the same object; those of a `fit` that failed are
        # on the list still.
        return [one for one in listed if one is not None and one.params is self.params]

    def behind(self) -> list[Callback]:
        """Those of them that stand behind this one."""
        companions = self.companions()
        return companions[companions.index(self) + 1 :]

    def get_state(self) -> dict[str, Any]:
        """What the callback must know to go on: numbers, strings, lists, arrays, dicts of them."""
        return {}

    def set_state(self, state: dict[str, Any]) -> None:
        """Takes up a state that `get_state` gave in an earlier run."""

    def as_trained(self) -> contextlib.AbstractContextManager[None]:
        """Within it the model has the weights that are trained, while they are saved."""
        return contextlib.nullcontext()

    def as_used(self) -> contextlib.AbstractContextManager[None]:
        """Within it the model has the weights that it is meant to be used with."""
        return contextlib.nullcontext()

    def sync_variables(self) -> None:
        """Lets variables be read and set between two steps.

        Within an epoch Keras keeps their values outside of them on JAX.
        """
        if hasattr(self.bare_model, "jax_state_sync"):
            self.bare_model.jax_state_sync()


@contextlib.contextmanager
def entered(callbacks: list[Callback], state: str) -> Iterator[None]:
    """Within it all of the callbacks are in a state, `"as_trained"` or `"as_used"`."""
    with contextlib.ExitStack() as stack:
        for one in callbacks:
            stack.enter_context(getattr(one, state)())
        yield
