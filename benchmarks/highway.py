"""Depth on MNIST, with gates and without: figure 1 of "Training very deep networks".

    python benchmarks/highway.py --data-dir FOLDER --depth 20 50 100 --seeds 0 1 2

The networks are the paper's thin ones, highway networks of 50 units and plain ones of 71, which
have about as many weights; the rectifier, its normalized first weights, and momentum. The paper
looks for each network's rate, its decay, momentum, activation and first gate bias in 100 random
runs; here each network has the best of a few rates and biases, by its loss on the training images
with the first seed, and the rate falls to 0 by a cosine. Losses and errors are those of the trained
network on all training and all test images; a loss of 2.30 is that of a guess.

The status is 1 if a highway network does not end with a lower training loss than the plain one of
its depth.
"""

from __future__ import annotations

import argparse
import itertools
import os
import statistics
import sys
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np

import keras_cnn_classics as kcc
from keras_cnn_classics import data
from keras_cnn_classics.training import FiniteLoss, initialize

BATCH = 128
KINDS: dict[str, dict[str, Any]] = {"highway": {}, "plain": {"width": 71, "gated": False}}
Settings = tuple[float, float]  # a rate and, for highway networks, the gates' first bias
GUESS = float(np.log(10))


def arrays(batches: Any, limit: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """The images and labels of a split, or the first of them."""
    parts = zip(*batches.as_numpy_iterator(), strict=True)
    images, labels = (np.concatenate(part)[:limit] for part in parts)
    return images, labels


def network(kind: str, depth: int, seed: int, bias: float = -2.0) -> keras.Model:
    """A network of one kind, with its first weights."""
    keras.utils.set_random_seed(seed)
    model = kcc.HighwayFC10(depth=depth, transform_bias=bias, name=f"{kind}{depth}", **KINDS[kind])
    initialize(model, "he", seed=seed)
    return model


def trained(
    model: keras.Model, split: tuple[np.ndarray, np.ndarray], rate: float, epochs: int
) -> bool:
    """Trains a network; says whether its loss stayed finite."""
    steps = epochs * -(-len(split[1]) // BATCH)
    schedule = keras.optimizers.schedules.CosineDecay(rate, steps)
    model.compile(
        keras.optimizers.SGD(schedule, momentum=0.9),
        "sparse_categorical_crossentropy",
        metrics=["accuracy"],
        jit_compile=False,  # to compile a hundred layers takes longer than to train them
    )
    try:
        model.fit(*split, BATCH, epochs, verbose=0, callbacks=[FiniteLoss()])
    except FloatingPointError:
        return False
    return True


def result(
    kind: str, depth: int, seed: int, settings: Settings, epochs: int, splits: Any
) -> tuple[float, float, float]:
    """Loss and error in training, and the error in test, of a network that is trained."""
    rate, bias = settings
    model = network(kind, depth, seed, bias)
    if not trained(model, splits[0], rate, epochs):
        return GUESS, 90.0, 90.0
    (loss, right), (_, right_in_test) = (
        model.evaluate(*split, batch_size=1000, verbose=0) for split in splits
    )
    return loss, 100 * (1 - right), 100 * (1 - right_in_test)


def spread(values: list[float], form: str) -> str:
    """Mean and standard deviation."""
    text = format(statistics.mean(values), form)
    return f"{text} ± {statistics.stdev(values):{form}}" if values[1:] else text


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--data", default="mnist")
    parser.add_argument("--data-dir")
    parser.add_argument("--depth", type=int, nargs="+", default=[20, 50, 100])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--rates", type=float, nargs="+", default=[0.1, 0.03, 0.01])
    parser.add_argument("--biases", type=float, nargs="+", default=[-2.0, -4.0])
    parser.add_argument("--images", type=int, help="training images; by default all")
    arguments = parser.parse_args()
    found = data.load(
        arguments.data,
        data_dir=arguments.data_dir,
        batch_size=1000,
        validation=0,
        preprocess="unit",
    )
    splits = arrays(found.train, arguments.images), arrays(found.test)
    print(f"{len(splits[0][1])} training images, {arguments.epochs} epochs", flush=True)
    print(
        "| layers | network | weights | rate | bias | training loss | training error, % "
        "| test error, % |"
    )
    print("| ---: | :--- | ---: | ---: | ---: | ---: | ---: | ---: |", flush=True)
    failed = False
    for depth in arguments.depth:
        losses: dict[str, float] = {}
        for kind in KINDS:
            first, *others = arguments.seeds
            biases = arguments.biases if kind == "highway" else arguments.biases[:1]  # unused there
            tried = {
                one: result(kind, depth, first, one, arguments.epochs, splits)
                for one in itertools.product(arguments.rates, biases)
            }
            best = min(tried, key=lambda one: tried[one][0])
            runs = [tried[best]]
            runs += [result(kind, depth, s, best, arguments.epochs, splits) for s in others]
            loss, error, error_in_test = (list(values) for values in zip(*runs, strict=True))
            losses[kind] = statistics.mean(loss)
            cells = spread(loss, ".4f"), spread(error, ".2f"), spread(error_in_test, ".2f")
            weights = network(kind, depth, first).count_params()
            bias = f"{best[1]:g}" if kind == "highway" else "-"
            row = (str(depth), kind, f"{weights:,}", f"{best[0]:g}", bias, *cells)
            print(f"| {' | '.join(row)} |", flush=True)
        failed |= losses["highway"] >= losses["plain"]
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
