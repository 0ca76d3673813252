"""Comparing layers with NumPy, in both data formats and after serialisation."""

import keras
import numpy as np

RNG = np.random.default_rng(1998)
X = RNG.normal(size=(2, 7, 9, 6)).astype("float32")


def run(layer, x):
    """What the layer gives in its data format for channels-last `x`, again channels last."""
    first = getattr(layer, "data_format", None) == "channels_first"
    y = layer(np.moveaxis(x, -1, 1) if first else x)
    y = keras.ops.convert_to_numpy(y)
    return np.moveaxis(y, 1, -1) if first else y


def again(layer):
    """The layer after a round trip through Keras's serialisation, built, with the same weights."""
    config = keras.saving.serialize_keras_object(layer)
    copy = keras.saving.deserialize_keras_object(config)
    assert copy.get_config() == layer.get_config()
    copy.set_weights(layer.get_weights())
    return copy


def check(layer, x, expected):
    np.testing.assert_allclose(run(layer, x), expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(run(again(layer), x), expected, rtol=1e-4, atol=1e-5)
    shape = np.moveaxis(x, -1, 1).shape if layer_first(layer) else x.shape
    given = np.moveaxis(expected, -1, 1).shape if layer_first(layer) else expected.shape
    assert tuple(layer.compute_output_shape(shape)) == given


def layer_first(layer):
    return getattr(layer, "data_format", None) == "channels_first"
