"""Heads for several labels at once, beside heads for one of many."""

import keras
import numpy as np
import pytest
from keras import layers

from keras_cnn_classics import transfer
from keras_cnn_classics.transfer import heads
from tests.marks import slow

RNG = np.random.default_rng(0)
IMAGES = RNG.normal(size=(64, 6, 6, 1)).astype("float32")
# Whether the left half is brighter, the upper one, and both.
LEFT = IMAGES[:, :, :3].sum((1, 2, 3)) > IMAGES[:, :, 3:].sum((1, 2, 3))
UPPER = IMAGES[:, :3].sum((1, 2, 3)) > IMAGES[:, 3:].sum((1, 2, 3))
SEVERAL = np.stack([LEFT, UPPER, LEFT & UPPER], 1).astype("float32")
ONE = LEFT + 2 * UPPER

METHODS = {
    "fine-tuning": (transfer.FineTuning, {"warmup_epochs": 1}),
    "feature extraction": (transfer.FeatureExtraction, {"cache": None}),
    "without forgetting": (transfer.LearningWithoutForgetting, {"warmup_epochs": 1}),
}
methods = pytest.mark.parametrize("name", METHODS)


def network(activation="softmax", classes=3, ending=None):
    inputs = keras.Input((6, 6, 1))
    x = layers.Flatten(name="flatten")(inputs)
    x = layers.Dense(8, "relu", name="fc1")(x)
    x = layers.Dense(classes, activation, name="predictions")(x)
    return keras.Model(inputs, x if ending is None else ending(x), name="net")


def learner(name, model, classes, **options):
    kind, more = METHODS[name]
    return kind(model, classes, **more, **options)


def binary_crossentropy(y, p):
    p = np.clip(p, 1e-7, 1 - 1e-7)
    return -(y * np.log(p) + (1 - y) * np.log(1 - p)).mean()


@methods
@pytest.mark.parametrize("old", ["softmax", slow("sigmoid")])
def test_a_head_for_several_labels_is_trained_measured_and_exported(name, old):
    model = network(old)
    method = learner(name, model, 3, multi_label=True)
    method.compile(keras.optimizers.Adam(0.01), metrics=["accuracy"])
    # The penalties of the weights and, of LwF, the answers to the old task are no labels' loss.
    labels_loss = method.evaluate(IMAGES, SEVERAL, verbose=0, return_dict=True)
    first = method.predict(IMAGES, verbose=0)["new"]
    assert labels_loss["accuracy"] == pytest.approx(((first > 0.5) == SEVERAL).mean(), abs=1e-6)
    if name != "without forgetting":
        assert labels_loss["loss"] == pytest.approx(binary_crossentropy(SEVERAL, first), rel=1e-4)

    history = method.fit(IMAGES, SEVERAL, 16, 12, verbose=0, validation_data=(IMAGES, SEVERAL))
    answers = method.predict(IMAGES, verbose=0)
    right = ((answers["new"] > 0.5) == SEVERAL).mean()
    assert history.history["val_accuracy"][-1] == pytest.approx(right, abs=1e-6)
    assert right > ((first > 0.5) == SEVERAL).mean()

    exported = method.export_model()
    assert heads.form_of(exported.output["new"]) == "sigmoid"
    assert heads.form_of(exported.output["old"]) == heads.form_of(model.output)
    np.testing.assert_allclose(exported.predict(IMAGES, verbose=0)["new"], answers["new"], 1e-5)
    assert transfer.accuracies(exported, {"new": (IMAGES, SEVERAL)})["new"] == pytest.approx(right)


@pytest.mark.slow_compiled
@methods
def test_a_head_for_one_of_many_beside_one_for_several(name):
    method = learner(name, network("sigmoid"), 4)
    assert (method.form("old"), method.form("new")) == ("sigmoid", "softmax")
    method.compile(keras.optimizers.Adam(0.01), metrics=["accuracy"])
    method.fit(IMAGES, ONE, 16, 12, verbose=0)
    answers = method.predict(IMAGES, verbose=0)
    np.testing.assert_allclose(answers["new"].sum(-1), 1, rtol=1e-5)
    found = transfer.accuracies(method, {"new": (IMAGES, ONE), "old": (IMAGES, SEVERAL)})
    assert found["new"] == (answers["new"].argmax(-1) == ONE).mean()
    assert found["old"] == pytest.approx(((answers["old"] > 0.5) == SEVERAL).mean())


