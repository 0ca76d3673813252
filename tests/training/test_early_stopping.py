"""EarlyStopping against Keras's callback, and Prechelt's criteria by hand."""

import keras
import numpy as np
import pytest

from keras_cnn_classics.training import EarlyStopping, WeightAveraging, early_stopping


class Model:
    """What a callback sees of a model, with weights that tell the epoch."""

    def __init__(self):
        self.stop_training, self.epoch = False, -1
        self.metrics = ()

    def get_weights(self):
        return [np.array(self.epoch)]

    def set_weights(self, weights):
        self.epoch = int(weights[0])


def replay(callback, values, name="val_loss", training=None):
    """Shows a callback a course of values; gives the epochs run and the weights in the end."""
    model = Model()
    callback.set_model(model)
    callback.on_train_begin()
    for epoch, value in enumerate(values):
        model.epoch = epoch
        callback.on_epoch_begin(epoch)
        logs = {name: value, "loss": training[epoch] if training else 1.0}
        callback.on_epoch_end(epoch, logs)
        if model.stop_training:
            break
    ran = model.epoch + 1
    callback.on_train_end()
    return ran, model.epoch


@pytest.mark.parametrize("seed", range(20))
def test_as_keras(seed):
    rng = np.random.default_rng(seed)
    values = (rng.random(30).cumsum() * rng.choice([-1, 1], 30)).tolist()
    settings = {
        "monitor": "val_accuracy" if seed % 2 else "val_loss",
        "mode": "max" if seed % 2 else "min",
        "patience": int(rng.integers(0, 5)),
        "min_delta": float(rng.choice([0, 0.5])),
        "baseline": [None, 0.5][int(rng.integers(2))],
        "restore_best_weights": bool(rng.integers(2)),
        "start_from_epoch": int(rng.integers(0, 4)),
    }
    ours, theirs = EarlyStopping(**settings), keras.callbacks.EarlyStopping(**settings)
    name = settings["monitor"]
    assert replay(ours, values, name) == replay(theirs, values, name), settings
    assert (ours.stopped_epoch, ours.monitors[0].best) == (theirs.stopped_epoch, theirs.best)


def test_generalization_loss_by_hand():
    # 100 (1.04 / 1 - 1) = 4 is borne, 100 (1.06 / 1 - 1) = 6 is not.
    stopping = EarlyStopping(criterion="generalization_loss")
    assert replay(stopping, [2, 1, 1.04, 0.999999 + 1e-6, 1.06, 3])[0] == 5
    assert "6 % above its best" in stopping.reason


def test_progress_quotient_by_hand():
    # In the second strip GL = 10 and P = 1000 (1.1 / 1.0 - 1) = 100: a quotient of 0.1. In the
    # third GL = 10 and P = 1000 (1.01 / 1.0 - 1) = 10: a quotient of 1.
    values, training = [1, 1, 1.1, 1.1, 1.1, 1.1], [3, 2, 1.2, 1.0, 1.02, 1.0]
    settings = {"criterion": "progress_quotient", "strip": 2}
    assert replay(EarlyStopping(threshold=0.5, **settings), values, training=training)[0] == 6
    assert replay(EarlyStopping(threshold=0.05, **settings), values, training=training)[0] == 4
    assert replay(EarlyStopping(threshold=1.1, **settings), values, training=training)[0] == 6
    assert not EarlyStopping(threshold=1.1, **settings).reason


def test_progress_of_a_training_loss_that_stands_still():
    stopping = EarlyStopping(criterion="progress_quotient", strip=2)
    assert replay(stopping, [1, 1, 1.1, 1.1], training=[1, 1, 1, 1])[0] == 4


def test_successive_strips_by_hand():
    # Ends of the strips: 5, 4, 6, 7, 3, 4, 5, 6. Three rises in a row come with the last one.
    values = [9, 5, 9, 4, 9, 6, 9, 7, 9, 3, 9, 4, 9, 5, 9, 6, 9, 7]
    settings = {"criterion": "successive_strips", "strip": 2}
    assert replay(EarlyStopping(threshold=2, **settings), values)[0] == 8
    assert replay(EarlyStopping(threshold=3, **settings), values)[0] == 16


@pytest.mark.parametrize(
    ("criterion", "values", "ran"),
    [
        ("patience", [np.nan, np.nan, np.nan], 2),
        ("generalization_loss", [np.nan, 1.0], 1),
        ("progress_quotient", [np.nan, 1.0], 1),
        ("generalization_loss", [0.0, 0.0, 0.001], 3),  # an error of 0 cannot be kept in percent
        ("progress_quotient", [0.0, 0.0, 0.0, 0.001], 4),
    ],
)
def test_errors_of_zero_and_none(criterion, values, ran):
    stopping = EarlyStopping(criterion=criterion, patience=2, strip=2)
    assert replay(stopping, values)[0] == ran
    assert stopping.reason


def test_rapid_progress_bears_any_loss_of_generalization():
    stopping = EarlyStopping(criterion="progress_quotient", strip=2)
    assert replay(stopping, [1, 1, 2, 2], training=[1, 1, 0.5, 0.0])[0] == 4
    assert not stopping.reason


def test_the_criteria_go_by_the_lowest_error_whatever_the_difference_that_counts():
    stopping = EarlyStopping(criterion="generalization_loss", min_delta=0.5)
    assert replay(stopping, [1.2, 1.0, 1.04, 1.1])[0] == 4


def test_negative_errors():
    with pytest.raises(ValueError, match=r"errors of at least 0\. Received: val_loss = -2"):
        replay(EarlyStopping(criterion="generalization_loss"), [-2, -1])


