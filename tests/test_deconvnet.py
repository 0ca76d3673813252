"""The deconvnet against gradients where they agree, and against hand computation where not."""

import keras
import numpy as np
import pytest
from keras import layers

import keras_cnn_classics as kcc
from keras_cnn_classics.inspection import Deconvnet
from keras_cnn_classics.layers import (
    CeilAveragePooling2D,
    GroupedConv2D,
    LocallyConnected2D,
    LocalResponseNormalization,
    SameAveragePooling2D,
    SamePadding2D,
)
from keras_cnn_classics.testing import contracts

RNG = np.random.default_rng(2013)
X = RNG.normal(size=(2, 11, 9, 2)).astype("float32")


def network(*parts, shape=X.shape[1:]):
    """The layers on one another, with rough weights."""
    model = keras.Sequential([keras.Input(shape), *parts])
    rng = np.random.default_rng(1)
    for layer in model.layers:
        values = [rng.normal(0, 0.5, w.shape) for w in layer.weights]
        if isinstance(layer, layers.BatchNormalization):
            values[-1] = rng.uniform(0.5, 2, values[-1].shape)
        layer.set_weights(values)
    return model


def gradient(model, x, channel, position, step=1e-3):
    """That of one activation, pixel by pixel, by central differences."""
    moves = step * np.eye(x.size, dtype="float32").reshape(-1, *x.shape)
    up, down = (
        keras.ops.convert_to_numpy(model(x + sign * moves, training=False)).astype("float64")
        for sign in (1, -1)
    )
    place = (slice(None), *position, channel)
    return ((up[place] - down[place]) / (2 * step)).reshape(x.shape)


LINEAR = {
    "valid": lambda: [layers.Conv2D(3, 3, name="end")],
    "same": lambda: [layers.Conv2D(3, (4, 3), padding="same", name="end")],
    "steps that leave pixels out": lambda: [layers.Conv2D(3, 2, 4, name="end")],
    "steps with padding": lambda: [layers.Conv2D(3, 5, 2, padding="same", name="end")],
    "one pixel in steps": lambda: [layers.Conv2D(3, 1, 2, padding="same", name="end")],
    "dilation": lambda: [layers.Conv2D(3, 3, dilation_rate=2, padding="same", name="end")],
    "groups": lambda: [GroupedConv2D(4, 3, groups=2, name="end")],
    "locally connected": lambda: [LocallyConnected2D(3, (3, 2), (2, 1), name="end")],
    "zero padding": lambda: [
        layers.ZeroPadding2D(((1, 2), (2, 0))),
        layers.Conv2D(3, 3, name="end"),
    ],
    "batch normalization": lambda: [
        layers.Conv2D(4, 3, use_bias=False),
        layers.BatchNormalization(),
        layers.Conv2D(3, 3),
        layers.BatchNormalization(scale=False, name="end"),
    ],
    "pool": lambda: [layers.Conv2D(4, 3), layers.MaxPooling2D(2), layers.Conv2D(3, 2, name="end")],
    "average": lambda: [
        layers.AveragePooling2D((2, 3), (1, 2)),
        layers.Conv2D(3, 2, name="end"),
    ],
    "average at the edge": lambda: [
        layers.Conv2D(4, 3),
        layers.AveragePooling2D(3, 2, padding="same"),
        layers.SpatialDropout2D(0.5),
        layers.Conv2D(3, 2, name="end"),
    ],
    "average that rounds up": lambda: [CeilAveragePooling2D(), layers.Conv2D(3, 2, name="end")],
    "average of equal sides": lambda: [SameAveragePooling2D(), layers.Conv2D(3, 2, name="end")],
    "padding": lambda: [
        SamePadding2D(3, 2),
        layers.MaxPooling2D(3, 2),
        layers.Conv2D(3, 2, name="end"),
    ],
    "overlapping pool": lambda: [
        layers.Conv2D(4, 3, padding="same"),
        layers.MaxPooling2D(3, 2, padding="same"),
        layers.Dropout(0.5),
        layers.Conv2D(3, 2, activation="linear"),
        layers.MaxPooling2D(3, 1, name="end"),
    ],
}