def test_the_old_labels_are_kept_by_a_sigmoid_each():
    model = network("sigmoid")
    method = transfer.LearningWithoutForgetting(model, 4, decay=0, warmup_epochs=0, old_weight=3)
    method.compile(keras.optimizers.SGD(0.0))
    history = method.fit(IMAGES, ONE, 64, 1, verbose=0)
    p = np.clip(model.predict(IMAGES, verbose=0), 1e-7, 1 - 1e-7)
    soft = 1 / (1 + ((1 - p) / p) ** (1 / 2))  # the sigmoid of half the score, T = 2
    entropy = -(soft * np.log(soft) + (1 - soft) * np.log(1 - soft)).sum(-1).mean()
    assert history.history["old_loss"][0] == pytest.approx(3 * entropy, rel=1e-4)
    assert history.history["loss"][0] == pytest.approx(
        history.history["new_loss"][0] + history.history["old_loss"][0], rel=1e-5
    )


@pytest.mark.slow_compiled
@pytest.mark.parametrize(
    ("activation", "ending"),
    [
        (None, layers.Softmax(name="answers")),
        (None, layers.Activation("softmax", name="answers")),
        (None, keras.ops.softmax),
        ("softmax", layers.Activation("linear", name="answers", dtype="float32")),
        ("softmax", layers.Reshape((3,))),
    ],
    ids=["Softmax", "Activation", "keras.ops", "behind it", "Reshape"],
)
def test_endings_are_made_anew(activation, ending):
    model = network(activation, ending=ending)
    method = transfer.FineTuning(model, 2, multi_label=True)
    assert (method.form("old"), method.form("new")) == ("softmax", "sigmoid")
    answers = method.predict(10 * IMAGES, verbose=0)
    np.testing.assert_allclose(answers["old"], model.predict(10 * IMAGES, verbose=0), atol=1e-6)
    # A sigmoid of probabilities would be within 0.5 and 0.73.
    assert answers["new"].min() < 0.4
    again = transfer.FineTuning(model, 2)
    np.testing.assert_allclose(again.predict(IMAGES, verbose=0)["new"].sum(1), 1, rtol=1e-5)
    with pytest.raises(ValueError, match="cannot be made those of a sigmoid"):
        transfer.FineTuning(network(None, ending=layers.Reshape((3,))), 2, multi_label=True)


@pytest.mark.slow_compiled
def test_yes_or_no_is_one_label():
    with pytest.raises(ValueError, match="multi_label=True"):
        transfer.FineTuning(network(), 1)
    method = transfer.FineTuning(network(), 1, multi_label=True, warmup_epochs=1)
    method.compile(keras.optimizers.Adam(0.01), metrics=["accuracy"])
    history = method.fit(IMAGES, LEFT.astype("float32"), 16, 20, verbose=0)
    right = (method.predict(IMAGES, verbose=0)["new"][:, 0] > 0.5) == LEFT
    assert history.history["accuracy"][-1] > 0.8
    measured = transfer.accuracies(method, {"new": (IMAGES, LEFT.astype(int))})
    assert measured["new"] == pytest.approx(right.mean())


def test_labels_of_another_kind_are_refused():
    method = transfer.FineTuning(network(), 3, multi_label=True)
    method.compile("sgd")
    for labels in (ONE, SEVERAL[:, :2], 2 * SEVERAL):
        with pytest.raises(ValueError, match="must be 0 or 1 in 3 columns"):
            method.fit(IMAGES, labels, verbose=0)


def test_a_student_of_several_labels_is_measured_label_by_label():
    student = network("sigmoid")
    method = transfer.Distillation(student, network("sigmoid"))
    method.compile("sgd", metrics=["accuracy"])
    found = method.evaluate(IMAGES, SEVERAL, verbose=0, return_dict=True)
    right = ((method.predict(IMAGES, verbose=0) > 0.5) == SEVERAL).mean()
    assert found["accuracy"] == pytest.approx(right, abs=1e-6)


@pytest.mark.slow_compiled
@methods
def test_files_and_sample_weights(name, tmp_path):
    method = learner(name, network(None), 3, multi_label=True)
    method.compile(keras.optimizers.SGD(0.1), metrics=["accuracy"])
    weights = np.r_[np.ones(32), np.zeros(32)]
    method.fit(IMAGES, SEVERAL, 16, 2, verbose=0, sample_weight=weights)
    method.save(tmp_path / "method.keras")
    loaded = keras.saving.load_model(tmp_path / "method.keras")
    before = method.evaluate(IMAGES, SEVERAL, verbose=0, return_dict=True)
    after = loaded.evaluate(IMAGES, SEVERAL, verbose=0, return_dict=True)
    assert after == pytest.approx(before, rel=1e-5)
