"""One training run: its folder, its checkpoints, its summary."""

from __future__ import annotations

import contextlib
import csv
import json
import math
import os
import tempfile
import time
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras

from keras_cnn_classics._files import SCRATCH, write_json, written
from keras_cnn_classics.data import ImageData
from keras_cnn_classics.preprocessing import MODES
from keras_cnn_classics.training import distribution
from keras_cnn_classics.training._callback import Callback, entered
from keras_cnn_classics.training._rates import rates_by_name
from keras_cnn_classics.training.auxiliary import without_auxiliary
from keras_cnn_classics.training.board import write_hyperparameters, write_mistakes
from keras_cnn_classics.training.distribution import is_chief
from keras_cnn_classics.training.environment import VERSIONS, provenance, write_versions
from keras_cnn_classics.training.finite_loss import FiniteLoss
from keras_cnn_classics.training.settings import Recipe, accuracy_of, loss_for
from keras_cnn_classics.training.training_state import TrainingState

SUMMARY, HISTORY, LOG, STATE = "summary.json", "history.csv", "tensorboard", "state"
FACTS = "run.json"  # in a checkpoint, beside Keras's own files
FILES = ("best.keras", "last.keras", HISTORY, SUMMARY, VERSIONS)


def check_folder(folder: str | os.PathLike[str], *, overwrite: bool = False) -> Path:
    """Checks that a run can leave its files in a folder, and leaves no trace itself.

    Of several workers the chief checks, which is the one that writes.

    Args:
        folder: Where the run shall leave its files; made when the run starts.
        overwrite: Whether a run that is already there may be replaced.

    Returns:
        The folder as a path.

    Raises:
        FileExistsError: If a run is there already.
        OSError: If the folder cannot be made or written to.
    """
    path = Path(folder)
    if not is_chief():
        return path  # which may hold what the chief has written just now
    try:
        # What is to be made lies in the nearest folder that is there.
        there = next(one for one in (path, *path.absolute().parents) if one.exists())
        with tempfile.TemporaryFile(dir=there):
            pass
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise OSError(
            f"{path} cannot be written to ({reason}): name another folder for the output."
        ) from error
    # By `versions.txt` alone it may be a comparison of `transfer`.
    names = [name for name in (*FILES, LOG, STATE) if name != VERSIONS]
    found = [name for name in names if (path / name).exists()]
    if found and not overwrite:
        raise FileExistsError(
            f"{path} holds a run already ({', '.join(found)}): name another folder, or replace "
            "the run by overwrite=True (--overwrite)."
        )
    return path


def take_away(folder: Path) -> None:
    """Takes away what a run has left in a folder, and nothing else."""
    for left in [folder / name for name in FILES] + list(folder.glob(f"{SCRATCH}*")):
        left.unlink(missing_ok=True)
    take_away_state(folder)
    log = folder / LOG
    for written_by in ("events.out.tfevents.*", "plugins/profile/*/*.xplane.pb"):
        for left in list(log.rglob(written_by)):
            left.unlink()
    emptied = sorted((one for one in log.rglob("*") if one.is_dir()), reverse=True)
    for one in (*emptied, log, folder):
        with contextlib.suppress(OSError):  # it is not empty, or not there
            one.rmdir()


def take_away_state(folder: Path) -> None:
    """Takes away what only an unfinished run needs, which is several times a network's size."""
    for pattern in ("epoch-*-step-*.npz", f"{SCRATCH}*"):
        for left in (folder / STATE).glob(pattern):
            left.unlink()
    with contextlib.suppress(OSError):
        (folder / STATE).rmdir()


