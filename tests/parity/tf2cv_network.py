"""Run as a script: writes the weights and the answers of a network of tf2cv, which wants Keras 2.

    python tf2cv_network.py FOLDER NETWORK GAIN build|call

reads images from FOLDER/images.npy and writes FOLDER/NETWORK.tf2.h5 and FOLDER/answers.npy.
"""

import os
import sys
from pathlib import Path

import numpy as np

os.environ["TF_USE_LEGACY_KERAS"] = "1"


def rough(rng, variable, gain):
    """Values that keep the scale of activations; statistics far from 0 and 1."""
    kind, shape = variable.name.rpartition("/")[2].partition(":")[0], variable.shape
    if kind.endswith("kernel"):
        inputs = shape[:2] if kind == "depthwise_kernel" else shape[:-1]
        return rng.normal(0, np.sqrt(2 / np.prod(inputs)), shape)
    if kind in ("gamma", "moving_variance"):
        return rng.uniform(0.5, 1.5, shape) * (gain if kind == "gamma" else 1)
    return rng.normal(0, 0.3, shape)


def main(folder, name, gain, start):
    """Makes the network, gives it rough weights, and writes what it says."""
    from tf2cv.model_provider import get_model

    images = np.load(folder / "images.npy")
    network = get_model(name, in_size=images.shape[1:3])
    # The names in the file differ: only a network that is called stands in a scope of its own.
    network.build(images.shape) if start == "build" else network(images)
    rng = np.random.default_rng(1)
    for variable in network.weights:
        variable.assign(rough(rng, variable, gain))
    network.save_weights(folder / f"{name}.tf2.h5")
    np.save(folder / "answers.npy", network(images, training=False).numpy())


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], float(sys.argv[3]), sys.argv[4])
