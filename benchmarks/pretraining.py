"""Few labels: LeNet-5 with and without unsupervised pretraining, on the digits or on MNIST.

    python benchmarks/pretraining.py
    python benchmarks/pretraining.py --data mnist --data-dir FOLDER

Of the training images 100 have labels, ten of each class, other ones for each seed; pretraining
sees them all. Both networks begin with the same weights and are trained in the same way on the 100,
for a fixed number of epochs; the test images decide nothing.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np

import keras_cnn_classics as kcc
from keras_cnn_classics import data, training

CLASSES = 10


def network(seed: int) -> keras.Model:
    """LeNet-5 as it is taught today: a chain of convolutions, max pools and dense layers."""
    keras.utils.set_random_seed(seed)
    return kcc.LeNet5(
        weights=None,
        connections="dense",
        subsampling="max",
        activation="relu",
        output="dense",
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--data", default="digits")
    parser.add_argument("--data-dir")
    parser.add_argument("--labels", type=int, default=100)
    parser.add_argument("--unlabelled", type=int, default=10_000, help="at most so many images")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--epochs", type=int, default=60, help="on the labels")
    parser.add_argument("--pretraining-epochs", type=int, default=20, help="of each layer")
    parser.add_argument("--noise", type=float, default=0.3)
    arguments = parser.parse_args()
    found = data.load(
        arguments.data,
        image_size=(32, 32),
        channels=1,
        preprocess="lenet",
        validation=0,
        data_dir=arguments.data_dir,
    )
    (x, y), (test_x, test_y) = (
        [np.concatenate(parts) for parts in zip(*batches.as_numpy_iterator(), strict=True)]
        for batches in (found.train, found.test)
    )
    x, y = x[: arguments.unlabelled], y[: arguments.unlabelled]
    print(f"{len(x)} images, {arguments.labels} of them with labels; {len(test_y)} test images")
    errors: dict[str, list[float]] = {"without": [], "with": []}
    started = time.perf_counter()
    for seed in arguments.seeds:
        order = np.random.default_rng(seed).permutation(len(y))
        each = arguments.labels // CLASSES
        chosen = np.concatenate([order[y[order] == one][:each] for one in range(CLASSES)])
        for way, seen in errors.items():
            model = network(seed)
            if way == "with":
                training.pretrain(
                    model,
                    x,
                    epochs=arguments.pretraining_epochs,
                    batch_size=64,
                    noise=arguments.noise,
                    seed=seed,
                )
            keras.utils.set_random_seed(seed)
            model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
            model.fit(x[chosen], y[chosen], batch_size=20, epochs=arguments.epochs, verbose=0)
            right = model.evaluate(test_x, test_y, batch_size=256, verbose=0)[1]
            seen.append(100 * (1 - right))
    head = " | ".join(f"seed {seed}" for seed in arguments.seeds)
    print(f"| pretraining | {head} | mean |")
    print(f"| --- |{' ---: |' * (len(arguments.seeds) + 1)}")
    for way, seen in errors.items():
        spread = statistics.stdev(seen) if seen[1:] else 0
        cells = " | ".join(f"{error:.2f} %" for error in seen)
        print(f"| {way} | {cells} | {statistics.mean(seen):.2f} ± {spread:.2f} % |")
    print(f"{time.perf_counter() - started:.0f} s")


if __name__ == "__main__":
    main()
