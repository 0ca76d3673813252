"""Two replicas learn what one device learns. These tests run with `--two-devices`."""

import contextlib

import keras
import numpy as np
import pytest

from keras_cnn_classics import transfer
from keras_cnn_classics.transfer import (
    Distillation,
    DuplicateAndFineTune,
    FeatureExtraction,
    FineTuning,
    JointTraining,
    LearningWithoutForgetting,
)
from tests.marks import slow
from tests.transfer.networks import X_OLD, Y_OLD, X, Y, network

MAKE = {
    "extraction": lambda model: FeatureExtraction(model, 3, cache=None),
    "fine-tuning": lambda model: FineTuning(model, 3, warmup_epochs=1),
    "duplicate": lambda model: DuplicateAndFineTune(model, 3, warmup_epochs=1),
    "joint": lambda model: JointTraining(model, 3, warmup_epochs=1),
    "lwf, recorded": lambda model: LearningWithoutForgetting(model, 3, warmup_epochs=1),
    "lwf, live": lambda model: LearningWithoutForgetting(
        model, 3, warmup_epochs=1, responses="live"
    ),
    "rates by depth": lambda model: FineTuning(model, 3, warmup_epochs=1, layer_decay=0.5),
    "distillation, recorded": lambda model: Distillation(network(seed=3, dropout=0.0), model),
    "distillation": lambda model: Distillation(
        network(seed=3, dropout=0.0), model, hints={"fc1": "fc1"}
    ),
}


@pytest.mark.parametrize(
    "name",
    [
        # The others share their step with these.
        one if one in ("lwf, recorded", "distillation") else slow(one)
        for one in MAKE
    ],
)
def test_weights_are_those_of_one_device(two_devices, name):
    weights, logs = [], []
    for strategy in (None, two_devices):
        with contextlib.nullcontext() if strategy is None else strategy.scope():
            model = network(dropout=0.0)
            keras.utils.set_random_seed(5)
            method = MAKE[name](model)
            method.compile(keras.optimizers.SGD(0.05, momentum=0.9), metrics=["accuracy"])
            data = (X_OLD, Y_OLD) if name.startswith("distillation") else (X, Y)
            options = {"old_data": (X_OLD, Y_OLD)} if name == "joint" else {}
            history = method.fit(*data, batch_size=8, epochs=2, verbose=0, shuffle=False, **options)
        weights.append(method.network.get_weights())
        logs.append(history.history)
    for one, other in zip(*weights, strict=True):
        np.testing.assert_allclose(one, other, atol=2e-5)
    for key, values in logs[0].items():
        np.testing.assert_allclose(values, logs[1][key], rtol=1e-3)


@pytest.mark.slow
def test_what_is_measured(two_devices, tmp_path):
    found = []
    for place, strategy in (("one", None), ("two", two_devices)):
        with contextlib.nullcontext() if strategy is None else strategy.scope():
            model = network(dropout=0.0)
            several = transfer.fit_two_stage(
                *(model, 3, (X, Y), tmp_path / place),
                **{"validation": (X, Y), "epochs": 2, "warmup_epochs": 1, "verbose": 0},
            )
            near = transfer.similarity(model, X_OLD, X)
            data = ((X_OLD, Y_OLD), (X_OLD, Y_OLD)), ((X, Y), (X, Y))
            options = {"epochs": 2, "warmup_epochs": 1, "seeds": 1, "batch_size": 16}
            table = transfer.compare(model, *data, ["fine_tuning"], **options)
        row = table["fine_tuning"]
        measured = [near, row.old_accuracy, row.new_accuracy, *several.after.values()]
        found.append([*measured, transfer.accuracies(model, {"old": (X_OLD, Y_OLD)})["old"]])
        assert row.prediction_ms > 0
    np.testing.assert_allclose(found[0], found[1], atol=0.03)  # one image of 40 at most


class Turning(keras.utils.PyDataset):
    """Batches whose images are others in the second epoch, when none has recorded them."""

    sign = 1

    def __len__(self):
        return 5

    def __getitem__(self, i):
        return self.sign * X[i * 8 :][:8], Y[i * 8 :][:8]

    def on_epoch_end(self):
        self.sign = -self.sign


@pytest.mark.slow
def test_images_that_were_not_recorded(two_devices):
    weights = []
    for strategy in (None, two_devices):
        with contextlib.nullcontext() if strategy is None else strategy.scope():
            method = LearningWithoutForgetting(network(dropout=0.0), 3, warmup_epochs=0)
            method.compile(keras.optimizers.SGD(0.05, momentum=0.9))
            method.fit(Turning(), epochs=2, verbose=0, shuffle=False)
        assert len(method._recorded) == 40
        weights.append(method.network.get_weights())
    for one, other in zip(*weights, strict=True):
        np.testing.assert_allclose(one, other, atol=2e-5)


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="tf.data under its strategy")
@pytest.mark.slow
def test_batches_that_leave_out_other_images_each_time(two_devices):
    import tensorflow as tf

    data = tf.data.Dataset.from_tensor_slices((X[:46], Y[:46]))
    with two_devices.scope():
        method = LearningWithoutForgetting(network(), 3, warmup_epochs=0, responses="recorded")
        method.compile("sgd")
        data = data.shuffle(46, seed=1).batch(4, drop_remainder=True)
        history = method.fit(data, epochs=3, verbose=0, shuffle=False)
    assert np.isfinite(history.history["old_loss"]).all()
