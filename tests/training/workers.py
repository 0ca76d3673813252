"""What each of two workers does in `test_workers`: train undisturbed, and with one of them killed.

Run by `keras-cnn-classics launch`; the chief leaves its findings in a folder.
"""

import json
import os
import pathlib
import signal
import sys

import keras
import numpy as np
import tensorflow as tf

from keras_cnn_classics import training
from keras_cnn_classics.training import distribution, run

FOLDER, RESTARTS = pathlib.Path(sys.argv[1]), int(os.environ["KCC_RESTARTS"])
BATCH, EPOCHS = 16, 3


def network():
    keras.utils.set_random_seed(1)
    inputs = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(8, 3, padding="same", kernel_regularizer="l2")(inputs)
    x = keras.layers.ReLU()(keras.layers.BatchNormalization(momentum=0.8)(x))
    x = keras.layers.GlobalAveragePooling2D()(x)
    model = keras.Model(inputs, keras.layers.Dense(4, activation="softmax")(x))
    optimizer = keras.optimizers.SGD(0.1, momentum=0.9, global_clipnorm=0.5)
    model.compile(optimizer, "sparse_categorical_crossentropy", metrics=["accuracy"])
    return distribution.prepare(model)


def batches(count, **options):
    random = np.random.default_rng(0)
    x = random.normal(size=(64, 8, 8, 3)).astype("float32")[:count]
    y = random.integers(0, 4, 64).astype("int32")[:count]
    return tf.data.Dataset.from_tensor_slices((x, y)).batch(BATCH, **options)


def share(worker=0, workers=1):
    """What one worker has of all batches, as `ImageData.endless` gives it."""
    part = slice(worker * BATCH // workers, (worker + 1) * BATCH // workers)
    return batches(64, drop_remainder=True).map(lambda x, y: (x[part], y[part])).repeat()


class Killed(keras.callbacks.Callback):
    """Dies in the middle of the second epoch."""

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch
        print("epoch", epoch, "begins", flush=True)

    def on_train_batch_end(self, batch, logs=None):
        if not (RESTARTS or distribution.is_chief()) and (self.epoch, batch) == (1, 1):
            os.kill(os.getpid(), signal.SIGKILL)


class Interrupted(keras.callbacks.Callback):
    """Gets Ctrl-C in the middle of the second epoch, on the last worker only."""

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_begin(self, batch, logs=None):
        if distribution.is_chief() == (distribution.workers() == 1) and (self.epoch, batch) == (
            1,
            1,
        ):
            os.kill(os.getpid(), signal.SIGINT)


def saving():
    """What saves models; only the last epoch is looked at, which is the best then."""
    folder = FOLDER / "checkpoints"
    checkpoint, path = keras.callbacks.ModelCheckpoint, folder / "best.weights.h5"
    return [
        checkpoint(folder / "{epoch}.keras"),
        checkpoint(folder / "{epoch}.weights.h5", save_weights_only=True),
        training.EarlyStopping(
            start_from_epoch=EPOCHS - 1, restore_best_weights=True, best_weights_path=path
        ),
    ]


def train(name, callbacks, fit=None, shared=False):
    model = network()
    options = {"epochs": EPOCHS, "verbose": 0, "validation_data": batches(59)}
    if shared:
        data, options["steps_per_epoch"] = distribution.shares(model, share), 64 // BATCH
    else:
        data = batches(64, drop_remainder=True)
    csv = keras.callbacks.CSVLogger(FOLDER / f"{name}.csv", append=True)
    if fit:
        history = fit(model, data, callbacks=[csv, *callbacks], **options)
    else:
        history = model.fit(data, shuffle=False, callbacks=[csv, *callbacks], **options)
    if distribution.is_chief():
        np.savez(FOLDER / f"{name}.npz", *model.get_weights())
        found = history.history | {"evaluated": model_results(model)}
        (FOLDER / f"{name}.json").write_text(json.dumps(found))
    else:
        model_results(model)


def model_results(model):
    """All workers must ask together."""
    evaluated = model.evaluate(batches(59), verbose=0)
    network = keras.Model(model.inputs, model.outputs)  # as one without auxiliary classifiers
    tested = run._test(network, batches(59), one_hot=False)
    np.testing.assert_allclose([tested["loss"], tested["accuracy"]], evaluated, atol=1e-6)
    images = batches(59).map(lambda x, _: x)
    return [*evaluated, model.predict(images, verbose=0).tolist()]


with distribution.strategy("auto").scope():
    if not RESTARTS:
        train("fit", saving())
    if distribution.workers() > 1:
        if not RESTARTS:
            train("loop", [], distribution.fit, shared=True)
        train("killed", [Killed(), training.TrainingState(FOLDER / "state")])
    try:
        state = training.TrainingState(FOLDER / "interrupted")
        train("interrupted", [Interrupted(), state], shared=True)
    except KeyboardInterrupt as stop:
        print(stop, flush=True)
    train("interrupted", [training.TrainingState(FOLDER / "interrupted")], shared=True)
