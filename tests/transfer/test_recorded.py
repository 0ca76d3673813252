"""Answers are found again by the images they belong to."""

import logging

import keras
import numpy as np
import pytest

from keras_cnn_classics.data.batches.recorded import (
    ChangingError,
    Recorded,
    digests,
    joined,
    recurring,
)
from keras_cnn_classics.transfer import Distillation, LearningWithoutForgetting, responses
from tests.marks import slow_compiled
from tests.transfer.networks import X_OLD, X, Y, network

tf = pytest.importorskip("tensorflow")


class Counting:
    """Answers with the means of images, and counts them."""

    def __init__(self):
        self.images = 0

    def __call__(self, images):
        self.images += len(images)
        return {"mean": images.mean((1, 2, 3)), "first": images[:, 0, 0]}


def data_set(x=X, y=Y, batch=10, change=False, reshuffle=True):
    found = tf.data.Dataset.from_tensor_slices((x, y))
    found = found.shuffle(len(x), seed=1, reshuffle_each_iteration=reshuffle).batch(batch)
    return found.map(lambda a, b: (a + tf.random.normal(tf.shape(a)), b)) if change else found


class Batches(keras.utils.PyDataset):
    def __len__(self):
        return 4

    def __getitem__(self, i):
        return X[i::4], Y[i::4]


@pytest.mark.parametrize("kind", ["array", "dataset", "pydataset"])
def test_each_image_has_its_own_answer(kind):
    compute = Counting()
    recorded = Recorded(compute)
    for part in (X[:20], X[10:], X):
        recorded.add(part)
    assert compute.images == len(recorded) == len(X)
    x = {"array": X, "dataset": data_set(), "pydataset": Batches()}[kind]
    found = joined(x, recorded)
    if kind == "array":
        batches = [(found, Y)]
    else:
        batches = list(found) if kind == "dataset" else [found[i] for i in range(len(found))]
    seen = 0
    for batch, labels in batches:
        images = np.asarray(batch["images"])
        np.testing.assert_array_equal(batch["answers"]["mean"], images.mean((1, 2, 3)))
        np.testing.assert_array_equal(batch["answers"]["first"], images[:, 0, 0])
        seen += len(labels)
    assert seen == len(X)


def test_what_is_not_known_is_marked():
    recorded = Recorded(Counting())
    recorded.add(X[:4])
    blank = np.zeros_like(X[:1])
    answers, known = recorded.find(digests(np.concatenate([X[2:5], blank])))
    assert known.tolist() == [True, True, False, False]
    np.testing.assert_array_equal(answers["mean"][:2], X[2:4].mean((1, 2, 3)))
    assert not answers["mean"][2:].any()
    recorded.keep(digests(X[1:3]))
    answers, known = recorded.find(digests(X[:4]))
    assert known.tolist() == [False, True, True, False]
    np.testing.assert_array_equal(answers["first"][1:3], X[1:3, 0, 0])
    with pytest.raises(TypeError, match="Received: list"):
        joined([X], recorded)


@pytest.mark.parametrize("kind", [slow_compiled("array"), "dataset"])
def test_lwf_with_recorded_and_live_answers_is_the_same(kind):
    weights = []
    for how in ("recorded", "live"):
        learner = LearningWithoutForgetting(
            network(dropout=0.0), 3, warmup_epochs=1, responses=how, old_weight=2.0
        )
        learner.compile(keras.optimizers.SGD(0.05, 0.9))
        keras.utils.set_random_seed(5)
        data = (X, Y) if kind == "array" else (data_set(reshuffle=False),)
        learner.fit(*data, epochs=3, verbose=0, shuffle=kind == "array")
        weights.append(learner.network.get_weights())
    for one, other in zip(*weights, strict=True):
        np.testing.assert_allclose(one, other, atol=2e-5)


@pytest.mark.slow_compiled
def test_images_that_change_are_answered_live(caplog):
    learner = LearningWithoutForgetting(network(), 3, warmup_epochs=0)
    learner.compile("sgd")
    with caplog.at_level(logging.INFO, "keras_cnn_classics"):
        history = learner.fit(data_set(change=True), epochs=1, verbose=0, shuffle=False)
    assert "the old answers are computed at each step" in caplog.text
    assert history.history["old_loss"][0] > 0
    learner = LearningWithoutForgetting(network(), 3, warmup_epochs=0, responses="recorded")
    learner.compile("sgd")
    with pytest.raises(ValueError, match=r"the same in each epoch.*responses='live'"):
        learner.fit(data_set(change=True), epochs=1, verbose=0, shuffle=False)
    with pytest.raises(ValueError, match="the same in each epoch"):
        learner.fit(data_set().repeat(), steps_per_epoch=2, verbose=0, shuffle=False)


class Turning(keras.utils.PyDataset):
    """Images that come again within an epoch, and are others in the next one."""

    def __init__(self):
        super().__init__()
        self.sign, self.begun = 1.0, 0

    def __len__(self):
        return 3

    def __getitem__(self, i):
        return self.sign * X[i::3], Y[i::3]

    def on_epoch_begin(self):
        self.begun += 1

    def on_epoch_end(self):
        self.sign = -self.sign


