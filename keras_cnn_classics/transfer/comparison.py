"""The methods side by side, measured on the same data."""

from __future__ import annotations

import contextlib
import inspect
import json
import os
import shutil
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_cnn_classics._files import reading, write_json, written
from keras_cnn_classics.data.batches.recorded import batches_of
from keras_cnn_classics.data.position import Positions
from keras_cnn_classics.training._arguments import check_number
from keras_cnn_classics.training._callback import Callback
from keras_cnn_classics.training._layers import as_array
from keras_cnn_classics.training._random import get_random, set_random
from keras_cnn_classics.training.finite_loss import FiniteLoss
from keras_cnn_classics.training.optimizers import scaled
from keras_cnn_classics.training.training_state import TrainingState
from keras_cnn_classics.transfer import heads
from keras_cnn_classics.transfer.feature_extraction import FeatureExtraction
from keras_cnn_classics.transfer.fine_tuning import DuplicateAndFineTune, FineTuning
from keras_cnn_classics.transfer.joint_training import JointTraining
from keras_cnn_classics.transfer.learner import check_data
from keras_cnn_classics.transfer.learning_without_forgetting import LearningWithoutForgetting
from keras_cnn_classics.transfer.metrics import accuracies
from keras_cnn_classics.transfer.responses import key_of, key_of_data, outputs
from keras_cnn_classics.transfer.table import OLD_NETWORK, Comparison, Row

MODEL, SETTINGS, STATE = "model.keras", "settings.json", "state"
_NEW = "new"
_MEASURED = (
    *("method", "seed", "old_accuracy", "new_accuracy"),
    *("seconds_per_epoch", "seconds", "prediction_ms", "parameters"),
)
_WARM, _TIMED = 3, 11  # batches whose prediction is not timed, and is


@dataclass(frozen=True)
class Method:
    """A method of the table.

    Attributes:
        kind: Its class.
        rate: Factor on the learning rate.
        options: Arguments of the class that belong to it.
        old_data: Whether it learns from data of the old task.
    """

    kind: Any
    rate: float = 1.0
    options: Mapping[str, Any] = field(default_factory=dict)
    old_data: bool = False


METHODS = {
    # Features that are found in a file would hide from later seeds what they cost.
    "feature_extraction": Method(FeatureExtraction, rate=5.0, options={"cache": None}),
    "fine_tuning": Method(FineTuning),
    "fine_tuning_without_warmup": Method(FineTuning, options={"warmup_epochs": 0}),
    "duplicate_and_fine_tune": Method(DuplicateAndFineTune),
    "joint_training": Method(JointTraining, old_data=True),
    "learning_without_forgetting": Method(LearningWithoutForgetting),
}


