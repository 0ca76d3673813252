"""Stopping as soon as the loss is not a number any more."""

from __future__ import annotations

import math

from keras_cnn_classics.training._arguments import check_number
from keras_cnn_classics.training._callback import Callback
from keras_cnn_classics.training._rates import optimizers_of, rate_of
from keras_cnn_classics.training.training_state import TrainingState


class FiniteLoss(Callback):
    """Ends training with an error after the first step whose loss is NaN or infinite.

    Keras's `TerminateOnNaN` stops without one, and the callbacks behind it go on to save what is
    of no use any more. Put this one before those that save. To look at the loss is to wait for the
    step, which a GPU would otherwise do beside the next one.

    Args:
        every: Steps from one look to the next. The loss of an epoch stays what it has become.

    Raises:
        FloatingPointError: With the epoch, the step, the learning rate and, with `TrainingState`,
            the last good state.
    """

    def __init__(self, every: int = 1) -> None:
        super().__init__()
        check_number("every", every, 1, whole=True)
        self.every = every
        self._epoch = 0

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        self._epoch = epoch

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        if (batch + 1) % self.every:
            return
        self._check(float((logs or {}).get("loss", 0.0)), batch)

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        steps = self.params.get("steps")
        self._check(float((logs or {}).get("loss", 0.0)), (steps or 0) - 1)

    def _check(self, loss: float, batch: int) -> None:
        if math.isfinite(loss):
            return
        self.sync_variables()
        rates = ", ".join(f"{rate_of(one):g}" for one in optimizers_of(self.model.optimizer))
        raise FloatingPointError(
            f"The loss is {loss} in epoch {self._epoch + 1}, step {batch + 1}, at a learning rate "
            f"of {rates}. Lower it, or clip the gradients. {self._last_good()}"
        )

    def _last_good(self) -> str:
        states = [one for one in self.companions() if isinstance(one, TrainingState)]
        if not states:
            return "No state was kept."
        latest = states[0].latest
        return f"The last good state is {latest}." if latest else "There is no state before it."
