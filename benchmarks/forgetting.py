"""What a network forgets of old tasks when it learns new ones, on small networks and real images.

    python benchmarks/forgetting.py cifar10 --data-dir FOLDER
    python benchmarks/forgetting.py sequence --data-dir FOLDER

- `cifar10`: the old task is {airplane, bird, cat, horse, ship} with 1,500 images a class, the new
  one {automobile, deer, dog, frog, truck} with 400. A network of three convolutions and a hidden
  dense layer, without batch normalization, is trained anew for each seed and taught by all methods.
  Demanded is the order of the paper's table 1; the status is 1 if the means of the seeds differ.
- `sequence`: five tasks of two digits of MNIST each, 400 images a class, one after another, by
  fine-tuning and by Learning without Forgetting; after each the accuracy on all of them so far.

The rates are those of the study that this repeats: a tenth of the old training's, which itself is
divided by 10 after three quarters of the epochs.
"""

from __future__ import annotations

import argparse
import logging
import os
import statistics
import sys
from collections.abc import Sequence
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
from keras import layers

from keras_cnn_classics import data, transfer

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


def rate(start: float, images: int, epochs: int, batch: int) -> Any:
    """A rate that is divided by 10 after three quarters of the epochs."""
    steps = -(-images // batch)
    return keras.optimizers.schedules.PiecewiseConstantDecay(
        [steps * epochs * 3 // 4], [start, start / 10]
    )


def trained(model: keras.Model, pair: Pair, start: float, epochs: int) -> keras.Model:
    """The model after a training from scratch."""
    optimizer = keras.optimizers.SGD(rate(start, len(pair[0]), epochs, 64), momentum=0.9)
    model.compile(optimizer, "sparse_categorical_crossentropy")
    model.fit(*pair, batch_size=64, epochs=epochs, verbose=0)
    return model


def cifar10(arguments: argparse.Namespace) -> bool:
    """The order of the methods; says whether it is as demanded."""
    how = {"data_dir": arguments.data_dir, "batch_size": 500}
    old = images_of("cifar10", OLD, 1500, **how)
    new = images_of("cifar10", NEW, 400, **how)
    start, epochs, warmup = 0.02, 30, 10
    found: dict[tuple[str, str], list[float]] = {}
    before = []
    for seed in arguments.seeds:
        keras.utils.set_random_seed(seed)
        model = trained(network(old[0][0].shape[1:], (32, 64, 96), 5), old[0], start, 15)
        schedule = rate(start / 10, len(new[0][0]), epochs - warmup, 64)
        table = transfer.compare(
            model,
            old,
            new,
            seeds=[seed],
            epochs=epochs,
            warmup_epochs=warmup,
            optimizer=keras.optimizers.SGD(schedule, momentum=0.9),
            batch_size=64,
            verbose=0,
        )
        print(f"seed {seed}\n{table.to_markdown()}", flush=True)
        first, *rows = table.rows
        before.append(100 * first.old_accuracy)
        for row in rows:
            found.setdefault(("old", row.method), []).append(100 * row.old_accuracy)
            found.setdefault(("new", row.method), []).append(100 * row.new_accuracy)
    mean = {key: statistics.mean(values) for key, values in found.items()}
    print("| method | new task, % | old task, % |\n| --- | ---: | ---: |")
    print(f"| old network | - | {statistics.mean(before):.2f} |")
    for name in dict.fromkeys(name for _, name in found):
        print(f"| {name.replace('_', ' ')} | {mean['new', name]:.2f} | {mean['old', name]:.2f} |")
    right = True
    for task, one, other, points in AT_LEAST:
        more = mean[task, one] - mean[task, other]
        right &= more >= points
        print(f"{task}: {one} - {other} = {more:+.2f} points (demanded: at least {points:+g})")
    return right


def sequence(arguments: argparse.Namespace) -> bool:
    """Five tasks one after another."""
    names = [f"{2 * i}-{2 * i + 1}" for i in range(5)]
    how = {"data_dir": arguments.data_dir, "batch_size": 500}
    tasks = {
        f"digits_{name.replace('-', '_')}": images_of("mnist", range(2 * i, 2 * i + 2), 400, **how)
        for i, name in enumerate(names)
    }
    first, *later = tasks
    methods = (transfer.FineTuning, transfer.LearningWithoutForgetting)
    found: dict[str, list[tuple[float, float]]] = {kind.__name__: [] for kind in methods}
    for seed in arguments.seeds:
        keras.utils.set_random_seed(seed)
        shape = tasks[first][0][0].shape[1:]
        origin = trained(network(shape, (16, 32), 2), tasks[first][0], 0.05, 6)
        for kind in methods:
            model, matrix = origin, transfer.TransferMatrix(list(tasks))
            matrix.learned(first, transfer.accuracies(model, {first: tasks[first][1]}))
            for i, task in enumerate(later, 1):
                keras.utils.set_random_seed(seed)
                learner = kind(model, 2, task, old_task=first, warmup_epochs=5, decay=5e-4)
                learner.compile(keras.optimizers.SGD(0.01, momentum=0.9))
                learner.fit(*tasks[task][0], batch_size=64, epochs=15, verbose=0)
                model = learner.export_model()
                tests = {one: tasks[one][1] for one in list(tasks)[: i + 1]}
                matrix.learned(task, transfer.accuracies(model, tests))
            rows = "\n".join(" ".join(f"{100 * x:6.2f}" for x in row) for row in matrix.values)
            print(f"seed {seed}, {kind.__name__}\n{rows}", flush=True)
            found[kind.__name__].append((matrix.average_accuracy(), matrix.forgetting()))
    for name, pairs in found.items():
        accuracy, forgotten = (100 * statistics.mean(column) for column in zip(*pairs, strict=True))
        print(f"{name}: {accuracy:.2f} % right on average in the end, {forgotten:.2f} % forgotten")
    return True


def main() -> None:
    logging.disable(logging.WARNING)
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("experiment", choices=("cifar10", "sequence"))
    parser.add_argument("--data-dir")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    arguments = parser.parse_args()
    right = {"cifar10": cifar10, "sequence": sequence}[arguments.experiment](arguments)
    sys.exit(not right)


if __name__ == "__main__":
    main()
