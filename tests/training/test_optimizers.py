"""Optimizers step by step against NumPy, and saved and loaded."""

import ast
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

from keras_cnn_classics import training
from keras_cnn_classics.training.optimizers import (
    MomentumScheduleSGD,
    RMSpropTF1,
    discriminative_rates,
)
from keras_cnn_classics.training.penalties import FilterRMS, constrain
from keras_cnn_classics.training.schedules import OneCycle, StepDecay, WarmUp
from tests.marks import slow_compiled

needs_groups = pytest.mark.skipif(
    not hasattr(keras.optimizers, "MultiOptimizer"), reason="this Keras has no MultiOptimizer"
)
GRADIENTS = np.array([[0.5, -2.0], [1.0, 0.1], [-0.3, 4.0]], "float32")


def _steps(optimizer):
    """Where the optimizer takes a variable from [1, 2]."""
    variable = keras.Variable(np.array([1.0, 2.0], "float32"))
    optimizer.build([variable])
    places = []
    for gradient in GRADIENTS:
        optimizer.apply([keras.ops.convert_to_tensor(gradient)], [variable])
        places.append(np.array(keras.ops.convert_to_numpy(variable)))
    return np.array(places)


def _copy(optimizer):
    return keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(optimizer))


def test_rmsprop_is_that_of_tensorflow_1():
    w, v, m, expected = np.array([1.0, 2.0]), np.ones(2), np.zeros(2), []
    for g in GRADIENTS:
        v = 0.8 * v + 0.2 * g**2
        m = 0.7 * m + 0.1 * g / np.sqrt(v + 0.01)
        w = w - m
        expected.append(w)
    optimizer = RMSpropTF1(0.1, rho=0.8, momentum=0.7, epsilon=0.01)
    np.testing.assert_allclose(_steps(_copy(optimizer)), expected, rtol=1e-5)
    keras_own = keras.optimizers.RMSprop(0.1, rho=0.8, momentum=0.7, epsilon=0.01)
    assert np.abs(_steps(keras_own)[0] - expected[0]).max() > 0.1  # because it starts at zero


@pytest.mark.parametrize("nesterov", [False, True])
def test_momentum_follows_its_schedule(nesterov):
    schedule = OneCycle(0.5, 4, pct_start=0.5, div=0.5 / 0.9, div_final=0.5 / 0.9)
    w, m, expected = np.array([1.0, 2.0]), np.zeros(2), []
    for keep, g in zip((0.9, 0.7, 0.5), GRADIENTS, strict=True):
        m = keep * m - 0.1 * g
        w = w + (keep * m - 0.1 * g if nesterov else m)
        expected.append(w)
    optimizer = MomentumScheduleSGD(0.1, schedule, nesterov=nesterov)
    np.testing.assert_allclose(_steps(_copy(optimizer)), expected, rtol=1e-5)
    with pytest.raises(ValueError, match=r"Received: momentum=0.9"):
        MomentumScheduleSGD(0.1, momentum=0.9)


def _net():
    base = keras.Sequential(
        [keras.Input((3,)), keras.layers.Dense(4, name="low"), keras.layers.Dense(4, name="mid")],
        name="base",
    )
    inputs = keras.Input((3,))
    return keras.Model(inputs, keras.layers.Dense(2, name="top")(base(inputs)))


X, Y = np.arange(12, dtype="float32").reshape(4, 3) / 10, np.ones((4, 2), "float32")


def _moves(model, optimizer):
    """How far one step takes each layer's kernel."""
    model.compile(optimizer, "mse")
    before = {v.path: np.array(keras.ops.convert_to_numpy(v)) for v in model.trainable_variables}
    model.train_on_batch(X, Y)
    return {
        v.path.split("/")[-2]: np.abs(keras.ops.convert_to_numpy(v) - before[v.path]).max()
        for v in model.trainable_variables
        if v.path.endswith("kernel")
    }


@needs_groups
@pytest.mark.parametrize("rate", [0.1, StepDecay(0.1, [50])], ids=["number", "schedule"])
@pytest.mark.parametrize(
    ("factors", "expected"),
    [
        slow_compiled({"low": 0.1}, {"low": 0.1, "mid": 1, "top": 1}),
        slow_compiled({"base": 0.5}, {"low": 0.5, "mid": 0.5, "top": 1}),
        ({("l*", "top"): 0.1, "mid": 0.3}, {"low": 0.1, "mid": 0.3, "top": 0.1}),
    ],
)
def test_each_group_moves_by_its_factor(rate, factors, expected):
    model = _net()
    start = model.get_weights()
    plain = _moves(model, keras.optimizers.SGD(rate))
    model.set_weights(start)
    moves = _moves(model, discriminative_rates(model, keras.optimizers.SGD(rate, 0.9), factors))
    for name, factor in expected.items():
        assert moves[name] == pytest.approx(plain[name] * factor, rel=1e-4)


