"""Training on several devices and several machines, with the result of one.

Everything happens in one scope, whatever the backend:

    import keras_cnn_classics as kcc
    from keras_cnn_classics.training import distribution

    with distribution.strategy("auto").scope():
        model = kcc.ResNet20(weights=None, classes=10)
        model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
        distribution.prepare(model)
        model.fit(kcc.data.load("cifar10", batch_size=256).train, epochs=10)

A batch of the data is the *global* batch: each replica (a device with its copy of the network)
takes its share of it, so learning rates and schedules stay as they are on one device.
"""

from keras_cnn_classics.training.distribution.devices import (
    any_worker,
    is_chief,
    on_chief,
    replicas,
    saving,
    strategy,
    workers,
)
from keras_cnn_classics.training.distribution.loop import fit, shares
from keras_cnn_classics.training.distribution.repairs import check, prepare

__all__ = [
    "any_worker",
    "check",
    "fit",
    "is_chief",
    "on_chief",
    "prepare",
    "replicas",
    "saving",
    "shares",
    "strategy",
    "workers",
]
