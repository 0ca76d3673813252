"""What a network forgets of old tasks when it learns new ones, on small networks and real images.

    python benchmarks/forgetting.py cifar10 --data-dir FOLDER
    python benchmarks/forgetting.py sequence --data-dir FOLDER

- `cifar10`: the old task is {airplane, bird, cat, horse, ship} with 1,500 images a class, the new
  one {automobile, deer, dog, frog, truck} with 400. A network of three convolutions and a hidden
  dense layer, without batch normalization, is trained anew for each seed and taught by all methods,
  or by those named. Demanded is the order of the paper's tables 1 and 2b; the status is 1 if the
  means of the seeds differ. With `--output` the networks and what is measured are kept, and the
  same command goes on there.
- `sequence`: five tasks of two digits of MNIST each, 400 images a class, one after another, by
  fine-tuning and by Learning without Forgetting; after each the accuracy on all of them so far.
  For forward transfer, each task has a head on the frozen features before it is learned, and one
  on those of a network that has learned nothing.

The rates are those of the study that this repeats: a tenth of the old training's. Both are divided
by 10 after three quarters of the epochs in which all layers learn, or of all epochs without a
warm-up; an epoch of joint training has as many images of either task. Spreads are standard
deviations over the seeds.
"""

from __future__ import annotations

import argparse
import logging
import os
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
from keras import layers

from keras_cnn_classics import data, transfer
from keras_cnn_classics.transfer.comparison import METHODS

BATCH = 64
TASKS = 5  # of the sequence
WITHOUT_WARMUP = ("feature_extraction", "fine_tuning_without_warmup")
OLD = ("airplane", "bird", "cat", "horse", "ship")
NEW = ("automobile", "deer", "dog", "frog", "truck")
# The first task has more points than the second one at least, or at most: (task, methods, points).
AT_LEAST = (
    ("old", "learning_without_forgetting", "fine_tuning", 1.0),
    ("old", "fine_tuning", "fine_tuning_without_warmup", 1.0),
    ("new", "learning_without_forgetting", "feature_extraction", 5.0),
    ("new", "learning_without_forgetting", "fine_tuning", -2.0),
    ("new", "fine_tuning", "learning_without_forgetting", -2.0),
)
Pair = tuple[np.ndarray, np.ndarray]


def images_of(name: str, only: Sequence[Any], count: int | None, **how: Any) -> tuple[Pair, Pair]:
    """Some images of each class for training, all for the test, with labels from 0 on."""
    found = data.load(
        name, only=only, validation=0, preprocess=lambda x: (x / 255 - 0.45) / 0.25, **how
    )
    parts = []
    for batches in (found.train, found.test):
        x, y = (np.concatenate(all_) for all_ in zip(*batches.as_numpy_iterator(), strict=True))
        parts.append((x, y))
    x, y = parts[0]
    chosen = np.concatenate([np.flatnonzero(y == one)[:count] for one in range(len(only))])
    return (x[chosen], y[chosen]), parts[1]


def network(shape: tuple[int, ...], filters: Sequence[int], classes: int) -> keras.Model:
    """Convolutions of 3x3, each with a max pool, and a dense layer of 128 with dropout."""
    x = inputs = keras.Input(shape)
    for width in filters:
        x = layers.Conv2D(width, 3, padding="same", activation="relu")(x)
        x = layers.MaxPooling2D(2)(x)
    x = layers.Dense(128, activation="relu", name="hidden")(layers.Flatten()(x))
    x = layers.Dropout(0.5)(x)
    return keras.Model(inputs, layers.Dense(classes, "softmax", name="predictions")(x))


