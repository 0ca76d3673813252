"""Going on after a kill, a power failure or Ctrl-C as if nothing had happened."""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import re
import signal
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import keras
import numpy as np

from keras_cnn_classics._files import SCRATCH
from keras_cnn_classics.data.position import Positions
from keras_cnn_classics.training import _snapshot
from keras_cnn_classics.training._callback import Callback, entered
from keras_cnn_classics.training._random import get_random, set_random
from keras_cnn_classics.training.distribution.devices import any_worker, is_chief

_LOGGER = logging.getLogger("keras_cnn_classics")
_NAME = re.compile(r"epoch-(\d+)-step-(\d+)\.npz")
_KEPT = 2  # the last state, and the one before in case the last is damaged


class Position(Protocol):
    """Where training data begin, such as `position` of what `data.load` gives."""

    def seek(self, epoch: int, step: int = 0, *, hold: bool = False) -> None:
        """Makes all iterators begin with `epoch`, with blanks for its first `step` batches."""


class Data(Protocol):
    """Training data whose order is known for every epoch, such as `data.load` gives."""

    @property
    def position(self) -> Position: ...


class TrainingState(Callback):
    """Keeps the whole state of training in a folder, and goes on from there.

    The same script, run again, trains on from the last state: the weights, the optimizer, the seeds
    of dropout, the epoch and the step in it, the history, and the counters of all callbacks of this
    package. On one device the weights and the history are in the end bit by bit those of a run that
    was never interrupted, if the data come in the same order again: those of `data.load`, given as
    `data` too, do; so do arrays, if `keras.utils.set_random_seed` stands in the script, and a
    `tf.data.Dataset` that gives the same batches in every epoch. A run that has come to its end is
    left as it is.

    Ctrl-C ends training after the step, with the state saved; a second one ends it at once. A state
    that is damaged, say by a full disk, is left out with a warning, and the one before is taken. A
    state that cannot be written is a warning: training goes on.

    Keras's own callbacks cannot be asked for their counters; take ours. Of several workers the
    chief saves, and all of them read, so the folder must be one that they share.

    Args:
        folder: Where to keep the states; made if it is not there. One run needs one folder.
        data: What the model is trained on, if it can seek: `data.load(...)`, or a list of several
            that are read together, as for `transfer.JointTraining`.
        save_freq: `"epoch"`, or also after so many steps of an epoch.

    A run that consists of several calls of `fit`, with other optimizers or layers that learn, sets
    `part` before each of them: what an earlier part has left is then not taken up, but its history.
    See `saved_part`.

    Attributes:
        part: Number of the part of the run that the next `fit` is.
        latest: The file with the last state, or `None`.
        history: Lists of the logs of all epochs, as in Keras's history, those before an
            interruption too.
        resumed: `(epoch, step)` that this run began with, or `None` if it began afresh.

    Raises:
        ValueError: For wrong arguments; when training begins, for a state of another model or other
            callbacks, or if a callback of this package stands behind this one.
        OSError: If the folder cannot be used, or all states in it are damaged.
        KeyboardInterrupt: After Ctrl-C.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        data: Data | Sequence[Data] | None = None,
        save_freq: str | int = "epoch",
    ) -> None:
        super().__init__()
        if save_freq != "epoch" and not (isinstance(save_freq, int) and save_freq > 0):
            raise ValueError(
                f"`save_freq` must be 'epoch' or a positive integer. Received: {save_freq!r}"
            )
        if not isinstance(folder, (str, os.PathLike)):
            raise ValueError(f"`folder` must be a path. Received: {folder!r}")
        several = list(data) if isinstance(data, (list, tuple)) else [data]
        if data is not None and not all(hasattr(one, "position") for one in several):
            raise ValueError(
                "`data` must have a `position` to seek, as data.load(...) has. Received: "
                f"{type(data).__name__}. Leave it out for other data."
            )
        self.folder, self.save_freq = Path(folder), save_freq
        self.data: Any = data
        if isinstance(data, (list, tuple)):
            self.data = Positions([one.position for one in data])
        self.part = 0
        self.latest: Path | None = None
        self.history: dict[str, list[float]] = {}
        self.resumed: tuple[int, int] | None = None
        self._epochs: list[int] = []
        self._loaded: dict[str, Any] | None = None
        self._epoch = self._steps = self._saved = 0
        self._logs: dict[str, Any] = {}  # of the last step, which Keras needs at an epoch's end
        self._random: list[Any] = []
        self._metrics: list[np.ndarray] | None = None  # of training, while validation runs
        self._random_now: list[Any] = []  # as validation began
        self._resumed_validation = False
        self._interrupted = False
        self._handler: Any = None

    # -- Keras's events -----------------------------------------------------------------------

    def on_train_begin(self, logs: dict[str, float] | None = None) -> None:
        if behind := self.behind():
            names = ", ".join(type(one).__name__ for one in behind)
            raise ValueError(
                f"TrainingState must be the last callback, to see what the others do. Behind it: "
                f"{names}. Put it at the end of the list."
            )
        is_chief()  # a TF_CONFIG that it does not understand is refused now, not at the first state
        self.folder.mkdir(parents=True, exist_ok=True)
        for scratch in self.folder.glob(f"{SCRATCH}*"):  # of a process that was killed
            scratch.unlink(missing_ok=True)
        self.history, self._epochs, self.resumed = {}, [], None
        self._epoch = self._steps = 0
        self._interrupted = False
        self._load()
        self._catch_interrupts()

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        self.model._initial_epoch = None  # else the next `fit` would begin there, too
        self._show_history()
        skipped = self._loaded["step"] if self._loaded else 0
        self._epoch, self._steps, self._saved = epoch, 0, skipped
        if self._loaded:
            set_random(self._loaded["random"])
        self._random = get_random()
        if self.data is not None:
            self.data.position.seek(epoch, skipped, hold=True)
        if self._loaded and skipped:
            self.model.train_function = _skipping(self.model, self._loaded["logs"])
        else:
            self._loaded = None

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        # With several steps in one call the last call may have fewer.
        self._steps = min(batch + 1, self.params.get("steps") or batch + 1)
        if self._loaded:
            if self._steps >= self._loaded["step"]:
                self.model.train_function = self.model.train_function.original
                self._restore(self._loaded)
                set_random(self._loaded["random_now"])
                self._random_now = self._loaded["random_now"]
                self._resumed_validation = self._loaded["validating"]
                self._logs, self._loaded = self._loaded["logs"], None
            return
        self._logs = logs or {}
        if self.save_freq != "epoch" and self._steps - self._saved >= int(self.save_freq):
            self._saved = self._steps
            self._save()
        self._obey(save=True)

    def on_test_begin(self, logs: dict[str, float] | None = None) -> None:
        self._metrics = _values(self.model.metrics_variables)
        if self._resumed_validation:  # Keras has drawn since then, for the second time
            set_random(self._random_now)
        self._random_now, self._resumed_validation = get_random(), False

    def on_test_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        self._obey(save=True)

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        if self._loaded:
            raise ValueError(
                f"{self.latest} was saved after step {self._loaded['step']} of an epoch, and this "
                f"epoch has {self._steps}. Give the same data in the same batches, or another "
                "folder."
            )
        self._metrics = None
        self._epochs.append(epoch)
        for name, value in (logs or {}).items():
            self.history.setdefault(name, []).append(float(value))
        self._epoch, self._steps = epoch + 1, 0
        self._random = get_random()
        self._save()
        self._obey(save=False)

    def on_train_end(self, logs: dict[str, float] | None = None) -> None:
        self.model._initial_epoch = None
        if self._loaded:  # no epoch was left; what follows goes on from there
            set_random(self._loaded["random"])
            self._loaded = None
        self._show_history()
        self._let_go()

    # -- Saving -------------------------------------------------------------------------------

    def _save(self) -> None:
        self.sync_variables()
        with entered(self._others(), "as_trained"):
            state = self._state()
        if not all(np.isfinite(one).all() for one in state["variables"]["model"]):
            _LOGGER.warning("The weights are not finite: no state is saved of them.")
            return
        if not is_chief():  # it has read the variables all the same, as the chief waits for that
            return
        path = self.folder / f"epoch-{self._epoch:04d}-step-{self._steps:07d}.npz"
        try:
            _snapshot.write(path, state)
        except OSError as error:
            _LOGGER.warning(
                "The state of epoch %d, step %d could not be saved (%s). Training goes on; the "
                "last state is %s.",
                self._epoch + 1,
                self._steps,
                error.strerror or error,
                self.latest or "none",
            )
            return
        self.latest = path
        for old in _states(self.folder)[_KEPT:]:
            old.unlink(missing_ok=True)

    def _state(self) -> dict[str, Any]:
        state = {
            "part": self.part,
            "epoch": self._epoch,
            "step": self._steps,
            "stopped": bool(self.model.stop_training) and not self._steps,
            "logs": {name: float(value) for name, value in self._logs.items()},
            "history": self.history,
            "epochs": self._epochs,
            "random": self._random,  # as the epoch began, by which its data are ordered
            "validating": self._metrics is not None,
            "random_now": get_random() if self._metrics is None else self._random_now,
            "backend": keras.backend.backend(),
            "variables": {
                name: _values(variables) for name, variables in _variables(self.model).items()
            },
            "callbacks": [
                {"name": type(one).__name__, "state": one.get_state()} for one in self._others()
            ],
        }
        if self._metrics is not None:
            state["variables"]["metrics"] = self._metrics
        return state

    def _others(self) -> list[Callback]:
        return [one for one in self.companions() if one is not self]

    # -- Going on -----------------------------------------------------------------------------

    def _load(self) -> None:
        """Takes up the last state that is whole."""
        damaged = []
        for path in _states(self.folder):
            try:
                state = _snapshot.read(path)
            except _snapshot.DamagedError as error:
                damaged.append(path.name)
                _LOGGER.warning("%s: the state before is taken.", error)
                continue
            part = _part_of(state)
            if part != self.part:
                if part > self.part:
                    raise ValueError(
                        f"{path} is of a later part of the run: {part}. Received: "
                        f"part={self.part}. Begin with that part, or give another folder."
                    )
                self._take_history(state)
                return
            self._restore(state, path)
            self.latest, self._loaded = path, state
            self.resumed = (state["epoch"], state["step"])
            self._take_history(state)
            # Keras's own way to begin later; `range` of the epochs is then empty after a stop.
            last = self.params.get("epochs") or state["epoch"]
            self.model._initial_epoch = last if state["stopped"] else state["epoch"]
            _LOGGER.info("Going on from %s.", path)
            if state["step"] and self.data is None:
                _LOGGER.warning(
                    "Training goes on within an epoch, after step %d. That is right only if the "
                    "data come in the same order again; TrainingState says which do.",
                    state["step"],
                )
            return
        if damaged:
            raise OSError(
                f"All states in {self.folder} are damaged ({', '.join(damaged)}). Delete them to "
                "begin afresh."
            )

    def saved_part(self) -> int | None:
        """The part of the run that the last state is of, or `None` if there is no state."""
        for path in _states(self.folder):
            with contextlib.suppress(_snapshot.DamagedError):
                return _part_of(_snapshot.read(path))
        return None

    def _take_history(self, state: dict[str, Any]) -> None:
        self.history = {name: list(values) for name, values in state["history"].items()}
        self._epochs = list(state["epochs"])

    def _restore(self, state: dict[str, Any], path: Path | None = None) -> None:
        self.sync_variables()
        if self.model.optimizer is not None and not self.model.optimizer.built:
            self.model.optimizer.build(self.model.trainable_variables)
        variables = _variables(self.model)
        if path is not None:
            self._check(state, variables, path)
        for name, saved in state["variables"].items():
            # Some metrics have no variables before the first step.
            for variable, value in zip(variables[name], saved, strict=False):
                variable.assign(value)
        for callback, saved in zip(self._others(), state["callbacks"], strict=True):
            callback.set_state(saved["state"])

    def _check(self, state: dict[str, Any], variables: dict[str, list[Any]], path: Path) -> None:
        """Refuses a state of something else before anything is changed."""
        here, there = keras.backend.backend(), state["backend"]
        if here != there:
            raise ValueError(f"{path} is from the backend {there}, and this is {here}.")
        names = [type(one).__name__ for one in self._others()]
        saved_names = [one["name"] for one in state["callbacks"]]
        if names != saved_names:
            raise ValueError(
                f"{path} is from a run with the callbacks {saved_names}. Received: {names}. Give "
                "the same, in the same order, or another folder."
            )
        for name in ("model", "optimizer"):
            shapes = [tuple(one.shape) for one in variables[name]]
            saved = [one.shape for one in state["variables"][name]]
            if shapes != saved:
                raise ValueError(
                    f"{path} is from another {name}: it has {len(saved)} variables, and this one "
                    f"{len(shapes)}, or their shapes differ. Give another folder."
                )

    def _show_history(self) -> None:
        """Puts the epochs before an interruption into Keras's history."""
        shown = getattr(self.model, "history", None)
        if self.resumed and shown is not None and not shown.epoch:
            shown.epoch = list(self._epochs)
            shown.history.update({name: list(values) for name, values in self.history.items()})

    # -- Ctrl-C -------------------------------------------------------------------------------

    def _catch_interrupts(self) -> None:
        if threading.current_thread() is not threading.main_thread():
            return  # only there can Python take signals

        def handle(number: int, frame: Any) -> None:
            if self._interrupted or not _is_training(self.bare_model, frame):
                self._release_interrupts()
                raise KeyboardInterrupt
            self._interrupted = True

        self._handler = signal.signal(signal.SIGINT, handle)

    def _release_interrupts(self) -> None:
        if self._handler is not None:
            signal.signal(signal.SIGINT, self._handler)
            self._handler = None

    def _let_go(self) -> None:
        """Leaves signals and data to others."""
        self._release_interrupts()
        if self.data is not None:
            self.data.position.seek(self._epoch)

    def _obey(self, save: bool) -> None:
        """After Ctrl-C, leaves."""
        if not any_worker(self.bare_model, self._interrupted):
            return
        if save:
            self._save()
        self._let_go()
        raise KeyboardInterrupt(
            f"Interrupted in epoch {self._epoch + 1} after step {self._steps}. The state is in "
            f"{self.latest}: run the same again, with the same folder, to go on from there."
        )


