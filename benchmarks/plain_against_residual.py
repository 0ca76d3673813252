"""Depth with shortcuts and without: figure 6 of "Deep residual learning", on CIFAR-10.

    python benchmarks/plain_against_residual.py --data-dir FOLDER --depths 20 44

The networks and the recipe are the paper's, shortened: the rate falls after the same shares of the
epochs. Errors are those of the trained network, on the training images as they are, without crops
or mirror images, and on the test images.

The paper trains on 50,000 images for 182 epochs, at depths of 20 to 110; `--images 50000 --epochs
182 --depths 20 56` is that, for a GPU. By default fewer images and epochs, and 44 layers, must do,
for two cores.

The status is 1 if the deepest plain network does not end with a higher training error than the
shallowest one, or than the residual network of its depth.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras

import keras_cnn_classics as kcc
from keras_cnn_classics import data, training

PAPERS_EPOCHS = 182
IMAGES = 50_000


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--data", default="cifar10")
    parser.add_argument("--data-dir")
    parser.add_argument("--depths", type=int, nargs="+", default=[20, 44])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--images", type=int, default=5000, help="training images")
    parser.add_argument("--epochs", type=int, default=16)
    parser.add_argument("--batch-size", type=int, default=32, help="the rate changes with it")
    arguments = parser.parse_args()
    settings = training.recipe(
        "resnet-cifar",
        batch_size=arguments.batch_size,
        scale=arguments.epochs / PAPERS_EPOCHS,
    )
    split = {
        "data_dir": arguments.data_dir,
        "validation": 1 - arguments.images / IMAGES,
        "preprocess": "cifar10",
    }
    # The same images, once as the recipe alters them.
    altered = data.load(arguments.data, **split, **settings.load_options(32))
    plain = data.load(arguments.data, **split, batch_size=500)
    print(
        f"{altered.sizes['train']} training images, {settings.epochs} epochs, "
        f"{settings.batch_size} in a batch, a rate of {settings.learning_rate:g}"
    )
    print("| network | training loss | training error, % | test error, % | seconds an epoch |")
    print("| :--- | ---: | ---: | ---: | ---: |", flush=True)
    wrong: dict[str, float] = {}
    for depth in arguments.depths:
        for kind in ("PlainNet", "ResNet"):
            runs = []
            for seed in arguments.seeds:
                keras.utils.set_random_seed(seed)
                model = kcc.build(f"{kind}{depth}", weights=None)
                altered.position.seek(0)
                callbacks = settings.compile(model, altered.steps, validated=False)
                started = time.perf_counter()
                model.fit(
                    altered.endless(),
                    steps_per_epoch=altered.steps,
                    epochs=settings.epochs,
                    shuffle=False,
                    callbacks=callbacks,
                    verbose=0,
                )
                seconds = (time.perf_counter() - started) / settings.epochs
                (loss, right), (_, right_in_test) = (
                    model.evaluate(images, verbose=0) for images in (plain.train, plain.test)
                )
                runs.append((loss, 100 * (1 - right), 100 * (1 - right_in_test), seconds))
            loss, error, error_in_test, seconds = map(statistics.mean, zip(*runs, strict=True))
            wrong[f"{kind}{depth}"] = error
            print(
                f"| {kind}{depth} | {loss:.3f} | {error:.2f} | {error_in_test:.2f} "
                f"| {seconds:.0f} |",
                flush=True,
            )
    first, last = min(arguments.depths), max(arguments.depths)
    deepest = wrong[f"PlainNet{last}"]
    return int(deepest <= wrong[f"PlainNet{first}"] or deepest <= wrong[f"ResNet{last}"])


if __name__ == "__main__":
    sys.exit(main())