METHODS = {
    "lwf": lambda how: LearningWithoutForgetting(
        network(dropout=0.0), 3, warmup_epochs=0, responses=how
    ),
    "distillation": lambda how: Distillation(
        network(seed=1, dropout=0.0), [network(), network(seed=2)], responses=how
    ),
}


@pytest.mark.slow_compiled
@pytest.mark.parametrize("name", METHODS)
def test_images_that_were_not_recorded_are_answered_live(name):
    weights, begun = [], []
    for how in ("recorded", "live"):
        method = METHODS[name](how)
        method.compile(keras.optimizers.SGD(0.05, 0.9))
        keras.utils.set_random_seed(5)
        data = Turning()
        method.fit(data, epochs=3, verbose=0, shuffle=False)
        begun.append(data.begun)
        assert len(method._recorded) == (len(X) if how == "recorded" else 0)
        weights.append(method.network.get_weights())
    assert begun[0] == begun[1] >= 3  # some backends begin once more
    for one, other in zip(*weights, strict=True):
        np.testing.assert_allclose(one, other, atol=2e-5)


def dropping(seed=0):
    """Batches of 46 images that leave out two of them, others each time."""
    found = tf.data.Dataset.from_tensor_slices((X[:46], Y[:46]))
    return found.shuffle(46, seed=seed).batch(4, drop_remainder=True)


@pytest.mark.slow_compiled
@pytest.mark.parametrize("name", METHODS)
def test_batches_that_leave_out_other_images_each_time(name):
    method = METHODS[name]("recorded")
    method.compile("sgd")
    history = method.fit(dropping(), epochs=3, verbose=0, shuffle=False)
    assert np.isfinite(history.history["loss"]).all()
    assert 44 <= len(method._recorded) <= 46


def test_all_images_come_at_least_once():
    for seed in range(5):
        compute = Counting()
        recorded = Recorded(compute)
        data = dropping(seed).filter(lambda *_: True)  # of unknown length
        batches = list(responses.recording(recorded, data, verbose=1))
        seen = [key for images, *_ in batches for key in digests(images)]
        assert compute.images == len(seen) == len(recorded)
        labels = np.concatenate([labels for _, labels in batches])
        place = {key: i for i, key in enumerate(digests(X))}
        np.testing.assert_array_equal(labels, Y[[place[key] for key in seen]])
        # Both passes have left out two, and what only one of them has left out is there.
        assert 44 <= len(seen) <= 46
    assert [len(images) for images, _ in recurring(data_set(), 0)] == [10] * 4 + [8]
    recorded.add(X)
    assert not list(recurring(data_set(), 0, recorded.keys))


@pytest.mark.parametrize("known", [False, True])
def test_progress_is_one_line_where_that_is_asked(known, capsys):
    """In a log, as of a job, each batch would have one."""
    data = X if known else data_set().filter(lambda *_: True)
    list(responses.recording(Recorded(Counting()), data, verbose=2))
    (line,) = capsys.readouterr().out.splitlines()
    assert line.split()[0] in ("2/2", "5/5")


@pytest.mark.parametrize("flips", [False, True])
def test_images_that_change_leave_nothing(flips):
    compute = Counting()
    recorded = Recorded(compute)
    recorded.add(X_OLD[:3])
    data = data_set(change=not flips)
    if flips:
        data = data_set().unbatch().map(lambda a, b: (tf.image.random_flip_left_right(a, 1), b))
        data = data.batch(10)
    with pytest.raises(ChangingError):
        list(responses.recording(recorded, data))
    assert list(recorded.keys) == digests(X_OLD[:3])
    assert flips or compute.images == 3


def nested(trunk_name, names, swapped=False):
    keras.utils.set_random_seed(3)
    inside = keras.Input((4,))
    trunk = keras.Model(inside, keras.layers.Dense(4, name=names[0])(inside), name=trunk_name)
    inputs = keras.Input((4,), name=names[1])
    first, second = (keras.layers.Dense(4, "relu", name=name) for name in names[2:4])
    a, b = trunk(inputs), first(trunk(inputs))
    pair = [b, a] if swapped else [a, b]
    return keras.Model(inputs, second(keras.layers.Subtract(name=names[4])(pair)))


def test_the_key_is_of_layers_wiring_and_weights_not_of_names():
    first = nested("trunk", "abcde")
    assert responses.key_of(first) == responses.key_of(nested("other", "vwxyz"))
    swapped = nested("trunk", "abcde", swapped=True)
    for one, other in zip(first.get_weights(), swapped.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    assert responses.key_of(first) != responses.key_of(swapped)
    first.trainable = False
    assert responses.key_of(first) == responses.key_of(nested("trunk", "abcde"))
    first.set_weights([w + 1 for w in first.get_weights()])
    assert responses.key_of(first) != responses.key_of(nested("trunk", "abcde"))
