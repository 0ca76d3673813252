"""What the methods of transfer cost, against fine-tuning and against passes through the network.

    python benchmarks/transfer.py

Two comparisons, each in this process, by turns, medians over the rounds:

- an epoch of head training in feature extraction, with features that are kept against features that
  are computed, by a network at its paper's size;
- an epoch of Learning without Forgetting, with recorded answers and with a live copy of the old
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


def seconds(method: Any, images: Any, labels: Any, batch: int) -> float:
    """The time of an epoch: the second one of a call of `fit`, as more comes before the first."""
    begun: list[float] = []
    note = keras.callbacks.LambdaCallback(
        on_epoch_begin=lambda epoch, logs: begun.append(time.perf_counter()),
        on_epoch_end=lambda epoch, logs: begun.append(time.perf_counter()),
    )
    method.fit(images, labels, batch_size=batch, epochs=2, verbose=0, callbacks=[note])
    return begun[-1] - begun[-2]


def by_turns(
    methods: dict[str, Any], images: Any, labels: Any, batch: int, repeats: int
) -> dict[str, float]:
    """The median time of an epoch of each method, after one that does not count."""
    times: dict[str, list[float]] = {name: [] for name in methods}
    for turn in range(repeats + 1):
        for name, method in methods.items():
            took = seconds(method, images, labels, batch)
            if turn:
                times[name].append(took)
    return {name: statistics.median(found) for name, found in times.items()}


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
    found = by_turns(extraction, images, labels, arguments.batch, arguments.repeats)
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
    found = by_turns(tuned, images, labels, arguments.batch, arguments.repeats)
    for how, most in AT_MOST.items():
        ratio = found[how] / found["fine-tuning"]
        bad |= ratio > most
        print(
            f"LwF, {how} answers: {found[how]:.2f} s an epoch, {ratio:.2f} times fine-tuning "
            f"(demanded: {most:g})"
        )
    sys.exit(bad)


if __name__ == "__main__":
    main()