def test_the_best_average_is_kept():
    x = np.ones((4, 1), "float32")

    def train(*callbacks):
        model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, use_bias=False)])
        model.set_weights([np.array([[0.0]])])
        model.compile(keras.optimizers.SGD(1.0, momentum=0.9), "mse")
        model.fit(x, x, epochs=6, verbose=0, validation_data=(x, x), callbacks=[*callbacks])
        return model

    stopping = EarlyStopping(restore_best_weights=True, patience=9)
    model = train(WeightAveraging(), stopping)
    assert model.evaluate(x, x, verbose=0) == pytest.approx(stopping.monitors[0].best)
    with pytest.raises(ValueError, match="WeightAveraging must stand before EarlyStopping"):
        train(EarlyStopping(restore_best_weights=True), WeightAveraging())


def test_relative_difference():
    values = [100.0, 99.5, 99.0, 98.5]
    assert replay(EarlyStopping(patience=2, min_delta=0.01), values)[0] == 4
    assert replay(EarlyStopping(patience=2, min_delta=0.01, relative=True), values)[0] == 3


def test_several_monitors():
    stopping = EarlyStopping(["val_loss", "val_accuracy"], patience=2, restore_best_weights=True)
    model = Model()
    stopping.set_model(model)
    stopping.on_train_begin()
    course = [(1.0, 0.5), (0.9, 0.6), (1.1, 0.7), (1.2, 0.7), (1.3, 0.7), (1.4, 0.9)]
    for epoch, (loss, accuracy) in enumerate(course):
        model.epoch = epoch
        stopping.on_epoch_end(epoch, {"val_loss": loss, "val_accuracy": accuracy})
        if model.stop_training:
            break
    assert epoch == 4  # the loss alone would have stopped at 3
    stopping.on_train_end()
    assert model.epoch == 1  # the best by the first monitor


def test_time_budget_ends_within_an_epoch(monkeypatch):
    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    stopping = EarlyStopping(time_budget=10)
    stopping.set_model(Model())
    stopping.on_train_begin()
    stopping.on_epoch_begin(3)
    stopping.on_train_batch_end(0)
    assert not stopping.model.stop_training
    state = stopping.get_state()
    now[0] = 6.0
    later = EarlyStopping(time_budget=10)
    later.set_model(Model())
    later.set_state({**state, "seconds": 5.0})
    later.on_epoch_begin(3)
    now[0] = 10.0
    later.on_train_batch_end(0)
    assert not later.model.stop_training
    now[0] = 12.0  # 5 before the interruption and 6 after it
    later.on_train_batch_end(1)
    assert later.model.stop_training
    assert later.stopped_epoch == 3
    assert "10 s" in later.reason


def test_last_line(capsys):
    replay(EarlyStopping(patience=1, verbose=1), [1, 2])
    assert capsys.readouterr().out == (
        "Epoch 2: stopped early, since val_loss has not improved on 1 in 1 epochs.\n"
    )
    replay(EarlyStopping(patience=5, verbose=1, restore_best_weights=True), [2, 1, 3])
    assert capsys.readouterr().out == (
        "Training was not stopped early. The weights are those of epoch 2, the best.\n"
    )


def fitted(**settings):
    """A model whose weights grow worse after the first epoch."""
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, use_bias=False)])
    model.set_weights([np.array([[0.0]])])
    model.compile(keras.optimizers.SGD(1.0, momentum=0.9), "mse")
    x = np.ones((4, 1), "float32")
    stopping = EarlyStopping(restore_best_weights=True, patience=2, **settings)
    model.fit(x, x, epochs=8, verbose=0, validation_data=(x, x), callbacks=[stopping])
    optimizer = [keras.ops.convert_to_numpy(one) for one in model.optimizer.variables]
    return model.get_weights(), optimizer, stopping


@pytest.mark.slow_compiled
def test_best_weights_on_disk(tmp_path):
    path = tmp_path / "new" / "best.weights.h5"
    weights, optimizer, stopping = fitted(best_weights_path=path)
    expected, expected_optimizer, other = fitted()
    assert stopping.best_weights is None
    assert other.best_weights is not None
    np.testing.assert_array_equal(weights, expected)
    for ours, theirs in zip(optimizer, expected_optimizer, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert [one.name for one in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize(
    "settings",
    [
        {"monitor": "val_colour"},
        {"monitor": []},
        {"monitor": ["val_loss", "loss"], "mode": ["min"]},
        {"mode": "least"},
        {"min_delta": -1},
        {"patience": -1},
        {"patience": "3"},
        {"patience": 1.5},
        {"min_delta": float("nan")},
        {"strip": 0},
        {"threshold": "x"},
        {"start_from_epoch": -3},
        {"monitor": None},
        {"criterion": "gl"},
        {"criterion": "generalization_loss", "monitor": "val_accuracy"},
        {"time_budget": 0},
        {"best_weights_path": "best.h5"},
    ],
)
def test_wrong_arguments(settings):
    with pytest.raises(ValueError, match=r"Received|say by mode"):
        EarlyStopping(**settings)


def test_a_monitor_that_is_not_there():
    with pytest.warns(UserWarning, match="no 'val_loss'.*They have: loss"):
        replay(EarlyStopping(), [1.0], name="loss")


@pytest.mark.parametrize("late", [False, True])
def test_workers_stop_in_one_step(monkeypatch, late):
    """When the time of any of them is over, whatever their own clocks say."""
    asked = []
    monkeypatch.setattr(
        early_stopping, "any_worker", lambda model, flag: asked.append(flag) or late
    )
    stopping = EarlyStopping(time_budget=1e3)
    model = Model()
    stopping.set_model(model)
    stopping.on_train_begin()
    stopping.on_train_batch_end(0)
    assert asked == [False]
    assert model.stop_training is late
