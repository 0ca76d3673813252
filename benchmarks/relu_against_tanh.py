"""How much faster ReLU learns than tanh: figure 1 of the AlexNet paper, on CIFAR-10.

Four layers with weights, no regularization, each activation at its best learning rate: the epochs
until 25 % of the training images are wrong. The paper says that ReLU is six times faster and gives
neither the layers nor the rates, so both are chosen here: three convolutions of 5x5 with 32, 32
and 64 filters, each with a max pool of 3x3 and a step of 2, and a dense layer; steps of 128 images
with a momentum of 0.9. A rate is given up when it takes longer than the best one before, or when
the loss does not fall by 0.01 in four epochs.

    python benchmarks/relu_against_tanh.py --data-dir FOLDER --seeds 0 1
"""

from __future__ import annotations

import argparse
import os
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras

from keras_cnn_classics import data
from keras_cnn_classics.training import EarlyStopping, FiniteLoss, initialize

PARTS = 4  # of an epoch, after each of which the error is measured
MEASURED = 10_000  # training images
RATES = (0.003, 0.001, 0.01, 0.0003, 0.03, 0.1)


def network(activation: str, seed: int) -> keras.Model:
    """The network, with weights drawn for its activation."""
    keras.utils.set_random_seed(seed)
    x = inputs = keras.Input((32, 32, 3))
    for filters in (32, 32, 64):
        x = keras.layers.Conv2D(filters, 5, padding="same", activation=activation)(x)
        x = keras.layers.MaxPooling2D(3, 2, padding="same")(x)
    x = keras.layers.Dense(10, activation="softmax")(keras.layers.Flatten()(x))
    model = keras.Model(inputs, x)
    initialize(model, "he", seed=seed)  # with the gain of the activation
    return model


class Reached(keras.callbacks.Callback):
    """Stops at a training error; `epochs` is then how many it took."""

    def __init__(self, error: float, parts: int) -> None:
        super().__init__()
        self.error, self.parts, self.epochs = error, parts, None

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        assert logs
        if 1 - logs["val_accuracy"] <= self.error:
            self.epochs, self.model.stop_training = (epoch + 1) / self.parts, True


def epochs_needed(
    images: Any,
    measured: Any,
    activation: str,
    rate: float,
    seed: int,
    error: float,
    limit: float,
) -> float | None:
    """Epochs until the error on some training images is so low, or `None` within the limit."""
    model = network(activation, seed)
    optimizer = keras.optimizers.SGD(rate, momentum=0.9)
    model.compile(optimizer, "sparse_categorical_crossentropy", metrics=["accuracy"])
    reached = Reached(error, PARTS)
    images.position.seek(0)
    try:
        model.fit(
            images.endless(),
            steps_per_epoch=images.steps // PARTS,
            epochs=round(limit * PARTS),
            validation_data=measured,
            validation_batch_size=500,
            shuffle=False,
            verbose=0,
            callbacks=[FiniteLoss(), EarlyStopping("loss", 0.01, 4 * PARTS), reached],
        )
    except FloatingPointError:
        return None
    return reached.epochs


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--data", default="cifar10")
    parser.add_argument("--data-dir")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--error", type=float, default=0.25, help="training error to reach")
    parser.add_argument(
        "--limit", type=float, default=60, help="epochs after which a rate is given up"
    )
    arguments = parser.parse_args()
    images = data.load(
        arguments.data,
        data_dir=arguments.data_dir,
        batch_size=128,
        validation=0,
        test=0,
        preprocess=lambda x: (x - 120) / 60,
    )
    measured = next(images.train.unbatch().batch(MEASURED).as_numpy_iterator())
    for seed in arguments.seeds:
        best: dict[str, float] = {}
        for activation in ("relu", "tanh"):
            for rate in RATES:
                limit = best.get(activation, arguments.limit)
                found = epochs_needed(
                    images, measured, activation, rate, seed, arguments.error, limit
                )
                took = f"{found:g}" if found else f"over {limit:g}"
                print(f"seed {seed}, {activation}, rate {rate:g}: {took} epochs", flush=True)
                if found:
                    best[activation] = min(found, limit)
        print(f"seed {seed}: {best}", flush=True)
        if len(best) == 2:
            print(f"seed {seed}: tanh / relu = {best['tanh'] / best['relu']:.1f}", flush=True)


if __name__ == "__main__":
    main()