class Checkpoints(Callback):
    """Keeps `last.keras` and `best.keras` in a folder; neither is ever half-written.

    They have the weights that the network is meant to be used with: an average, where there is one.

    Args:
        folder: An existing folder.
        monitor: The metric that decides what is best, the larger the better. Without it in the
            logs, the last epoch is the best.
        facts: What a checkpoint shall know of its run; `read_facts` reads it again, wherever
            the file has been moved.
        network: What is saved, if it is not the model that is trained: one on the same weights.
    """

    def __init__(
        self,
        folder: Path,
        monitor: str = "val_accuracy",
        facts: dict[str, Any] | None = None,
        network: Any = None,
    ) -> None:
        super().__init__()
        self.folder, self.monitor, self.facts = folder, monitor, facts or {}
        self.network = network
        self.best_epoch = 0
        self._best = -math.inf

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        logs = logs or {}
        if not math.isfinite(logs.get("loss", 0.0)):
            return  # such a network is of no use to anybody
        self.save("last.keras")
        value = logs.get(self.monitor, math.inf)
        if value > self._best or self.monitor not in logs:
            self._best, self.best_epoch = float(value), epoch + 1
            self.save("best.keras")

    def save(self, name: str) -> None:
        """Saves the model beside its place, then moves it there in one step."""
        with (
            entered(self.companions(), "as_used"),
            distribution.saving(self.model, self.folder / name) as path,
            written(path) as scratch,
        ):
            (self.network or self.model).save(scratch)
            with zipfile.ZipFile(scratch, "a") as archive:
                archive.writestr(FACTS, json.dumps(self.facts))

    def get_state(self) -> dict[str, Any]:
        return {"best": self._best, "best_epoch": self.best_epoch}

    def set_state(self, state: dict[str, Any]) -> None:
        self._best, self.best_epoch = state["best"], state["best_epoch"]


