"""Fine-tuning in one call: a head, then the layers before it, and the best of it on disk."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_cnn_classics._files import reading, write_json
from keras_cnn_classics.training._arguments import check_number
from keras_cnn_classics.training._callback import Callback
from keras_cnn_classics.training._layers import as_array
from keras_cnn_classics.training.distribution import is_chief
from keras_cnn_classics.training.early_stopping import EarlyStopping
from keras_cnn_classics.training.finite_loss import FiniteLoss
from keras_cnn_classics.training.run import (
    HISTORY,
    STATE,
    SUMMARY,
    Checkpoints,
    Record,
    check_folder,
    summary_of,
    take_away,
    take_away_state,
)
from keras_cnn_classics.training.training_state import TrainingState
from keras_cnn_classics.transfer import responses
from keras_cnn_classics.transfer.fine_tuning import FineTuning
from keras_cnn_classics.transfer.heads import functional
from keras_cnn_classics.transfer.metrics import accuracies
from keras_cnn_classics.transfer.staged import pair_of

_HELD_OUT = 0.1  # share of an array's images


@dataclass(frozen=True)
class TwoStage:
    """What `fit_two_stage` has come to.

    Attributes:
        model: A plain Functional model with the best weights, which answers to all tasks.
        folder: Where the files are.
        history: Logs of all epochs by their names, NaN where an epoch has none; `"epoch"` are their
            numbers from 0.
        best_epoch: The epoch that the weights are of, from 1.
        before: Accuracy on each task before training, the new head's being chance.
        after: The same of `model`.
        seconds: How long training has taken.
    """

    model: keras.Model = field(repr=False)
    folder: Path
    history: dict[str, list[float]] = field(repr=False)
    best_epoch: int
    before: dict[str, float]
    after: dict[str, float]
    seconds: float


def fit_two_stage(
    model: Any,
    classes: int | None,
    data: Any,
    folder: str | os.PathLike[str],
    *,
    validation: Any = None,
    test: Any = None,
    old_data: Any = None,
    optimizer: Any = None,
    epochs: int = 20,
    batch_size: int = 32,
    patience: int | None = None,
    class_weight: Mapping[int, float] | None = None,
    callbacks: Sequence[Callback] = (),
    seed: int = 0,
    overwrite: bool = False,
    verbose: int = 1,
    **options: Any,
) -> TwoStage:
    """Trains a new head on a frozen model, then layers of the model with it at a lower rate.

    It is `FineTuning` with the callbacks that one wants beside it. In the folder are `best.keras`,
    the model as it was after the epoch with the best accuracy on the validation data, of both
    stages, or after the last one without such data; `last.keras`, `history.csv`, `summary.json`
    and, until it is finished, `state/`. None of them is ever half-written. A run that was
    interrupted goes on when the same call is made again, and one that is finished is read.

    Args:
        model: A trained Functional or Sequential model. It stays as it is.
        classes: Number of classes of the new task. `None` takes those of `data.load`.
        data: Training data: `(images, labels)`, batches of them such as a `tf.data.Dataset`, or
            what `keras_cnn_classics.data.load` gives, with its validation and test data.
        folder: Where to leave the files.
        validation: Data to choose the best epoch by. Defaults to a tenth of the images, for arrays;
            or the share of them that is given.
        test: Data for the accuracy before and after, beside `validation`. Defaults to that.
        old_data: Data of the old task for the same, or a dict of them by task.
        optimizer: Optimizer with the rate of the second stage, that of the first one being
            `warmup_rate` times as high. Defaults to Adam at 1e-4, and so 1e-3 for the head.
        epochs: Epochs of both stages; the first one has `warmup_epochs` of them.
        batch_size: Images in a batch, for arrays.
        patience: Epochs without a better validation accuracy after which a stage is ended.
        class_weight: As in `keras.Model.fit`; see `class_weights`.
        callbacks: Further callbacks of this package.
        seed: Decides the images that are held out.
        overwrite: Whether another run in the folder may be replaced.
        verbose: As in `keras.Model.fit`.
        **options: Arguments of `FineTuning`, such as `train_from`, `warmup_epochs`, `warmup_rate`,
            `multi_label` and `task`, with its defaults.

    Raises:
        ValueError: If the data do not fit, or the run in the folder was begun in another way.
        OSError: If the folder cannot be written to.
        FloatingPointError: If the loss is not finite any more.
        KeyboardInterrupt: After an interruption, when the state is in place.

    Example:
        flowers = data.load("flowers/", image_size=224, preprocess="caffe")
        result = transfer.fit_two_stage(model, None, flowers, "run", train_from="last_block")
        print(result.before, result.after)
        result.model.predict(images)["new"]
    """
    check_number("epochs", epochs, 1, whole=True)
    check_number("batch_size", batch_size, 1, whole=True)
    given = _given(data, validation, test, seed)
    learner = FineTuning(model, given.classes if classes is None else classes, **options)
    optimizer = keras.optimizers.get(optimizer or keras.optimizers.Adam(1e-4))
    learner.compile(optimizer, metrics=["accuracy"])
    learner.check_data(given.x, given.y)
    if epochs <= (start := learner.stages()[-1].start):
        raise ValueError(
            "`epochs` must be more than those before the last stage, by `warmup_epochs` and "
            f"`unfreeze_every`: {start}. Received: {epochs}"
        )
    if given.validation is not None:
        learner.check_data(*pair_of(given.validation))
    if patience is not None and given.validation is None:
        raise ValueError("`patience` looks at validation data: give `validation`, too.")
    measured = _measured(learner, given, old_data)
    facts = {
        "model": responses.key_of(functional(model)),
        "classes": classes,
        "options": options,
        "optimizer": keras.optimizers.serialize(optimizer),
        "epochs": epochs,
        "batch_size": batch_size,
        "patience": patience,
        "class_weight": class_weight,
        "seed": seed,
        "data": responses.key_of_data(given.source or (given.x, given.y)),
        "held_out": responses.key_of_data((given.validation, given.test)),
        "old_data": responses.key_of_data(old_data),
    }
    # Keras numbers what it makes in a process.
    facts = json.loads(
        json.dumps(facts, default=str),
        object_hook=lambda found: {key: value for key, value in found.items() if key != "name"},
    )
    folder = Path(folder)
    best = folder / "best.keras"
    if (folder / SUMMARY).exists() and not overwrite:
        summary = summary_of(folder, facts)
        if summary["finished"]:
            if not best.exists():
                raise FileNotFoundError(
                    f"The run in {folder} is finished, but its best.keras is gone. Begin anew in "
                    "another folder or by overwrite=True."
                )
            with reading(best, "begin anew in another folder or by overwrite=True."):
                learner.network.load_weights(best)
            return _result(learner.export_model(), folder, summary)
    else:
        check_folder(folder, overwrite=overwrite)
        summary = {**facts, "before": accuracies(learner, measured) if measured else {}}
        if is_chief():
            take_away(folder)
        folder.mkdir(parents=True, exist_ok=True)
    record = Record(folder / HISTORY)
    checkpoints = Checkpoints(folder, "val_accuracy", facts, learner.network)

    def describe(**results: Any) -> None:
        """Writes the summary as far as the run has come."""
        summary.update(
            seconds=round(record.seconds, 1),
            best_epoch=checkpoints.best_epoch,
            rows=record.rows,
            **results,
        )
        if is_chief():
            write_json(folder / SUMMARY, summary)

    if "finished" not in summary:
        describe(finished=False)
    stopping = [] if patience is None else [EarlyStopping("val_accuracy", patience=patience)]
    more: dict[str, Any] = {} if class_weight is None else {"class_weight": dict(class_weight)}
    learner.fit(
        given.x,
        given.y,
        batch_size=None if given.y is None else batch_size,
        epochs=epochs,
        validation_data=given.validation,
        callbacks=[
            FiniteLoss(),
            *stopping,
            *callbacks,
            record,
            checkpoints,  # after the record, which then has a row for every checkpoint
            TrainingState(folder / STATE, given.source),
            keras.callbacks.LambdaCallback(
                on_train_begin=lambda logs: _announce(learner) if verbose else None,
                on_epoch_end=lambda epoch, logs: describe(finished=False),
            ),
        ],
        verbose=verbose if is_chief() else 0,
        **more,
    )
    learner.network.load_weights(best)
    checkpoints.network = learner.export_model()  # in which no layer is frozen
    checkpoints.save(best.name)
    describe(finished=True, after=accuracies(learner, measured) if measured else {})
    if is_chief():
        take_away_state(folder)
    return _result(checkpoints.network, folder, summary)


@dataclass(frozen=True)
class _Given:
    """Data in the form that `fit` takes."""

    x: Any
    y: Any
    validation: Any
    test: Any
    source: Any = None  # what `data.load` gave
    classes: int | None = None


def _given(data: Any, validation: Any, test: Any, seed: int) -> _Given:
    if hasattr(data, "train"):
        if validation is not None or test is not None:
            raise ValueError(
                "Data of data.load(...) have their own validation and test data: leave "
                "`validation` and `test` out."
            )
        return _Given(data.train, None, data.validation, data.test, data, len(data.class_names))
    share = isinstance(validation, float)
    if share:
        check_number("validation", validation, above=0, below=1)
    if not isinstance(data, (tuple, list)):
        if share:
            raise ValueError(
                "A share can be held out of arrays only: give other data as `validation`. "
                f"Received: validation={validation}"
            )
        return _Given(data, None, validation, test)
    if len(data) != 2 or len(data[0]) != len(data[1]):
        raise ValueError(
            "`data` must be (images, labels), as many of each, a data set, or what data.load "
            f"gives. Received: a {type(data).__name__} of the lengths {[len(one) for one in data]}"
        )
    x, y = (as_array(one) if hasattr(one, "shape") else np.asarray(one) for one in data)
    if not (share or validation is None):
        return _Given(x, y, validation, test)
    order = np.random.default_rng(seed).permutation(len(y))
    held = max(1, round(len(y) * (validation if share else _HELD_OUT)))
    if held >= len(y):
        raise ValueError(f"There are too few images to hold some out. Received: {len(y)}")
    out, kept = np.sort(order[:held]), np.sort(order[held:])
    return _Given(x[kept], y[kept], (x[out], y[out]), test)


def _measured(learner: FineTuning, given: _Given, old_data: Any) -> dict[str, Any]:
    """The data of all tasks that accuracies are measured on."""
    new = given.validation if given.test is None else given.test
    found = {} if new is None else {learner.task: new}
    olds = learner.tasks[:-1]
    if old_data is None:
        return found
    if not isinstance(old_data, Mapping):
        old_data = {olds[0]: old_data} if olds else {"old": old_data}
    unknown = [task for task in old_data if task not in olds]
    if unknown:
        raise ValueError(f"The model's old tasks are {olds}. Received old data for: {unknown}")
    return {**old_data, **found}


def _announce(learner: FineTuning) -> None:
    weights = sum(int(np.prod(one.shape)) for one in learner.trainable_variables)
    print(f"{learner.stage.name.capitalize()}: {weights:,} weights learn.")


def _result(model: keras.Model, folder: Path, summary: dict[str, Any]) -> TwoStage:
    rows = summary["rows"]
    names = dict.fromkeys(name for row in rows for name in row)
    return TwoStage(
        model,
        folder,
        {name: [row.get(name, float("nan")) for row in rows] for name in names},
        *(summary[name] for name in ("best_epoch", "before", "after", "seconds")),
    )