def compare(
    model: Any,
    old_data: Any,
    new_data: Any,
    methods: str | Sequence[str] = "all",
    seeds: int | Sequence[int] = 3,
    *,
    epochs: int = 25,
    warmup_epochs: int = 5,
    optimizer: Any = None,
    decay: float = 5e-4,
    batch_size: int = 32,
    options: Mapping[str, Mapping[str, Any]] | None = None,
    folder: str | os.PathLike[str] | None = None,
    verbose: int = 1,
) -> Comparison:
    """Teaches a model a new task by each of the methods, and measures what it gives and costs.

    All methods have the same epochs, warm-up, optimizer and weight decay, but that feature
    extraction has 5 times the learning rate, as in the paper. The test images are used in the end
    only. Distillation is not among the methods: it makes another network for the same task.

    In a folder, each training that is finished is kept, with the network of the first seed, and one
    that was interrupted goes on from its last epoch: the same call again does what is left. More
    methods and seeds may be asked for there, with all else the same; methods that are finished
    there, with these seeds and settings, come along in the table.

    Python's, NumPy's and Keras's random states are set for each training by its seed.

    Args:
        model: A trained Functional or Sequential model of one task.
        old_data: Its task's data, `((x, y), (x_test, y_test))` or what `data.load` gives. With
            `None` for the training data, or for all of it, there is no joint training, or no
            accuracy of the old task either. Labels are integers or one-hot.
        new_data: The new task's data, of the same forms.
        methods: Names of `METHODS`; `"all"` for all that there are data for.
        seeds: How many seeds, from 0 on, or which. They decide the new head's weights, dropout and
            the order of the images.
        epochs: Passes through the new task's images in all.
        warmup_epochs: How many of them are for the new head alone, where a method warms up.
        optimizer: The pattern for all optimizers. Defaults to SGD at `1e-3`, with a momentum of
            0.9.
        decay: Coupled weight decay of kernels; see `training.add_l2`.
        batch_size: Images in a step, for arrays.
        options: For methods by name, arguments of their classes, and beside them `epochs`,
            `batch_size` and `rate`, a factor on the learning rate.
        folder: Where to keep what is done: `METHOD/seed-N.json` and `METHOD/model.keras`.
        verbose: 0 for no progress bars. There are none either where nobody sees them.

    Returns:
        The table.

    Raises:
        ValueError: If an argument is wrong, data do not fit the model, or the folder was begun
            with other settings.
        OSError: If the folder cannot be written to.
        FloatingPointError: If a loss is not finite any more.
        KeyboardInterrupt: After Ctrl-C; with a folder, the same call goes on.

    Example:
        table = transfer.compare(model, old_data, new_data, ["fine_tuning"], folder="runs/compare")
        rich.print(table)

    References:
        - [Li and Hoiem, 2016](https://arxiv.org/abs/1606.09282), sections 3 and 4: figure 2 is the
          table
    """
    check_number("decay", decay, 0)
    source = heads.functional(model)
    answers = heads.outputs_of(source, "old")
    if len(answers) != 1:
        raise ValueError(
            "The model must have one task: of a model of several take keras.Model(model.input, "
            f"model.output[task]). Received: {list(answers)}"
        )
    (old_task, output), *_ = answers.items()
    old, new = _data("old_data", old_data), _data("new_data", new_data)
    if new is None or new.train is None:
        raise ValueError(f"`new_data` must have images to learn from. Received: {new_data!r}")
    _check(source, output, old, new)
    chosen = _chosen(methods, old)
    if not isinstance(seeds, Sequence):
        check_number("seeds", seeds, 1, whole=True)
    listed = list(seeds if isinstance(seeds, Sequence) else range(seeds))
    for seed in listed:
        check_number("seeds", seed, 0, below=2**32, whole=True)
    if not listed or len(set(listed)) != len(listed):
        raise ValueError(f"`seeds` must be a number above 0, or different seeds. Received: {seeds}")
    pattern = keras.optimizers.get(optimizer or keras.optimizers.SGD(1e-3, momentum=0.9))
    common = {
        "epochs": epochs,
        "batch_size": batch_size,
        "warmup_epochs": warmup_epochs,
        "decay": decay,
    }
    given = dict(options or {})
    if set(given) - set(METHODS) or not all(isinstance(one, Mapping) for one in given.values()):
        raise ValueError(
            f"`options` must have dicts of arguments for some of {list(METHODS)}. Received: {given}"
        )
    planned = {name: _settings(name, common, given.get(name, {})) for name in chosen}
    for settings in planned.values():
        heads.find_head(output, settings["head"])
    kept = None if folder is None else Path(folder)
    if kept is not None:
        begun = {
            "model": key_of(source),
            "old_data": old and old.key,
            "new_data": new.key,
            "optimizer": type(pattern).__name__,
            "backend": keras.backend.backend(),
            # Keras counts the names up.
            **{f"optimizer.{a}": v for a, v in pattern.get_config().items() if a != "name"},
        }
        _begin(kept, begun | _flat(planned))
        # What the folder has of other methods belongs to its table.
        for name in METHODS:
            if name not in planned and all(_done(kept / name, seed) for seed in listed):
                settings = _settings(name, common, given.get(name, {}))
                if not _others(kept, _flat({name: settings})):
                    planned[name] = settings

    rows = [_old_row(keras.Model(source.input, answers), old_task, old, new, batch_size)]
    random = get_random()
    epochs_in_all = len(listed) * sum(settings["epochs"] for settings in planned.values())
    try:
        with _progress(epochs_in_all, verbose) as show:
            for name, settings in planned.items():
                runs = []
                for seed in listed:
                    place = None if kept is None else kept / name
                    show(f"{name.replace('_', ' ')}, seed {seed}")
                    run = _done(place, seed)
                    if run is None:
                        run = _run(
                            name, settings, seed, source, old_task, old, new, pattern, place, show
                        )
                    show(done=settings["epochs"])
                    runs.append(run)
                rows.append(_row(name, runs))
    finally:
        set_random(random)
    return Comparison(tuple(rows))


# -- Data ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Data:
    """A task's data: pairs of images and labels, or of a data set and `None`.

    Attributes:
        train: What to learn from, if there is something.
        test: What to measure on.
        classes: How many.
        key: What it is known by.
        place: Its `position`, if it has one.
    """

    train: tuple[Any, Any] | None
    test: tuple[Any, Any]
    classes: int
    key: Any
    place: Any = None


