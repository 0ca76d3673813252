"""When to stop: patience, Prechelt's criteria, or a budget of time."""

from __future__ import annotations

import logging
import math
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras

from keras_cnn_classics._files import written
from keras_cnn_classics.training._arguments import check_number
from keras_cnn_classics.training._callback import Callback, entered
from keras_cnn_classics.training._monitor import Monitor
from keras_cnn_classics.training.averaging import WeightAveraging
from keras_cnn_classics.training.distribution.devices import any_worker, saving

_LOGGER = logging.getLogger("keras_cnn_classics")


def _ratio(part: float, whole: float) -> float:
    """A quotient that is right for errors of 0, too."""
    return part / whole if whole else (1.0 if not part else math.inf)


def _generalization_loss(values: Sequence[float]) -> float:
    """How much worse the last value is than the best, in percent."""
    return 100 * (_ratio(values[-1], min(values)) - 1)


def _progress(training: Sequence[float], strip: int) -> float:
    """How much the training loss still moves within the last strip, in per mille."""
    last = training[-strip:]
    return 1000 * (_ratio(sum(last), strip * min(last)) - 1)


def _rising_strips(values: Sequence[float], strip: int) -> int:
    """How many of the last strips, one after the other, have ended worse than they began."""
    ends = values[strip - 1 :: strip]
    count = 0
    for before, after in zip(reversed(ends[:-1]), reversed(ends[1:]), strict=True):
        if after <= before:
            break
        count += 1
    return count


def _for_each(value: Any, names: Sequence[str], argument: str) -> tuple[Any, ...]:
    """An argument for each of the monitors."""
    if value is None or isinstance(value, (str, int, float)):
        return (value,) * len(names)
    if len(value) != len(names):
        raise ValueError(
            f"`{argument}` must be one for all or one for each of {tuple(names)}. "
            f"Received: {value!r}"
        )
    return tuple(value)


_THRESHOLDS = {"generalization_loss": 5.0, "progress_quotient": 3.0, "successive_strips": 4}


