"""Where in the stream of training images the next iterator starts."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import numpy as np


class Position:
    """The epoch and the step at which the next iterator of `ImageData.train` starts.

    Every iterator reads it when its first batch is asked for. An iterator of `ImageData.train`
    then counts one epoch up, unless the position is held, so that each `for batch in data.train`
    is an epoch of its own.

    Attributes:
        epoch: The next epoch, from 0.
        step: Batches of that epoch that come as blanks.
        batches: How many an epoch has.
    """

    def __init__(self, batches: int) -> None:
        self.epoch, self.step, self.batches = 0, 0, batches
        self._held = 0  # further iterators that start at the same place
        self._lock = threading.Lock()

    def seek(self, epoch: int, step: int = 0, *, hold: bool = False) -> None:
        """Sets where the next iterator starts.

        The images of an epoch, their order and all that is random in them depend on the epoch and
        on the seed of `load` alone. Batches before `step` are blanks, zeros of the same shape that
        cost nothing, so that whoever skips as many is in step with an undisturbed epoch.

        Args:
            epoch: The epoch, from 0.
            step: Batches to skip, from 0 to all of the epoch.
            hold: Whether the next two iterators start there, and not only one. Keras opens one at
                the end of each epoch that it does not use, without `steps_per_epoch`, which a
                strategy already reads from. A callback that seeks in `on_epoch_begin` is immune.

        Raises:
            ValueError: For an epoch or step out of range.
        """
        if not isinstance(epoch, (int, np.integer)) or not 0 <= epoch < 2**31:
            raise ValueError(f"`epoch` must be an integer from 0. Received: {epoch!r}")
        if not isinstance(step, (int, np.integer)) or not 0 <= step <= self.batches:
            raise ValueError(
                f"`step` must be an integer from 0 to {self.batches}, the batches of an epoch. "
                f"Received: {step!r}"
            )
        with self._lock:
            self.epoch, self.step, self._held = int(epoch), int(step), int(hold)

    def take(self, count: bool = True) -> np.ndarray:
        """Gives the epoch and the step; counts an epoch up if asked and not held."""
        with self._lock:
            taken = np.array([self.epoch, self.step])
            if count and self._held:
                self._held -= 1
            elif count:
                self.epoch, self.step = self.epoch + 1, 0
            return taken


class Positions:
    """The positions of data sets that are read together.

    A step of training is not one of each of several sets. So they begin an epoch at its beginning:
    what was seen of it is read again by whoever skips it.

    Args:
        places: Positions.
        first: The epoch of theirs that stands for epoch 0.
    """

    def __init__(self, places: Sequence[Position], first: int = 0) -> None:
        self.position = self
        self._places, self._first = places, first

    def seek(self, epoch: int, step: int = 0, *, hold: bool = False) -> None:
        """As `Position.seek`."""
        for place in self._places:
            place.seek(self._first + epoch, step if len(self._places) == 1 else 0, hold=hold)
