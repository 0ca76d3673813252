"""Averages of weights against NumPy, and what training, validation and a restart see of them."""

import gc

import keras
import numpy as np
import pytest
from keras import layers

from keras_cnn_classics.training.averaging import WeightAveraging, reestimate_batch_norm
from tests.marks import slow_compiled

X = np.random.default_rng(0).normal(size=(24, 3)).astype("float32")
Y = X.sum(axis=1, keepdims=True)


class Record(keras.callbacks.Callback):
    """The weights after each step, and those that validation saw."""

    def __init__(self):
        super().__init__()
        self.trained, self.tested = [], []

    def on_train_batch_end(self, batch, logs=None):
        self.trained.append([w.copy() for w in self.model.get_weights()])

    def on_test_batch_end(self, batch, logs=None):
        self.tested.append([w.copy() for w in self.model.get_weights()])


@pytest.mark.slow_compiled
def test_a_second_fit_begins_afresh():
    x = np.ones((4, 1), "float32")
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, use_bias=False)])
    model.set_weights([np.zeros((1, 1))])
    # A gradient of 1: the weight falls by 0.5 in each step.
    model.compile(keras.optimizers.SGD(0.5), lambda y_true, y_pred: y_pred)
    averaging = WeightAveraging()
    fit = {"epochs": 2, "verbose": 0, "validation_data": (x, x), "callbacks": [averaging]}
    model.fit(x, x, **fit)
    assert float(model.get_weights()[0][0, 0]) == pytest.approx((-0.5 - 1.0) / 2)
    model.fit(x, x, **fit)
    assert float(model.get_weights()[0][0, 0]) == pytest.approx((-1.25 - 1.75) / 2)
    model.evaluate(x, x, verbose=0, callbacks=[averaging])
    assert float(model.get_weights()[0][0, 0]) == pytest.approx((-1.25 - 1.75) / 2)


def test_batch_norm_is_estimated_again_in_the_end():
    x = np.random.default_rng(0).normal(3, 2, (64, 4)).astype("float32")
    model = keras.Sequential([keras.Input((4,)), keras.layers.BatchNormalization(name="norm")])
    model.compile("sgd", "mse")
    batches = [x[:32], x[32:]]
    model.fit(x, x, verbose=0, callbacks=[WeightAveraging(data=batches, batches=2)])
    mean = keras.ops.convert_to_numpy(model.get_layer("norm").moving_mean)
    np.testing.assert_allclose(mean, x.mean(0), rtol=1e-4)


def _net():
    net = keras.Sequential(
        [
            keras.Input((3,)),
            layers.Dense(2),
            layers.BatchNormalization(),
            layers.Dropout(0.5, seed=1),
            layers.Dense(1),
        ]
    )
    net.compile(keras.optimizers.SGD(0.05), "mse")
    return net


def _fit(net, callbacks, epochs=2, **options):
    net.fit(
        X,
        Y,
        batch_size=4,
        epochs=epochs,
        shuffle=False,
        verbose=0,
        callbacks=callbacks,
        validation_data=(X, Y),
        **options,
    )


def _mean(weights):
    return [np.mean(w, axis=0) for w in zip(*weights, strict=True)]


def _ema(weights, decay, warm_up):
    average = weights[0]
    for n, now in enumerate(weights[1:], 1):
        d = min(decay, (1 + n) / (10 + n)) if warm_up else decay
        average = [d * a + (1 - d) * w for a, w in zip(average, now, strict=True)]
    return average


def _same(a, b):
    for one, other in zip(a, b, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        slow_compiled({}, _mean),
        slow_compiled({"start_epoch": 1}, lambda w: _mean(w[6:])),
        ({"start_step": 3, "every": 2}, lambda w: _mean(w[3::2])),
        ({"decay": 0.3}, lambda w: _ema(w, 0.3, True)),
        slow_compiled({"decay": 0.9, "warm_up": False}, lambda w: _ema(w, 0.9, False)),
    ],
)
def test_averages(options, expected):
    net, record, averaging = _net(), Record(), WeightAveraging(**options)
    _fit(net, [record, averaging])
    _same(net.get_weights(), expected(record.trained))
    averaging.swap()
    _same(net.get_weights(), record.trained[-1])
    averaging.swap()
    _same(net.get_weights(), expected(record.trained))


@pytest.mark.parametrize("validate", [True, slow_compiled(False)])
def test_validation_sees_the_average_and_training_does_not(validate):
    net, record, plain = _net(), Record(), Record()
    start = net.get_weights()
    _fit(net, [plain])
    net = _net()
    net.set_weights(start)
    _fit(net, [record, WeightAveraging(validate=validate)])
    for a, b in zip(record.trained, plain.trained, strict=True):
        _same(a, b)
    _same(record.tested[0], _mean(record.trained[:6]) if validate else record.trained[5])


