"""Old and new data together: labels, weights and data of all forms."""

import contextlib
import gc
import weakref

import keras
import numpy as np
import pytest
from keras import layers

from keras_cnn_classics.data import load
from keras_cnn_classics.training import TrainingState
from keras_cnn_classics.transfer import JointTraining, compare
from tests.marks import slow_compiled
from tests.transfer.networks import SHAPE, X_OLD, Y_OLD, X, Y, network

COUNT = len(X_OLD)
X_NEW, Y_NEW = X[:COUNT], Y[:COUNT]
FORMS = {
    "numbers": lambda y, classes: y,
    "column": lambda y, classes: y[:, None],
    "one-hot": lambda y, classes: np.eye(classes, dtype="float32")[y],
}


def still(model=None, warmup_epochs=0, **arguments):
    """Joint training in which nothing changes, so that losses can be computed by hand."""
    method = JointTraining(model or network(dropout=0.0), 3, warmup_epochs=warmup_epochs)
    method.compile(keras.optimizers.SGD(0.0), metrics=["accuracy"], **arguments)
    return method


def logs(method, *data, old=(X_OLD, Y_OLD), **arguments):
    """The logs of an epoch with one batch of each task."""
    history = method.fit(*data, batch_size=COUNT, old_data=old, verbose=0, **arguments).history
    return {name: values[-1] for name, values in history.items()}


def losses(method, x, y, task):
    answers = method.network.predict(x, verbose=0)[task]
    return -np.log(answers[np.arange(len(y)), y])


def data_set(*arrays):
    tf = pytest.importorskip("tensorflow")
    return tf.data.Dataset.from_tensor_slices(arrays).batch(COUNT)


def by_hand(method, weights=1.0, old_weights=1.0):
    """The loss of an epoch with one batch of each task."""
    new = losses(method, X_NEW, Y_NEW, "new") * weights
    old = losses(method, X_OLD, Y_OLD, "old") * old_weights
    return pytest.approx((new.mean() + old.mean()) / 2, rel=1e-4)


@pytest.mark.parametrize(
    ("form", "old_form"),
    [
        ("numbers", "one-hot"),
        slow_compiled("column", "numbers"),
        slow_compiled("one-hot", "column"),
    ],
)
@pytest.mark.parametrize("kind", ["arrays", "data sets"])
def test_each_task_learns_by_its_own_head(form, old_form, kind):
    method = still()
    new = (X_NEW, FORMS[form](Y_NEW, 3))
    old = (X_OLD, FORMS[old_form](Y_OLD, 4))
    if kind == "data sets":
        new, old = (data_set(*new),), data_set(*old)
    found = logs(method, *new, old=old, shuffle=False)
    assert found["loss"] == by_hand(method)
    answers = method.predict(X_NEW, verbose=0)["new"]
    assert found["accuracy"] == pytest.approx((answers.argmax(1) == Y_NEW).mean(), abs=1e-6)


@pytest.mark.slow_compiled
def test_a_loss_of_ones_own():
    method = still(loss="categorical_crossentropy")
    found = logs(method, X_NEW, FORMS["one-hot"](Y_NEW, 3))
    assert found["loss"] == by_hand(method)


@pytest.mark.slow_compiled
@pytest.mark.parametrize("kind", ["arrays", "data sets"])
def test_class_weights_are_of_the_new_task(kind):
    method = still()
    data, old = (X_NEW, Y_NEW), (X_OLD, Y_OLD)
    if kind == "data sets":
        data, old = (data_set(*data),), data_set(*old)
    found = logs(method, *data, old=old, class_weight={0: 100.0, 2: 0.5}, shuffle=False)
    assert found["loss"] == by_hand(method, np.array([100, 1, 0.5])[Y_NEW])


@pytest.mark.slow_compiled
@pytest.mark.parametrize("kind", ["arrays", "data sets"])
def test_weights_of_images(kind):
    method = still()
    weights, old_weights = np.linspace(0, 2, COUNT), np.linspace(3, 1, COUNT)
    if kind == "arrays":
        old = (X_OLD, Y_OLD, old_weights)
        found = logs(method, X_NEW, Y_NEW, old=old, sample_weight=weights)
    else:
        old = data_set(X_OLD, Y_OLD, old_weights)
        found = logs(method, data_set(X_NEW, Y_NEW, weights), old=old, shuffle=False)
    assert found["loss"] == by_hand(method, weights, old_weights)