class Record(Callback):
    """Writes the logs of all epochs to a table, those before an interruption too.

    Args:
        path: The table, in the form of Keras's `CSVLogger`.

    Attributes:
        rows: The logs of each epoch, with its number from 0 as `epoch`.
        seconds: How long training has taken, without the time between two runs.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        self.rows: list[dict[str, float]] = []
        self._before, self._start = 0.0, time.perf_counter()

    @property
    def seconds(self) -> float:
        return self._before + time.perf_counter() - self._start

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        seen = {name: float(value) for name, value in (logs or {}).items()}
        # A callback that changes the rate has told that of the epoch.
        values = {**rates_by_name(self.model.optimizer), **seen}
        self.rows.append({"epoch": epoch, **dict(sorted(values.items()))})
        if not is_chief():
            return
        names = dict.fromkeys(name for row in self.rows for name in row)
        with written(self.path) as scratch, scratch.open("w", newline="") as file:
            table = csv.DictWriter(file, list(names), restval="NA")
            table.writeheader()
            table.writerows(self.rows)

    def get_state(self) -> dict[str, Any]:
        return {"rows": self.rows, "seconds": self.seconds}

    def set_state(self, state: dict[str, Any]) -> None:
        self.rows = list(state["rows"])
        self._before, self._start = state["seconds"], time.perf_counter()


def read_facts(path: Path) -> dict[str, Any]:
    """What a checkpoint knows of its run: nothing if it is not from one."""
    try:
        with zipfile.ZipFile(path) as archive:
            return dict(json.loads(archive.read(FACTS)))
    except (OSError, KeyError, ValueError, zipfile.BadZipFile):
        return {}


def train(
    model: Any,
    data: ImageData,
    settings: Recipe,
    folder: str | os.PathLike[str],
    *,
    facts: dict[str, Any] | None = None,
    overwrite: bool = False,
    resume: bool = False,
    fresh: bool = True,
    callbacks: Sequence[Callback] = (),
    save_freq: str | int = "epoch",
    profile_steps: tuple[int, int] | None = None,
    verbose: int = 1,
) -> dict[str, Any]:
    """Trains a model and leaves its files in a folder.

    The files are `last.keras` and `best.keras` (the best on the validation split, or the last if
    there is none), `history.csv`, `tensorboard/`, `summary.json`, `versions.txt` with the installed
    packages and, until it is finished, `state/`, all of them up to date after each epoch. In the
    end, on one device, TensorBoard also has the images of the validation split, or else of the
    test split, that the best network gets most wrong. A run that was killed goes on from `state/`
    with `resume`; one that is finished stays as it is. An interruption from the keyboard ends
    training after the step, and leaves the model as it is at that moment in `last.keras`. A run
    that is replaced is taken away when training starts, not before. In the end the model has the
    weights of `best.keras`.

    Of a model that `with_auxiliary_targets` gave, what is saved and tested is the network without
    auxiliary classifiers.

    In the scope of a strategy (see `training.distribution`) it trains on all devices; the data's
    batches are the global ones.

    Args:
        model: A model with one output for each class of the data.
        data: The data; its test split, if any, is used once, for the summary.
        settings: How to train.
        folder: Where to leave the files.
        facts: What else shall stand in the summary, and in the checkpoints; its `command` in the
            summary alone, among those that the run went on by.
        overwrite: Whether a run that is already in the folder may be replaced.
        resume: Whether to go on with the run that is in the folder; if there is none, one begins.
        fresh: Whether the weights are drawn as the recipe says, if it does.
        callbacks: Further callbacks of this package.
        save_freq: As in `TrainingState`.
        profile_steps: The first and the last step that TensorFlow's profiler takes down, counted
            from 1, for TensorBoard; other backends have none.
        verbose: As in `keras.Model.fit`.

    Returns:
        The summary, as in `summary.json`.

    Raises:
        ValueError: If the model's outputs are fewer than the data's classes, it holds layers of
            KerasCV that would augment in use, or the run in the folder was begun in another way.
        OSError: If the folder cannot be written to, or holds a run.
        FloatingPointError: If the loss is not finite any more.
        KeyboardInterrupt: After an interruption, when the files are in place.
    """
    from keras_cnn_classics.data.augmentation import check_model  # it brings TensorFlow

    heads = isinstance(model.output, dict)
    network = without_auxiliary(model) if heads else model
    check_classes(network, data)
    check_model(model)
    facts = dict(facts or {})
    commands = [facts.pop("command")] if "command" in facts else []
    earlier: list[dict[str, Any]] = []
    facts = {
        "classes": network.output_shape[-1],
        "classifier_activation": keras.activations.serialize(network.layers[-1].activation),
        **facts,
        "recipe": settings.to_dict(),
        "data": data.name,
        "sizes": data.sizes,
        "class_names": list(data.class_names),
        "image_shape": list(data.image_shape),
    }
    folder = Path(folder)
    if resume and (folder / SUMMARY).exists():
        begun = summary_of(folder, facts)
        if begun.get("finished"):
            if not (folder / "best.keras").exists():
                raise FileNotFoundError(
                    f"The run in {folder} is finished, but its best.keras is gone. Begin anew in "
                    "another folder or by overwrite=True (--overwrite)."
                )
            network.load_weights(folder / "best.keras")
            return begun
        commands = begun.get("commands", []) + commands
        earlier = begun.get("earlier", [])
        earlier.append({name: begun.get(name) for name in ("versions", "environment")})
    else:
        resume = False
        check_folder(folder, overwrite=overwrite)
    distributed = distribution.replicas() > 1
    steps = data.steps if distributed else data.position.batches
    one_hot = len(data.train.element_spec[1].shape) == 2
    if one_hot and network.output_shape[-1] != len(data.class_names):
        raise ValueError(
            f"One-hot labels of {len(data.class_names)} classes, as mixers make them, need as many "
            f"outputs. Received: a model with {network.output_shape[-1]}. Build it with "
            f"classes={len(data.class_names)}, or leave the mixers out."
        )
    chosen = settings.compile(
        model, steps, validated=data.validation is not None, fresh=fresh, one_hot=one_hot
    )
    distribution.prepare(model)
    if not resume and is_chief():
        take_away(folder)
    folder.mkdir(parents=True, exist_ok=True)
    checkpoints = Checkpoints(
        folder,
        f"val_{accuracy_of(model)}",
        facts,
        network if heads else None,
    )
    record = Record(folder / HISTORY)
    state = TrainingState(folder / STATE, data, save_freq)
    made_with = provenance()
    seconds: float | None = None

    def describe(**results: Any) -> dict[str, Any]:
        """Writes the summary as far as the run has come."""
        best = record.rows[checkpoints.best_epoch - 1] if checkpoints.best_epoch else {}
        summary = {
            **facts,
            "commands": commands,
            **made_with,
            "earlier": [one for one in earlier if one != made_with],
            "skipped": list(data.skipped),
            "replicas": distribution.replicas(),
            "seconds": round(seconds or record.seconds, 1),
            "epochs": len(record.rows),
            "best_epoch": checkpoints.best_epoch,
            "best": {key: value for key, value in best.items() if key != "epoch"},
            **results,
        }
        if is_chief():
            write_json(folder / SUMMARY, summary)
        return summary

    if not resume:
        describe(finished=False)
    if is_chief():
        write_versions(folder)
        known = {name: facts.get(name) for name in ("model", "data", "seed", "options", "recipe")}
        write_hyperparameters(folder / LOG, known, folder.absolute().name)
    learning = True
    try:
        model.fit(
            distribution.shares(model, data.endless) if distributed else data.train,
            validation_data=data.validation,
            epochs=settings.epochs,
            steps_per_epoch=steps if distributed else None,
            callbacks=[
                FiniteLoss(),
                *chosen,
                *callbacks,
                record,
                checkpoints,  # after the record, which then has a row for every checkpoint
                state,
                keras.callbacks.LambdaCallback(
                    on_epoch_end=lambda epoch, logs: describe(finished=False)
                ),
                keras.callbacks.TensorBoard(
                    folder / LOG, write_graph=False, profile_batch=profile_steps or 0
                ),
            ],
            shuffle=False,  # the data is shuffled already, image by image
            verbose=verbose if is_chief() else 0,
        )
        learning, seconds = False, record.seconds
        network.load_weights(folder / "best.keras")
        results: dict[str, Any] = {}
        if data.test is not None:
            results["test"] = _test(network, data.test, one_hot)
        held_out = data.validation or data.test
        if held_out is not None and not distributed:
            write_mistakes(
                folder / LOG,
                network,
                held_out.as_numpy_iterator(),
                data.class_names,
                preprocessing=mode if (mode := facts.get("preprocessing")) in MODES else None,
                step=len(record.rows),
            )
        summary = describe(finished=True, **results)
        if is_chief():
            take_away_state(folder)
        return summary
    except KeyboardInterrupt:
        if learning:
            checkpoints.save("last.keras")
        describe(finished=False, interrupted=True)
        raise
    except FloatingPointError as error:
        if not checkpoints.best_epoch:
            if is_chief():
                take_away(folder)
            raise FloatingPointError(f"{error} No network was saved.") from None
        best = f"{folder / 'best.keras'} is from epoch {checkpoints.best_epoch}."
        raise FloatingPointError(f"{error} {best}") from None


def summary_of(folder: Path, facts: dict[str, Any]) -> dict[str, Any]:
    """The summary of the run in a folder, which must have begun in the same way."""
    try:
        begun: dict[str, Any] = json.loads((folder / SUMMARY).read_text())
    except ValueError as error:
        raise ValueError(
            f"{folder / SUMMARY} is damaged ({error}), so the run cannot go on. Begin anew in "
            "another folder or by overwrite=True (--overwrite)."
        ) from None
    now = json.loads(json.dumps(facts))
    # Which process began it does not matter.
    other = [name for name in now if name != "job" and begun.get(name) != now[name]]
    if other:
        raise ValueError(
            f"The run in {folder} was begun with another {', '.join(other)}. Give the same again, "
            "or begin anew in another folder or by overwrite=True (--overwrite)."
        )
    return begun


def _test(network: Any, test: Any, one_hot: bool) -> dict[str, float]:
    """Loss, accuracy and error on the test split."""
    if not network.compiled:  # a network on the layers of the one that was trained
        network.compile(loss=loss_for(network, one_hot=one_hot), metrics=["accuracy"])
        distribution.prepare(network)
    found = network.evaluate(test, return_dict=True, verbose=0)
    return {**found, "error_percent": round(100 * (1 - found["accuracy"]), 3)}


def check_classes(model: Any, data: ImageData) -> None:
    """Refuses data with labels that the model has no output for."""
    outputs, classes = model.output_shape[-1], len(data.class_names)
    if outputs < classes:
        raise ValueError(
            f"The labels go up to {classes - 1} ({classes} classes in {data.name}), but the model "
            f"has {outputs} outputs: build it with classes={classes}."
        )
