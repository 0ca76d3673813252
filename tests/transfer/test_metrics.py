"""Accuracies by task, the numbers of a sequence of tasks, and the weights of classes."""

import keras
import numpy as np
import pytest
from keras import layers
from sklearn.metrics import accuracy_score
from sklearn.utils.class_weight import compute_class_weight

from keras_cnn_classics import transfer

RNG = np.random.default_rng(0)
IMAGES = RNG.normal(size=(150, 4)).astype("float32")


def two_tasks():
    inputs = keras.Input((4,))
    x = layers.Dense(5, "relu")(inputs)
    outputs = {"old": layers.Dense(3, "softmax")(x), "new": layers.Dense(2, "sigmoid")(x)}
    return keras.Model(inputs, outputs)


def test_accuracies_of_two_tasks_against_scikit_learn():
    model = two_tasks()
    found = model.predict(IMAGES, verbose=0)
    one = RNG.integers(0, 3, 150)
    several = RNG.integers(0, 2, (150, 2))
    right = accuracy_score(one, found["old"].argmax(-1))
    measured = transfer.accuracies(model, {"new": (IMAGES, several), "old": (IMAGES, one)})
    assert list(measured) == ["new", "old"]
    assert measured["old"] == pytest.approx(right, abs=0)
    assert measured["new"] == pytest.approx(((found["new"] > 0.5) == several).mean(), abs=0)
    for labels in (one[:, None], keras.utils.to_categorical(one, 3)):
        assert transfer.accuracies(model, {"old": (IMAGES, labels)}) == {"old": right}


def test_each_image_of_a_data_set_counts_once():
    import tensorflow as tf

    inputs = keras.Input((4,))
    model = keras.Model(inputs, layers.Dense(3)(inputs))
    labels = RNG.integers(0, 3, 150)
    batches = tf.data.Dataset.from_tensor_slices((IMAGES, labels)).shuffle(150).batch(64)
    right = accuracy_score(labels, model.predict(IMAGES, verbose=0).argmax(-1))
    assert transfer.accuracies(model, {"digits": batches}) == {"digits": right}
    with pytest.raises(ValueError, match="batches that end"):
        transfer.accuracies(model, {"digits": batches.repeat()})


def test_a_method_is_measured_on_its_tasks():
    inputs = keras.Input((4,))
    model = keras.Model(inputs, layers.Dense(3, "softmax")(layers.Dense(5, "relu")(inputs)))
    tuned = transfer.FineTuning(model, 2)
    labels = RNG.integers(0, 2, 150)
    found = transfer.accuracies(tuned, {"new": (IMAGES, labels)})
    right = accuracy_score(labels, tuned.predict(IMAGES, verbose=0)["new"].argmax(-1))
    assert found == {"new": right}


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ((IMAGES, np.zeros(150)), "must be a dict"),
        ({}, "must be a dict"),
        ({"third": (IMAGES, np.zeros(150))}, r"\['new', 'old'\].*\['third'\]"),
        ({"old": (IMAGES[:, :3], np.zeros(150))}, "must have the shape"),
        ({"old": (IMAGES, np.full(150, 3))}, "from 0 to 2"),
        ({"old": (IMAGES[:9], np.zeros(8))}, "labels for all images"),
        ({"new": (IMAGES, np.zeros(150))}, "0 or 1 in 2 columns"),
    ],
)
def test_what_cannot_be_measured_is_refused(data, message):
    with pytest.raises(ValueError, match=message):
        transfer.accuracies(two_tasks(), data)


# Three tasks; the second was known better after the third had been learned.
MATRIX = [[0.90, 0.30, 0.20], [0.70, 0.80, 0.40], [0.60, 0.85, 0.95]]


def test_the_numbers_of_a_sequence_by_hand():
    matrix = transfer.TransferMatrix(["a", "b", "c"], MATRIX)
    assert matrix.average_accuracy() == pytest.approx((0.60 + 0.85 + 0.95) / 3)
    # max(0.90, 0.70) - 0.60 and max(0.30, 0.80) - 0.85
    assert matrix.forgetting() == pytest.approx((0.30 - 0.05) / 2)
    assert matrix.backward_transfer() == pytest.approx((-0.30 + 0.05) / 2)
    untrained = {"b": 0.25, "c": 0.1}
    assert matrix.forward_transfer(untrained) == pytest.approx((0.05 + 0.30) / 2)
    with pytest.raises(ValueError, match=r"\['c'\]"):
        matrix.forward_transfer({"b": 0.25})


