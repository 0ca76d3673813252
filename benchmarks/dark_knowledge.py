"""Hinton's experiment on MNIST: what a small network learns from the answers of a large one.

    python benchmarks/dark_knowledge.py --data-dir FOLDER

A teacher of 1,200-1,200 units learns from digits moved by up to 2 pixels, with dropout and bounded
weights. Students of 800-800 units, without any regularization, learn from digits that are not
moved: one from labels, one from the teacher's answers at a temperature of 20 as well, and one from
its answers alone to a transfer set in which a digit is left out. How much the bias of that digit
is raised afterwards is chosen on 5,000 images of the training set that are kept out of this
student's transfer set for it. Printed are errors out of 10,000; the paper has 67 for the teacher,
146 and 74 for the students, and 206 without the digit 3, 109 after its bias is raised, by what is
best on the test images.

The status is 1 if the distilled student does not do better than the one that learns alone.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
from keras import layers

from keras_cnn_classics import data, transfer
from keras_cnn_classics.data import augmentation

BATCH = 128
LEFT_OUT = 3
HELD_OUT = 5000  # images that the bias is chosen on


def network(units: int, *, regularized: bool) -> keras.Model:
    """Two hidden layers, with scores as answers."""
    bound = keras.constraints.MaxNorm(4.0) if regularized else None
    x = inputs = keras.Input((28, 28, 1))
    x = layers.Flatten()(x)
    for rate in (0.2, 0.5):
        if regularized:
            x = layers.Dropout(rate)(x)
        x = layers.Dense(units, "relu", kernel_constraint=bound)(x)
    if regularized:
        x = layers.Dropout(0.5)(x)
    return keras.Model(inputs, layers.Dense(10)(x))


def optimizer(images: int, epochs: int) -> keras.optimizers.Optimizer:
    """Adam, whose rate falls to 0 by a cosine."""
    steps = epochs * -(-images // BATCH)
    return keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(1e-3, steps))


def scores(model: keras.Model, images: np.ndarray) -> np.ndarray:
    return np.asarray(model.predict(images, batch_size=1000, verbose=0))


def errors(found: np.ndarray, labels: np.ndarray) -> int:
    return int((found.argmax(1) != labels).sum())


def distilled(teacher: keras.Model, seed: int, epochs: int, *given: Any, **how: Any) -> Any:
    """A student that has learned from a teacher."""
    keras.utils.set_random_seed(seed)
    student = transfer.Distillation(
        network(800, regularized=False), teacher, temperature=20.0, **how
    )
    student.compile(optimizer(len(given[0]), epochs))
    student.fit(*given, batch_size=BATCH, epochs=epochs, verbose=0)
    return student.export_model()


def raised(found: np.ndarray, bias: float) -> np.ndarray:
    """The scores with a higher one of the digit that was left out."""
    return found + bias * (np.arange(found.shape[1]) == LEFT_OUT)


def best_bias(found: np.ndarray, labels: np.ndarray) -> float:
    """By how much to raise it for the fewest errors."""
    return min(np.arange(0.0, 10.5, 0.5), key=lambda bias: errors(raised(found, bias), labels))


def without_a_digit(
    teacher: keras.Model,
    seed: int,
    epochs: int,
    train: Sequence[np.ndarray],
    test: Sequence[np.ndarray],
    held_out: int = HELD_OUT,
) -> None:
    """Prints what a student knows of a digit that it has never seen, and with its bias raised."""
    (x, y), (x_test, y_test) = train, test
    (x, chosen_on), (y, true) = ((part[:-held_out], part[-held_out:]) for part in (x, y))
    student = distilled(teacher, seed, epochs, x[y != LEFT_OUT])
    best = best_bias(scores(student, chosen_on), true)
    found, threes = scores(student, x_test), y_test == LEFT_OUT
    for bias in (0.0, best):
        answers = raised(found, bias)
        print(
            f"student without the digit {LEFT_OUT}, its bias raised by {bias:g}: "
            f"{errors(answers, y_test)} errors, {errors(answers[threes], y_test[threes])} of "
            f"{threes.sum()} on it",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--data-dir")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--teacher-epochs", type=int, default=60)
    parser.add_argument("--epochs", type=int, default=20, help="of the students")
    arguments = parser.parse_args()
    seed, epochs = arguments.seed, arguments.epochs
    how = {"data_dir": arguments.data_dir, "validation": 0, "preprocess": "unit", "seed": seed}
    moved = data.load("mnist", batch_size=BATCH, augment=[augmentation.PadAndCrop(2)], **how)
    still = data.load("mnist", batch_size=1000, **how)
    (x, y), (x_test, y_test) = (
        [np.concatenate(parts) for parts in zip(*batches.as_numpy_iterator(), strict=True)]
        for batches in (still.train, still.test)
    )

    keras.utils.set_random_seed(seed)
    teacher = network(1200, regularized=True)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    teacher.compile(optimizer(len(x), arguments.teacher_epochs), loss)
    teacher.fit(moved.train, epochs=arguments.teacher_epochs, verbose=0, shuffle=False)
    print(f"teacher: {errors(scores(teacher, x_test), y_test)} errors", flush=True)

    keras.utils.set_random_seed(seed)
    alone = network(800, regularized=False)
    alone.compile(optimizer(len(x), epochs), loss)
    alone.fit(x, y, batch_size=BATCH, epochs=epochs, verbose=0)
    without = errors(scores(alone, x_test), y_test)
    print(f"student alone: {without} errors", flush=True)

    taught = errors(scores(distilled(teacher, seed, epochs, x, y), x_test), y_test)
    print(f"student, distilled at 20: {taught} errors", flush=True)

    without_a_digit(teacher, seed, epochs, (x, y), (x_test, y_test))
    sys.exit(taught >= without)


if __name__ == "__main__":
    main()
