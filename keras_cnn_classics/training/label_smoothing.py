"""Label smoothing that changes during training."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras

from keras_cnn_classics.training.losses import SmoothedCrossentropy, check_epsilon
from keras_cnn_classics.training.scalars import Scalar, ScalarSchedule


class LabelSmoothing(ScalarSchedule):
    """Changes the epsilon of the compiled model's `SmoothedCrossentropy` from epoch to epoch.

    The step is not compiled again, and the value of each epoch stands in the history as
    `label_smoothing` (the second of several different losses is `label_smoothing_1`). Keras's own
    `label_smoothing` cannot be changed once a model has been trained: it is part of the compiled
    step.

    A run starts from the epsilon that the loss was made with. A loss that comes from a file was
    made with what the epsilon was then, unless `TrainingState` restores the run.

    Args:
        loss: The loss to change; by default all those of the model, of which each output can have
            its own. It can be one that a model with a `compute_loss` of its own reads.
        schedule: `"constant"`; `"linear"` or `"cosine"`, which end at `final`; or a callable that
            takes the epoch, counted from 0, and gives the epsilon, such as a
            `keras.optimizers.schedules.LearningRateSchedule`.
        final: The epsilon in the last epoch of `"linear"` and `"cosine"`.
        off_for_last: Number of epochs at the end without smoothing; the schedule ends before them.

    Raises:
        ValueError: If an argument is out of range; when training starts, if there is no such loss,
            or no epoch left; in the epoch in which a callable gives what is no epsilon.

    Example:
        model.compile("sgd", SmoothedCrossentropy(0.1), metrics=["accuracy"])
        model.fit(images, labels, epochs=30, callbacks=[LabelSmoothing(off_for_last=5)])

    References:
        - [Szegedy et al., 2015](https://arxiv.org/abs/1512.00567), section 7, constant 0.1
    """

    def __init__(
        self,
        loss: SmoothedCrossentropy | None = None,
        schedule: str | Callable[[int], Any] = "constant",
        final: float = 0.0,
        off_for_last: int = 0,
    ) -> None:
        super().__init__(schedule)
        if loss is not None and not isinstance(loss, SmoothedCrossentropy):
            raise ValueError(f"`loss` must be a SmoothedCrossentropy. Received: {loss!r}")
        if not isinstance(off_for_last, int) or off_for_last < 0:
            raise ValueError(
                f"`off_for_last` must be a number of epochs, at least 0. Received: {off_for_last!r}"
            )
        self.loss, self.final, self.off_for_last = loss, check_epsilon(final), off_for_last

    def scalars(self) -> dict[str, Scalar]:
        compiled = keras.tree.flatten(self.model.loss)
        found = list(dict.fromkeys(x for x in compiled if isinstance(x, SmoothedCrossentropy)))
        chosen = found if self.loss is None else [self.loss]
        if not chosen or (self.model.loss is not None and not set(chosen) <= set(found)):
            which = "a SmoothedCrossentropy" if self.loss is None else "the `loss` given here"
            raise ValueError(
                f"LabelSmoothing needs a model compiled with {which}: Keras's own losses cannot "
                f"change their smoothing. Received: loss={self.model.loss!r}"
            )
        return {
            f"label_smoothing_{i}" if i else "label_smoothing": x.epsilon
            for i, x in enumerate(chosen)
        }

    def value(self, name: str, scalar: Scalar, epoch: int) -> float:
        epochs = self.params["epochs"] - self.off_for_last
        if epoch >= epochs:
            return 0.0
        return check_epsilon(self.curve(epoch, epochs, scalar.initial, self.final))

    def on_train_begin(self, logs: dict[str, float] | None = None) -> None:
        super().on_train_begin(logs)
        if self.off_for_last >= self.params["epochs"]:
            raise ValueError(
                f"off_for_last={self.off_for_last} leaves no epoch with label smoothing. Received: "
                f"epochs={self.params['epochs']}"
            )

    def get_state(self) -> dict[str, Any]:
        return {"initial": {name: scalar.initial for name, scalar in self.scalars().items()}}

    def set_state(self, state: dict[str, Any]) -> None:
        for name, scalar in self.scalars().items():
            scalar.initial = state["initial"][name]