@pytest.mark.parametrize("kind", LINEAR)
@pytest.mark.parametrize(("channel", "position"), [(1, (1, 0)), (None, None)])
def test_without_relus_it_is_the_gradient(kind, channel, position):
    model = network(*LINEAR[kind]())
    seen = Deconvnet(model, "end")(X, channel, position)
    maps = keras.ops.convert_to_numpy(model(X))
    assert seen.pixels.shape == X.shape
    for i, x in enumerate(X):
        row, column = seen.positions[i]
        assert position in (None, (row, column))
        assert channel in (None, seen.channels[i])
        value = maps[i, row, column, seen.channels[i]]
        assert value == pytest.approx(seen.values[i], rel=1e-5)
        expected = value * gradient(model, x, seen.channels[i], (row, column))
        scale = np.abs(expected).max()
        assert scale > 0.02
        np.testing.assert_allclose(seen.pixels[i], expected, atol=5e-3 * scale)


def test_the_rule_of_relu_by_hand():
    """One pixel of two channels, two convolutions of 1x1."""
    model = network(
        layers.Conv2D(2, 1, activation="relu", name="one"),
        layers.Conv2D(1, 1, activation="relu", name="two"),
        shape=(1, 1, 2),
    )
    first = np.array([[1.0, 1.0], [2.0, -3.0]]).reshape(1, 1, 2, 2)
    model.get_layer("one").set_weights([first, np.zeros(2)])

    def seen(x, second):
        model.get_layer("two").set_weights([np.reshape(second, (1, 1, 2, 1)), np.zeros(1)])
        seen = Deconvnet(model, "two")(np.reshape(x, (1, 1, 1, 2)).astype("float32"))
        return [*seen.values, *seen.pixels.ravel()]

    # The first layer gives (3, -2), rectified (3, 0), and the second 3. Down come (3, 15), both
    # positive, so (3 + 15, 2 * 3 - 3 * 15) arrive. The gradient stops the second: 3 * (1, 2).
    np.testing.assert_allclose(seen([1, 1], [1, 5]), [3, 18, -39])
    # It gives (6, 1), and the second 1. Down come (1, -5), rectified (1, 0). The gradient, to
    # which signs do not matter, is (1 - 5, 2 + 15).
    np.testing.assert_allclose(seen([4, 1], [1, -5]), [1, 1, 2])
    # Nothing fires, and nothing is seen.
    np.testing.assert_allclose(seen([1, 1], [-1, 5]), [0, 0, 0])


def test_a_relu_may_be_a_layer_of_its_own():
    def twice(*between):
        return network(
            layers.Conv2D(4, 3, activation=None if between else "relu"),
            *between,
            layers.MaxPooling2D(2),
            layers.Conv2D(3, 2, activation="relu", name="end"),
        )

    expected = Deconvnet(twice(), "end")(X)
    for relu in (layers.ReLU(), layers.Activation("relu")):
        np.testing.assert_array_equal(Deconvnet(twice(relu), "end")(X).pixels, expected.pixels)


def test_normalization_of_responses_is_passed_by():
    def end(*between):
        model = network(layers.Conv2D(6, 3), *between, layers.Conv2D(3, 2, name="end"))
        return Deconvnet(model, "end")(X, 1, (2, 3))

    plain, normalized = end(), end(LocalResponseNormalization(alpha=0.5))
    factor = normalized.values / plain.values
    assert np.all(np.abs(factor - 1) > 0.01)
    np.testing.assert_allclose(
        normalized.pixels, plain.pixels * factor[:, None, None, None], rtol=1e-4, atol=1e-6
    )


