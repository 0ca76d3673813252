"""Attention layers against NumPy, with arguments that are not the defaults."""

import keras
import numpy as np
import pytest
from test_layers import X, check, run

from keras_cnn_classics import layers
from keras_cnn_classics.blocks.attention import cbam, non_local
from keras_cnn_classics.blocks.core import squeeze_excite
from keras_cnn_classics.inspection import count

RNG = np.random.default_rng(1998)
FORMATS = ("channels_last", "channels_first")
CLASSES = (
    layers.SqueezeExcite,
    layers.ChannelAttention,
    layers.SpatialAttention,
    layers.SelfAttention2D,
)


def rough(layer, x=X):
    """Builds a layer and gives it rough weights; returns them, by the ends of their paths."""
    run(layer, x)
    values = {}
    for weight in layer.weights:
        name = "_".join(weight.path.split("/")[1:])
        positive = weight.name == "moving_variance"
        draw = RNG.uniform(0.5, 2, weight.shape) if positive else RNG.normal(size=weight.shape)
        values[name] = draw.astype("float32")
    layer.set_weights(list(values.values()))
    return values


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def largest(x, size):
    """The largest of each whole window."""
    n, height, width, channels = x.shape
    high, wide = height // size, width // size
    x = x[:, : high * size, : wide * size].reshape(n, high, size, wide, size, channels)
    return x.max((2, 4))


@pytest.mark.parametrize("data_format", FORMATS)
@pytest.mark.parametrize("use_bias", [True, False])
@pytest.mark.parametrize("both", [False, True])
def test_attention_to_channels(both, use_bias, data_format):
    kind = layers.ChannelAttention if both else layers.SqueezeExcite
    layer = kind(3, activation="tanh", use_bias=use_bias, data_format=data_format)
    w = rough(layer)
    assert w["fc1_kernel"].shape == (6, 2)
    b1, b2 = w.get("fc1_bias", 0), w.get("fc2_bias", 0)
    assert len(w) == (4 if use_bias else 2)

    def score(vector):
        return np.tanh(vector @ w["fc1_kernel"] + b1) @ w["fc2_kernel"] + b2

    scores = score(X.mean((1, 2))) + (score(X.max((1, 2))) if both else 0)
    check(layer, X, X * sigmoid(scores)[:, None, None])


def test_a_layer_of_squeeze_and_excitation_is_the_block():
    image = keras.Input((7, 9, 6))
    model = keras.Model(image, squeeze_excite(image, 2, name="se"))
    layer = layers.SqueezeExcite(2)
    w = rough(layer)
    values = [v.reshape(1, 1, *v.shape) if v.ndim == 2 else v for v in w.values()]
    model.set_weights(values)
    check(layer, X, keras.ops.convert_to_numpy(model(X)))
    assert count(keras.Model(image, layer(image))).macs == count(model).macs == 2 * 6 * 3


@pytest.mark.parametrize("data_format", FORMATS)
@pytest.mark.parametrize("batch_norm", [True, False])
def test_attention_to_positions(batch_norm, data_format):
    layer = layers.SpatialAttention((3, 5), batch_norm, epsilon=0.1, data_format=data_format)
    w = rough(layer)
    kernel = w["conv_kernel"]
    assert kernel.shape == (3, 5, 2, 1)
    seen = np.stack([X.max(-1), X.mean(-1)], -1)
    padded = np.pad(seen, ((0, 0), (1, 1), (2, 2), (0, 0)))
    score = np.zeros((2, 7, 9, 1), "float32")
    for i in range(7):
        for j in range(9):
            window = padded[:, i : i + 3, j : j + 5]
            score[:, i, j] = np.einsum("bhwc,hwco->bo", window, kernel)
    if batch_norm:
        score = (score - w["norm_moving_mean"]) / np.sqrt(w["norm_moving_variance"] + 0.1)
        score = score * w["norm_gamma"] + w["norm_beta"]
    else:
        score = score + w["conv_bias"]
    check(layer, X, X * sigmoid(score))


def test_attention_to_positions_starts_with_halves_and_learns_statistics():
    layer = layers.SpatialAttention(momentum=0.75)
    check(layer, X, X / 2)
    before = keras.ops.convert_to_numpy(layer.norm.moving_mean)
    layer.conv.set_weights([np.ones((7, 7, 2, 1))])
    layer(X, training=True)
    sums = keras.ops.convert_to_numpy(layer.conv(np.stack([X.max(-1), X.mean(-1)], -1)))
    after = keras.ops.convert_to_numpy(layer.norm.moving_mean)
    np.testing.assert_allclose(after, 0.75 * before + 0.25 * sums.mean(), rtol=1e-4)
    layer.trainable = False
    layer(X, training=True)
    np.testing.assert_array_equal(after, keras.ops.convert_to_numpy(layer.norm.moving_mean))


