"""An import from `keras.applications` moves by editing one word."""

import inspect
import pydoc
from importlib import import_module

import keras
import numpy as np
import pytest

import keras_cnn_classics as kcc
from keras_cnn_classics.applications import _keras_modules
from keras_cnn_classics.preprocessing import decode_predictions

PIXELS = np.random.default_rng(0).uniform(0, 255, (2, 5, 4, 3)).astype("float32")
# Younger than the networks of this package.
OTHERS = {"convnext", "efficientnet_v2", "mobilenet_v3"}


def modules_of(package):
    return {name for name in dir(package) if inspect.ismodule(getattr(package, name))}


def ours(module):
    return import_module(f"keras_cnn_classics.applications.{module}")


def public(module):
    return {name for name in dir(module) if not name.startswith("_")}


def test_every_module_of_keras_is_here():
    theirs = modules_of(keras.applications) - OTHERS
    assert theirs == {*_keras_modules.MODES, "imagenet_utils"}


@pytest.mark.parametrize("module", [*_keras_modules.MODES, "imagenet_utils"])
def test_a_module_has_what_keras_has_in_it(module):
    theirs = getattr(keras.applications, module)
    assert public(theirs) <= public(ours(module))
    assert getattr(kcc.applications, module) is ours(module)
    for name in public(theirs) - {"preprocess_input", "decode_predictions"}:
        builder = getattr(ours(module), name)
        assert builder is getattr(kcc, name)
        assert builder.spec.weights["imagenet"].preprocessing == _keras_modules.MODES[module]
    assert ours(module).decode_predictions is decode_predictions


@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
@pytest.mark.parametrize("module", _keras_modules.MODES)
def test_pixels_are_prepared_as_keras_prepares_them(module, data_format):
    x = PIXELS if data_format == "channels_last" else np.moveaxis(PIXELS, -1, 1)
    expected = getattr(keras.applications, module).preprocess_input(x.copy(), data_format)
    before = x.copy()
    got = ours(module).preprocess_input(x, data_format=data_format)
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(x, before)


@pytest.mark.parametrize("mode", ["caffe", "tf", "torch"])
def test_arguments_of_the_general_function_stand_in_keras_order(mode):
    expected = keras.applications.imagenet_utils.preprocess_input(PIXELS.copy(), None, mode)
    got = kcc.applications.imagenet_utils.preprocess_input(PIXELS, None, mode)
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-4)


def test_help_names_the_module_and_the_mode():
    function = kcc.applications.vgg16.preprocess_input
    assert function.__module__ == "keras_cnn_classics.applications.vgg16"
    text = pydoc.render_doc(function, renderer=pydoc.plaintext)
    assert "preprocess_input(x: 'Any', data_format" in text
    assert "'caffe'" in text


def test_other_names_are_no_attributes():
    with pytest.raises(AttributeError, match="vgg17"):
        kcc.applications.vgg17  # noqa: B018
