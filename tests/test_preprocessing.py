"""Preprocessing against Keras's own, and the names of predictions."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_cnn_classics.preprocessing import (
    MODES,
    decode_predictions,
    imagenet_classes,
    preprocess_input,
    to_pixels,
)

X = np.random.default_rng(0).uniform(0, 255, (2, 5, 4, 3)).astype("float32")


@pytest.mark.parametrize("mode", ["caffe", "tf", "torch"])
@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
def test_as_keras(mode, data_format):
    x = X if data_format == "channels_last" else np.moveaxis(X, -1, 1)
    expected = keras.applications.imagenet_utils.preprocess_input(x.copy(), data_format, mode)
    before = x.copy()
    for given in (x, tf.constant(x), keras.ops.convert_to_tensor(x), x[0], x.astype("float64")):
        got = preprocess_input(given, mode, data_format)
        wanted = expected[0] if len(got.shape) == 3 else expected
        np.testing.assert_allclose(keras.ops.convert_to_numpy(got), wanted, rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(x, before)


@pytest.mark.parametrize("mode", MODES)
def test_integers_and_the_callers_array(mode):
    x = X.astype("uint8")
    before = x.copy()
    got = preprocess_input(x, mode)
    assert got.dtype == "float32"
    np.testing.assert_allclose(got, preprocess_input(before.astype("float32"), mode), rtol=1e-6)
    np.testing.assert_array_equal(x, before)
    floats = X.copy()
    assert not np.shares_memory(preprocess_input(floats, mode), floats)


def test_lenets_levels():
    page = np.array([0, 255], "uint8").reshape(1, 2, 1)
    np.testing.assert_allclose(preprocess_input(page, "lenet").ravel(), [-0.1, 1.175], rtol=1e-6)
    np.testing.assert_allclose(preprocess_input(page, "unit").ravel(), [0, 1])
    np.testing.assert_array_equal(preprocess_input(page, "none").ravel(), [0, 255])


def test_in_a_tf_data_pipeline_and_in_a_model():
    data = tf.data.Dataset.from_tensors(X).map(lambda x: preprocess_input(x, "caffe"))
    expected = preprocess_input(X, "caffe")
    np.testing.assert_allclose(next(iter(data)), expected)
    image = keras.Input((5, 4, 3))
    model = keras.Model(image, preprocess_input(image, "caffe"))
    np.testing.assert_allclose(keras.ops.convert_to_numpy(model(X)), expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((X, "cafe"), "'caffe'"),
        ((X, "caffe", "NHWC"), "'channels_last'"),
        ((X[..., :1], "torch"), "for 3 channels"),
        ((X[0, 0], "tf"), "3 axes"),
        ((np.moveaxis(X, -1, 1), "caffe"), "for 3 channels"),
    ],
)
def test_errors(arguments, message):
    with pytest.raises(ValueError, match=message) as caught:
        preprocess_input(*arguments)
    assert "Received" in str(caught.value)


def test_imagenet_classes():
    classes = imagenet_classes()
    assert len(classes) == len(set(wnid for wnid, _ in classes)) == 1000
    assert classes[0] == ("n01440764", "tench")
    assert classes[285] == ("n02124075", "Egyptian_cat")
    assert classes[999] == ("n15075141", "toilet_tissue")


def test_decode_predictions():
    scores = np.zeros((2, 1000), "float32")
    scores[0, 281], scores[0, 282], scores[1, 5] = 0.7, 0.2, 1.0
    first, second = decode_predictions(scores, top=2)
    assert [tuple(p) for p in first] == [
        ("n02123045", "tabby", pytest.approx(0.7)),
        ("n02123159", "tiger_cat", pytest.approx(0.2)),
    ]
    assert second[0].name == "electric_ray"
    assert second[0].score == 1.0
    named = decode_predictions([[0.1, 0.9]], class_names=["cat", "dog"])
    assert [p.name for p in named[0]] == ["dog", "cat"]
    assert named[0][0].id == "1"
    assert decode_predictions(keras.ops.convert_to_tensor(scores))[1][0].name == "electric_ray"


def test_scores_of_a_quantized_network():
    scores = np.array([[3, 2, 0]], "uint8")
    names = [p.name for p in decode_predictions(scores, class_names=["a", "b", "c"])[0]]
    assert names == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("scores", "kwargs", "message"),
    [
        (np.zeros((1, 10)), {}, "class_names"),
        (np.zeros(1000), {}, r"\(batch, 1000\)"),
        (np.zeros((1, 2)), {"class_names": ["a"]}, r"\(batch, 1\)"),
        (np.zeros((1, 1000)), {"top": 0}, "positive"),
        (np.zeros((1, 1000)), {"top": 2.5}, "positive integer"),
        (np.full((1, 1000), np.nan), {}, "finite"),
    ],
)
def test_decode_errors(scores, kwargs, message):
    with pytest.raises(ValueError, match=message) as caught:
        decode_predictions(scores, **kwargs)
    assert "Received" in str(caught.value)


@pytest.mark.parametrize("layout", ["channels_last", "channels_first"])
@pytest.mark.parametrize("mode", sorted(MODES))
def test_to_pixels_undoes_it(mode, layout):
    wanted = max(len(getattr(MODES[mode], part)) for part in ("mean", "std"))
    shape = (2, 5, 7, 1 if wanted == 1 else 3)
    pixels = np.random.default_rng(0).integers(0, 256, shape, "uint8")
    if layout == "channels_first":
        pixels = np.moveaxis(pixels, -1, 1)
    prepared = preprocess_input(pixels, mode, layout)
    assert not np.array_equal(prepared, pixels) or mode == "none"
    np.testing.assert_array_equal(to_pixels(prepared, mode, layout), pixels)
    np.testing.assert_array_equal(to_pixels(prepared[0], mode, layout), pixels[0])


@pytest.mark.parametrize("layout", ["channels_last", "channels_first"])
def test_to_pixels_of_clips(layout):
    clips = np.random.default_rng(0).integers(0, 256, (2, 4, 5, 6, 3), "uint8")
    if layout == "channels_first":
        clips = np.moveaxis(clips, -1, 1)
    prepared = preprocess_input(clips, "caffe", layout)
    np.testing.assert_array_equal(to_pixels(prepared, "caffe", layout), clips)


def test_to_pixels_keeps_in_their_range():
    found = to_pixels(np.array([[[-5.0], [0.5], [9.0]]]), "unit", "channels_last")
    assert found.ravel().tolist() == [0, 128, 255]