def attend(queries, keys, values, scale=1.0):
    """Each position of the queries after the other."""
    y = np.empty((*queries.shape[:3], values.shape[-1]), "float32")
    keys, values = (x.reshape(len(x), -1, x.shape[-1]) for x in (keys, values))
    for i in range(y.shape[1]):
        for j in range(y.shape[2]):
            weights = softmax(scale * np.einsum("bnd,bd->bn", keys, queries[:, i, j]))
            y[:, i, j] = np.einsum("bn,bnd->bd", weights, values)
    return y


@pytest.mark.parametrize("data_format", FORMATS)
@pytest.mark.parametrize("scaled", [True, False])
def test_softmax_attention(scaled, data_format):
    queries, keys = RNG.normal(size=(2, 3, 4, 5)), RNG.normal(size=(2, 2, 3, 5))
    values = RNG.normal(size=(2, 2, 3, 6))
    first = data_format == "channels_first"
    given = [x.astype("float32") for x in (queries, keys, values)]
    given = [np.moveaxis(x, -1, 1) for x in given] if first else given
    layer = layers.SoftmaxAttention2D(scaled, data_format=data_format)
    layer = layers.SoftmaxAttention2D.from_config(layer.get_config())
    y = keras.ops.convert_to_numpy(layer(given))
    assert tuple(layer.compute_output_shape([x.shape for x in given])) == y.shape
    expected = attend(queries, keys, values, 5**-0.5 if scaled else 1.0)
    np.testing.assert_allclose(np.moveaxis(y, 1, -1) if first else y, expected, rtol=1e-4)


@pytest.mark.parametrize("data_format", FORMATS)
@pytest.mark.parametrize(
    ("options", "few", "values"),
    [
        ({"reduction": 3, "value_reduction": 2}, 2, 3),
        ({"reduction": 2, "value_reduction": 6, "pool_size": 2, "use_bias": True}, 3, 1),
        ({"reduction": 6, "value_reduction": 1, "project": False, "use_bias": True}, 1, 6),
    ],
)
def test_self_attention(options, few, values, data_format):
    layer = layers.SelfAttention2D(**options, data_format=data_format)
    w = rough(layer)
    assert w["f_kernel"].shape == w["g_kernel"].shape == (1, 1, 6, few)
    assert w["h_kernel"].shape == (1, 1, 6, values)
    assert ("v_kernel" in w) == options.get("project", True)

    def conv(x, name):
        return x @ w[f"{name}_kernel"][0, 0] + w.get(f"{name}_bias", 0)

    f, g, h = (conv(X, name) for name in "fgh")
    size = options.get("pool_size", 1)
    found = attend(g, largest(f, size), largest(h, size))
    found = conv(found, "v") if options.get("project", True) else found
    check(layer, X, X + w["gamma"] * found)


def test_self_attention_starts_as_the_identity():
    check(layers.SelfAttention2D(2, 2), X, X)


@pytest.mark.parametrize(
    ("channels", "options", "params"),
    [
        (256, {}, 81_921),
        (512, {}, 327_681),
        (256, {"value_reduction": 8}, 4 * 256 * 32 + 1),
        (256, {"value_reduction": 1, "project": False, "use_bias": True}, 82_241),
        (512, {"value_reduction": 1, "project": False, "use_bias": True}, 328_321),
    ],
)
def test_the_forms_of_self_attention(channels, options, params):
    layer = layers.SelfAttention2D(**options)
    layer.build((None, 8, 8, channels))
    assert layer.count_params() == params


@pytest.mark.parametrize("data_format", FORMATS)
@pytest.mark.parametrize(("subsample", "scaled"), [(1, False), (2, True)])
def test_non_local_block(subsample, scaled, data_format):
    """Section 3.3, figure 2."""
    before = keras.config.image_data_format()
    keras.config.set_image_data_format(data_format)
    try:
        first = data_format == "channels_first"
        image = keras.Input((6, 7, 9) if first else (7, 9, 6))
        y = non_local(image, reduction=3, subsample=subsample, scaled=scaled, name="nl")
        model = keras.Model(image, y)
    finally:
        keras.config.set_image_data_format(before)
    given = np.moveaxis(X, -1, 1) if first else X
    same = keras.ops.convert_to_numpy(model(given))
    np.testing.assert_allclose(same, given, atol=1e-6)  # the last normalization starts at zero
    for layer in model.layers:
        if layer.weights:
            values = [RNG.normal(size=v.shape) for v in layer.weights]
            values[3:] = [v**2 + 0.5 for v in values[3:]]
            layer.set_weights(values)

    def conv(x, name):
        kernel, bias = model.get_layer(f"nl_{name}").get_weights()
        return x @ kernel[0, 0] + bias

    theta, phi, g = (conv(X, name) for name in ("theta", "phi", "g"))
    phi, g = largest(phi, subsample), largest(g, subsample)
    found = conv(attend(theta, phi, g, 2**-0.5 if scaled else 1.0), "out")
    gamma, beta, mean, variance = model.get_layer("nl_bn").get_weights()
    found = (found - mean) / np.sqrt(variance + 1e-5) * gamma + beta
    y = keras.ops.convert_to_numpy(model(given))
    np.testing.assert_allclose(np.moveaxis(y, 1, -1) if first else y, X + found, 1e-3, 1e-4)


