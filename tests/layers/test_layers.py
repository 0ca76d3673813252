"""Each layer against NumPy, with arguments that are not the defaults, and by serialisation."""

import keras
import numpy as np
import pytest
from against_numpy import RNG, X, again, check, run

from keras_cnn_classics import layers
from keras_cnn_classics.inspection import count
from keras_cnn_classics.layers import FanInUniform, grouped_conv


def windows(x, size, strides, fill):
    """Each window of TensorFlow's "same", flat, with `fill` beyond the edge."""
    count = [-(-n // strides) for n in x.shape[1:3]]
    total = [(c - 1) * strides + size - n for c, n in zip(count, x.shape[1:3], strict=True)]
    padding = [(0, 0), *((n // 2, n - n // 2) for n in total), (0, 0)]
    x = np.pad(x, padding, constant_values=fill)
    rows = [
        [
            x[:, strides * i : strides * i + size, strides * j : strides * j + size]
            for j in range(count[1])
        ]
        for i in range(count[0])
    ]
    return x, np.array(rows).reshape(*count, x.shape[0], size * size, -1).transpose(2, 0, 1, 3, 4)


@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
@pytest.mark.parametrize("shape", [(2, 7, 9, 3), (2, 8, 10, 3), (2, 7, 10, 3), (2, 1, 2, 3)])
@pytest.mark.parametrize(("size", "strides"), [(3, 2), (2, 2), (5, 3), (4, 1), (3, 1)])
def test_same_padding(data_format, shape, size, strides):
    x = RNG.normal(size=shape).astype("float32")
    padded, _ = windows(x, size, strides, 0)
    check(layers.SamePadding2D(size, strides, data_format=data_format), x, padded)
    _, seen = windows(x, size, strides, np.nan)
    layer = layers.SameAveragePooling2D(size, strides, data_format=data_format)
    check(layer, x, np.nanmean(seen, axis=3))


@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
@pytest.mark.parametrize("shape", [(2, 7, 9, 3), (2, 8, 10, 3), (2, 5, 6, 3)])
@pytest.mark.parametrize(("size", "strides"), [(3, 2), (5, 3), (4, 1), (2, 2)])
def test_average_pools_that_round_up(data_format, shape, size, strides):
    x = RNG.normal(size=shape).astype("float32")
    rows, columns = (-((size - n) // strides) + 1 for n in shape[1:3])
    expected = np.empty((shape[0], rows, columns, shape[3]))
    for i, j in np.ndindex(rows, columns):
        seen = x[:, strides * i : strides * i + size, strides * j : strides * j + size]
        expected[:, i, j] = seen.mean((1, 2))
    check(layers.CeilAveragePooling2D(size, strides, data_format=data_format), x, expected)


@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
@pytest.mark.parametrize("shape", [(2, 7, 9, 3), (2, 8, 10, 3), (2, 7, 10, 3), (2, 2, 1, 3)])
def test_odd_padding(data_format, shape):
    x = RNG.normal(size=shape).astype("float32")
    padding = [(0, 0), *((1 - n % 2, 0) for n in shape[1:3]), (0, 0)]
    check(layers.OddPadding2D(data_format=data_format), x, np.pad(x, padding))


@pytest.mark.parametrize(
    "kind",
    [
        *(layers.OddPadding2D, layers.SamePadding2D),
        *(layers.SameAveragePooling2D, layers.CeilAveragePooling2D),
    ],
)
@pytest.mark.parametrize("shape", [(2, 7, 9, 3), (2, 8, 10, 3)])
def test_same_padding_of_maps_of_unknown_size(kind, shape):
    x = RNG.normal(size=shape).astype("float32")
    image = keras.Input((None, None, 3))
    model = keras.Model(image, kind()(image))
    assert model.output_shape == (None, None, None, 3)
    got = model.predict(x, verbose=0)  # compiled, where the backend can
    np.testing.assert_allclose(got, run(kind(), x), rtol=1e-6, atol=1e-6)


def numpy_lrn(x, size, alpha, beta, k):
    y = np.empty_like(x)
    for c in range(x.shape[-1]):
        near = x[..., max(0, c - size // 2) : c + size // 2 + 1]
        y[..., c] = x[..., c] / (k + alpha * np.sum(near**2, -1)) ** beta
    return y


@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
@pytest.mark.parametrize(("convention", "scale"), [("paper", 1), ("caffe", 1 / 3)])
def test_lrn(data_format, convention, scale):
    layer = layers.LocalResponseNormalization(
        size=3, alpha=0.3, beta=0.6, k=1.5, convention=convention, data_format=data_format
    )
    check(layer, X, numpy_lrn(X, 3, 0.3 * scale, 0.6, 1.5))


def test_lrn_defaults_are_alexnets():
    x = 40 * X
    check(layers.LocalResponseNormalization(), x, numpy_lrn(x, 5, 1e-4, 0.75, 2.0))


def test_lrn_does_not_overflow_in_float16():
    layer = layers.LocalResponseNormalization(dtype="mixed_float16")
    x = np.full((1, 2, 2, 8), 1000.0, "float32")
    y = keras.ops.convert_to_numpy(layer(x))
    assert y.dtype == "float16"
    np.testing.assert_allclose(y, numpy_lrn(x, 5, 1e-4, 0.75, 2.0), rtol=2e-3)


@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
def test_trainable_subsampling(data_format):
    layer = layers.TrainableSubsampling((2, 3), (3, 2), data_format=data_format)
    run(layer, X)
    coefficient, bias = RNG.normal(size=(2, 6)).astype("float32")
    layer.set_weights([coefficient, bias])
    expected = np.empty((2, 2, 4, 6), "float32")
    for i in range(2):
        for j in range(4):
            window = X[:, 3 * i : 3 * i + 2, 2 * j : 2 * j + 3]
            expected[:, i, j] = window.sum((1, 2)) * coefficient + bias
    check(layer, X, expected)


@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
@pytest.mark.parametrize("use_bias", [True, False])
def test_partially_connected_conv(data_format, use_bias):
    table = [(0, 2), (5,), (1, 3, 4)]
    layer = layers.PartiallyConnectedConv2D(
        table, (3, 2), strides=(2, 1), use_bias=use_bias, data_format=data_format
    )
    run(layer, X)
    assert layer.kernel.shape == (3, 2, 6)
    kernel = RNG.normal(size=(3, 2, 6)).astype("float32")
    bias = RNG.normal(size=3).astype("float32") * use_bias
    layer.set_weights([kernel, bias] if use_bias else [kernel])
    expected = np.zeros((2, 3, 8, 3), "float32") + bias
    edge = 0
    for o, row in enumerate(table):
        for c in row:
            for i in range(3):
                for j in range(8):
                    window = X[:, 2 * i : 2 * i + 3, j : j + 2, c]
                    expected[:, i, j, o] += (window * kernel[:, :, edge]).sum((1, 2))
            edge += 1
    check(layer, X, expected)


def test_partially_connected_conv_with_every_connection_is_a_convolution():
    table = [range(6)] * 4
    layer = layers.PartiallyConnectedConv2D(table, 3, padding="same")
    dense = keras.layers.Conv2D(4, 3, padding="same")
    dense(X)
    run(layer, X)
    kernel, bias = dense.get_weights()
    layer.set_weights([kernel.transpose(0, 1, 3, 2).reshape(3, 3, 24), bias])
    check(layer, X, keras.ops.convert_to_numpy(dense(X)))


def test_partially_connected_conv_starts_within_the_papers_limits():
    table = [(0,), (0, 1, 2, 3, 4, 5)]
    layer = layers.PartiallyConnectedConv2D(table, 5)
    layer.build((None, 9, 9, 6))
    kernel = keras.ops.convert_to_numpy(layer.kernel)
    alone, shared = np.abs(kernel[..., 0]), np.abs(kernel[..., 1:])
    assert 0.7 * 2.4 / 25 < alone.max() <= 2.4 / 25
    assert 0.9 * 2.4 / 150 < shared.max() <= 2.4 / 150


def test_euclidean_rbf():
    centers = RNG.normal(size=(4, 6)).astype("float32")
    x = X[:, 0, 0]
    expected = ((x[:, None] - centers) ** 2).sum(-1)
    layer = layers.EuclideanRBF(centers)
    check(layer, x, expected)
    assert not layer.trainable_weights
    layer.trainable = False
    layer.trainable = True  # as in the usual freezing and thawing of a network
    assert not layer.trainable_weights


def test_euclidean_rbf_can_learn_its_centers():
    layer = layers.EuclideanRBF(np.zeros((4, 6)), trainable_centers=True)
    layer(X[:, 0, 0])
    assert len(layer.trainable_weights) == 1
    assert again(layer).trainable_centers


def test_scaled_tanh():
    check(layers.ScaledTanh(2.0, 0.5), X, 2 * np.tanh(0.5 * X))
    ones = keras.ops.convert_to_numpy(layers.ScaledTanh()(np.array([[1.0, -1.0]])))
    np.testing.assert_allclose(ones, [[1.0, -1.0]], atol=1e-4)  # the paper's f(1) = 1


def test_fan_in_uniform():
    draw = keras.ops.convert_to_numpy(FanInUniform(2.4, seed=1)((5, 5, 4, 30)))
    assert 0.99 * 2.4 / 100 < np.abs(draw).max() <= 2.4 / 100
    assert abs(draw.mean()) < 0.05 * 2.4 / 100
    half = keras.ops.convert_to_numpy(FanInUniform(1.2, fan_in=4, seed=1)((30,)))
    assert 0.8 * 0.3 < np.abs(half).max() <= 0.3
    config = keras.saving.serialize_keras_object(FanInUniform(1.0, fan_in=3, seed=7))
    copy = keras.saving.deserialize_keras_object(config)
    np.testing.assert_array_equal(
        keras.ops.convert_to_numpy(copy((9,))),
        keras.ops.convert_to_numpy(FanInUniform(1.0, fan_in=3, seed=7)((9,))),
    )


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: layers.LocalResponseNormalization(size=4), "odd"),
        (lambda: layers.LocalResponseNormalization(convention="torch"), "'caffe'"),
        (lambda: layers.LocalResponseNormalization(data_format="NHWC"), "'channels_first'"),
        (lambda: layers.TrainableSubsampling(0), "pool_size"),
        (lambda: layers.TrainableSubsampling((2, 2, 2)), "pool_size"),
        (lambda: layers.PartiallyConnectedConv2D([], 3), "at least one"),
        (lambda: layers.PartiallyConnectedConv2D([(0,), ()], 3), "at least one"),
        (lambda: layers.PartiallyConnectedConv2D([(0, 0)], 3), "different"),
        (lambda: layers.PartiallyConnectedConv2D([(0,)], 3, padding="full"), "'valid'"),
        (lambda: layers.PartiallyConnectedConv2D([(6,)], 3)(X), "the input has 6"),
        (lambda: layers.EuclideanRBF([1.0, 2.0]), r"\(units, features\)"),
        (lambda: layers.EuclideanRBF(np.zeros((2, 3)))(X[:, 0, 0]), r"\(batch, 3\)"),
        (lambda: layers.SamePadding2D(2, 3), "at most `pool_size`"),
        (lambda: layers.TrainableSubsampling(2.0), "pool_size"),
        (lambda: layers.TrainableSubsampling((2, True)), "pool_size"),
        (lambda: layers.LocalResponseNormalization(5.0), "odd positive"),
        *((lambda n=n: layers.AdaptiveAveragePooling(n), "positive") for n in (0, -1, 2.0, True)),
        (lambda: layers.AdaptiveAveragePooling(2)(keras.Input((None, 8, 3))), "known height"),
        (lambda: FanInUniform(0), "positive"),
    ],
)
def test_errors(make, message):
    with pytest.raises(ValueError, match=message) as caught:
        make()
    assert "Received" in str(caught.value)


@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
def test_channel_padding(data_format):
    expected = np.pad(X, ((0, 0), (0, 0), (0, 0), (1, 3)))
    check(layers.ChannelPadding(1, 3, data_format=data_format), X, expected)
    with pytest.raises(ValueError, match="Received: before=-1"):
        layers.ChannelPadding(-1)


@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
@pytest.mark.parametrize(("start", "stop"), [(2, 5), (1, None), (0, 6)])
def test_channel_slice(start, stop, data_format):
    layer = layers.ChannelSlice(start, stop, data_format=data_format)
    check(layer, X, X[..., start:stop])


def test_channels_to_slice_must_be_there():
    for bad in ({"start": -1}, {"start": 2, "stop": 2}, {"stop": 0}):
        with pytest.raises(ValueError, match="Received: start="):
            layers.ChannelSlice(**bad)
    for short in ({"stop": 7}, {"start": 6}):
        with pytest.raises(ValueError, match=r"needs at least 7 channels .* \(2, 7, 9, 6\)"):
            layers.ChannelSlice(**short, data_format="channels_last")(X)


def test_stochastic_depth_keeps_or_skips_the_whole_batch():
    layer = layers.StochasticDepth(0.75, seed=3)
    check(layer, X, 0.75 * X)
    kept = 0
    for _ in range(400):
        y = keras.ops.convert_to_numpy(layer(X, training=True))
        assert np.array_equal(y, X) or not y.any()
        kept += bool(y.any())
    assert 270 < kept < 330  # three deviations around 300


@pytest.mark.parametrize("survival", [0, 1.1, True])
def test_stochastic_depth_takes_a_probability(survival):
    with pytest.raises(ValueError, match="must be above 0 and at most 1"):
        layers.StochasticDepth(survival)


def numpy_grouped_conv(x, kernel, bias, groups, strides=(1, 1), dilation=(1, 1)):
    """A valid convolution, channels last, of a few loops."""
    height, width, channels, filters = kernel.shape
    high = (x.shape[1] - dilation[0] * (height - 1) - 1) // strides[0] + 1
    wide = (x.shape[2] - dilation[1] * (width - 1) - 1) // strides[1] + 1
    y = np.zeros((len(x), high, wide, filters), "float32") + bias
    for o in range(filters):
        first = o // (filters // groups) * channels
        for i in range(height):
            for j in range(width):
                top, left = i * dilation[0], j * dilation[1]
                rows = slice(top, top + strides[0] * (high - 1) + 1, strides[0])
                columns = slice(left, left + strides[1] * (wide - 1) + 1, strides[1])
                seen = x[:, rows, columns, first : first + channels]
                y[..., o] += seen @ kernel[i, j, :, o]
    return y


# Input channels, filters, groups: all groups merged, some merged, none merged, one alone.
GROUPS = [(6, 9, 3), (16, 48, 2), (48, 24, 12), (20, 10, 5), (32, 6, 2), (6, 8, 1)]


@pytest.fixture(params=[True, False], ids=["split", "native"])
def split_groups(request, monkeypatch):
    """Both ways to compute a grouped convolution, on every backend."""
    monkeypatch.setattr(grouped_conv, "_slow_groups", lambda: request.param)
    return request.param


@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
@pytest.mark.parametrize(("channels", "filters", "groups"), GROUPS)
def test_grouped_conv(split_groups, channels, filters, groups, data_format):
    layer = layers.GroupedConv2D(
        filters, (3, 2), (2, 1), groups=groups, activation="relu", data_format=data_format
    )
    x = RNG.normal(size=(2, 7, 5, channels)).astype("float32")
    run(layer, x)
    kernel, bias = (RNG.normal(size=w.shape).astype("float32") for w in layer.weights)
    assert kernel.shape == (3, 2, channels // groups, filters)
    assert [w.path.rsplit("/", 1)[-1] for w in layer.weights] == ["kernel", "bias"]
    layer.set_weights([kernel, bias])
    expected = numpy_grouped_conv(x, kernel, bias, groups, (2, 1))
    check(layer, x, np.maximum(expected, 0))


def test_grouped_conv_with_dilation_and_padding_and_without_bias(split_groups):
    layer = layers.GroupedConv2D(
        24, 3, padding="same", groups=12, dilation_rate=2, use_bias=False, kernel_initializer="ones"
    )
    x = RNG.normal(size=(2, 7, 5, 48)).astype("float32")
    run(layer, x)
    kernel = RNG.normal(size=(3, 3, 4, 24)).astype("float32")
    layer.set_weights([kernel])
    padded = np.pad(x, ((0, 0), (2, 2), (2, 2), (0, 0)))
    check(layer, x, numpy_grouped_conv(padded, kernel, 0, 12, dilation=(2, 2)))


def test_grouped_conv_in_mixed_precision(split_groups):
    layer = layers.GroupedConv2D(24, 3, groups=12, dtype="mixed_bfloat16")
    x = RNG.normal(size=(2, 7, 5, 48)).astype("float32")
    y = keras.ops.convert_to_numpy(keras.ops.cast(layer(x), "float32"))
    assert keras.backend.standardize_dtype(layer.kernel.dtype) == "float32"
    assert layer.compute_dtype == "bfloat16"
    kernel, bias = layer.get_weights()
    expected = numpy_grouped_conv(x, kernel, bias, 12)
    np.testing.assert_allclose(y, expected, atol=0.02 * np.abs(expected).max())


@pytest.mark.parametrize(("channels", "filters", "groups"), GROUPS)
def test_the_gradient_of_a_grouped_conv(channels, filters, groups, monkeypatch):
    x = RNG.normal(size=(2, 7, 5, channels)).astype("float32")
    y = RNG.normal(size=(2, 3, 2, filters)).astype("float32")
    kernel = RNG.normal(size=(3, 3, channels // groups, filters)).astype("float32")
    after = []
    for split in (True, False):
        monkeypatch.setattr(grouped_conv, "_slow_groups", lambda split=split: split)
        image = keras.Input((7, 5, channels))
        scaled = keras.layers.Dense(channels, kernel_initializer="identity")(image)
        last = layers.GroupedConv2D(filters, 3, 2, groups=groups)
        model = keras.Model(image, last(scaled))
        last.set_weights([kernel, np.zeros(filters)])
        model.compile(keras.optimizers.SGD(0.1), "mse")
        model.train_on_batch(x, y)
        after.append(model.get_weights())
    for a, b in zip(*after, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
    assert np.abs(after[0][2] - kernel).max() > 1e-3


def test_grouped_conv_is_a_conv():
    ours, theirs = (
        layers.GroupedConv2D(8, 3, groups=2, name="c"),
        keras.layers.Conv2D(8, 3, name="c", groups=2),
    )
    assert ours.get_config() == theirs.get_config()
    assert isinstance(ours, keras.layers.Conv2D)
    image = keras.Input((7, 7, 4))
    counted = [count(keras.Model(image, layer(image))) for layer in (ours, theirs)]
    assert counted[0].macs == counted[1].macs == 25 * 8 * 9 * 2
    assert counted[0].params == counted[1].params
    with pytest.raises(ValueError, match="evenly divisible"):
        layers.GroupedConv2D(8, 3, groups=3)


def test_numpys_integers_are_integers():
    """They become Python's, since a model with others in its config cannot be saved."""
    three = np.int64(3)
    assert layers.AdaptiveAveragePooling(three).get_config()["side"].__class__ is int
    assert layers.LocalResponseNormalization(three).get_config()["size"].__class__ is int
    pool = layers.TrainableSubsampling(three, (three, three))
    assert {type(n) for n in (*pool.pool_size, *pool.strides)} == {int}


@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
@pytest.mark.parametrize("side", [1, 3, 4, 8])
def test_adaptive_average_pooling(side, data_format):
    """PyTorch's windows, one by one: they overlap, or repeat cells of an axis that is too short."""
    height, width = X.shape[1:3]
    expected = np.empty((2, side, side, 6), "float32")
    for i in range(side):
        for j in range(side):
            top, bottom = int(np.floor(i * height / side)), int(np.ceil((i + 1) * height / side))
            left, right = int(np.floor(j * width / side)), int(np.ceil((j + 1) * width / side))
            expected[:, i, j] = X[:, top:bottom, left:right].mean((1, 2))
    check(layers.AdaptiveAveragePooling(side, data_format=data_format), X, expected)


@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("mode", ["caffe", "torch", "tf"])
def test_preprocess_input(mode, channels, data_format):
    x = RNG.uniform(0, 255, (2, 5, 4, channels)).astype("float32")
    if mode == "tf":
        expected = x / 127.5 - 1
    else:
        mean = np.array([103.939, 116.779, 123.68] if mode == "caffe" else [0.485, 0.456, 0.406])
        std = np.ones(3) if mode == "caffe" else np.array([0.229, 0.224, 0.225])
        pixels = x if mode == "caffe" else x / 255
        if mode == "caffe" and channels > 1:
            pixels = pixels[..., [2, 1, 0, 3][:channels]]
        mean, std = (
            np.append(three, three.mean())[:channels] if channels > 1 else three.mean()
            for three in (mean, std)
        )
        expected = (pixels - mean) / std
    check(layers.PreprocessInput(mode, data_format=data_format), x, expected)


def test_preprocess_input_takes_known_modes():
    with pytest.raises(ValueError, match="Received: mode='gray'"):
        layers.PreprocessInput("gray")
    with pytest.raises(ValueError, match="Received: data_format='NCHW'"):
        layers.PreprocessInput("tf", data_format="NCHW")
