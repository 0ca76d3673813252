"""What the callbacks of this package have in common: a state that a checkpoint can hold."""

from __future__ import annotations

import weakref
from typing import Any

import keras

_CALLBACKS: weakref.WeakKeyDictionary[Any, list[Any]] = weakref.WeakKeyDictionary()


class Callback(keras.callbacks.Callback):
    """A callback whose counters survive a restart.

    `TrainingState` keeps what `get_state` gives and hands it to `set_state` of the callback at the
    same place in a later run. Keras does not let one callback see the others, so each of ours puts
    itself on a list of its model.
    """

    def set_model(self, model: Any) -> None:
        super().set_model(model)
        if self not in (others := _CALLBACKS.setdefault(model, [])):
            others.append(self)

    def get_state(self) -> dict[str, Any]:
        """What the callback must know to go on: numbers, strings, lists, arrays, dicts of them."""
        return {}

    def set_state(self, state: dict[str, Any]) -> None:
        """Takes up a state that `get_state` gave in an earlier run."""

    def sync_variables(self) -> None:
        """Lets variables be read and set between two steps.

        Within an epoch Keras keeps their values outside of them on JAX.
        """
        if hasattr(self.model, "jax_state_sync"):
            self.model.jax_state_sync()

    def on_train_end(self, logs: dict[str, float] | None = None) -> None:
        """Leaves the list; what overrides this calls it."""
        if self in (others := _CALLBACKS.get(self.model, [])):
            others.remove(self)


def callbacks_of(model: Any) -> list[Callback]:
    """The callbacks of this package that the model is trained with, in their order."""
    return list(_CALLBACKS.get(model, ()))