def rate(start: float, steps: int) -> Any:
    """A rate that is divided by 10 after three quarters of the steps."""
    return keras.optimizers.schedules.PiecewiseConstantDecay([steps * 3 // 4], [start, start / 10])


def steps_of(method: str, images: int, epochs: int, warmup: int) -> int:
    """The steps of a method in its last stage, for which the schedule is."""
    tasks = 2 if METHODS[method].old_data else 1  # each batch is of one
    return tasks * -(-images // BATCH) * (epochs - (0 if method in WITHOUT_WARMUP else warmup))


def trained(model: keras.Model, pair: Pair, start: float, epochs: int) -> keras.Model:
    """The model after a training from scratch."""
    schedule = rate(start, epochs * -(-len(pair[0]) // BATCH))
    optimizer = keras.optimizers.SGD(schedule, momentum=0.9)
    model.compile(optimizer, "sparse_categorical_crossentropy")
    model.fit(*pair, batch_size=BATCH, epochs=epochs, verbose=0)
    return model


def spread(values: Sequence[float]) -> str:
    """Mean and standard deviation."""
    deviation = f" ± {statistics.stdev(values):.2f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.2f}{deviation}"


def demanded(found: dict[tuple[str, str], list[float]]) -> bool:
    """Prints the differences that are demanded, by seed; says whether their means are as large."""
    right = True
    for task, one, other, points in AT_LEAST:
        if (task, one) not in found or (task, other) not in found:
            continue
        pairs = zip(found[task, one], found[task, other], strict=True)
        more = [first - second for first, second in pairs]
        right &= statistics.mean(more) >= points
        seeds = ", ".join(f"{x:+.2f}" for x in more)
        print(f"{task}: {one} - {other} = {spread(more)} ({seeds}; at least {points:+g})")
    return right


def cifar10(arguments: argparse.Namespace) -> bool:
    """The order of the methods; says whether it is as demanded."""
    how = {"data_dir": arguments.data_dir, "batch_size": 500}
    old = images_of("cifar10", OLD, 1500, **how)
    new = images_of("cifar10", NEW, 400, **how)
    start, epochs, warmup = 0.02, 30, 10
    found: dict[tuple[str, str], list[float]] = {}
    for seed in arguments.seeds:
        kept = None if arguments.output is None else arguments.output / f"seed-{seed}"
        if kept is not None and (kept / "old.keras").exists():
            model = keras.saving.load_model(kept / "old.keras", compile=False)
        else:
            keras.utils.set_random_seed(seed)
            model = trained(network(old[0][0].shape[1:], (32, 64, 96), 5), old[0], start, 15)
            if kept is not None:
                kept.mkdir(parents=True, exist_ok=True)
                model.save(kept / "old.keras")
        for i, name in enumerate(arguments.methods):
            schedule = rate(start / 10, steps_of(name, len(new[0][0]), epochs, warmup))
            table = transfer.compare(
                model,
                old,
                new,
                [name],
                [seed],
                epochs=epochs,
                warmup_epochs=warmup,
                optimizer=keras.optimizers.SGD(schedule, momentum=0.9),
                batch_size=BATCH,
                folder=kept and kept / name,
                verbose=0,
            )
            before, row = table.rows
            if not i:
                found.setdefault(("old", before.method), []).append(100 * before.old_accuracy)
            found.setdefault(("old", name), []).append(100 * row.old_accuracy)
            found.setdefault(("new", name), []).append(100 * row.new_accuracy)
            print(f"seed {seed}, {name}: {found['new', name][-1]:.2f} % of the new task, ", end="")
            print(
                f"{found['old', name][-1]:.2f} of {100 * before.old_accuracy:.2f} % of the old one",
                flush=True,
            )
    print("| method | new task, % | old task, % |\n| --- | ---: | ---: |")
    for name in dict.fromkeys(name for _, name in found):
        after = spread(found["new", name]) if ("new", name) in found else "-"
        print(f"| {name.replace('_', ' ')} | {after} | {spread(found['old', name])} |")
    return demanded(found)


def by_features(model: keras.Model, name: str, task: str, train: Pair, test: Pair) -> float:
    """The accuracy on a task of a head of its own on what a network has learned so far."""
    learner = transfer.FeatureExtraction(model, 2, task, old_task=name, cache=None)
    learner.compile(keras.optimizers.SGD(0.05, momentum=0.9))
    learner.fit(*train, batch_size=BATCH, epochs=15, verbose=0)
    return transfer.accuracies(learner, {task: test})[task]


def sequence(arguments: argparse.Namespace) -> bool:
    """Tasks of two digits one after another."""
    how = {"data_dir": arguments.data_dir, "batch_size": 500}
    tasks = {
        f"digits_{i}_{i + 1}": images_of("mnist", range(i, i + 2), 400, **how)
        for i in range(0, 2 * TASKS, 2)
    }
    first, *later = tasks
    methods = (transfer.FineTuning, transfer.LearningWithoutForgetting)
    found: dict[str, list[tuple[float, ...]]] = {kind.__name__: [] for kind in methods}
    for seed in arguments.seeds:
        keras.utils.set_random_seed(seed)
        shape = tasks[first][0][0].shape[1:]
        origin = network(shape, (16, 32), 2)
        untrained = {one: by_features(origin, first, one, *tasks[one]) for one in later}
        keras.utils.set_random_seed(seed)
        origin = trained(network(shape, (16, 32), 2), tasks[first][0], 0.05, 6)
        for kind in methods:
            model, matrix = origin, transfer.TransferMatrix(list(tasks))
            ahead = transfer.TransferMatrix(list(tasks))  # of heads on frozen features
            matrix.learned(first, transfer.accuracies(model, {first: tasks[first][1]}))
            for i, task in enumerate(later, 1):
                keras.utils.set_random_seed(seed)
                ahead.learned(
                    list(tasks)[i - 1], {task: by_features(model, first, task, *tasks[task])}
                )
                keras.utils.set_random_seed(seed)
                learner = kind(model, 2, task, old_task=first, warmup_epochs=5, decay=5e-4)
                learner.compile(keras.optimizers.SGD(0.01, momentum=0.9))
                learner.fit(*tasks[task][0], batch_size=BATCH, epochs=15, verbose=0)
                model = learner.export_model()
                tests = {one: tasks[one][1] for one in list(tasks)[: i + 1]}
                matrix.learned(task, transfer.accuracies(model, tests))
            rows = "\n".join(" ".join(f"{100 * x:6.2f}" for x in row) for row in matrix.values)
            print(f"seed {seed}, {kind.__name__}\n{rows}", flush=True)
            found[kind.__name__].append(
                (
                    100 * matrix.average_accuracy(),
                    100 * matrix.forgetting(),
                    100 * matrix.backward_transfer(),
                    100 * ahead.forward_transfer(untrained),
                )
            )
    print("| method | right in the end, % | forgotten | backward | forward |")
    print("| --- | ---: | ---: | ---: | ---: |")
    for name, runs in found.items():
        cells = " | ".join(spread(column) for column in zip(*runs, strict=True))
        print(f"| {name} | {cells} |")
    right, forgotten = (
        [f"{lwf[i] - ft[i]:+.2f}" for ft, lwf in zip(*found.values(), strict=True)] for i in (0, 1)
    )
    print(f"LearningWithoutForgetting - FineTuning, by seed: right {', '.join(right)}, ", end="")
    print(f"forgotten {', '.join(forgotten)}")
    return True


def main() -> None:
    logging.disable(logging.WARNING)
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("experiment", choices=("cifar10", "sequence"))
    parser.add_argument("--data-dir")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--output", type=Path, help="a folder to keep what is done, for cifar10")
    arguments = parser.parse_args()
    right = {"cifar10": cifar10, "sequence": sequence}[arguments.experiment](arguments)
    sys.exit(not right)


if __name__ == "__main__":
    main()