@pytest.mark.slow_compiled
def test_an_old_head_for_several_labels():
    method = still(network("sigmoid", dropout=0.0))
    several = np.stack([Y_OLD > 1, Y_OLD > 2, Y_OLD > 0, Y_OLD > 2], 1).astype("float32")
    found = logs(method, X_NEW, Y_NEW, old=(X_OLD, several))
    p = method.network.predict(X_OLD, verbose=0)["old"]
    old = -np.where(several > 0, np.log(p), np.log(1 - p)).mean()
    new = losses(method, X_NEW, Y_NEW, "new").mean()
    assert found["loss"] == pytest.approx((new + old) / 2, rel=1e-4)
    with pytest.raises(ValueError, match=r"several labels \(sigmoid\).*in 4 columns"):
        logs(method, X_NEW, Y_NEW, old=(X_OLD, Y_OLD))


@pytest.mark.slow_compiled
def test_several_old_tasks_of_several_forms():
    inputs = keras.Input(SHAPE)
    x = layers.Dense(4, activation="relu", name="fc1")(layers.Flatten()(inputs))
    outputs = {
        "a": layers.Dense(4, activation="sigmoid", name="a_predictions")(x),
        "b": layers.Dense(4, name="b_predictions")(x),
    }
    method = JointTraining(keras.Model(inputs, outputs), 3, warmup_epochs=1)
    method.compile(keras.optimizers.SGD(0.05), metrics=["accuracy"])
    before = method.network.get_weights()
    old = {"a": (X_OLD, np.eye(4)[Y_OLD]), "b": (X_OLD, Y_OLD[:, None])}
    history = method.fit(X, FORMS["one-hot"](Y, 3), old_data=old, epochs=2, verbose=0).history
    assert np.isfinite(history["loss"]).all()
    after = method.network.get_weights()
    assert not any(np.array_equal(a, b) for a, b in zip(before, after, strict=True))


@pytest.mark.slow_compiled
@pytest.mark.parametrize("form", ["column", "one-hot"])
def test_comparison_takes_labels_of_any_form(form):
    make = FORMS[form]
    old = ((X_OLD, make(Y_OLD, 4)), (X_OLD, make(Y_OLD, 4)))
    new = ((X, make(Y, 3)), (X, make(Y, 3)))
    if form == "column":  # and mixed ones
        new = ((X, Y), (X, Y))
    table = compare(network(), old, new, "joint_training", 1, epochs=2, warmup_epochs=1, verbose=0)
    assert 0 <= table["joint_training"].new_accuracy <= 1


@pytest.mark.slow_compiled
def test_validation_split_is_that_of_keras():
    method = still(warmup_epochs=1)
    weights = np.linspace(0, 2, 48)
    found = logs(method, X, Y, sample_weight=weights, epochs=2, validation_split=0.25)
    expected = method.evaluate(X[36:], Y[36:], sample_weight=weights[36:], verbose=0)
    assert [found["val_loss"], found["val_accuracy"]] == pytest.approx(expected, rel=1e-5)
    method = still(warmup_epochs=1)
    given = (X[36:], Y[36:], weights[36:])
    one = logs(method, X[:36], Y[:36], sample_weight=weights[:36], epochs=2, validation_data=given)
    assert one == pytest.approx(found, rel=1e-5)


@pytest.mark.slow_compiled
def test_steps_count_batches_of_the_new_task():
    steps = []
    count = keras.callbacks.LambdaCallback(on_train_batch_end=lambda step, logs: steps.append(step))
    method = still(warmup_epochs=1)
    arguments = {"steps_per_epoch": 3, "callbacks": [count], "verbose": 0, "epochs": 3}
    method.fit(X, Y, 8, old_data=(X_OLD, Y_OLD), **arguments)
    assert steps == [0, 1, 2, *range(6), *range(6)]


@pytest.mark.slow_compiled
def test_data_sets_without_an_end():
    method = still(warmup_epochs=1)
    old, new = data_set(X_OLD, Y_OLD).repeat(), data_set(X, Y).repeat()
    with pytest.raises(ValueError, match="no end: give steps_per_epoch"):
        method.fit(new, old_data=old, epochs=2, verbose=0, shuffle=False)
    steps = []
    count = keras.callbacks.LambdaCallback(on_train_batch_end=lambda step, logs: steps.append(step))
    arguments = {"steps_per_epoch": 2, "callbacks": [count], "verbose": 0, "shuffle": False}
    method.fit(new, old_data=old, epochs=3, **arguments)
    assert steps == [0, 1, *range(4), *range(4)]


class Batches(keras.utils.PyDataset):
    def __len__(self):
        return 2

    def __getitem__(self, index):
        return X[index::2], Y[index::2]


