"""The two-by-two of the lectures, and the similarity of images."""

import inspect

import keras
import numpy as np
import pytest
from keras import layers
from sklearn.datasets import load_digits

from keras_cnn_classics import transfer
from keras_cnn_classics.transfer.advice import FAR, LITTLE, MUCH, NEAR


@pytest.mark.parametrize(
    ("images", "similarity", "method", "arguments", "earlier"),
    [
        (20, "near", "FeatureExtraction", {}, False),
        (np.int64(20), "near", "FeatureExtraction", {}, False),
        (20, "far", "FeatureExtraction", {}, True),
        (5000, "near", "FineTuning", {"train_from": "last_block"}, False),
        (5000, "far", "FineTuning", {"train_from": "all"}, False),
        (LITTLE - 1, NEAR, "FeatureExtraction", {}, False),
        (LITTLE - 1, 0, "FeatureExtraction", {}, True),
        (MUCH, 1, "FineTuning", {"train_from": "last_block"}, False),
        (MUCH, FAR - 0.01, "FineTuning", {"train_from": "all"}, False),
    ],
)
def test_the_four_clear_cases(images, similarity, method, arguments, earlier):
    advice = transfer.advise(images, similarity)
    assert (advice.method, advice.arguments, advice.earlier) == (method, arguments, earlier)
    assert not advice.borderline
    assert (method == "FineTuning") == any("LearningWithoutForgetting" in x for x in advice.reasons)
    assert set(arguments) <= set(inspect.signature(getattr(transfer, method)).parameters)


def test_a_head_alone_has_five_times_the_rate():
    head, near, far = (
        transfer.advise(*case).rate for case in ((20, "near"), (5000, "near"), (5000, "far"))
    )
    assert head == 5 * near == 5 * far


@pytest.mark.parametrize(
    ("images", "similarity", "method", "others"),
    [
        (400, "near", "FineTuning", ["400 images", "try FeatureExtraction()"]),
        (300, "far", "FeatureExtraction", ["300 images", "try FineTuning(train_from='all')"]),
        (20, 0.08, "FeatureExtraction", ["0.08", "try FeatureExtraction(), too"]),
        (2000, 0.15, "FineTuning", ["0.15", "try FineTuning(train_from='all')"]),
        (300, 0.08, "FeatureExtraction", ["300 images", "0.08"]),
    ],
)
def test_borderline_cases_name_the_other_choice(images, similarity, method, others):
    advice = transfer.advise(images, similarity)
    assert advice.borderline
    assert advice.method == method
    assert all(one in str(advice) for one in others)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0, "near"), "`n_images_per_class` must be"),
        ((100, "similar"), "'near', 'far' or a number"),
        ((100, 1.2), "`similarity` must be"),
        ((100, -0.1), "`similarity` must be"),
        ((100, None), "`similarity` must be"),
    ],
)
def test_wrong_cases_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        transfer.advise(*arguments)


def digits_network():
    """A network after training on the digits 0 to 4."""
    digits = load_digits()
    images = (digits.images[..., None] / 16).astype("float32")
    inputs = keras.Input((8, 8, 1))
    x = layers.Conv2D(16, 3, activation="relu", name="conv1")(inputs)
    x = layers.Dense(32, "relu", name="fc1")(layers.Flatten()(x))
    model = keras.Model(inputs, layers.Dense(5, "softmax", name="predictions")(x))
    model.compile("adam", "sparse_categorical_crossentropy")
    old = digits.target < 5
    model.fit(images[old], digits.target[old], 64, 5, verbose=0)
    return model, images[old], images[~old]


@pytest.mark.slow_compiled
def test_similarity_puts_images_in_their_order():
    model, old, new = digits_network()
    noise = np.random.default_rng(0).random((400, 8, 8, 1)).astype("float32")
    same = transfer.similarity(model, old[::2], old[1::2])
    digits = transfer.similarity(model, old, new)
    far = transfer.similarity(model, old, noise)
    assert 0 <= far < 0.1 < NEAR < digits < 0.7 < 0.85 < same <= 1
    assert transfer.similarity(model, old, new) == digits
    assert transfer.similarity(model, new, old) == pytest.approx(digits, abs=0.1)
    first = transfer.similarity(model, old, new, layer="conv1", images=100, seed=3)
    assert 0 < first < 1


def test_similarity_of_features_that_are_known():
    """Two sets on a line that overlap by half: the best cut is wrong for a quarter of each."""
    inputs = keras.Input((1,))
    model = keras.Model(inputs, layers.Dense(2, "softmax")(layers.Identity()(inputs)))
    line = np.linspace(0, 1, 1000, dtype="float32")[:, None]
    assert transfer.similarity(model, line, line + 0.5) == pytest.approx(0.5, abs=0.02)
    assert transfer.similarity(model, line, line + 2) == 0


def test_similarity_of_data_sets_that_need_not_end():
    import tensorflow as tf

    inputs = keras.Input((2, 2, 3))
    x = layers.Conv2D(4, 1, name="features")(inputs)
    x = layers.GlobalAveragePooling2D()(x)
    model = keras.Model(inputs, layers.Dense(2)(x))
    rng = np.random.default_rng(0)
    old, new = rng.normal(size=(2, 60, 2, 2, 3)).astype("float32")
    batches = [
        tf.data.Dataset.from_tensor_slices((x, np.zeros(60))).batch(7).repeat() for x in (old, new)
    ]
    by_arrays = transfer.similarity(model, old, new, images=60)
    found = transfer.similarity(model, *batches, images=60)
    assert found == pytest.approx(by_arrays, abs=0.2)
    maps = transfer.similarity(model, *batches, images=60, layer="features")
    assert maps == pytest.approx(found)


@pytest.mark.parametrize(
    ("old", "more", "message"),
    [
        (None, {}, r"advise\(n, 'near'\)"),
        (np.ones((19, 4)), {}, "20 images at least. Received: 19"),
        (np.ones((30, 5)), {}, r"`old_images` must have the shape \(4,\)"),
        (np.full((30, 4), np.nan), {}, "not finite"),
        (np.ones((30, 4)), {"layer": "conv"}, "`layer` must be one of"),
        (np.ones((30, 4)), {"images": 10}, "`images` must be"),
    ],
)
def test_what_cannot_be_compared_is_refused(old, more, message):
    inputs = keras.Input((4,))
    model = keras.Model(inputs, layers.Dense(2)(layers.Dense(3)(inputs)))
    with pytest.raises(ValueError, match=message):
        transfer.similarity(model, old, np.ones((30, 4)), **more)