@pytest.mark.parametrize(
    ("channels", "params"), [(256, 132_224), (512, 526_592), (1024, 2_101_760)]
)
def test_parameters_of_a_non_local_block(channels, params):
    image = keras.Input((4, 4, channels))
    assert count(keras.Model(image, non_local(image, name="nl"))).params == params


def test_multiply_adds():
    image = keras.Input((8, 6, 32))

    def macs(output):
        counted = count(keras.Model(image, output))
        assert not counted.uncounted
        return counted.macs

    cells, c = 48, 32
    assert macs(cbam(image, 4, name="a")) == 2 * 2 * c * 8 + cells * 98
    convolutions = cells * c * (4 + 4 + 16 + 16)
    assert macs(layers.SelfAttention2D()(image)) == convolutions + cells * cells * (4 + 16)
    pooled = layers.SelfAttention2D(pool_size=2)(image)
    assert macs(pooled) == convolutions + cells * 12 * (4 + 16)
    assert macs(non_local(image, name="nl")) == 4 * cells * c * 16 + 2 * cells * cells * 16


@pytest.mark.parametrize("kind", CLASSES)
def test_maps_of_unknown_size(kind):
    x = RNG.normal(size=(2, 5, 7, 16)).astype("float32")
    image = keras.Input((None, None, 16))
    layer = kind()
    model = keras.Model(image, layer(image))
    assert model.output_shape == (None, None, None, 16)
    rough(layer, x)
    got = model.predict(x, verbose=0)  # compiled, where the backend can
    np.testing.assert_allclose(got, run(layer, x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", CLASSES)
@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16", "float64"])
def test_dtype_policies(kind, policy):
    if policy == "float64" and keras.backend.backend() == "jax":
        pytest.skip("JAX has float64 only by a setting for the whole process")
    x = RNG.normal(size=(2, 5, 7, 16)).astype("float32")
    full, other = kind(), kind(dtype=policy)
    rough(full, x)
    y = other(x)
    compute = keras.dtype_policies.get(policy).compute_dtype
    assert keras.backend.standardize_dtype(y.dtype) == compute
    variables = {keras.backend.standardize_dtype(w.dtype) for w in other.weights}
    assert variables == {"float64" if policy == "float64" else "float32"}
    other.set_weights(full.get_weights())
    y = keras.ops.convert_to_numpy(keras.ops.cast(other(x), "float32"))
    expected = run(full, x)
    tolerance = 1e-5 if policy == "float64" else 0.05
    np.testing.assert_allclose(y, expected, atol=tolerance * np.abs(expected).max())


@pytest.mark.parametrize("kind", CLASSES)
def test_files(kind, tmp_path):
    """A model with the layer can be saved and loaded, whole or its weights."""
    image = keras.Input((5, 7, 16))
    model = keras.Model(image, kind(name="attention")(image))
    x = RNG.normal(size=(2, 5, 7, 16)).astype("float32")
    rough(model.get_layer("attention"), x)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    expected = keras.ops.convert_to_numpy(model(x))
    np.testing.assert_allclose(keras.ops.convert_to_numpy(again(x)), expected, rtol=1e-6)


@pytest.mark.parametrize("data_format", FORMATS)
@pytest.mark.parametrize(("before", "after"), [(0, 1), (2, 1), (0, 0)])
def test_edge_padding(before, after, data_format):
    widths = ((0, 0), (before, after), (before, after), (0, 0))
    layer = layers.EdgePadding2D(before, after, data_format=data_format)
    check(layer, X, np.pad(X, widths, mode="edge"))


def between(i, given, wanted):
    """The two cells that cell i of the wanted ones lies between, and how near the second is."""
    place = i * (given - 1) / max(wanted - 1, 1)
    return int(place), min(int(place) + 1, given - 1), place - int(place)


@pytest.mark.parametrize("data_format", FORMATS)
@pytest.mark.parametrize("size", [(14, 5), (3, 1), (1, 9), (7, 9)])
@pytest.mark.parametrize("given", [(7, 9), (1, 2)])
def test_resize_like(given, size, data_format):
    x = X[:, : given[0], : given[1]]
    expected = np.empty((2, *size, 6), "float32")
    for i in range(size[0]):
        for j in range(size[1]):
            (top, down, u), (left, right, v) = (
                between(k, m, n) for k, m, n in zip((i, j), given, size, strict=True)
            )
            rows = (1 - u) * x[:, top] + u * x[:, down]
            expected[:, i, j] = (1 - v) * rows[:, left] + v * rows[:, right]
    like = np.zeros((2, *size, 3), "float32")
    first = data_format == "channels_first"
    pair = [np.moveaxis(a, -1, 1) for a in (x, like)] if first else [x, like]
    layer = layers.ResizeLike(data_format=data_format)
    layer = layers.ResizeLike.from_config(layer.get_config())
    y = keras.ops.convert_to_numpy(layer(pair))
    assert tuple(layer.compute_output_shape([a.shape for a in pair])) == y.shape
    np.testing.assert_allclose(np.moveaxis(y, 1, -1) if first else y, expected, 1e-4, 1e-5)


def test_resizing_maps_of_unknown_size():
    small, large = keras.Input((None, None, 6)), keras.Input((None, None, 3))
    padded = layers.EdgePadding2D(0, 1)(small)
    model = keras.Model([small, large], layers.ResizeLike()([padded, large]))
    assert model.output_shape == (None, None, None, 6)
    like = np.zeros((2, 14, 5, 3), "float32")
    expected = layers.ResizeLike()([np.pad(X, ((0, 0), (0, 1), (0, 1), (0, 0)), "edge"), like])
    got = model.predict([X, like], verbose=0)
    np.testing.assert_allclose(got, keras.ops.convert_to_numpy(expected), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "make",
    [
        lambda **kw: layers.SqueezeExcite(2, **kw),
        lambda **kw: layers.ChannelAttention(3, **kw),
        lambda **kw: layers.SpatialAttention(3, batch_norm=False, **kw),
        lambda **kw: layers.SelfAttention2D(2, 2, **kw),
    ],
)
def test_kernels_are_drawn_and_penalized_as_told(make):
    layer = make(
        kernel_initializer=keras.initializers.RandomUniform(2.0, 3.0),
        kernel_regularizer=keras.regularizers.L2(0.25),
    )
    layer = type(layer).from_config(layer.get_config())
    layer(X)
    kernels = [
        keras.ops.convert_to_numpy(one) for one in layer.weights if one.path.endswith("/kernel")
    ]
    assert kernels
    assert all(((one >= 2) & (one <= 3)).all() for one in kernels)
    first = [one.ravel()[0] for one in kernels]
    assert len(set(first)) == len(first)  # each is drawn for itself
    penalty = float(keras.ops.convert_to_numpy(sum(layer.losses)))
    assert penalty == pytest.approx(0.25 * sum((one**2).sum() for one in kernels), rel=1e-5)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: layers.SqueezeExcite(0), "positive integer"),
        (lambda: layers.SqueezeExcite(2.5), "positive integer"),
        (lambda: layers.ChannelAttention()(X), "at most its 6 channels"),
        (lambda: layers.SqueezeExcite(2)(keras.Input((4, 4, None))), "known number of channels"),
        (lambda: layers.SpatialAttention(0), "kernel_size"),
        (lambda: layers.SpatialAttention(data_format="NHWC"), "'channels_first'"),
        (lambda: layers.SelfAttention2D()(X), "at most its 6 channels"),
        (lambda: layers.SelfAttention2D(2, 8)(X), "`value_reduction` of layer"),
        (lambda: layers.SelfAttention2D(project=False), "must be 1 without `v`"),
        (lambda: layers.SelfAttention2D(pool_size=0), "`pool_size` must be a positive"),
        (lambda: layers.SelfAttention2D(2, 2, pool_size=10)(X), "larger than the map"),
        (lambda: layers.SpatialAttention(momentum=3), "`momentum` must be from 0 to 1"),
        (lambda: layers.SpatialAttention(epsilon=-1), "`epsilon` must be a positive number"),
        (lambda: layers.SoftmaxAttention2D()([X, X[..., 1:], X]), "as many channels as the q"),
        (lambda: layers.ResizeLike()(X), r"two maps \[x, like\]"),
        (lambda: layers.EdgePadding2D(-1), "integers that are not negative"),
        (lambda: layers.EdgePadding2D(1.5), "integers that are not negative"),
        (lambda: layers.EdgePadding2D("a"), "integers that are not negative"),
    ],
)
def test_errors_of_attention(make, message):
    with pytest.raises(ValueError, match=message) as caught:
        make()
    assert "Received" in str(caught.value)