REFUSED = {
    "no old data": ({"old_data": None}, r"data of the old tasks \['old'\]\. Received: \[\]"),
    "unknown task": ({"old_data": {"other": (X_OLD, Y_OLD)}}, r"Received: \['other'\]"),
    "not a pair": ({"old_data": (X_OLD,)}, "Received: a tuple of 1"),
    "no old labels": ({"old_data": X_OLD}, "images of 'old' need labels"),
    "no labels": ({"y": None}, "images of 'new' need labels"),
    "old classes": (
        {"old_data": (X_OLD, Y_OLD + 6)},
        "labels of 'old' must be from 0 to 3.*6 to 9",
    ),
    "old size": ({"old_data": (X_OLD[:, :7], Y_OLD)}, r"shape \(8, 8, 3\).*Received: \(7, 8, 3\)"),
    "batches": ({"x": Batches(), "y": None}, "must all be arrays.*Received: ndarray, Batches"),
    "old batches": ({"old_data": Batches()}, "must all be arrays.*Received: Batches, ndarray"),
    "lists": ({"x": X.tolist()}, "must all be arrays.*Received: ndarray, list"),
    "weights": ({"sample_weight": np.ones(5)}, r"each of the 48 images of 'new'.*\(5,\)"),
    "few labels": ({"y": Y[:5], "class_weight": {0: 2.0}}, "48 images, 5 labels"),
    "both weights": (
        {"sample_weight": np.ones(48), "class_weight": {0: 2.0}},
        "class_weight or sample weights, and not both",
    ),
    "split": ({"validation_split": 1.5}, "`validation_split` must be"),
    "small split": ({"validation_split": 0.99}, "images to learn from and to validate with"),
    "split batches": (
        {"x": Batches(), "y": None, "validation_split": 0.5},
        "needs arrays: give validation_data. Received: a Batches",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_work_is_refused_before_the_warm_up(case):
    given, message = REFUSED[case]
    begun = []
    note = keras.callbacks.LambdaCallback(on_train_begin=begun.append)
    arguments = {"x": X, "y": Y, "old_data": (X_OLD, Y_OLD), "callbacks": [note], "epochs": 2}
    with pytest.raises(ValueError, match=message):
        still(warmup_epochs=1).fit(verbose=0, **(arguments | given))
    assert not begun


@pytest.mark.slow_compiled
def test_old_data_are_let_go():
    old = X_OLD.copy()
    gone = weakref.ref(old)
    method = still(warmup_epochs=1)
    method.fit(X, Y, old_data=(old, Y_OLD), epochs=2, verbose=0)
    del old
    gc.collect()
    assert gone() is None


@pytest.mark.slow
def test_data_sets_on_two_devices(two_devices):
    """In batches of several sizes, the last ones smaller."""
    tf = pytest.importorskip("tensorflow")
    weights = []
    for strategy in (None, two_devices):
        with contextlib.nullcontext() if strategy is None else strategy.scope():
            method = JointTraining(network(dropout=0.0), 3, warmup_epochs=1)
            method.compile(keras.optimizers.SGD(0.05, momentum=0.9))
            new = tf.data.Dataset.from_tensor_slices((X[:46], Y[:46])).batch(8)
            old = tf.data.Dataset.from_tensor_slices((X_OLD, Y_OLD)).batch(7)
            method.fit(new, old_data=old, epochs=3, verbose=0, shuffle=False)
        weights.append(method.network.get_weights())
    for one, other in zip(*weights, strict=True):
        np.testing.assert_allclose(one, other, atol=2e-5)


class Kill(keras.callbacks.Callback):
    def on_train_batch_end(self, batch, logs=None):
        if self.model.stage.name == "joint training" and batch == 40:
            raise InterruptedError


@pytest.mark.slow_compiled
def test_a_run_on_loaded_data_goes_on_within_an_epoch(tmp_path):
    pytest.importorskip("tensorflow")
    how = {"image_size": 8, "channels": 3, "preprocess": "unit", "validation": 0, "batch_size": 16}

    def run(folder, *kill):
        new, old = load("digits", only=range(3), **how), load("digits", only=range(3, 7), **how)
        method = JointTraining(network(dropout=0.0), 3, warmup_epochs=1)
        method.compile(keras.optimizers.SGD(0.05, momentum=0.9))
        state = TrainingState(folder, [new, old], save_freq=15)
        method.fit(
            new.train,
            old_data=old.train,
            epochs=3,
            verbose=0,
            shuffle=False,
            callbacks=[*kill, state],
        )
        return method.network.get_weights(), state.resumed

    whole, _ = run(tmp_path / "whole")
    with pytest.raises(InterruptedError):
        run(tmp_path / "part", Kill())
    parts, resumed = run(tmp_path / "part")
    assert resumed == (1, 30)
    for one, other in zip(whole, parts, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.slow_compiled
def test_a_position_of_the_new_data_alone_is_refused(tmp_path):
    pytest.importorskip("tensorflow")
    new = load("digits", only=range(3), image_size=8, channels=3, validation=0)
    with pytest.raises(ValueError, match=r"TrainingState\(folder, \[new, old\]\)"):
        still().fit(
            new.train, old_data=new.train, callbacks=[TrainingState(tmp_path, new)], verbose=0
        )