@pytest.mark.slow_compiled
@needs_groups
def test_groups_are_saved_with_the_model(tmp_path):
    model = _net()
    # Every layer is in a group: no optimizer is left without variables.
    factors = {"base": 0.1, "top": 0.5}
    model.compile(discriminative_rates(model, keras.optimizers.Adam(0.1), factors), "mse")
    model.fit(X, Y, batch_size=2, epochs=2, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    for one in (model, loaded):
        one.fit(X, Y, batch_size=2, epochs=2, shuffle=False, verbose=0)
    for a, b in zip(model.get_weights(), loaded.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)
    rates = {round(float(one.learning_rate), 3) for one in loaded.optimizer.optimizers}
    assert rates == {0.01, 0.05}


@needs_groups
@pytest.mark.parametrize(
    ("factors", "message"),
    [
        (
            {"nothing*": 0.1},
            r"No layer that is trained fits 'nothing\*'. The layers are: base, low",
        ),
        ({"low": 0.1, "base": 0.5}, r"'base/low/kernel' is in two groups: 'low' and 'base'"),
        ({"low": 0.0}, r"`factors\['low'\]` must be a finite number, above 0. Received: 0.0"),
        ({"low": "half"}, r"must be a finite number, above 0. Received: 'half'"),
        ({}, "must hold a factor for each name"),
        (["low"], "must hold a factor for each name"),
    ],
)
def test_groups_that_cannot_be(factors, message):
    with pytest.raises(ValueError, match=message):
        discriminative_rates(_net(), keras.optimizers.SGD(0.1), factors)


@needs_groups
def test_an_optimizer_by_its_name():
    groups = discriminative_rates(_net(), "sgd", {"low": 0.5})
    rates = {round(float(one.learning_rate), 6) for one in groups.optimizers}
    assert rates == {0.01, 0.005}


@needs_groups
def test_a_frozen_layer_is_in_no_group():
    model = _net()
    model.get_layer("base").trainable = False
    with pytest.raises(ValueError, match="No layer that is trained fits 'low'"):
        discriminative_rates(model, keras.optimizers.SGD(0.1), {"low": 0.1})


@needs_groups
def test_optimizers_that_cannot_be_copied(monkeypatch):
    model = _net()
    groups = discriminative_rates(model, keras.optimizers.SGD(0.1), {"low": 0.1})
    with pytest.raises(ValueError, match="Received: MultiOptimizer"):
        discriminative_rates(model, groups, {"low": 0.1})
    monkeypatch.delattr(keras.optimizers, "MultiOptimizer")
    with pytest.raises(RuntimeError, match="has no MultiOptimizer"):
        discriminative_rates(model, keras.optimizers.SGD(0.1), {"low": 0.1})


@needs_groups
def test_paths_must_tell_variables_apart():
    parts = [
        keras.Sequential([keras.Input((3,)), keras.layers.Dense(3, name="same")]) for _ in range(2)
    ]
    model = keras.Sequential([keras.Input((3,)), *parts])
    with pytest.raises(ValueError, match="same/kernel' is not the only one"):
        discriminative_rates(model, keras.optimizers.SGD(0.1), {"same": 0.1})


def test_no_import_depends_on_private_modules_of_keras():
    for file in Path(training.__file__).parent.rglob("*.py"):
        for node in ast.parse(file.read_text()).body:
            names = [getattr(node, "module", None) or ""]
            names += [name.name for name in node.names] if isinstance(node, ast.Import) else []
            assert not any(name.startswith("keras.src") for name in names), file


@pytest.mark.slow_compiled
def test_optimizers_and_schedules_load_where_nothing_was_imported(tmp_path):
    model = _net()
    model.compile(RMSpropTF1(WarmUp(StepDecay(0.1, [3]), 5)), "mse")
    constrain(model, FilterRMS(0.2))
    model.save(tmp_path / "model.keras")
    code = (
        "import sys, keras, keras_cnn_classics; m = keras.saving.load_model(sys.argv[1]); "
        "print(type(m.optimizer).__name__, m.get_layer('top').kernel.constraint.maximum)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "model.keras"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.split() == ["RMSpropTF1", "0.2"], done.stderr
