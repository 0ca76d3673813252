"""Few images of a class: features of a trained network, fine-tuning, and training from nothing.

    python benchmarks/few_images.py runs/cifar/best.keras flowers/
    python benchmarks/few_images.py ResNet50 flowers/ --weights imagenet

The network is a file that `keras-cnn-classics train` has left, or one with published weights; the
images are a folder with one folder for each class, or a TFDS name. For each number of images a
class all ways learn from the same ones, other ones for each seed, in as many epochs, and are asked
about the same test images, which decide nothing.
"""

from __future__ import annotations

import argparse
import os
import statistics
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np

import keras_cnn_classics as kcc
from keras_cnn_classics import data, transfer
from keras_cnn_classics.preprocessing import model_preprocessing
from keras_cnn_classics.training import read_facts

BATCH = 32


def trained(name: str, weights: str) -> tuple[keras.Model, Any]:
    """The network, and how its images are prepared."""
    if Path(name).is_file():
        return keras.saving.load_model(name, compile=False), read_facts(name)["preprocessing"]
    model = kcc.build(name, weights=weights)
    return model, model_preprocessing(model)


def learners(model: keras.Model, classes: int, rate: float) -> dict[str, tuple[Any, float]]:
    """The ways to learn, each with its learning rate."""
    fresh = keras.models.clone_model(model)  # with weights drawn anew
    scratch = {"warmup_epochs": 0, "freeze_batch_norm": False}
    return {
        "feature extraction": (transfer.FeatureExtraction(model, classes, cache=None), 5 * rate),
        "fine-tuning": (transfer.FineTuning(model, classes), rate),
        "from nothing": (transfer.FineTuning(fresh, classes, **scratch), 5 * rate),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("network")
    parser.add_argument("images")
    parser.add_argument("--weights", default="imagenet")
    parser.add_argument("--data-dir")
    parser.add_argument("--counts", type=int, nargs="+", default=[10, 30, 100])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument(
        "--rate", type=float, default=1e-2, help="of fine-tuning, 5 times for others"
    )
    arguments = parser.parse_args()
    model, preprocess = trained(arguments.network, arguments.weights)
    height, width, channels = model.input_shape[1:]
    found = data.load(
        arguments.images,
        image_size=(height, width),
        channels=channels,
        preprocess=preprocess,
        validation=0,
        data_dir=arguments.data_dir,
    )
    (x, y), test = (
        [np.concatenate(parts) for parts in zip(*batches.as_numpy_iterator(), strict=True)]
        for batches in (found.train, found.test)
    )
    classes = len(found.class_names)
    print(f"{len(test[1])} test images of {classes} classes")
    print("| images a class | feature extraction, % | fine-tuning, % | from nothing, % |")
    print("| ---: | ---: | ---: | ---: |")
    for count in arguments.counts:
        right: dict[str, list[float]] = {}
        for seed in arguments.seeds:
            order = np.random.default_rng(seed).permutation(len(y))
            chosen = np.concatenate([order[y[order] == one][:count] for one in range(classes)])
            keras.utils.set_random_seed(seed)
            for way, (learner, rate) in learners(model, classes, arguments.rate).items():
                learner.compile(keras.optimizers.SGD(rate, momentum=0.9))
                learner.fit(
                    x[chosen], y[chosen], batch_size=BATCH, epochs=arguments.epochs, verbose=0
                )
                accuracy = transfer.accuracies(learner, {learner.task: tuple(test)})
                right.setdefault(way, []).append(100 * accuracy[learner.task])
        cells = [
            f"{statistics.mean(one):.2f} ± {statistics.stdev(one) if one[1:] else 0:.2f}"
            for one in right.values()
        ]
        print(f"| {count} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