@pytest.mark.slow_compiled
def test_a_restart_goes_on_with_the_average():
    net, whole = _net(), WeightAveraging(decay=0.8, start_step=2, every=3)
    start = net.get_weights()
    _fit(net, [whole])
    expected = net.get_weights()
    net, first = _net(), WeightAveraging(decay=0.8, start_step=2, every=3)
    net.set_weights(start)
    _fit(net, [first], epochs=1)
    first.swap()
    second = WeightAveraging(decay=0.8, start_step=2, every=3)
    state = first.get_state()
    begin = keras.callbacks.LambdaCallback(on_train_begin=lambda logs: second.set_state(state))
    _fit(net, [second, begin], epochs=2, initial_epoch=1)
    _same(net.get_weights(), expected)


def test_averaging_refuses():
    with pytest.raises(ValueError, match=r"`decay` must be .* Received: 1\.0"):
        WeightAveraging(decay=1.0)
    with pytest.raises(ValueError, match=r"`every` must be an integer, at least 1\. Received: 0"):
        WeightAveraging(every=0)
    with pytest.raises(RuntimeError, match="no average yet"):
        WeightAveraging().swap()


def _normed():
    inner = keras.Sequential(
        [
            keras.Input((5, 5, 3)),
            layers.Conv2D(4, 3),
            layers.BatchNormalization(name="second", momentum=0.7),
        ]
    )
    frozen = layers.BatchNormalization(name="frozen", trainable=False)
    return keras.Sequential(
        [
            keras.Input((5, 5, 3)),
            layers.BatchNormalization(name="first"),
            layers.Dropout(0.5, seed=3),
            frozen,
            inner,
        ]
    )


def test_batch_norm_has_the_statistics_of_all_batches():
    net = _normed()
    images = np.random.default_rng(1).normal(2, 3, size=(10, 5, 5, 3)).astype("float32")
    kernel = net.get_weights()
    data = [(images[:4], 0), (images[4:8], 0), (images[8:9], 0), (images[9:], 0)]
    reestimate_batch_norm(net, data, batches=3)
    first = net.get_layer("first")
    mean, variance = (
        keras.ops.convert_to_numpy(v) for v in (first.moving_mean, first.moving_variance)
    )
    np.testing.assert_allclose(mean, images[:9].mean(axis=(0, 1, 2)), rtol=1e-4)
    np.testing.assert_allclose(variance, images[:9].var(axis=(0, 1, 2)), rtol=1e-4)
    assert first.momentum == 0.99
    changed = [not np.array_equal(a, b) for a, b in zip(kernel, net.get_weights(), strict=True)]
    paths = [v.path.split("/")[-2:] for v in net.weights]
    assert [p for p, c in zip(paths, changed, strict=True) if c] == [
        [name, v] for name in ("first", "second") for v in ("moving_mean", "moving_variance")
    ]
    again = net.get_weights()
    reestimate_batch_norm(net, data, batches=3)  # dropout draws the same: its state was put back
    _same(again, net.get_weights())


def test_reestimation_refuses_and_undoes():
    net = _normed()
    before = net.get_weights()
    with pytest.raises(ValueError, match="gives no batches"):
        reestimate_batch_norm(net, [])
    with pytest.raises(ValueError, match=r"an array of the shape \(4, 5, 5, 3\)"):
        reestimate_batch_norm(net, np.ones((4, 5, 5, 3)))
    with pytest.raises(Exception, match=r"expected|incompatible|Expected"):
        reestimate_batch_norm(net, [np.ones((2, 5, 5, 3)), np.ones((2, 5, 5, 7))])
    assert net.get_layer("first").momentum == 0.99
    _same(before, net.get_weights())


def test_a_validation_that_failed_leaves_nothing_to_be_done_later():
    """What Python collects must not compute, wherever it is collected."""

    class Fails(keras.callbacks.Callback):
        def on_test_batch_end(self, batch, logs=None):
            raise ZeroDivisionError

    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    model.compile("sgd", "mse")
    x, y = np.ones((4, 3)), np.ones((4, 2))
    averaging = WeightAveraging()
    swaps = []
    swap = averaging.swap
    averaging.swap = lambda: (swaps.append(1), swap())
    with pytest.raises(ZeroDivisionError):
        model.fit(x, y, verbose=0, validation_data=(x, y), callbacks=[averaging, Fails()])
    assert swaps == [1]
    averaging._validating = None
    gc.collect()
    assert swaps == [1]
