"""What the methods of transfer cost, against fine-tuning and against passes through the network.

    python benchmarks/transfer.py

Two comparisons, each in this process, by turns, medians over the rounds:

- an epoch of head training in feature extraction, with features that are kept against features that
  are computed, by a network at its paper's size;
- a step of Learning without Forgetting, with recorded answers and with a live copy of the old
  network, against one of fine-tuning all layers.

The images are random: the time does not depend on what they show. Ends with status 1 if a ratio
misses what is demanded.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")

import keras
import numpy as np

import keras_cnn_classics as kcc
from keras_cnn_classics.transfer import FeatureExtraction, FineTuning, LearningWithoutForgetting

CHEAPER = 20.0  # an epoch on kept features, at least
AT_MOST = {"recorded": 1.15, "live": 1.5}  # times a step of fine-tuning
CLASSES = 5


def ready(method: Any) -> Any:
    """The method, compiled to move little."""
    method.compile(keras.optimizers.SGD(1e-4, momentum=0.9))
    return method


class Clock(keras.callbacks.Callback):
    """The times of the second epoch of a call of `fit`, as more comes before the first."""

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self.epoch, self.steps = time.perf_counter(), list[float]()

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        self.begun = time.perf_counter()

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.steps.append(time.perf_counter() - self.begun)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.seconds = time.perf_counter() - self.epoch


def by_turns(
    methods: dict[str, Any], images: Any, labels: Any, batch: int, repeats: int
) -> tuple[dict[str, float], dict[str, float]]:
    """The median times of an epoch and of a step of each method, after a round that only warms."""
    clock = Clock()
    epochs: dict[str, list[float]] = {name: [] for name in methods}
    steps: dict[str, list[float]] = {name: [] for name in methods}
    for turn in range(repeats + 1):
        for name, method in methods.items():
            method.fit(images, labels, batch_size=batch, epochs=2, verbose=0, callbacks=[clock])
            if turn:
                epochs[name].append(clock.seconds)
                steps[name] += clock.steps
    medians = [
        {name: statistics.median(found) for name, found in times.items()}
        for times in (epochs, steps)
    ]
    return medians[0], medians[1]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--network", default="ResNet50")
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    model = kcc.build(arguments.network, weights=None)
    rng = np.random.default_rng(0)
    images = rng.normal(size=(arguments.images, *model.input_shape[1:])).astype("float32")
    labels = rng.integers(0, CLASSES, arguments.images)

    print(f"{arguments.network}, {arguments.images} images, batches of {arguments.batch}")
    bad = False
    extraction = {
        "computed": ready(FeatureExtraction(model, CLASSES, cache=False)),
        "kept": ready(FeatureExtraction(model, CLASSES, cache=None)),
    }
    found, _ = by_turns(extraction, images, labels, arguments.batch, arguments.repeats)
    ratio = found["computed"] / found["kept"]
    bad |= ratio < CHEAPER
    print(
        f"feature extraction: {found['computed']:.2f} s an epoch, {found['kept']:.3f} s on kept "
        f"features: {ratio:.0f} times cheaper (demanded: {CHEAPER:g})"
    )
    del extraction
    tuned = {"fine-tuning": ready(FineTuning(model, CLASSES, warmup_epochs=0, decay=5e-4))}
    for how in AT_MOST:
        tuned[how] = ready(
            LearningWithoutForgetting(model, CLASSES, warmup_epochs=0, responses=how)
        )
    _, found = by_turns(tuned, images, labels, arguments.batch, arguments.repeats)
    for how, most in AT_MOST.items():
        ratio = found[how] / found["fine-tuning"]
        bad |= ratio > most
        print(
            f"LwF, {how} answers: {found[how]:.2f} s a step, {ratio:.2f} times fine-tuning "
            f"(demanded: {most:g})"
        )
    sys.exit(bad)


if __name__ == "__main__":
    main()
