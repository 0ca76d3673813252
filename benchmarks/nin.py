"""Network in Network against a plain network with as many weights, on CIFAR-10.

    python benchmarks/nin.py --data-dir FOLDER --seeds 0

The plain network has NIN's three convolutions, pools and dropout, but no 1x1 convolutions, and a
dense layer on the flattened map in place of the average; it has as many filters in each layer as
give NIN's number of weights. Both learn from the same images by Adam, whose rate falls to 0 by a
cosine, with the first weights that rectifiers want. Of several `--rates` each has the best by its
loss on the training images with the first seed.

The paper trains for hundreds of epochs on a GPU. By default the networks have a quarter of NIN's
widths here and 0.2 of dropout, 10,000 training images and 30 epochs, for two cores; `--width 1
--dropout 0.5 --images 50000 --epochs 200` is nearer to the paper.

The status is 1 if NIN does not make fewer errors in test than the plain network.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
from keras import layers

import keras_cnn_classics as kcc
from keras_cnn_classics import data
from keras_cnn_classics.training import initialize

BATCH = 32
WIDTHS = (192, 160, 96, 192, 192, 192, 192, 192)


def nin(width: float, dropout: float) -> keras.Model:
    """NIN with a multiple of its widths."""
    widths = [round(width * n) for n in WIDTHS]
    return kcc.NINCIFAR(weights=None, widths=widths, dropout=dropout, classifier_activation=None)


def plain(filters: int, dropout: float) -> keras.Model:
    """Three convolutions, and a dense layer."""
    x = inputs = keras.Input((32, 32, 3))
    x = layers.Conv2D(filters, 5, padding="same", activation="relu")(x)
    x = layers.Dropout(dropout)(layers.MaxPooling2D(3, 2, "same")(x))
    x = layers.Conv2D(filters, 5, padding="same", activation="relu")(x)
    x = layers.Dropout(dropout)(layers.AveragePooling2D(3, 2, "same")(x))
    x = layers.Conv2D(filters, 3, padding="same", activation="relu")(x)
    return keras.Model(inputs, layers.Dense(10)(layers.Flatten()(x)))


def filters_for(weights: int) -> int:
    """The most filters with which the plain network has no more weights."""
    filters = 1
    while 34 * filters**2 + 718 * filters + 10 <= weights:
        filters += 1
    return filters - 1


class Mirrored(keras.utils.PyDataset):
    """The training images in a new order each epoch, half of them mirrored."""

    def __init__(self, split: tuple[np.ndarray, np.ndarray], seed: int) -> None:
        super().__init__()
        self.split, self.random = split, np.random.default_rng(seed)
        self.on_epoch_end()

    def __len__(self) -> int:
        return -(-len(self.order) // BATCH)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        chosen = self.order[index * BATCH : (index + 1) * BATCH]
        images, labels = (one[chosen] for one in self.split)
        mirrored = self.random.random(len(chosen)) < 0.5
        images[mirrored] = images[mirrored, :, ::-1]
        return images, labels

    def on_epoch_end(self) -> None:
        self.order = self.random.permutation(len(self.split[1]))


def trained(
    model: keras.Model, seed: int, rate: float, epochs: int, splits: Any
) -> tuple[float, float, float]:
    """Loss on the training images, error in test, and seconds of training."""
    keras.utils.set_random_seed(seed)
    initialize(model, "he", seed=seed)
    batches = Mirrored(splits[0], seed)
    schedule = keras.optimizers.schedules.CosineDecay(rate, epochs * len(batches))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    # On a CPU, TensorFlow's own convolutions are faster than compiled ones.
    model.compile(keras.optimizers.Adam(schedule), loss, metrics=["accuracy"], jit_compile=False)
    start = time.perf_counter()
    model.fit(batches, epochs=epochs, verbose=0)
    seconds = time.perf_counter() - start
    (final, _), (_, right) = (model.evaluate(*split, batch_size=500, verbose=0) for split in splits)
    return final, 100 * (1 - right), seconds


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--data", default="cifar10")
    parser.add_argument("--data-dir")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--images", type=int, default=10_000, help="training images")
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--width", type=float, default=0.25, help="a factor on NIN's widths")
    parser.add_argument("--dropout", type=float, default=0.2)
    parser.add_argument("--rates", type=float, nargs="+", default=[2e-3])
    arguments = parser.parse_args()
    found = data.load(
        arguments.data,
        data_dir=arguments.data_dir,
        batch_size=1000,
        validation=0,
        preprocess="cifar10",
    )
    splits = []
    for batches in (found.train, found.test):
        parts = zip(*batches.as_numpy_iterator(), strict=True)
        images, labels = (np.concatenate(part) for part in parts)
        splits.append((images, labels))
    splits[0] = tuple(part[: arguments.images] for part in splits[0])
    weights = nin(arguments.width, 0).count_params()
    networks = {
        "NIN": lambda: nin(arguments.width, arguments.dropout),
        "plain": lambda: plain(filters_for(weights), arguments.dropout),
    }
    print(f"{len(splits[0][1])} training images, {arguments.epochs} epochs, {BATCH} in a batch")
    print("| network | weights | rate | training loss | test error, % | seconds an epoch |")
    print("| :--- | ---: | ---: | ---: | ---: | ---: |", flush=True)
    errors = {}
    for name, make in networks.items():
        first, *others = arguments.seeds
        given = arguments.epochs, splits
        tried = {rate: trained(make(), first, rate, *given) for rate in arguments.rates}
        rate = min(tried, key=lambda rate: tried[rate][0])
        runs = [tried[rate], *(trained(make(), seed, rate, *given) for seed in others)]
        loss, error, seconds = (list(values) for values in zip(*runs, strict=True))
        errors[name] = statistics.mean(error)
        cells = f"{statistics.mean(loss):.3f} | {errors[name]:.2f}"
        cells += f" ± {statistics.stdev(error):.2f}" if others else ""
        print(
            f"| {name} | {make().count_params():,} | {rate:g} | {cells} "
            f"| {statistics.mean(seconds) / arguments.epochs:.0f} |",
            flush=True,
        )
    return int(errors["NIN"] >= errors["plain"])


if __name__ == "__main__":
    sys.exit(main())
