"""The layers of the textbooks, against NumPy, in training, under policies and in files."""

import keras
import numpy as np
import pytest
from against_numpy import RNG, X, again, check, run

from keras_cnn_classics import layers
from keras_cnn_classics.inspection import count

FORMATS = pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])


def array(x):
    return keras.ops.convert_to_numpy(x)


def numpy_windows(x, size, strides, padding):
    """An array `(batch, rows, columns, height * width, channels)` of what each window sees."""
    if padding == "same":
        around = [(0, 0)]
        for n, k, s in zip(x.shape[1:3], size, strides, strict=True):
            total = max(0, (-(-n // s) - 1) * s + k - n)
            around.append((total // 2, total - total // 2))
        x = np.pad(x, [*around, (0, 0)])
    rows = range(0, x.shape[1] - size[0] + 1, strides[0])
    columns = range(0, x.shape[2] - size[1] + 1, strides[1])
    seen = [[x[:, i : i + size[0], j : j + size[1]] for j in columns] for i in rows]
    shape = (len(rows), len(columns), len(x), size[0] * size[1], x.shape[-1])
    return np.array(seen).reshape(shape).transpose(2, 0, 1, 3, 4)


POOLS = pytest.mark.parametrize(
    ("size", "strides", "padding"),
    [((3, 2), (2, 1), "valid"), ((3, 3), (2, 2), "same"), ((2, 4), (2, 3), "same")],
)


# Maxout


@pytest.mark.parametrize("axis", [-1, 1])
def test_maxout_of_maps(axis):
    pieces = X.reshape(2, 7, 9, 2, 3)
    x = X if axis == -1 else np.moveaxis(X, -1, 1)
    layer = layers.Maxout(3, axis=axis)
    expected = pieces.max(-1) if axis == -1 else np.moveaxis(pieces.max(-1), -1, 1)
    check(layer, x, expected)


def test_maxout_of_units_is_the_largest_of_linear_functions():
    image = keras.Input((6,))
    model = keras.Model(image, layers.Maxout(5)(keras.layers.Dense(4 * 5)(image)))
    kernel = RNG.normal(size=(6, 20)).astype("float32")
    bias = RNG.normal(size=20).astype("float32")
    model.set_weights([kernel, bias])
    x = X[:, 0, 0]
    expected = np.array([(x @ kernel + bias)[:, 5 * i : 5 * i + 5].max(-1) for i in range(4)]).T
    np.testing.assert_allclose(array(model(x)), expected, rtol=1e-5)


def test_the_gradient_of_maxout_goes_to_the_largest():
    x = np.array([[1.0], [2.0], [-4.0]], "float32")
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(2), layers.Maxout(2)])
    model.set_weights([np.array([[1.0, -1.0]]), np.zeros(2)])  # the absolute value
    model.compile(keras.optimizers.SGD(0.1), lambda y_true, y_pred: keras.ops.sum(y_pred))
    model.train_on_batch(x, np.zeros((3, 1)))
    kernel, bias = model.get_weights()
    np.testing.assert_allclose(kernel, [[1 - 0.3, -1 + 0.4]], rtol=1e-5)
    np.testing.assert_allclose(bias, [-0.2, -0.1], rtol=1e-5)


# Stochastic pooling


@FORMATS
@POOLS
def test_stochastic_pooling_weights_by_probability(size, strides, padding, data_format):
    layer = layers.StochasticPooling2D(size, strides, padding, data_format)
    seen = np.maximum(numpy_windows(X, size, strides, padding), 0)
    total = seen.sum(3, keepdims=True)
    check(layer, X, (seen * seen / np.where(total, total, 1)).sum(3))


@FORMATS
def test_stochastic_pooling_draws_by_probability(data_format):
    """How often each place is drawn, within four deviations; zero and negative ones never."""
    layer = layers.StochasticPooling2D((2, 2), data_format=data_format, seed=1)
    window = np.array([[1.0, 0.0], [4.0, -7.0]], "float32")
    x = np.tile(window, (40, 25))[None, :, :, None]  # an image of 40 x 25 windows
    x = np.concatenate([np.tile(x, (8, 1, 1, 1)), 0 * x])
    if data_format == "channels_first":
        x = np.moveaxis(x, -1, 1)
    y = array(layer(x, training=True))
    assert not y[-1].any()
    drawn = y[:-1]
    assert set(np.unique(drawn)) == {1.0, 4.0}
    deviation = np.sqrt(0.2 * 0.8 / drawn.size)
    assert abs((drawn == 1).mean() - 0.2) < 4 * deviation
    # Neighbouring windows draw by themselves.
    rows = drawn.reshape(-1, 25)
    assert abs(np.corrcoef(rows[:, 1:].ravel(), rows[:, :-1].ravel())[0, 1]) < 0.06
    assert not np.array_equal(y, array(layer(x, training=True)))


def test_the_gradient_of_stochastic_pooling_goes_to_the_drawn_place():
    # Weighed by probability they would give 34.75.
    x = np.array([[1.0, 2.0], [5.0, 40.0]], "float32")[None, :, :, None]
    image = keras.Input((2, 2, 1))
    held = keras.layers.DepthwiseConv2D(1, use_bias=False, depthwise_initializer="ones")(image)
    model = keras.Model(image, layers.StochasticPooling2D(2)(held))
    model.compile(keras.optimizers.SGD(1.0), lambda y_true, y_pred: keras.ops.sum(y_pred))
    # y = w * x[drawn], so that the step takes x[drawn] from w = 1.
    model.train_on_batch(x, np.zeros((1, 1, 1, 1)))
    step = 1 - float(model.get_weights()[0].item())
    assert any(abs(step - value) < 1e-5 for value in (1, 2, 5, 40))


# Lp pooling


@FORMATS
@POOLS
@pytest.mark.parametrize("p", [1, 2, 3.5])
def test_lp_pooling(size, strides, padding, data_format, p):
    layer = layers.LpPooling2D(p, size, strides, padding, data_format)
    seen = np.abs(numpy_windows(X, size, strides, padding))
    check(layer, X, (seen**p).sum(3) ** (1 / p))


@FORMATS
@pytest.mark.parametrize(("maps", "map_strides"), [(2, None), (3, 1), (4, 2)])
def test_lp_pooling_across_maps(maps, map_strides, data_format):
    layer = layers.LpPooling2D(
        2, (1, 2), data_format=data_format, maps=maps, map_strides=map_strides
    )
    energy = (numpy_windows(X, (1, 2), (1, 2), "valid") ** 2).sum(3)
    step = map_strides or maps
    firsts = range(0, 6 - maps + 1, step)
    check(layer, X, np.sqrt(np.stack([energy[..., i : i + maps].sum(-1) for i in firsts], -1)))


def test_lp_pooling_of_large_powers_is_the_maximum():
    x = np.array([1e-9, 2e-9, 1e9, 3e9, 0, 0], "float32").reshape(1, 1, 6, 1)
    y = array(layers.LpPooling2D(60, (1, 2))(x)).ravel()
    np.testing.assert_allclose(y, [2e-9, 3e9, 0], rtol=1e-6)


def test_the_gradient_of_lp_pooling_is_finite_in_windows_of_zeros():
    model = keras.Sequential(
        [
            keras.Input((2, 4, 1)),
            keras.layers.DepthwiseConv2D(1, use_bias=False, depthwise_initializer="ones"),
            layers.LpPooling2D(2),
        ]
    )
    model.compile(keras.optimizers.SGD(1.0), lambda y_true, y_pred: keras.ops.sum(y_pred))
    x = np.array([[3.0, 4.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]], "float32")[None, :, :, None]
    model.train_on_batch(x, np.zeros((1, 1, 2, 1)))
    assert float(model.get_weights()[0].item()) == pytest.approx(1 - 5)


# Local contrast normalization


def numpy_contrast(x, size, sigma, divisive, epsilon):
    def mean(x):
        y = np.empty((*x.shape[:3], 1))
        away = np.arange(size) - size // 2
        bell = np.exp(-(away[:, None] ** 2 + away**2) / (2 * sigma**2))
        for i in range(x.shape[1]):
            for j in range(x.shape[2]):
                rows = [r for r in away + i if 0 <= r < x.shape[1]]
                columns = [c for c in away + j if 0 <= c < x.shape[2]]
                seen = x[:, rows][:, :, columns]
                near = [np.subtract(rows, i - size // 2), np.subtract(columns, j - size // 2)]
                weight = bell[np.ix_(*near)]
                weight = weight[None, :, :, None] / (weight.sum() * x.shape[-1])
                y[:, i, j, 0] = (weight * seen).sum((1, 2, 3))
        return y

    v = x - mean(x)
    if not divisive:
        return v
    deviation = np.sqrt(np.maximum(mean(v**2), epsilon**2))
    return v / np.maximum(deviation, deviation.mean((1, 2, 3), keepdims=True))


@FORMATS
@pytest.mark.parametrize(
    ("size", "sigma", "divisive", "epsilon"),
    [(3, 0.8, True, 1e-4), (5, None, True, 0.9), (11, 3.0, False, 1e-4)],
)
def test_local_contrast_normalization(size, sigma, divisive, epsilon, data_format):
    layer = layers.LocalContrastNormalization(size, sigma, divisive, epsilon, data_format)
    expected = numpy_contrast(X, size, sigma or size / 4, divisive, epsilon)
    check(layer, X, expected.astype("float32"))


def test_local_contrast_normalization_takes_brightness_and_contrast_away():
    layer = layers.LocalContrastNormalization()
    assert np.abs(array(layer(np.full((2, 12, 12, 3), 7, "float32")))).max() < 0.05  # rounding
    image = RNG.uniform(size=(1, 20, 20, 3)).astype("float32")
    np.testing.assert_allclose(array(layer(5 * image + 3)), array(layer(image)), atol=1e-3)


def test_contrast_of_a_flat_image():
    """Rounding errors, which the least divisor would make large, are not contrast."""
    for value in (0.1, 200.0):
        flat = np.full((1, 12, 12, 3), value, "float32")
        assert np.abs(array(layers.LocalContrastNormalization()(flat))).max() < 1e-2


# DropConnect


def gaussian_mean(function, mean, deviation):
    """The mean of a function over a Gaussian, by a fine sum."""
    z = np.linspace(-8, 8, 4001)
    density = np.exp(-(z**2) / 2)
    values = function(mean[..., None] + deviation[..., None] * z)
    return (values * density).sum(-1) / density.sum()


@pytest.mark.parametrize(
    ("activation", "function", "atol"),
    [
        (None, lambda u: u, 1e-4),
        ("relu", lambda u: np.maximum(u, 0), 1e-4),
        ("tanh", np.tanh, 1e-3),
    ],
)
@pytest.mark.parametrize("use_bias", [True, False])
def test_drop_connect_infers_by_the_gaussian_of_the_paper(activation, function, atol, use_bias):
    layer = layers.DropConnect(4, 0.3, activation, use_bias=use_bias)
    run(layer, X)
    rng = np.random.default_rng(0)
    kernel = rng.normal(0, 0.5, (6, 4)).astype("float32")
    bias = rng.normal(size=4).astype("float32")
    layer.set_weights([kernel, bias] if use_bias else [kernel])
    bias = bias * use_bias
    mean = 0.7 * (X @ kernel + bias)
    deviation = np.sqrt(0.7 * 0.3 * (X**2 @ kernel**2 + bias**2))
    expected = gaussian_mean(function, mean, deviation)
    got = run(layer, X)
    assert np.max(np.abs(got - expected) / deviation) < atol
    np.testing.assert_allclose(run(again(layer), X), got)
    layer.inference = "mean"
    np.testing.assert_allclose(run(layer, X), function(mean), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("shared_mask", [True, False])
def test_drop_connect_drops_weights_and_biases_of_each_input(shared_mask):
    layer = layers.DropConnect(
        32, 0.25, shared_mask=shared_mask, kernel_initializer="ones", bias_initializer="ones"
    )
    # Sums of distinct powers of two tell which weights were left.
    x = np.tile(2.0 ** np.arange(1, 7, dtype="float32"), (64, 1))
    y = array(layer(x, training=True))
    bits = (y.astype(int)[..., None] >> np.arange(7)) & 1
    rows = bits[:1] if shared_mask else bits
    share, deviation = rows.mean(), np.sqrt(0.25 * 0.75 / rows.size)
    assert abs(share - 0.75) < 4 * deviation
    assert (len(np.unique(y, axis=0)) == 1) == shared_mask
    np.testing.assert_allclose(array(layer(x)), 0.75 * 127, rtol=1e-6)


def test_drop_connect_in_the_mean_is_what_it_infers():
    """The paper's approximation holds: many masks against the Gaussian."""
    layer = layers.DropConnect(3, 0.5, "relu", seed=4)
    x = RNG.normal(size=(1, 200)).astype("float32")
    inferred = array(layer(x))
    sampled = array(layer(np.repeat(x, 4000, 0), training=True))
    error = sampled.std(0) / np.sqrt(4000)
    assert (np.abs(sampled.mean(0) - inferred) < 5 * error + 0.01).all()


def test_drop_connect_is_a_dense_layer():
    image = keras.Input((6,))
    counted = count(keras.Model(image, layers.DropConnect(4)(image)))
    assert (counted.macs, counted.params, counted.uncounted) == (24, 28, ())
    np.testing.assert_allclose(
        array(layers.DropConnect(4, 0.0, kernel_initializer="ones")(X, training=True)),
        np.repeat(X.sum(-1, keepdims=True), 4, -1),
        rtol=1e-4,
        atol=1e-5,
    )


# DropBlock


@FORMATS
@pytest.mark.parametrize(("shape", "block"), [((12, 15), 4), ((9, 9), 3), ((2, 8), 5)])
@pytest.mark.parametrize("shared_mask", [True, False])
def test_drop_block_drops_whole_blocks_within_the_map(shape, block, shared_mask, data_format):
    layer = layers.DropBlock2D(0.2, block, shared_mask=shared_mask, data_format=data_format, seed=2)
    x = np.ones((64, *shape, 8), "float32")
    first = data_format == "channels_first"
    y = array(layer(np.moveaxis(x, -1, 1) if first else x, training=True))
    y = np.moveaxis(y, 1, -1) if first else y
    kept = y > 0
    np.testing.assert_allclose(y[kept], kept.size / kept.sum(), rtol=1e-5)
    assert abs(y.mean() - 1) < 1e-5
    same = np.array_equal(kept, np.repeat(kept[..., :1], 8, -1))
    assert same == shared_mask
    # Every dropped cell lies in a block that is dropped as a whole.
    high, wide = min(block, shape[0]), min(block, shape[1])
    covered = np.zeros_like(kept)
    for i in range(shape[0] - high + 1):
        for j in range(shape[1] - wide + 1):
            whole = ~kept[:, i : i + high, j : j + wide].any((1, 2), keepdims=True)
            covered[:, i : i + high, j : j + wide] |= whole
    np.testing.assert_array_equal(covered, ~kept)
    # Blocks overlap now and then, so that a little less than the rate is dropped.
    assert 0.1 < 1 - kept.mean() < 0.3
    check(layer, X, X)


def test_drop_block_of_the_whole_map_drops_maps():
    layer = layers.DropBlock2D(0.5, block_size=20, seed=0)
    y = array(layer(np.ones((200, 4, 4, 5), "float32"), training=True))
    by_map = y.reshape(200, 16, 5)
    assert ((by_map == by_map[:, :1]).all(1)).all()
    assert 0.43 < (y == 0).mean() < 0.57


def ramped(seed=5):
    image = keras.Input((8, 8, 2))
    x = keras.layers.DepthwiseConv2D(1, depthwise_initializer="ones")(image)
    x = layers.DropBlock2D(0.4, 2, ramp_steps=10, seed=seed, name="drop")(x)
    model = keras.Model(image, keras.layers.GlobalAveragePooling2D()(x))
    model.compile(keras.optimizers.SGD(0.0), "mse")
    return model


def test_the_rate_of_drop_block_rises_in_compiled_steps_and_is_saved(tmp_path):
    x, y = np.ones((64, 8, 8, 2), "float32"), np.ones((64, 2), "float32")

    model = ramped()
    drop = model.get_layer("drop")
    assert float(drop.current_rate()) == 0
    losses = model.fit(x, y, batch_size=64, epochs=5, verbose=0).history["loss"]
    assert losses[0] < 1e-12  # nothing was dropped in the first step
    assert losses[-1] > 1e-4
    assert float(drop.current_rate()) == pytest.approx(0.2)
    model.save(tmp_path / "model.keras")
    copy = keras.saving.load_model(tmp_path / "model.keras")
    for one in (model, copy):
        one.fit(x, y, batch_size=64, epochs=3, verbose=0)
        assert float(one.get_layer("drop").current_rate()) == pytest.approx(0.32)
    fresh = ramped()
    model.save_weights(tmp_path / "model.weights.h5")
    fresh.load_weights(tmp_path / "model.weights.h5")
    fresh.fit(x, y, batch_size=64, epochs=9, verbose=0)
    assert float(fresh.get_layer("drop").current_rate()) == pytest.approx(0.4)
    before = fresh.get_layer("drop").get_weights()
    fresh.evaluate(x, y, verbose=0)
    np.testing.assert_equal(fresh.get_layer("drop").get_weights(), before)


def test_the_ramp_of_drop_block_drops_what_its_rate_says():
    layer = layers.DropBlock2D(0.4, 1, ramp_steps=4, seed=3)
    x = np.ones((64, 16, 16, 8), "float32")
    dropped = [(array(layer(x, training=True)) == 0).mean() for _ in range(6)]
    np.testing.assert_allclose(dropped, [0, 0.1, 0.2, 0.3, 0.4, 0.4], atol=0.01)


# Weight normalization


def normalized(kernel, g, axes):
    return g * kernel / np.sqrt((kernel**2).sum(axes, keepdims=True))


@pytest.mark.parametrize(
    ("make", "axes"),
    [
        (lambda: keras.layers.Dense(4, "tanh"), 0),
        (lambda: keras.layers.Conv2D(4, (3, 2), 2, use_bias=False), (0, 1, 2)),
        (lambda: layers.GroupedConv2D(4, 3, groups=2, padding="same"), (0, 1, 2)),
        (lambda: keras.layers.Conv2DTranspose(4, 3, 2), (0, 1, 3)),
        (lambda: keras.layers.DepthwiseConv2D(3, depth_multiplier=2), (0, 1)),
    ],
)
def test_weight_normalization(make, axes):
    plain, layer = make(), layers.WeightNormalization(make())
    expected = run(plain, X)
    run(layer, X)
    kernel = plain.get_weights()[0]
    layer.layer.set_weights(plain.get_weights())
    norm = np.sqrt((kernel**2).sum(axes, keepdims=True))
    layer.g.assign(norm)
    check(layer, X, expected)
    v, g = 3 * kernel, RNG.uniform(0.5, 2, norm.shape).astype("float32")
    layer.layer.set_weights([v, *plain.get_weights()[1:]])
    layer.g.assign(g)
    plain.set_weights([normalized(v, g, axes), *plain.get_weights()[1:]])
    check(layer, X, run(plain, X))


def test_weight_normalization_begins_as_the_layer():
    image = keras.Input((7, 9, 6))
    inner = keras.layers.Conv2D(4, 3, kernel_initializer=keras.initializers.HeNormal(seed=1))
    model = keras.Model(image, layers.WeightNormalization(inner)(image))
    plain = keras.layers.Conv2D(4, 3, kernel_initializer=keras.initializers.HeNormal(seed=1))
    np.testing.assert_allclose(array(model(X)), array(plain(X)), rtol=1e-4, atol=1e-5)
    counted = count(model)
    assert counted.macs == count(keras.Model(image, plain(image))).macs
    assert counted.params == 3 * 3 * 6 * 4 + 4 + 4
    assert counted.uncounted == ()


def test_the_gradient_of_weight_normalization_is_that_of_the_paper():
    """Equation 3, at a step of plain gradient descent, in a compiled step."""
    x, y = X[:, :, 0].reshape(-1, 6), RNG.normal(size=(14, 3)).astype("float32")
    image = keras.Input((6,))
    layer = layers.WeightNormalization(keras.layers.Dense(3))
    model = keras.Model(image, layer(image))
    v, g = RNG.normal(size=(6, 3)).astype("float32"), RNG.uniform(1, 2, (1, 3)).astype("float32")
    layer.layer.set_weights([v, np.zeros(3, "float32")])
    layer.g.assign(g)
    model.compile(keras.optimizers.SGD(1.0), "mse")
    model.train_on_batch(x, y)
    norm = np.sqrt((v**2).sum(0, keepdims=True))
    w = g * v / norm
    gradient = x.T @ (2 * (x @ w - y) / y.size)
    of_g = (gradient * v).sum(0, keepdims=True) / norm
    of_v = g / norm * gradient - g * of_g / norm**2 * v
    np.testing.assert_allclose(array(layer.g), g - of_g, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(array(layer.layer.kernel), v - of_v, rtol=1e-4, atol=1e-5)
    assert np.abs((of_v * v).sum(0)).max() < 1e-5  # at right angles


# What all of them have in common

ALL = {
    "maxout": lambda **kw: layers.Maxout(2, **kw),
    "stochastic_pooling": lambda **kw: layers.StochasticPooling2D(3, 2, "same", **kw),
    "lp_pooling": lambda **kw: layers.LpPooling2D(3, 2, maps=2, **kw),
    "local_contrast": lambda **kw: layers.LocalContrastNormalization(5, **kw),
    "drop_connect": lambda **kw: layers.DropConnect(4, 0.3, "relu", **kw),
    "drop_block": lambda **kw: layers.DropBlock2D(0.2, 3, 5, **kw),
    "weight_normalization": lambda **kw: layers.WeightNormalization(
        keras.layers.Conv2D(4, 3, **kw), **kw
    ),
}
EACH = pytest.mark.parametrize("name", ALL)


@EACH
@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16", "float64"])
def test_dtype_policies(name, policy):
    """Nearly what float32 gives, in the type of the policy; activations of 300 overflow nowhere."""
    if policy == "float64" and keras.backend.backend() == "jax":
        pytest.skip("JAX has no float64 unless it is configured so")
    exact = ALL[name]()
    layer = ALL[name](dtype=policy)
    x = 100 * X
    expected = array(exact(x))
    layer.build(x.shape)
    layer.set_weights(exact.get_weights())
    for training in (False, True):
        y = layer(x, training=training) if name != "maxout" else layer(x)
        assert keras.backend.standardize_dtype(y.dtype) == layer.compute_dtype
        y = array(keras.ops.cast(y, "float32"))
        assert np.isfinite(y).all()
        if not training:
            error = np.abs(y - expected).max() / np.abs(expected).max()
            assert error < {"mixed_float16": 5e-3, "mixed_bfloat16": 3e-2, "float64": 1e-5}[policy]


@EACH
def test_a_compiled_step_and_a_file(name, tmp_path):
    """One step that reaches what is below the layer, and a file that gives the same."""
    image = keras.Input((7, 9, 6))
    x = keras.layers.Conv2D(6, 1, activation="relu", name="below")(image)
    x = keras.layers.GlobalAveragePooling2D()(ALL[name](name="layer")(x))
    model = keras.Model(image, keras.layers.Dense(2)(x))
    model.compile(keras.optimizers.SGD(0.1), "mse")
    before = model.get_layer("below").get_weights()[0]
    losses = model.fit(X, np.ones((2, 2)), epochs=2, verbose=0).history["loss"]
    assert np.isfinite(losses).all()
    assert np.abs(model.get_layer("below").get_weights()[0] - before).max() > 1e-6
    model.save(tmp_path / "model.keras")
    copy = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(
        model.predict(X, verbose=0), copy.predict(X, verbose=0), rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize("name", ["stochastic_pooling", "lp_pooling", "local_contrast"])
def test_maps_of_unknown_size(name):
    image = keras.Input((None, None, 6))
    model = keras.Model(image, ALL[name]()(image))
    assert model.output_shape[1:3] == (None, None)
    np.testing.assert_allclose(
        model.predict(X, verbose=0), array(ALL[name]()(X)), rtol=1e-4, atol=1e-6
    )


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: layers.Maxout(0), "positive integer"),
        (lambda: layers.Maxout(4)(X), "multiple of pieces=4"),
        (lambda: layers.Maxout(2, axis=0)(X), "behind the batch"),
        (lambda: layers.StochasticPooling2D(0), "pool_size"),
        (lambda: layers.StochasticPooling2D(2, padding="full"), "'valid' or 'same'"),
        (lambda: layers.StochasticPooling2D(2, 3, "same"), "at most `pool_size`"),
        (lambda: layers.LpPooling2D(0.5), "at least 1"),
        (lambda: layers.LpPooling2D(maps=0), "`maps`"),
        (lambda: layers.LpPooling2D(maps=7)(X), "as many channels"),
        (lambda: layers.LocalContrastNormalization(4), "odd"),
        (lambda: layers.LocalContrastNormalization(5, 0.0), "must be positive"),
        (lambda: layers.DropConnect(4, 1.0), "below 1"),
        (lambda: layers.DropConnect(4, inference="sample"), "'gaussian' or 'mean'"),
        (lambda: layers.DropConnect(4, activation="softmax"), "layer of its own"),
        (lambda: layers.DropBlock2D(-0.1), "at least 0"),
        (lambda: layers.DropBlock2D(block_size=0), "block_size"),
        (lambda: layers.DropBlock2D(ramp_steps=-1), "ramp_steps"),
        (lambda: layers.DropBlock2D()(keras.Input((None, 8, 3))), "known height"),
        (lambda: layers.StochasticPooling2D(3)(X[:, :2]), "larger than the map"),
        (lambda: layers.LpPooling2D("a"), "`p` must be a finite number"),
        (lambda: layers.Maxout(2, axis="x"), "`axis` must be an integer"),
        (lambda: layers.StochasticDepth("a"), "`survival` must be above 0"),
        (lambda: layers.SamePadding2D((3, 3)), "`pool_size` must be a positive integer"),
        (lambda: layers.WeightNormalization(layers.DropConnect(4)), "at random"),
        (lambda: layers.WeightNormalization(keras.layers.ReLU()), "one kernel"),
        (lambda: layers.WeightNormalization(keras.layers.SeparableConv2D(4, 3)), "one kernel"),
    ],
)
def test_errors(make, message):
    with pytest.raises(ValueError, match=message) as caught:
        make()
    assert "Received" in str(caught.value)


class Inferring(keras.Model):
    """A layer that is trained in the mode of inference, as frozen parts of networks are."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def call(self, inputs):
        return self.layer(inputs, training=False)


@pytest.mark.parametrize("activation", ["relu", "tanh", "sigmoid", "gelu"])
def test_drop_connect_has_a_gradient_at_zero(activation):
    """Where a unit has no variance, of which the root has none."""
    model = Inferring(layers.DropConnect(3, activation=activation))
    x = np.zeros((2, 4), "float32")
    model(x)
    model.compile(keras.optimizers.SGD(1.0), "mse", jit_compile=False)
    model.train_on_batch(x, np.ones((2, 3)))
    for weight in model.get_weights():
        assert np.isfinite(weight).all()


def test_a_penalty_on_what_a_normalized_layer_gives():
    layer = keras.layers.Dense(4, activity_regularizer=keras.regularizers.L2(0.5))
    wrapped = layers.WeightNormalization(layer)
    y = array(wrapped(X[:, 0, 0]))
    np.testing.assert_allclose(array(wrapped.losses[0]), 0.5 * (y**2).sum() / len(y), rtol=1e-5)
    assert again(wrapped).activity_regularizer is not None


DRAWING = {
    "stochastic_pooling": lambda seed: layers.StochasticPooling2D(2, seed=seed),
    "drop_connect": lambda seed: layers.DropConnect(5, kernel_initializer="ones", seed=seed),
    "drop_block": lambda seed: layers.DropBlock2D(0.5, 2, seed=seed),
    "stochastic_depth": lambda seed: layers.StochasticDepth(0.5, seed=seed),
}


@pytest.mark.parametrize("kind", DRAWING)
def test_a_seed_decides_what_is_drawn(kind):
    def drawn(layer):
        x = np.abs(X) + 0.1
        return [array(layer(x, training=True)) for _ in range(8)]

    first, same, other = (drawn(DRAWING[kind](seed)) for seed in (3, 3, 4))
    np.testing.assert_array_equal(first, same)
    assert not np.array_equal(first, other)
    assert any(not np.array_equal(first[0], one) for one in first[1:])
    np.testing.assert_array_equal(drawn(again(DRAWING[kind](3))), first)