def _states(folder: Path) -> list[Path]:
    """The states in a folder, the last one first."""
    named = ((_NAME.fullmatch(path.name), path) for path in folder.glob("epoch-*-step-*.npz"))
    found = [(int(name[1]), int(name[2]), path) for name, path in named if name]
    return [path for *_, path in sorted(found, reverse=True)]


def _part_of(state: dict[str, Any]) -> int:
    return int(state.get("part", 0))  # earlier versions knew no parts


def _variables(model: Any) -> dict[str, list[Any]]:
    return {
        "model": model.variables,
        "optimizer": model.optimizer.variables if model.optimizer is not None else [],
        "metrics": model.metrics_variables,
    }


def _values(variables: list[Any]) -> list[np.ndarray]:
    return [np.array(keras.ops.convert_to_numpy(one)) for one in variables]


def _skipping(model: Any, logs: dict[str, float]) -> Callable[..., Any]:
    """A step that takes a batch and does nothing, for the steps that were done before."""
    original = model.train_function
    backend = keras.backend.backend()

    def skip(*arguments: Any) -> Any:
        if backend == "torch":  # which gets its batches, and not their iterator
            return dict(logs)
        iterator = arguments[-1]
        batches = list(itertools.islice(iterator, model.steps_per_execution))
        if not batches:
            raise StopIteration
        if backend == "tensorflow":  # where Keras makes the variables of metrics in the first step
            model._symbolic_build(data_batch=batches[0])
        return (dict(logs), arguments[0]) if backend == "jax" else dict(logs)

    skip.original = original  # type: ignore[attr-defined]
    return skip


def _is_training(model: Any, frame: Any) -> bool:
    """Whether a frame lies within a `fit` of the model; the handler outlives one that failed."""
    while frame is not None:
        known = frame.f_locals  # Keras's method, or the function of `distribution`
        here = any(known.get(name) is model for name in ("self", "model"))
        if here and frame.f_code.co_name == "fit":
            return True
        frame = frame.f_back
    return False