@pytest.mark.parametrize(
    ("name", "layer", "options"),
    [
        ("LeNet", "conv2", {}),
        ("AlexNet", "conv5", {}),
        ("AlexNetSingle", "pool2", {"form": "tf2cv"}),
        ("AlexNetSingle", "pool5", {"form": "pytorchcv"}),
        ("ZFNet", "conv5", {}),
        ("OverFeatFast", "conv5", {}),
        ("NIN", "cccp7", {}),
        ("PReLUNetA", "block3_conv1_prelu", {}),
        ("DeepFace", "l6", {}),
        ("VGG16BN", "block3_conv2_relu", {}),
        ("ResNet18", "conv1_relu", {}),
    ],
)
def test_networks(name, layer, options):
    builder = kcc.get_builder(name)
    side = 80
    shape = (side, side, builder.spec.channels)
    model = contracts.tiny(builder, input_shape=shape, include_top=False, **options)
    x = contracts.images(shape)
    seen = Deconvnet(model, layer)(x)
    assert seen.pixels.shape == x.shape
    assert np.all(seen.values > 0)
    for pixels in seen.pixels:
        assert pixels.any()
        assert np.isfinite(pixels).all()


def test_nothing_is_seen_outside_of_the_receptive_field():
    model = kcc.VGG11(include_top=False, weights=None, width=16)
    x = contracts.images((64, 64, 3))
    seen = Deconvnet(model, "block2_conv1")(x, position=(10, 20))
    # A 3x3 convolution on maps of half the size, that pool those of another.
    rows, columns = slice(2 * 9 - 1, 2 * 11 + 3), slice(2 * 19 - 1, 2 * 21 + 3)
    inside = seen.pixels[:, rows, columns]
    assert inside.any()
    assert np.count_nonzero(seen.pixels) == np.count_nonzero(inside)
    np.testing.assert_array_equal(seen.positions, [[10, 20]] * 2)


def test_it_follows_the_networks_weights():
    model = network(layers.Conv2D(3, 3, use_bias=False, name="end"))
    deconvnet = Deconvnet(model, "end")
    before = deconvnet(X, 0, (0, 0))
    model.layers[0].set_weights([2 * w for w in model.get_weights()])
    after = deconvnet(X, 0, (0, 0))
    np.testing.assert_allclose(after.values, 2 * before.values, rtol=1e-5)
    np.testing.assert_allclose(after.pixels, 4 * before.pixels, rtol=1e-5)


def test_both_data_formats():
    results, weights = [], None
    x = contracts.images((3, 70, 70))
    for layout in ("channels_last", "channels_first"):
        keras.config.set_image_data_format(layout)
        try:
            shape = (3, 70, 70) if layout == "channels_first" else (70, 70, 3)
            model = contracts.tiny(kcc.ZFNet, input_shape=shape, include_top=False)
            weights = weights or model.get_weights()
            model.set_weights(weights)
            given = x if layout == "channels_first" else np.moveaxis(x, 1, -1)
            results.append(Deconvnet(model, "conv4")(given, channel=3))
        finally:
            keras.config.set_image_data_format("channels_last")
    last, first = results
    np.testing.assert_array_equal(last.positions, first.positions)
    scale = np.abs(last.pixels).max()
    np.testing.assert_allclose(
        np.moveaxis(last.pixels, -1, 1), first.pixels, atol=1e-4 * scale, rtol=1e-4
    )


