"""The gate of highway networks, and spatial pyramid pooling, against NumPy."""

import keras
import numpy as np
import pytest

from keras_cnn_classics import layers
from keras_cnn_classics.inspection import count

FORMATS = ("channels_last", "channels_first")
RNG = np.random.default_rng(1998)


def rough(*shape):
    return RNG.normal(size=shape).astype("float32")


def array(x):
    return keras.ops.convert_to_numpy(x)


def in_format(x, data_format):
    """Channels-last feature maps in a layout."""
    return np.moveaxis(x, -1, 1) if data_format == "channels_first" and x.ndim == 4 else x


def again(layer):
    """The layer after a round trip through Keras's serialization."""
    copy = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
    assert copy.get_config() == layer.get_config()
    return copy


def gated(x, h, g, bias):
    t = 1 / (1 + np.exp(-(g + bias)))
    return t * h + (1 - t) * x


@pytest.mark.parametrize("data_format", FORMATS)
@pytest.mark.parametrize("shape", [(3, 5), (2, 4, 6, 5)])
def test_highway_gate(shape, data_format):
    three = [rough(*shape) for _ in range(3)]
    given = [in_format(one, data_format) for one in three]
    layer = layers.HighwayGate(-3.5, data_format=data_format)
    y = layer(given)
    np.testing.assert_array_equal(array(layer.bias), np.full(5, -3.5, "float32"))
    np.testing.assert_array_equal(array(layer.bias_initializer((2,))), [-3.5, -3.5])
    expected = in_format(gated(*three, -3.5), data_format)
    np.testing.assert_allclose(array(y), expected, rtol=1e-5, atol=1e-6)
    bias = rough(5)
    copy = again(layer)
    copy(given)
    copy.set_weights([bias])
    expected = in_format(gated(*three, bias), data_format)
    np.testing.assert_allclose(array(copy(given)), expected, rtol=1e-5, atol=1e-6)
    assert copy.compute_output_shape([one.shape for one in given]) == given[0].shape


def test_highway_gate_carries_or_transforms():
    x, h, g = rough(4, 3), rough(4, 3), rough(4, 3)
    for bias, expected in ((-50.0, x), (50.0, h)):
        np.testing.assert_allclose(array(layers.HighwayGate(bias)([x, h, g])), expected, atol=1e-6)


def test_highway_gate_in_half_precision_and_with_a_penalty():
    layer = layers.HighwayGate(
        -2, bias_regularizer=keras.regularizers.L2(0.5), dtype="mixed_float16"
    )
    three = [rough(4, 3) for _ in range(3)]
    y = layer(three)
    assert keras.backend.standardize_dtype(y.dtype) == "float16"
    assert layer.bias.dtype == "float32"
    np.testing.assert_allclose(array(y), gated(*three, -2), atol=0.01)
    assert float(array(layer.losses[0])) == pytest.approx(0.5 * 3 * 4)
    assert again(layer).bias_regularizer.get_config() == layer.bias_regularizer.get_config()


def test_highway_gate_costs_nothing_but_its_bias():
    x = keras.Input((4, 6, 5))
    rows = {
        row.name: row
        for row in count(keras.Model(x, layers.HighwayGate(name="gate")([x] * 3))).layers
    }
    assert (rows["gate"].params, rows["gate"].macs) == (5, 0)
    assert rows["gate"].connections == 4 * 6 * 5


@pytest.mark.parametrize("bad", ["low", None, float("nan"), float("-inf")])
def test_highway_gate_refuses_what_is_no_number(bad):
    with pytest.raises(ValueError, match="`transform_bias` must be a finite number"):
        layers.HighwayGate(bad)


@pytest.mark.parametrize(
    "shapes",
    [[(2, 3), (2, 4), (2, 3)], [(2, 3), (2, 3)], [(2, 3, 3)] * 3, [(2, 3), (2, 3), (2, 4)]],
)
def test_highway_gate_refuses_other_shapes(shapes):
    with pytest.raises(ValueError, match=r"three inputs \[x, h, g\] of one shape"):
        layers.HighwayGate()([rough(*shape) for shape in shapes])


def pyramid(x, bins):
    """Channels-last maps pooled bin by bin."""
    height, width = x.shape[1:3]
    parts = []
    for n in bins:
        for i in range(n):
            top, bottom = int(np.floor(i * height / n)), int(np.ceil((i + 1) * height / n))
            for j in range(n):
                left, right = int(np.floor(j * width / n)), int(np.ceil((j + 1) * width / n))
                parts.append(x[:, top:bottom, left:right].max((1, 2)))
    return np.concatenate(parts, axis=-1)


@pytest.mark.parametrize("data_format", FORMATS)
@pytest.mark.parametrize("shape", [(2, 7, 9, 3), (2, 14, 14, 3), (2, 2, 5, 3)])
@pytest.mark.parametrize("bins", [(7, 3, 2, 1), [4]])
def test_spatial_pyramid_pooling(bins, shape, data_format):
    x = rough(*shape)
    given = in_format(x, data_format)
    layer = layers.SpatialPyramidPooling(bins, data_format=data_format)
    for one in (layer, again(layer)):
        np.testing.assert_array_equal(array(one(given)), pyramid(x, bins))
    assert layer.compute_output_shape(given.shape) == pyramid(x, bins).shape
    assert layer.compute_output_shape((None, *given.shape[1:]))[0] is None


@pytest.mark.parametrize("data_format", FORMATS)
def test_spatial_pyramid_pooling_of_maps_of_any_size(data_format):
    """The length of the vector is known before the size of the images is."""
    inputs = keras.Input((None, None, 3) if data_format == "channels_last" else (3, None, None))
    layer = layers.SpatialPyramidPooling((3, 2), data_format=data_format)
    model = keras.Model(inputs, layer(inputs))
    assert model.output_shape == (None, 3 * 13)
    for shape in ((2, 7, 9, 3), (3, 4, 5, 3)):
        x = rough(*shape)
        y = model.predict(in_format(x, data_format), verbose=0)
        np.testing.assert_array_equal(y, pyramid(x, (3, 2)))


def test_spatial_pyramid_pooling_in_half_precision():
    x = rough(2, 5, 5, 3)
    layer = layers.SpatialPyramidPooling((2,), data_format="channels_last", dtype="mixed_float16")
    y = layer(x)
    assert keras.backend.standardize_dtype(y.dtype) == "float16"
    np.testing.assert_allclose(array(y), pyramid(x, (2,)), atol=0.01)


@pytest.mark.parametrize("bad", [(), (0,), (3, -1), (2.5,), 3, None, (True,)])
def test_spatial_pyramid_pooling_refuses_other_bins(bad):
    with pytest.raises(ValueError, match="`bins` must be one or more positive integers"):
        layers.SpatialPyramidPooling(bad)
