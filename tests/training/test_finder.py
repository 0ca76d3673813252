"""The range test: its numbers, its suggestions, and that it leaves no trace."""

import random

import keras
import numpy as np
import pytest
from keras import layers

from keras_cnn_classics.training.finder import _copy, _suggest, find_learning_rate
from keras_cnn_classics.training.optimizers import discriminative_rates
from keras_cnn_classics.training.schedules import StepDecay

X = np.random.default_rng(0).normal(size=(64, 4)).astype("float32")
Y = (X @ np.array([[1.0], [-2.0], [0.5], [3.0]])).astype("float32")
DATA = [(X[i : i + 16], Y[i : i + 16]) for i in range(0, 64, 16)]


def _net(rate=0.01):
    net = keras.Sequential(
        [
            keras.Input((4,)),
            layers.Dense(8, activation="relu"),
            layers.BatchNormalization(),
            layers.Dropout(0.1, seed=2),
            layers.Dense(1),
        ]
    )
    net.compile(keras.optimizers.SGD(rate, momentum=0.9), "mse", metrics=["mae"])
    return net


def _state(net):
    variables = [*net.variables, *net.optimizer.variables]
    return [np.array(keras.ops.convert_to_numpy(v)) for v in variables]


@pytest.mark.slow_compiled
@pytest.mark.parametrize("rate", [0.01, StepDecay(0.01, [3])], ids=["number", "schedule"])
def test_it_finds_a_rate_and_leaves_no_trace(rate, tmp_path):
    net, twin = _net(rate), _net(rate)
    twin.set_weights(net.get_weights())
    for one in (net, twin):
        one.fit(X, Y, epochs=1, shuffle=False, verbose=0)
    before, optimizer = _state(net), net.optimizer
    python, numpy = random.getstate(), np.random.get_state()[1].copy()  # noqa: NPY002
    found = find_learning_rate(net, DATA, start=1e-5, end=100, steps=60)
    assert net.optimizer is optimizer
    for a, b in zip(before, _state(net), strict=True):
        np.testing.assert_array_equal(a, b)
    assert random.getstate() == python
    assert (np.random.get_state()[1] == numpy).all()  # noqa: NPY002
    # A training that follows goes on as if nothing had happened.
    for one in (net, twin):
        one.fit(X, Y, epochs=1, shuffle=False, verbose=0)
    for a, b in zip(net.get_weights(), twin.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7)
    assert found.rates[0] == pytest.approx(1e-5)
    assert found.rates[-1] < 100  # it stopped when the loss left all bounds
    assert 1e-4 < found.suggestion < 1
    found.plot(tmp_path / "rates.png")
    assert (tmp_path / "rates.png").stat().st_size > 5000


def test_the_losses_are_those_of_a_training_at_these_rates():
    net = keras.Sequential([keras.Input((4,)), layers.Dense(1, use_bias=False)])
    net.compile(keras.optimizers.SGD(0.5), "mse")
    w = net.get_weights()[0].astype("float64")
    found = find_learning_rate(net, DATA, start=1e-3, end=1e-1, steps=20, smoothing=0.5)
    average, expected = 0.0, []
    for i, rate in enumerate(np.geomspace(1e-3, 1e-1, 20)):
        x, y = DATA[i % 4]
        error = x @ w - y
        average = 0.5 * average + 0.5 * np.mean(error**2)
        expected.append(average / (1 - 0.5 ** (i + 1)))
        w = w - rate * 2 * x.T @ error / len(x)
    np.testing.assert_allclose(found.losses, expected, rtol=1e-4)
    np.testing.assert_allclose(found.rates, np.geomspace(1e-3, 1e-1, 20))


def test_a_scaled_loss_gives_the_same():
    net = _net()
    plain = find_learning_rate(net, DATA, steps=20)
    net.compile(keras.optimizers.LossScaleOptimizer(net.optimizer, initial_scale=8.0), "mse")
    scaled = find_learning_rate(net, DATA, steps=20)
    np.testing.assert_allclose(plain.losses, scaled.losses, rtol=1e-3)


def test_the_settings_of_a_scaled_loss_are_kept():
    inner = keras.optimizers.SGD(StepDecay(0.1, [3]), momentum=0.7)
    scaled = keras.optimizers.LossScaleOptimizer(inner, initial_scale=8.0, dynamic_growth_steps=3)
    copy, own = _copy(scaled, 0.5)
    assert copy.inner_optimizer is own is not inner
    assert (copy.initial_scale, copy.dynamic_growth_steps) == (8.0, 3)
    assert (float(own.learning_rate), own.momentum) == (0.5, 0.7)


def test_suggestions_by_hand():
    rates = np.geomspace(1e-4, 10, 16)  # ten to the power of i / 3 - 4
    losses = np.array([5, 5.1, 5.2, 5.0, 4.9, 4.5, 4.6, 3.9, 2.0, 1.8, 1.7, 1.9, 3, 4, 5, 6])
    found = _suggest(rates, losses, slice(1, 14))
    # Falling: 5.2 5.0 4.9 4.5 3.9 2.0 1.8 1.7, 8 long, up to place 9 of the slice.
    assert found.valley == pytest.approx(rates[1 + 9 - 8 + 2 + 1])
    assert found.steepest == pytest.approx(rates[7])
    assert found.minimum == pytest.approx(rates[10] / 10)
    assert found.suggestion == found.valley


def test_an_error_leaves_no_trace_either():
    net = _net()
    before, optimizer = _state(net), net.optimizer
    with pytest.raises(ValueError, match=r"must give batches .* Received: ndarray"):
        find_learning_rate(net, [*DATA, X])
    assert net.optimizer is optimizer
    for a, b in zip(before, _state(net), strict=True):
        np.testing.assert_array_equal(a, b)


def test_refusals():
    net = _net()
    with pytest.raises(ValueError, match="gives no batches"):
        find_learning_rate(net, [])
    with pytest.raises(ValueError, match="steps=3"):
        find_learning_rate(net, DATA, steps=3)
    with pytest.raises(ValueError, match="lower `start`"):
        find_learning_rate(net, DATA, start=1e5, end=1e30)
    with pytest.raises(ValueError, match="Compile the model"):
        find_learning_rate(keras.Sequential([keras.Input((4,)), layers.Dense(1)]), DATA)
    if not hasattr(keras.optimizers, "MultiOptimizer"):
        return
    net.compile(discriminative_rates(net, keras.optimizers.SGD(0.1), {"*": 0.1}), "mse")
    with pytest.raises(ValueError, match="Received: MultiOptimizer"):
        find_learning_rate(net, DATA)