def test_forgetting_is_from_the_best_there_ever_was():
    # After the second task the first is known best; backward transfer looks at the diagonal only.
    matrix = transfer.TransferMatrix(list("abc"), [[0.5, 0, 0], [0.9, 0.8, 0], [0.6, 0.8, 0.7]])
    assert matrix.forgetting() == pytest.approx((0.3 + 0.0) / 2)
    assert matrix.backward_transfer() == pytest.approx((0.1 + 0.0) / 2)


def test_what_was_not_measured_counts_in_no_mean():
    matrix = transfer.TransferMatrix(["a", "b", "c"])
    assert np.isnan(matrix.average_accuracy())
    matrix.learned("a", {"a": 0.9})
    matrix.learned("b", {"b": 0.8})
    matrix.learned("c", {"a": 0.6, "b": 0.7, "c": 0.5})
    assert np.isnan(matrix.values[1, 0])
    assert matrix.average_accuracy() == pytest.approx(0.6)
    assert matrix.forgetting() == pytest.approx((0.3 + 0.1) / 2)
    assert np.isnan(matrix.forward_transfer({"b": 0.5, "c": 0.5}))
    matrix.learned("c", {"b": 0.75, "c": 0.5})  # measured anew: the row is replaced
    assert matrix.forgetting() == pytest.approx(0.05)
    assert matrix.backward_transfer() == pytest.approx(-0.05)
    assert matrix.average_accuracy() == pytest.approx(0.625)


def test_one_task_has_nothing_to_forget():
    matrix = transfer.TransferMatrix(["a"], [[0.9]])
    assert matrix.average_accuracy() == 0.9
    for number in (matrix.forgetting(), matrix.backward_transfer(), matrix.forward_transfer({})):
        assert np.isnan(number)


def test_wrong_sequences_are_refused():
    for tasks in ([], ["a", "a"]):
        with pytest.raises(ValueError, match="different names"):
            transfer.TransferMatrix(tasks)
    with pytest.raises(ValueError, match=r"\(2, 2\)"):
        transfer.TransferMatrix(["a", "b"], MATRIX)
    with pytest.raises(ValueError, match=r"\['c'\]"):
        transfer.TransferMatrix(["a", "b"]).learned("a", {"c": 0.5})


LABELS = np.repeat([0, 1, 3], [60, 30, 10])  # no image of class 2


def test_balanced_weights_are_those_of_scikit_learn():
    expected = compute_class_weight("balanced", classes=np.array([0, 1, 3]), y=LABELS)
    columns = keras.utils.to_categorical(LABELS, 4)
    for labels in (LABELS, LABELS[:, None], LABELS.tolist(), columns):
        weights = transfer.class_weights(labels)
        assert list(weights) == [0, 1, 3]
        np.testing.assert_allclose(list(weights.values()), expected)
    assert sum(weights[one] for one in LABELS) == pytest.approx(len(LABELS))


def test_effective_numbers_by_hand():
    # 1 + 0.5 + 0.25 for three images, 1 for one
    weights = transfer.class_weights([0, 0, 0, 1], "effective", beta=0.5)
    assert weights[1] / weights[0] == pytest.approx(1.75)
    assert weights[0] + weights[1] == pytest.approx(2)
    assert transfer.class_weights([False, False, False, True], "effective", beta=0.5) == weights
    even = transfer.class_weights(LABELS, "effective", beta=0)
    assert list(even.values()) == pytest.approx([1, 1, 1])
    inverse = transfer.class_weights(LABELS, "effective", beta=1 - 1e-9)
    assert inverse[3] / inverse[0] == pytest.approx(6, rel=1e-4)


def test_fit_takes_the_weights():
    images = np.ones((4, 1), "float32")
    labels = np.array([0, 0, 0, 1])
    model = keras.Sequential([keras.Input((1,)), layers.Dense(2, kernel_initializer="zeros")])
    model.compile(
        keras.optimizers.SGD(1.0), keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    )
    model.fit(images, labels, 4, verbose=0, class_weight=transfer.class_weights(labels))
    # Both classes pull alike, so even odds stay.
    np.testing.assert_allclose(model.get_weights()[0], 0, atol=1e-7)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([], "Received"),
        ([0.5, 1], "must be integers"),
        ([-1, 1], "must be integers"),
        (["a", "b"], "must be integers"),
        ([[1, 1], [0, 1]], "one-hot"),
        (np.zeros((2, 2, 2)), "must be integers"),
    ],
)
def test_labels_without_a_class_each_are_refused(labels, message):
    with pytest.raises(ValueError, match=message):
        transfer.class_weights(labels)


def test_wrong_arguments_are_refused():
    with pytest.raises(ValueError, match="'balanced' or 'effective'"):
        transfer.class_weights([0, 1], "even")
    with pytest.raises(ValueError, match="`beta` must be"):
        transfer.class_weights([0, 1], "effective", beta=1)
