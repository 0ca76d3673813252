"""Answers are found again by the images they belong to."""

import logging

import keras
import numpy as np
import pytest

from keras_cnn_classics.data.recorded import Recorded, UnknownImageError, joined
from keras_cnn_classics.transfer import FeatureExtraction, LearningWithoutForgetting, responses
from tests.transfer.networks import X, Y, network

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


def test_blanks_and_unknown_images():
    recorded = Recorded(Counting())
    recorded.add(X[:4])
    with_blank = np.concatenate([X[:2], np.zeros_like(X[:1])])
    assert recorded.answers(with_blank)["mean"][2] == 0
    with pytest.raises(UnknownImageError, match=r"1 of 3 images .* as augmented images do"):
        recorded.answers(X[2:5])
    with pytest.raises(TypeError, match="Received: list"):
        joined([X], recorded)


@pytest.mark.parametrize("kind", ["array", "dataset"])
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


def test_images_that_change_are_answered_live(caplog):
    learner = LearningWithoutForgetting(network(), 3, warmup_epochs=0)
    learner.compile("sgd")
    with caplog.at_level(logging.INFO, "keras_cnn_classics"):
        history = learner.fit(data_set(change=True), epochs=1, verbose=0, shuffle=False)
    assert "a copy of the old network answers" in caplog.text
    assert history.history["old_loss"][0] > 0
    learner = LearningWithoutForgetting(network(), 3, warmup_epochs=0, responses="recorded")
    learner.compile("sgd")
    with pytest.raises(ValueError, match=r"the same in each epoch.*responses='live'"):
        learner.fit(data_set(change=True), epochs=1, verbose=0, shuffle=False)
    with pytest.raises(ValueError, match="the same in each epoch"):
        learner.fit(data_set().repeat(), steps_per_epoch=2, verbose=0, shuffle=False)


@pytest.mark.parametrize("kind", ["array", "dataset"])
def test_features_are_computed_once_and_kept(tmp_path, kind, monkeypatch):
    data = (X, Y) if kind == "array" else (data_set(reshuffle=False),)

    def trained(cache):
        extraction = FeatureExtraction(network(dropout=0.0), 3, cache=cache)
        extraction.compile(keras.optimizers.SGD(0.1), metrics=["accuracy"])
        keras.utils.set_random_seed(2)
        extraction.fit(*data, epochs=3, verbose=0, shuffle=kind == "array")
        return extraction

    first = trained(tmp_path)
    files = list(tmp_path.iterdir())
    assert [file.name[:4] for file in files] == ["net-"]
    answering = responses.answering
    gone = lambda model: lambda images: pytest.fail("the features should be there")  # noqa: E731
    monkeypatch.setattr(responses, "answering", gone)
    second = trained(tmp_path)
    monkeypatch.setattr(responses, "answering", answering)
    through = trained(False)
    weights = first.network.get_layer("new_predictions").get_weights()
    for one in (second, through):
        found = one.network.get_layer("new_predictions").get_weights()
        for a, b in zip(weights, found, strict=True):
            np.testing.assert_allclose(a, b, atol=1e-5)


def test_a_stale_or_damaged_cache(tmp_path):
    file = tmp_path / "features.npz"

    def fit(seed):
        extraction = FeatureExtraction(network(seed=seed), 3, cache=file)
        extraction.compile("sgd")
        extraction.fit(X, Y, verbose=0)

    fit(0)
    fit(0)
    with pytest.raises(ValueError, match=r"features.npz holds the features of another network"):
        fit(1)
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    with pytest.raises(ValueError, match=r"holds no features, or is damaged.*delete it"):
        fit(0)