def _data(name: str, given: Any) -> _Data | None:
    if given is None:
        return None
    if hasattr(given, "position"):  # what `data.load` gives
        if given.test is None:
            raise ValueError(f"`{name}` must have a test split. Received: none in {given.name}")
        classes, key = len(given.class_names), key_of_data(given)
        return _Data((given.train, None), (given.test, None), classes, key, given.position)
    pairs = list(given) if isinstance(given, (tuple, list)) else []
    if len(pairs) != 2 or not all(p is None or _is_pair(p) for p in pairs) or pairs[1] is None:
        raise ValueError(
            f"`{name}` must be ((x, y), (x_test, y_test)) of arrays, or what data.load gives. "
            f"Received: {type(given).__name__}"
        )
    train, test = (
        None if pair is None else (as_array(pair[0]), as_array(pair[1])) for pair in pairs
    )
    classes = 0
    for _, labels in (pair for pair in (train, test) if pair is not None):
        if labels.dtype.kind not in "biuf" or not np.isfinite(labels).all():
            raise ValueError(f"The labels of `{name}` must be numbers. Received: {labels[:3]}")
        if len(labels):
            one_hot = labels.ndim > 1 and labels.shape[-1] > 1
            classes = max(classes, labels.shape[-1] if one_hot else int(labels.max()) + 1)
    assert test is not None
    return _Data(train, test, classes, key_of_data([train, test]))


def _is_pair(pair: Any) -> bool:
    return (
        isinstance(pair, (tuple, list))
        and len(pair) == 2
        and all(hasattr(part, "shape") for part in pair)
    )


def _check(source: Any, output: Any, old: _Data | None, new: _Data) -> None:
    """Refuses data that do not fit, before any time is spent."""
    if new.classes < 2:
        raise ValueError(
            "`new_data` must have images and labels of two classes at least, from 0 on. Received: "
            f"{new.classes} classes"
        )
    head = keras.layers.Dense(new.classes)(output)  # as many answers as there will be
    network = keras.Model(source.input, {"old": output, _NEW: head})
    for task, data in (("old", old), (_NEW, new)):
        for part in (data.train, data.test) if data else ():
            if part is not None:
                check_data(*part, network, task)


def _chosen(methods: str | Sequence[str], old: _Data | None) -> list[str]:
    """The names of the methods that are asked for."""
    can_rehearse = old is not None and old.train is not None
    if methods == "all":
        return [name for name, method in METHODS.items() if can_rehearse or not method.old_data]
    found = [methods] if isinstance(methods, str) else list(methods or ())
    if "distillation" in found:
        raise ValueError(
            "Distillation makes another network for the old task, and learns no new one: take "
            "transfer.Distillation for it."
        )
    if not found or set(found) - set(METHODS) or len(set(found)) != len(found):
        raise ValueError(
            f"`methods` must be 'all' or some of {list(METHODS)}. Received: {methods!r}"
        )
    for name in found:
        if METHODS[name].old_data and not can_rehearse:
            raise ValueError(
                f"{name} needs `old_data` to train on. Give it, or leave the method out."
            )
    return found


# -- Settings --------------------------------------------------------------------------------------


