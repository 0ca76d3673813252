"""Dividing the learning rate when the validation error stops improving."""

from __future__ import annotations

import logging
from typing import Any

from keras_cnn_classics.training._arguments import check_number
from keras_cnn_classics.training._callback import Callback
from keras_cnn_classics.training._monitor import Monitor
from keras_cnn_classics.training._rates import (
    optimizers_of,
    rate_of,
    rates_by_name,
    refuse_schedules,
)

_LOGGER = logging.getLogger("keras_cnn_classics")


class PlateauDecay(Callback):
    """Divides the learning rate when the validation error stops improving.

    The rule of AlexNet, VGG and ResNet: divide it by 10 when the validation error no longer
    improves at the present rate. What `keras.callbacks.ReduceLROnPlateau` does, with the same
    arguments, and more. All rates of a `MultiOptimizer` fall together. The rate stands in the logs
    as `learning_rate` (one for each optimizer of a `MultiOptimizer`, with its name).

    Args:
        monitor: Name of what is watched in the logs.
        factor: What the rate is multiplied by, above 0 and below 1.
        patience: Epochs without improvement after which the rate falls.
        verbose: 1 prints a line at each drop; 0 leaves it to the log, at the level INFO.
        mode: `"min"`, `"max"` or `"auto"`, which goes by the name.
        min_delta: What a value must be better by to count as an improvement.
        cooldown: Epochs after a drop in which patience does not count.
        min_lr: Lower bound of the rate.
        restore_best_weights: Whether each drop goes back to the best weights so far. The optimizer
            keeps its momentum.
        max_drops: Drops after which the next plateau stops training; the papers have 3. Defaults to
            going on for ever.
        warmup_epochs: Epochs in which the rate rises in equal steps from nearly 0 to its value,
            batch by batch; they do not count as a plateau.

    Attributes:
        drops: How often the rate has fallen.

    Raises:
        ValueError: For wrong arguments, or, when training begins, for an optimizer that follows a
            schedule of its own.

    References:
        - [Krizhevsky et al., 2012](https://papers.nips.cc/paper/4824), section 5
        - [Simonyan & Zisserman, 2014](https://arxiv.org/abs/1409.1556), section 3.1
        - [He et al., 2015](https://arxiv.org/abs/1512.03385), section 3.4
    """

    def __init__(
        self,
        monitor: str = "val_loss",
        factor: float = 0.1,
        patience: int = 10,
        verbose: int = 0,
        mode: str = "auto",
        min_delta: float = 1e-4,
        cooldown: int = 0,
        min_lr: float = 0.0,
        *,
        restore_best_weights: bool = False,
        max_drops: int | None = None,
        warmup_epochs: int = 0,
    ) -> None:
        super().__init__()
        check_number("factor", factor, above=0, below=1)
        check_number("patience", patience, 0, whole=True)
        check_number("cooldown", cooldown, 0, whole=True)
        check_number("warmup_epochs", warmup_epochs, 0, whole=True)
        check_number("min_lr", min_lr, 0)
        if max_drops is not None:
            check_number("max_drops", max_drops, 0, whole=True)
        self._monitor = Monitor(monitor, mode, min_delta)
        self.factor, self.patience, self.verbose = factor, patience, verbose
        self.cooldown, self.min_lr = cooldown, min_lr
        self.restore_best_weights, self.max_drops = restore_best_weights, max_drops
        self.warmup_epochs = warmup_epochs
        self._reset()

    def _reset(self) -> None:
        self._monitor.reset()
        self.wait = self.drops = self._cooling = 0
        self._best_weights: list[Any] | None = None
        self._targets: list[float] = []  # of the warm-up
        self._epoch = 0

    def on_train_begin(self, logs: dict[str, float] | None = None) -> None:
        self._reset()
        refuse_schedules(self.model.optimizer, type(self).__name__)
        if self.warmup_epochs:
            self._targets = [rate_of(one) for one in optimizers_of(self.model.optimizer)]

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        self._epoch = epoch

    def on_train_batch_begin(self, batch: int, logs: dict[str, float] | None = None) -> None:
        if self._epoch >= self.warmup_epochs:
            return
        steps = self.params.get("steps")
        # Without knowing the length of an epoch, the rate rises once in each.
        part = (batch + 1) / steps if steps else 1.0
        share = min(1.0, (self._epoch + part) / self.warmup_epochs)
        self.sync_variables()
        for one, target in zip(optimizers_of(self.model.optimizer), self._targets, strict=True):
            one.learning_rate = share * target

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        if logs is not None:
            logs.update(rates_by_name(self.model.optimizer))
        value = self._monitor.read(logs)
        if value is None:
            return
        if self._cooling:
            self._cooling -= 1
        if self._monitor.see(epoch, value):
            self.wait = 0
            if self.restore_best_weights:
                self._best_weights = self.model.get_weights()
        elif not self._cooling and epoch >= self.warmup_epochs:
            self.wait += 1
            if self.wait >= self.patience:
                self._drop(epoch)

    def get_state(self) -> dict[str, Any]:
        return {
            "monitor": self._monitor.get_state(),
            "wait": self.wait,
            "drops": self.drops,
            "cooling": self._cooling,
            "best_weights": self._best_weights,
            "targets": self._targets,
        }

    def set_state(self, state: dict[str, Any]) -> None:
        self._monitor.set_state(state["monitor"])
        self.wait, self.drops = state["wait"], state["drops"]
        self._cooling, self._targets = state["cooling"], state["targets"]
        self._best_weights = state["best_weights"]

    def _drop(self, epoch: int) -> None:
        """Lets the rates fall, or stops."""
        self.wait = 0
        name, best = self._monitor.name, self._monitor.best_text
        if self.max_drops is not None and self.drops >= self.max_drops:
            self._say(
                f"Epoch {epoch + 1}: stopped, since {name} has not improved on {best} after "
                f"{self.drops} drops of the learning rate."
            )
            self.model.stop_training = True
            return
        optimizers = optimizers_of(self.model.optimizer)
        if all(rate_of(one) <= self.min_lr for one in optimizers):
            return
        self.drops += 1
        self._cooling = self.cooldown
        for one in optimizers:
            one.learning_rate = max(self.factor * rate_of(one), self.min_lr)
        back = ""
        if self._best_weights is not None:
            self.model.set_weights(self._best_weights)
            back = f", from the weights of epoch {self._monitor.best_epoch + 1}"
        rates = ", ".join(f"{rate_of(one):g}" for one in optimizers)
        self._say(
            f"Epoch {epoch + 1}: {name} has not improved on {best}; the learning rate falls to "
            f"{rates}{back}."
        )

    def _say(self, line: str) -> None:
        _LOGGER.info("%s", line)
        if self.verbose:
            print(line)
