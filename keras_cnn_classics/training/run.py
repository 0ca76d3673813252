"""One training run: its folder, its checkpoints, its summary."""

from __future__ import annotations

import contextlib
import csv
import json
import math
import os
import time
import zipfile
from pathlib import Path
from typing import Any

import keras

from keras_cnn_classics.data import ImageData
from keras_cnn_classics.training.recipes import Recipe, loss_for

SUMMARY, HISTORY, LOG = "summary.json", "history.csv", "tensorboard"
FACTS = "run.json"  # in a checkpoint, beside Keras's own files
FILES = ("best.keras", "last.keras", HISTORY, SUMMARY)


def check_folder(folder: str | os.PathLike[str], *, overwrite: bool = False) -> Path:
    """Checks that a run can leave its files in a folder, and leaves no trace itself.

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
    made = [p for p in (path, *path.parents) if not p.exists()]
    try:
        path.mkdir(parents=True, exist_ok=True)
        probe = path / ".writable"
        probe.touch()
        probe.unlink()
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise OSError(
            f"{path} cannot be written to ({reason}): name another folder for the output."
        ) from error
    finally:
        for one in made:
            if one.is_dir():
                one.rmdir()
    found = [name for name in (*FILES, LOG) if (path / name).exists()]
    if found and not overwrite:
        raise FileExistsError(
            f"{path} holds a run already ({', '.join(found)}): name another folder, or replace "
            "the run by overwrite=True (--overwrite)."
        )
    return path


def _take_away(folder: Path) -> None:
    """Takes away what a run has left in a folder, and nothing else."""
    for name in FILES:
        (folder / name).unlink(missing_ok=True)
    for events in folder.glob(f"{LOG}/*/events.out.tfevents.*"):
        events.unlink()
    for emptied in (*folder.glob(f"{LOG}/*"), folder / LOG, folder):
        with contextlib.suppress(OSError):  # it is not empty, or not there
            emptied.rmdir()


class Checkpoints(keras.callbacks.Callback):
    """Keeps `last.keras` and `best.keras` in a folder; neither is ever half-written.

    Args:
        folder: An existing folder.
        monitor: The metric that decides what is best, the larger the better. Without it in the
            logs, the last epoch is the best.
        facts: What a checkpoint shall know of its run; `read_facts` reads it again, wherever
            the file has been moved.
    """

    def __init__(
        self, folder: Path, monitor: str = "val_accuracy", facts: dict[str, Any] | None = None
    ) -> None:
        super().__init__()
        self.folder, self.monitor, self.facts = folder, monitor, facts or {}
        self.best_epoch = 0
        self._best = -math.inf

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        logs = logs or {}
        if not math.isfinite(logs.get("loss", 0.0)):
            return  # such a network is of no use to anybody
        self.save("last.keras")
        value = logs.get(self.monitor, math.inf)
        if value > self._best or self.monitor not in logs:
            self._best, self.best_epoch = value, epoch + 1
            self.save("best.keras")

    def save(self, name: str) -> None:
        """Saves the model beside its place, then moves it there in one step."""
        scratch = self.folder / f".writing-{name}"
        try:
            self.model.save(scratch)
            with zipfile.ZipFile(scratch, "a") as archive:
                archive.writestr(FACTS, json.dumps(self.facts))
            os.replace(scratch, self.folder / name)
        finally:
            scratch.unlink(missing_ok=True)


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
    verbose: int = 1,
) -> dict[str, Any]:
    """Trains a model and leaves its files in a folder.

    The files are `last.keras` and `best.keras` (the best on the validation split, or the last if
    there is none), `history.csv`, `tensorboard/` and `summary.json`, all of them up to date after
    each epoch. An interruption from the keyboard leaves the model as it is at that moment in
    `last.keras`. A run that is replaced is taken away when training starts, not before. In the end
    the model has the weights of `best.keras`.

    Args:
        model: A model with one output for each class of the data.
        data: The data; its test split, if any, is used once, for the summary.
        settings: How to train.
        folder: Where to leave the files.
        facts: What else shall stand in the summary.
        overwrite: Whether a run that is already in the folder may be replaced.
        verbose: As in `keras.Model.fit`.

    Returns:
        The summary, as in `summary.json`.

    Raises:
        ValueError: If the model's outputs are fewer than the data's classes.
        OSError: If the folder cannot be written to, or holds a run.
        FloatingPointError: If the loss is not finite any more.
        KeyboardInterrupt: After an interruption, when the files are in place.
    """
    check_classes(model, data)
    folder = check_folder(folder, overwrite=overwrite)
    steps = settings.epochs * math.ceil(data.sizes["train"] / settings.batch_size)
    model.compile(settings.make_optimizer(steps), loss_for(model), metrics=["accuracy"])
    facts = {
        "classes": model.output_shape[-1],
        "classifier_activation": keras.activations.serialize(model.layers[-1].activation),
        **(facts or {}),
        "class_names": list(data.class_names),
        "image_shape": list(data.image_shape),
    }
    _take_away(folder)
    folder.mkdir(parents=True, exist_ok=True)
    checkpoints = Checkpoints(folder, facts=facts)
    start = time.perf_counter()

    def describe(**results: Any) -> dict[str, Any]:
        """Writes the summary as far as the run has come."""
        history = _read_history(folder / HISTORY)
        best = history[checkpoints.best_epoch - 1] if checkpoints.best_epoch else {}
        summary = {
            **facts,
            "data": data.name,
            "sizes": data.sizes,
            "skipped": list(data.skipped),
            "backend": keras.backend.backend(),
            "seconds": round(time.perf_counter() - start, 1),
            "epochs": len(history),
            "best_epoch": checkpoints.best_epoch,
            "best": {key: value for key, value in best.items() if key != "epoch"},
            **results,
        }
        _write_json(folder / SUMMARY, summary)
        return summary

    describe(finished=False)
    learning = True
    try:
        model.fit(
            data.train,
            validation_data=data.validation,
            epochs=settings.epochs,
            callbacks=[
                keras.callbacks.CSVLogger(folder / HISTORY),
                checkpoints,  # after the history, which then has a row for every checkpoint
                keras.callbacks.LambdaCallback(
                    on_epoch_end=lambda epoch, logs: describe(finished=False)
                ),
                keras.callbacks.TensorBoard(folder / LOG, write_graph=False),
                keras.callbacks.TerminateOnNaN(),
            ],
            shuffle=False,  # the data is shuffled already, image by image
            verbose=verbose,
        )
        learning = False
        _refuse_divergence(folder, settings, checkpoints)
        results: dict[str, Any] = {}
        model.load_weights(folder / "best.keras")
        if data.test is not None:
            test = model.evaluate(data.test, return_dict=True, verbose=0)
            results = {"test": {**test, "error_percent": round(100 * (1 - test["accuracy"]), 3)}}
        return describe(finished=True, **results)
    except KeyboardInterrupt:
        if learning:
            checkpoints.save("last.keras")
        describe(finished=False, interrupted=True)
        raise


def _refuse_divergence(folder: Path, settings: Recipe, checkpoints: Checkpoints) -> None:
    history = _read_history(folder / HISTORY)
    if history and math.isfinite(history[-1]["loss"]):
        return
    if not checkpoints.best_epoch:
        _take_away(folder)
    best = f"{folder / 'best.keras'} is from epoch {checkpoints.best_epoch}."
    raise FloatingPointError(
        f"The loss is not finite any more in epoch {len(history)}: lower the learning rate "
        f"(now {settings.learning_rate:g}). "
        + (best if checkpoints.best_epoch else "No network was saved.")
    )


def check_classes(model: Any, data: ImageData) -> None:
    """Refuses data with labels that the model has no output for."""
    outputs, classes = model.output_shape[-1], len(data.class_names)
    if outputs < classes:
        raise ValueError(
            f"The labels go up to {classes - 1} ({classes} classes in {data.name}), but the model "
            f"has {outputs} outputs: build it with classes={classes}."
        )


def _read_history(path: Path) -> list[dict[str, float]]:
    if not path.exists():
        return []
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    # Keras writes "NA" in the columns of a validation that there was not.
    return [{key: float(value) for key, value in row.items() if value != "NA"} for row in rows]


def _write_json(path: Path, content: dict[str, Any]) -> None:
    scratch = path.with_name(f".writing-{path.name}")
    try:
        scratch.write_text(json.dumps(content, indent=2) + "\n")
        os.replace(scratch, path)
    finally:
        scratch.unlink(missing_ok=True)
