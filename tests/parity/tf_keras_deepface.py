"""Run as a script: writes the file and the answers of DeepFace in Keras 2, with rough weights.

    python tf_keras_deepface.py FOLDER WIDTH UNITS CLASSES

reads faces from FOLDER/images.npy and writes FOLDER/theirs.h5 and FOLDER/answers.npy. The layers
have the names that they have in the files that are published.
"""

import os
import sys
from pathlib import Path

import numpy as np

os.environ["TF_USE_LEGACY_KERAS"] = "1"


def main(folder, width, units, classes):
    """Makes the network, gives it rough weights, and writes what it says."""
    from tf_keras import Input, Model, layers

    faces = np.load(folder / "images.npy")
    local, relu = layers.LocallyConnected2D, {"activation": "relu"}
    x = image = Input(faces.shape[1:])
    for layer in (
        layers.Conv2D(2 * width, 11, name="C1", **relu),
        layers.MaxPooling2D(3, 2, padding="same", name="M2"),
        layers.Conv2D(width, 9, name="C3", **relu),
        local(width, 9, name="L4", **relu),
        local(width, 7, strides=2, name="L5", **relu),
        local(width, 5, name="L6", **relu),
        layers.Flatten(name="F0"),
        layers.Dense(units, name="F7", **relu),
        layers.Dropout(0.5, name="D0"),
        layers.Dense(classes, name="F8"),
    ):
        x = layer(x)
    network = Model(image, x)
    rng = np.random.default_rng(1)
    for layer in network.layers:
        if layer.weights:
            kernel, bias = layer.get_weights()
            inputs = np.prod(kernel.shape[:-1]) / (len(kernel) if layer.name[0] == "L" else 1)
            kernel = rng.standard_normal(kernel.shape, "float32") * np.sqrt(2 / inputs)
            layer.set_weights([kernel, rng.normal(0, 0.2, bias.shape)])
    network.save(folder / "theirs.h5")
    np.save(folder / "answers.npy", network(faces, training=False).numpy())


if __name__ == "__main__":
    main(Path(sys.argv[1]), *map(int, sys.argv[2:]))