def test_mixed_precision():
    options = {"width": 16, "include_top": False, "weights": None, "input_shape": (32, 32, 3)}
    full = kcc.VGG11(**options)
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        half = kcc.VGG11(**options)
    finally:
        keras.config.set_dtype_policy(policy)
    half.set_weights(full.get_weights())
    x = contracts.images((32, 32, 3))
    expected, got = (Deconvnet(m, "block1_conv1")(x, 2, (5, 6)).pixels for m in (full, half))
    assert got.dtype == "float32"
    np.testing.assert_allclose(got, expected, atol=0.02 * np.abs(expected).max())


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "bfloat16", "float64"])
def test_pools_under_a_policy(policy):
    """The layers of the way back are made when it is gone: the policy must still be there."""

    def make():
        return network(
            *(layers.Conv2D(4, 3, padding="same", activation="relu"), layers.MaxPooling2D(2)),
            layers.Conv2D(3, 3, name="end"),
        )

    full, before = make(), keras.config.dtype_policy()
    expected = Deconvnet(full, "end")(X, 1, (0, 1))
    keras.config.set_dtype_policy(policy)
    try:
        other = make()
        other.set_weights(full.get_weights())
        got = Deconvnet(other, "end")(X, 1, (0, 1))
    finally:
        keras.config.set_dtype_policy(before)
    assert got.pixels.dtype == "float32"
    scale = np.abs(expected.pixels).max()
    # A maximum may change its place where two are nearly equal.
    near = np.isclose(got.pixels, expected.pixels, atol=0.05 * scale)
    assert near.mean() > (0.9 if "bfloat16" in policy else 0.999)


def test_a_layer_may_be_used_twice():
    once = network(layers.Conv2D(2, 3, padding="same"), layers.Conv2D(2, 3, padding="same"))
    weights = once.layers[0].get_weights()
    once.layers[1].set_weights(weights)
    image, twice = keras.Input(X.shape[1:]), layers.Conv2D(2, 3, padding="same", name="twice")
    last = layers.Activation("linear", name="end")
    both = keras.Model(image, last(twice(twice(image))))
    twice.set_weights(weights)
    expected = Deconvnet(once, once.layers[1].name)(X).pixels
    np.testing.assert_allclose(Deconvnet(both, "end")(X).pixels, expected, rtol=1e-5, atol=1e-6)


def borrowed():
    model = network(layers.Conv2D(2, 3, name="end"))
    image = keras.Input((9, 9, 2))
    return keras.Model(image, model.get_layer("end")(image))


@pytest.mark.parametrize(
    ("make", "layer", "message"),
    [
        (lambda: kcc.ResNet18(weights=None), "conv2_block2_1_relu", "'conv2_block1_add', where 2"),
        (lambda: kcc.GoogLeNet(), "inception_3b_1x1", "'inception_3a_output', where 4 branches"),
        (lambda: kcc.LeNet(), "fc1", "'flatten', a Flatten"),
        (lambda: kcc.LeNet5(), "c3_act", "'c1_act', a ScaledTanh"),
        (lambda: kcc.LeNet5(activation="tanh"), "c1_act", "'c1_act': .* activation is 'tanh'"),
        (
            lambda: network(layers.ReLU(max_value=6, name="six"), layers.Conv2D(1, 1, name="end")),
            "end",
            "'six', which is no plain ReLU",
        ),
        (lambda: network(layers.UpSampling2D(2, name="up")), "up", "UpSampling2D"),
        (
            lambda: kcc.VGG11(weights=None, include_preprocessing=True, include_top=False),
            "block1_conv1",
            "build it with include_preprocessing=False",
        ),
        (borrowed, "end", "'end' was part of another model before"),
        (kcc.LeNet, "conv3", "name of one of its layers. Received: .*layer='conv3'"),
        (kcc.LeNet, "image", "is the input itself"),
        (lambda: "VGG16", "conv1", "needs a Functional or Sequential model"),
    ],
)
def test_what_it_cannot_go_back_through(make, layer, message):
    with pytest.raises(ValueError, match=message):
        Deconvnet(make(), layer)


@pytest.mark.parametrize(
    "arguments",
    [
        {"channel": 3},
        {"channel": "first"},
        {"channel": 1.5},
        {"position": (0, 7)},
        {"position": 3},
        {"position": (0, 0, 0)},
    ],
)
def test_activations_that_there_are_not(arguments):
    deconvnet = Deconvnet(network(layers.Conv2D(3, 3, name="end")), "end")
    with pytest.raises(ValueError, match=r"shape \(9, 7, 3\)\. Received: channel="):
        deconvnet(X, **arguments)