def _settings(name: str, common: dict[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """All settings of a method: arguments of its class, `epochs`, `batch_size` and `rate`."""
    method = METHODS[name]
    # Of a class itself, some versions of Python give the signature of Keras's `__new__`.
    own = {
        key: one.default
        for key, one in inspect.signature(method.kind.__init__).parameters.items()
        # The share of right labels, of several, would be no accuracy to compare with.
        if key not in ("self", "model", "classes", "task", "old_task", "name", "multi_label")
    }
    own |= {"rate": method.rate, "epochs": None, "batch_size": None}
    if unknown := set(given) - set(own):
        raise ValueError(
            f"`options` of {name} must be of {sorted(own)}. Received: {sorted(unknown)}"
        )
    shared = {key: value for key, value in common.items() if key in own}
    settings = {**own, **shared, **method.options, **given}
    check_number("epochs", settings["epochs"], 1, whole=True)
    check_number("batch_size", settings["batch_size"], 1, whole=True)
    check_number("rate", settings["rate"], above=0)
    if settings["epochs"] <= (warmup := settings.get("warmup_epochs", 0)):
        raise ValueError(
            f"{name} would end in its warm-up: `epochs` must be more than `warmup_epochs`. "
            f"Received: {settings['epochs']} and {warmup}"
        )
    return settings


def _begin(folder: Path, settings: dict[str, Any]) -> None:
    """Writes down how a folder was begun, or refuses other settings than those it has."""
    begun = _begun(folder)
    if not begun and any(folder.glob("*/seed-*.json")):
        raise ValueError(
            f"{folder} has finished trainings, but no {SETTINGS} that says of what: name another "
            "folder."
        )
    if other := _others(folder, settings):
        said = "; ".join(f"{key}: {there} there, {here} here" for key, there, here in other)
        raise ValueError(
            f"The comparison in {folder} was begun with other settings ({said}). Give the same "
            "again, or another folder."
        )
    write_json(folder / SETTINGS, {**begun, **_plain(settings)})


def _others(folder: Path, settings: dict[str, Any]) -> list[tuple[str, Any, Any]]:
    """The settings that are others in a folder: name, value there and value here."""
    begun, now = _begun(folder), _plain(settings)
    return [(key, begun[key], now[key]) for key in now if key in begun and begun[key] != now[key]]


def _begun(folder: Path) -> dict[str, Any]:
    path = folder / SETTINGS
    try:
        with reading(path, "name another folder."):
            return dict(json.loads(path.read_text()))
    except FileNotFoundError:
        return {}


def _plain(settings: dict[str, Any]) -> dict[str, Any]:
    """Settings as they are read from a file."""
    return dict(json.loads(json.dumps(settings, default=str)))


def _flat(planned: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    return {f"{name}.{key}": v for name, one in planned.items() for key, v in one.items()}


def clear(folder: Path) -> None:
    """Takes away what `compare` has left in a folder, and nothing else."""
    for name in METHODS:
        for left in (*(folder / name).glob("seed-*.json"), folder / name / MODEL):
            left.unlink(missing_ok=True)
        for state in (folder / name).glob(f"{STATE}-*"):
            shutil.rmtree(state)
        with contextlib.suppress(OSError):  # it is not empty, or not there
            (folder / name).rmdir()
    (folder / SETTINGS).unlink(missing_ok=True)


# -- Measuring -------------------------------------------------------------------------------------


class _Watch(Callback):
    """Takes the time of each epoch and of all, and shows how far it is."""

    def __init__(self, show: Callable[..., None]) -> None:
        super().__init__()
        self.show = show
        self.epochs: dict[int, float] = {}
        self._before, self._start = 0.0, time.perf_counter()
        self._epoch, self._began = 0, 0.0

    @property
    def seconds(self) -> float:
        return self._before + time.perf_counter() - self._start

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        self._epoch, self._began = epoch, time.perf_counter()

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        self.show(at=self._epoch + (batch + 1) / (self.params.get("steps") or batch + 1))

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        self.epochs[epoch] = time.perf_counter() - self._began

    def get_state(self) -> dict[str, Any]:
        return {"epochs": [list(pair) for pair in self.epochs.items()], "seconds": self.seconds}

    def set_state(self, state: dict[str, Any]) -> None:
        self.epochs = {int(epoch): seconds for epoch, seconds in state["epochs"]}
        self._before, self._start = state["seconds"], time.perf_counter()

    def seconds_per_epoch(self, start: int) -> float:
        """The median from an epoch on, without the first, in which Keras makes its functions."""
        found = [self.epochs[epoch] for epoch in sorted(self.epochs) if epoch >= start]
        return statistics.median(found[1:] or found or self.epochs.values())


def _done(place: Path | None, seed: int) -> dict[str, Any] | None:
    """What was measured of a training that is finished, if its network is still there, too."""
    if place is None or not (place / MODEL).exists():
        return None
    path = place / f"seed-{seed}.json"
    try:
        with reading(path, "delete it, and it is measured again."):
            found = json.loads(path.read_text())
            return {key: found[key] for key in _MEASURED}
    except FileNotFoundError:
        return None


def _run(
    name: str,
    settings: dict[str, Any],
    seed: int,
    model: Any,
    old_task: str,
    old: _Data | None,
    new: _Data,
    pattern: Any,
    place: Path | None,
    show: Callable[..., None],
) -> dict[str, Any]:
    """Trains once, and measures."""
    assert new.train is not None
    settings = dict(settings)
    epochs, rate, size = (settings.pop(key) for key in ("epochs", "rate", "batch_size"))
    method = METHODS[name]
    keras.utils.set_random_seed(seed)
    learner = method.kind(model, new.classes, _NEW, old_task=old_task, **settings)
    learner.compile(scaled(pattern, rate))
    sources = [new, old] if method.old_data and old is not None else [new]
    places = [one.place for one in sources if one.place is not None]
    # Each seed has epochs, and so an order, of its own.
    position = Positions(places, seed * epochs) if places else None
    if position is not None:
        position.seek(0)
    # Data sets come shuffled; features are arrays again.
    from_set = {"shuffle": method.kind is FeatureExtraction}
    arguments: dict[str, Any] = from_set if new.train[1] is None else {"batch_size": size}
    if method.old_data and old is not None and old.train is not None:
        images, labels = old.train
        arguments["old_data"] = images if labels is None else (images, labels)
    watch = _Watch(show)
    callbacks: list[Any] = [FiniteLoss(), watch]
    if place is not None:
        callbacks.append(TrainingState(place / f"{STATE}-{seed}", position))
    learner.fit(*new.train, epochs=epochs, callbacks=callbacks, verbose=0, **arguments)
    seconds = watch.seconds
    network = learner.export_model()
    run = {
        "method": name,
        "seed": seed,
        "old_accuracy": _accuracy(network, old_task, old),
        "new_accuracy": _accuracy(network, _NEW, new),
        "seconds_per_epoch": watch.seconds_per_epoch(learner.stages()[-1].start),
        "seconds": seconds,
        "prediction_ms": _prediction_ms(network, new.test, size),
        "parameters": network.count_params(),
    }
    if place is not None:
        if not (place / MODEL).exists():
            with written(place / MODEL) as scratch:
                network.save(scratch)
        write_json(place / f"seed-{seed}.json", run)
        shutil.rmtree(place / f"{STATE}-{seed}")
    return run


def _accuracy(network: Any, task: str, data: _Data | None) -> float | None:
    if data is None:
        return None
    images, labels = data.test
    return accuracies(network, {task: images if labels is None else (images, labels)})[task]


def _prediction_ms(network: Any, data: tuple[Any, Any], size: int) -> float:
    images = next(iter(batches_of(*data, size)))[0]
    times = []
    for _ in range(_WARM + _TIMED):
        start = time.perf_counter()
        outputs(network, images)
        times.append(time.perf_counter() - start)
    return 1000 * statistics.median(times[_WARM:]) / len(images)


def _old_row(network: Any, task: str, old: _Data | None, new: _Data, size: int) -> Row:
    return Row(
        method=OLD_NETWORK,
        old_accuracy=_accuracy(network, task, old),
        old_spread=None,
        new_accuracy=None,
        new_spread=None,
        seconds_per_epoch=None,
        seconds=None,
        prediction_ms=_prediction_ms(network, new.test, size),
        parameters=network.count_params(),
        old_data=False,
        seeds=0,
    )


def _row(name: str, runs: Sequence[Mapping[str, Any]]) -> Row:
    def mean(key: str) -> Any:
        found = [run[key] for run in runs]
        return None if None in found else statistics.fmean(found)

    def spread(key: str) -> Any:
        found = [run[key] for run in runs]
        return None if None in found or len(found) < 2 else statistics.stdev(found)

    return Row(
        method=name,
        old_accuracy=mean("old_accuracy"),
        old_spread=spread("old_accuracy"),
        new_accuracy=mean("new_accuracy"),
        new_spread=spread("new_accuracy"),
        seconds_per_epoch=mean("seconds_per_epoch"),
        seconds=mean("seconds"),
        prediction_ms=statistics.median(run["prediction_ms"] for run in runs),
        parameters=runs[0]["parameters"],
        old_data=METHODS[name].old_data,
        seeds=len(runs),
    )


# -- Showing ---------------------------------------------------------------------------------------


@contextlib.contextmanager
def _progress(total: int, verbose: int) -> Iterator[Callable[..., None]]:
    """A bar over all epochs; gives a function that moves it.

    Its arguments are what is done now, the epochs `at` which it is, and those that are `done`.
    """
    from rich.console import Console
    from rich.progress import Progress, TextColumn, TimeElapsedColumn

    console = Console()
    bar = Progress(
        *Progress.get_default_columns(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[now]}"),
        console=console,
        disable=not verbose or not console.is_terminal,
    )
    with bar:
        task = bar.add_task("epochs", total=total, now="")
        before = 0.0

        def show(now: str | None = None, at: float = 0.0, done: float = 0.0) -> None:
            nonlocal before
            before += done
            shown: dict[str, Any] = {} if now is None else {"now": now}
            bar.update(task, completed=before + at, **shown)

        yield show