class EarlyStopping(Callback):
    """Stops training when it no longer pays.

    What Keras's callback of this name does, with the same arguments, and more. With several
    monitors training goes on as long as one of them wants it to; the best weights are those of the
    first.

    Prechelt's criteria look at an error `E`, never negative, that should fall, and at the lowest
    value so far, whatever `min_delta` is:

    - `"generalization_loss"`: stops when `GL = 100 (E / best - 1)` exceeds the threshold.
    - `"progress_quotient"`: at the end of each strip of epochs, stops when `GL / P` exceeds it,
      with `P = 1000 (mean / min - 1)` of the training loss within the strip: a loss of
      generalization is borne while training makes rapid progress.
    - `"successive_strips"`: stops when `E` has risen over so many strips, one after the other.

    Args:
        monitor: Name of what is watched in the logs, or several.
        min_delta: What a value must be better by to count as an improvement.
        patience: Epochs without improvement after which training stops; for the criterion
            `"patience"`.
        verbose: 1 prints one line in the end that says when and why training stopped; 0 leaves it
            to the log, at the level INFO.
        mode: `"min"`, `"max"` or `"auto"`, which goes by the name; or one for each monitor.
        baseline: Value to be better than, or one for each monitor. Until then no epoch counts as an
            improvement.
        restore_best_weights: Whether the model has the weights of the best epoch when training
            ends, for whatever reason. The optimizer's state stays as it is.
        start_from_epoch: First epoch that is looked at, from 0.
        criterion: `"patience"` or one of Prechelt's.
        threshold: Threshold of Prechelt's criteria. Defaults to 5 %, a quotient of 3, or 4 strips,
            which lie in the middle to the end of what he studied.
        strip: Epochs in a strip. His were 5.
        relative: Whether `min_delta` is a share of the best value instead of a difference.
        time_budget: Seconds after which training stops, at the end of a step; those before an
            interruption count. Defaults to no limit.
        best_weights_path: File, ending in `.weights.h5`, to keep the best weights in instead of in
            memory.

    Attributes:
        stopped_epoch: Epoch in which training was stopped, from 0; 0 if it was not, as in Keras.
        best_epoch: The best epoch by the first monitor, from 0.
        reason: Why training was stopped; empty if it was not.

    Raises:
        ValueError: For wrong arguments.

    References:
        - [Prechelt, 1998](https://doi.org/10.1007/3-540-49430-8_3), section 2.1: the criteria;
          section 3: strips of 5, thresholds of 1 to 5, 0.5 to 3, 2 to 8
    """

    def __init__(
        self,
        monitor: str | Sequence[str] = "val_loss",
        min_delta: float = 0.0,
        patience: int = 0,
        verbose: int = 0,
        mode: str | Sequence[str] = "auto",
        baseline: float | Sequence[float | None] | None = None,
        restore_best_weights: bool = False,
        start_from_epoch: int = 0,
        *,
        criterion: str = "patience",
        threshold: float | None = None,
        strip: int = 5,
        relative: bool = False,
        time_budget: float | None = None,
        best_weights_path: str | os.PathLike[str] | None = None,
    ) -> None:
        super().__init__()
        several = isinstance(monitor, (list, tuple))
        names: tuple[Any, ...] = tuple(monitor) if several else (monitor,)
        modes = _for_each(mode, names, "mode")
        baselines = _for_each(baseline, names, "baseline")
        if not names:
            raise ValueError("`monitor` must name at least one entry of the logs. Received: none")
        if criterion != "patience" and criterion not in _THRESHOLDS:
            raise ValueError(
                f"`criterion` must be 'patience' or one of {tuple(_THRESHOLDS)}. "
                f"Received: {criterion!r}"
            )
        check_number("patience", patience, 0, whole=True)
        check_number("strip", strip, 1, whole=True)
        check_number("start_from_epoch", start_from_epoch, 0, whole=True)
        if threshold is not None:
            check_number("threshold", threshold, 0)
        if time_budget is not None:
            check_number("time_budget", time_budget, above=0)
        path = None if best_weights_path is None else Path(best_weights_path)
        if path is not None and not path.name.endswith(".weights.h5"):
            raise ValueError(f"`best_weights_path` must end in '.weights.h5'. Received: {path}")
        self.monitors = [
            Monitor(name, one, min_delta, relative, base)
            for name, one, base in zip(names, modes, baselines, strict=True)
        ]
        for one in self.monitors:
            if criterion != "patience" and one.sign < 0:
                raise ValueError(
                    f"{criterion!r} is for an error that should fall. Received: {one.name!r}, "
                    "which should rise. Watch a loss, or take criterion='patience'."
                )
        self.patience, self.verbose, self.start_from_epoch = patience, verbose, start_from_epoch
        self.restore_best_weights = restore_best_weights
        self.criterion, self.strip, self.time_budget = criterion, strip, time_budget
        self.threshold = _THRESHOLDS.get(criterion) if threshold is None else threshold
        self.best_weights_path = path
        self._reset()

    def _reset(self) -> None:
        for one in self.monitors:
            one.reset()
        self.waits = [0] * len(self.monitors)
        self.training: list[float] = []
        self.stopped_epoch, self.reason = 0, ""
        self.best_weights: list[Any] | None = None
        self._epoch = 0
        self._seconds = 0.0  # of earlier runs
        self._start = time.monotonic()

    @property
    def best_epoch(self) -> int:
        return self.monitors[0].best_epoch

    def on_train_begin(self, logs: dict[str, float] | None = None) -> None:
        self._reset()
        averaged = any(isinstance(one, WeightAveraging) for one in self.behind())
        if self.restore_best_weights and averaged:
            raise ValueError(
                "WeightAveraging must stand before EarlyStopping in the list of callbacks: behind "
                "it, it would put its average over the best weights."
            )

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        self._epoch = epoch

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        if self.time_budget is not None and any_worker(self.bare_model, self.out_of_time):
            self._stop(self._epoch, f"the time budget of {self.time_budget:g} s is spent")

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        if epoch < self.start_from_epoch:
            return
        self.training.append(float((logs or {}).get("loss", 0.0)))
        values = [one.read(logs) for one in self.monitors]
        reasons = []
        for at, (one, value) in enumerate(zip(self.monitors, values, strict=True)):
            if value is None:
                return
            improved = one.see(epoch, value)
            if at == 0 and (improved or len(one.values) == 1):
                self._keep()
            beaten = one.baseline is None or one.better(value, one.baseline)
            self.waits[at] = 0 if improved and beaten else self.waits[at] + 1
            reasons.append("" if improved else self._reason(one, self.waits[at]))
        if all(reasons) and not self.reason:
            self._stop(epoch, "; ".join(reasons))

    def on_train_end(self, logs: dict[str, float] | None = None) -> None:
        if self.reason:
            line = f"Epoch {self.stopped_epoch + 1}: stopped early, since {self.reason}."
        else:
            line = "Training was not stopped early."
        if self.restore_best_weights and self._restore():
            line += f" The weights are those of epoch {self.best_epoch + 1}, the best."
        _LOGGER.info("%s", line)
        if self.verbose:
            print(line)

    def get_state(self) -> dict[str, Any]:
        return {
            "monitors": [one.get_state() for one in self.monitors],
            "waits": self.waits,
            "training": self.training,
            "stopped_epoch": self.stopped_epoch,
            "reason": self.reason,
            "seconds": self._elapsed(),
            "best_weights": self.best_weights,
        }

    def set_state(self, state: dict[str, Any]) -> None:
        for one, saved in zip(self.monitors, state["monitors"], strict=True):
            one.set_state(saved)
        self.waits, self.training = list(state["waits"]), list(state["training"])
        self.stopped_epoch, self.reason = state["stopped_epoch"], state["reason"]
        self._seconds, self._start = state["seconds"], time.monotonic()
        self.best_weights = state["best_weights"]

    @property
    def out_of_time(self) -> bool:
        """Whether the time budget is spent."""
        return self.time_budget is not None and self._elapsed() > self.time_budget

    def _elapsed(self) -> float:
        return self._seconds + time.monotonic() - self._start

    def _stop(self, epoch: int, reason: str) -> None:
        self.stopped_epoch, self.reason = epoch, reason
        self.model.stop_training = True

    def _reason(self, one: Monitor, wait: int) -> str:
        """Why this monitor would stop now; empty if it would not."""
        if self.criterion == "patience":
            if wait < max(1, self.patience):
                return ""
            return f"{one.name} has not improved on {one.best_text} in {wait} epochs"
        assert self.threshold is not None
        if min(one.values) < 0:
            raise ValueError(
                f"{self.criterion!r} is for errors of at least 0. Received: {one.name} = "
                f"{min(one.values):g}. Take criterion='patience'."
            )
        at_end = len(one.values) % self.strip == 0
        if self.criterion == "successive_strips":
            strips = _rising_strips(one.values, self.strip)
            if not at_end or strips < self.threshold:
                return ""
            return f"{one.name} has risen over {strips} strips of {self.strip} epochs"
        if math.isnan(one.values[-1]):
            return f"{one.name} is not a number"
        loss = _generalization_loss(one.values)
        if self.criterion == "generalization_loss":
            return f"{one.name} is {loss:.3g} % above its best" if loss > self.threshold else ""
        progress = _progress(self.training, self.strip)
        # A training loss that stands still makes any loss of generalization too large.
        if not at_end or loss <= 0 or loss <= self.threshold * progress:
            return ""
        above = f"{one.name} is {loss:.3g} % above its best"
        return f"{above}, at a progress of {progress:.3g} per mille"

    def _keep(self) -> None:
        if not self.restore_best_weights:
            return
        with entered(self.companions(), "as_used"):
            if self.best_weights_path is None:
                self.best_weights = self.model.get_weights()
                return
            with (
                saving(self.model, self.best_weights_path) as path,
                written(path) as scratch,
            ):
                self.model.save_weights(scratch)

    def _restore(self) -> bool:
        if not self.monitors[0].values:
            return False
        if self.best_weights is not None:
            self.model.set_weights(self.best_weights)
        elif self.best_weights_path is not None:
            # Keras's file has the optimizer's variables too.
            variables = self.model.optimizer.variables
            values = [keras.ops.convert_to_numpy(one) for one in variables]
            if not self.best_weights_path.exists():
                raise FileNotFoundError(
                    f"{self.best_weights_path} had the best weights, and is gone. The model has "
                    "those of the last epoch."
                )
            self.model.load_weights(self.best_weights_path)
            for one, value in zip(variables, values, strict=True):
                one.assign(value)
        return True
