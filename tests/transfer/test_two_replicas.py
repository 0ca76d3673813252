"""Two replicas learn what one device learns. These tests run with `--two-devices`."""

import contextlib

import keras
import numpy as np
import pytest

from keras_cnn_classics.transfer import (
    Distillation,
    DuplicateAndFineTune,
    FeatureExtraction,
    FineTuning,
    JointTraining,
    LearningWithoutForgetting,
)
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
    "distillation": lambda model: Distillation(
        network(seed=3, dropout=0.0), model, hints={"fc1": "fc1"}
    ),
}


@pytest.mark.parametrize("name", MAKE)
def test_weights_are_those_of_one_device(two_devices, name):
    weights, logs = [], []
    for strategy in (None, two_devices):
        with contextlib.nullcontext() if strategy is None else strategy.scope():
            model = network(dropout=0.0)
            keras.utils.set_random_seed(5)
            method = MAKE[name](model)
            method.compile(keras.optimizers.SGD(0.05, momentum=0.9), metrics=["accuracy"])
            data = (X_OLD, Y_OLD) if name == "distillation" else (X, Y)
            options = {"old_data": (X_OLD, Y_OLD)} if name == "joint" else {}
            history = method.fit(*data, batch_size=8, epochs=2, verbose=0, shuffle=False, **options)
        weights.append(method.network.get_weights())
        logs.append(history.history)
    for one, other in zip(*weights, strict=True):
        np.testing.assert_allclose(one, other, atol=2e-5)
    for key, values in logs[0].items():
        np.testing.assert_allclose(values, logs[1][key], rtol=1e-3)
