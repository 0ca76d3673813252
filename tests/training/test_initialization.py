"""Initial weights: their statistics, the gains, and the variances along the depth."""

import keras
import numpy as np
import pytest
from keras import layers

import keras_cnn_classics as kcc
from keras_cnn_classics.layers import (
    DropConnect,
    GroupedConv2D,
    HighwayGate,
    PartiallyConnectedConv2D,
    SqueezeExcite,
    WeightNormalization,
)
from keras_cnn_classics.testing import contracts
from keras_cnn_classics.training import initialization as init
from keras_cnn_classics.training.variance import variance_by_depth

RNG = np.random.default_rng(0)
_NODES, _WEIGHTS = np.polynomial.hermite_e.hermegauss(100)  # Gauss's quadrature


def _numpy(variable):
    return np.array(keras.ops.convert_to_numpy(variable))


def _mlp(depth=20, width=200, activation="relu"):
    return keras.Sequential(
        [
            keras.Input((width,)),
            *[layers.Dense(width, activation=activation, name=f"d{i}") for i in range(depth)],
            layers.Dense(10, activation="softmax", name="top"),
        ]
    )


def _zoo():
    """A layer of every kind, one of them in a nested model."""
    inner = keras.Sequential(
        [
            keras.Input((9, 9, 32)),
            layers.DepthwiseConv2D(3, depth_multiplier=16, name="depthwise"),
            layers.BatchNormalization(
                name="norm", gamma_initializer=keras.initializers.Constant(0.5)
            ),
            layers.ReLU(),
        ],
        name="inner",
    )
    inputs = keras.Input((9, 9, 32))
    x = layers.Conv2D(64, 3, padding="same", name="conv", bias_initializer="ones")(inputs)
    x = GroupedConv2D(32, 3, groups=4, padding="same", name="grouped")(layers.LeakyReLU(0.2)(x))
    x = inner(layers.Add()([x, inputs]))
    x = layers.SeparableConv2D(64, 3, activation="tanh", name="separable")(x)
    x = PartiallyConnectedConv2D([range(1, 33), range(64), [5]], 3, name="partial")(x)
    x = layers.Dense(50, name="dense")(layers.Flatten()(x))
    return keras.Model(inputs, x)


# Inputs of a unit; the gain of the activation before it.
EXPECTED = {
    "conv": (9 * 32, 1),
    "grouped": (9 * 16, np.sqrt(2 / 1.04)),
    "depthwise": (9, 1),
    "separable/depthwise_kernel": (9, np.sqrt(2)),
    "separable/pointwise_kernel": (512, 1),
    "dense": (27, 1),
}


def _by_name(model):
    return {"/".join(v.path.split("/")[-2:]): _numpy(v) for v in model.weights}


def _kernel(weights, name):
    return weights[name if "/" in name else f"{name}/kernel"]


@pytest.fixture(scope="module")
def zoo():
    return _zoo()


def test_he_has_the_right_fans_and_gains(zoo):
    init.initialize(zoo, "he", seed=3)
    weights = _by_name(zoo)
    for name, (fan, gain) in EXPECTED.items():
        kernel = _kernel(weights, name)
        error = 4 / np.sqrt(2 * kernel.size)  # four standard deviations
        assert kernel.std() == pytest.approx(gain / np.sqrt(fan), rel=error), name
        assert abs(kernel.mean()) < 4 * kernel.std() / np.sqrt(kernel.size)
    # Rows of 32, 64 and 1 maps, behind tanh.
    partial = weights["partial/kernel"]
    tanh = init.gain("tanh")
    for part, maps in ((partial[..., :32], 32), (partial[..., 32:96], 64)):
        assert part.std() == pytest.approx(tanh / np.sqrt(9 * maps), rel=4 / np.sqrt(2 * part.size))
    np.testing.assert_array_equal(weights["conv/bias"], np.ones(64))
    np.testing.assert_array_equal(weights["norm/gamma"], np.full(512, 0.5))


def test_fan_out_counts_where_an_input_goes(zoo):
    init.he(zoo, mode="fan_out", seed=3)
    weights = _by_name(zoo)
    for name, fan, gain in (
        ("conv", 9 * 64, 1),
        ("grouped", 9 * 8, np.sqrt(2 / 1.04)),
        ("depthwise", 9 * 16, 1),
    ):
        kernel = _kernel(weights, name)
        expected = pytest.approx(gain / np.sqrt(fan), rel=4 / np.sqrt(2 * kernel.size))
        assert kernel.std() == expected, name
    init.glorot(zoo, seed=3)
    weights = _by_name(zoo)
    for name, fans in (("conv", 9 * 96), ("grouped", 9 * 24), ("depthwise", 9 * 17)):
        bound = np.sqrt(6 / fans)
        assert 0.98 * bound < np.abs(_kernel(weights, name)).max() <= bound
    fifth = weights["partial/kernel"][..., 96]  # map 5, in all three rows, the only one of its row
    assert np.abs(fifth).max() <= np.sqrt(6 / (9 + 27))


def test_orthogonal_kernels_are_so_group_by_group(zoo):
    init.orthogonal(zoo, seed=1)
    weights = _by_name(zoo)
    conv = weights["conv/kernel"].reshape(-1, 64)
    np.testing.assert_allclose(conv.T @ conv, np.eye(64), atol=1e-5)
    group = weights["grouped/kernel"].reshape(-1, 4, 8)[:, 2]
    np.testing.assert_allclose(group.T @ group, np.eye(8), atol=1e-5)
    depthwise = weights["depthwise/kernel"][:, :, 7].reshape(9, 16)  # more filters than inputs
    np.testing.assert_allclose(depthwise @ depthwise.T, np.eye(9), atol=1e-5)
    row = weights["partial/kernel"][..., 32:96]
    assert np.sum(row**2) == pytest.approx(1, rel=1e-4)


def test_a_seed_gives_the_same_weights_and_another_seed_others(zoo):
    for how in ("gaussian", "glorot", "he", "orthogonal"):
        init.initialize(zoo, how, seed=5)
        first = _by_name(zoo)["conv/kernel"]
        init.initialize(zoo, how, seed=6)
        assert not np.array_equal(first, _by_name(zoo)["conv/kernel"])
        init.initialize(zoo, how, seed=5)
        np.testing.assert_array_equal(first, _by_name(zoo)["conv/kernel"])
    init.gaussian(zoo, seed=5)
    # Drawn by NumPy, so the same on every backend.
    expected = np.random.default_rng(5).normal(0, 0.01, (9 * 32, 1, 64)).ravel()
    np.testing.assert_allclose(_by_name(zoo)["conv/kernel"].ravel(), expected, rtol=1e-6)


def test_alexnets_biases(zoo):
    init.gaussian(zoo, std=0.05, ones=("gr*", "dense"), seed=0)
    weights = _by_name(zoo)
    assert weights["grouped/bias"].min() == weights["dense/bias"].min() == 1
    assert np.abs(weights["partial/bias"]).max() == 0
    assert weights["conv/kernel"].std() == pytest.approx(0.05, rel=0.02)


@pytest.mark.parametrize(
    ("activation", "expected"),
    [
        ("relu", np.sqrt(2)),
        ("linear", 1),
        (layers.LeakyReLU(negative_slope=0.3), np.sqrt(2 / 1.09)),
        ("tanh", (np.tanh(_NODES) ** 2 @ _WEIGHTS / np.sqrt(2 * np.pi)) ** -0.5),
    ],
)
def test_gains(activation, expected):
    assert init.gain(activation) == pytest.approx(expected, rel=1e-5)


def test_gain_of_a_parametric_relu():
    layer = layers.PReLU(alpha_initializer=keras.initializers.Constant(0.25), shared_axes=[1])
    layer.build((None, 4, 3))
    assert init.gain(layer) == pytest.approx(np.sqrt(2 / 1.0625), rel=1e-5)


def test_he_keeps_the_variance_through_twenty_layers_and_others_do_not():
    model, images = _mlp(), RNG.normal(size=(64, 200)).astype("float32")
    before = _by_name(model)
    init.he(model, seed=1)
    he = variance_by_depth(model, images)
    assert he.layers == (*[f"d{i}" for i in range(20)], "top")
    assert 0.3 < he.forward[:-1].min() <= he.forward[:-1].max() < 3
    ratio = he.backward[0] / he.backward[19]
    assert 0.2 < ratio < 5
    init.gaussian(model, seed=1)
    small = variance_by_depth(model, images)
    # Each layer multiplies the variance by 200 / 2 * 0.01^2.
    assert small.forward[15] / small.forward[5] == pytest.approx(0.01**10, rel=0.9)
    assert small.backward[5] / small.backward[15] < 1e-15
    init.zeros(model)
    none = variance_by_depth(model, images, np.zeros(64), "sparse_categorical_crossentropy")
    assert none.forward.max() == none.backward[:-1].max() == 0
    assert none.backward[-1] > 0
    assert [v.shape for v in before.values()] == [v.shape for v in _by_name(model).values()]


def test_he_behind_batch_norm():
    """Each sum has the variance 1, whether batch norm comes after the activation or before it."""
    images = RNG.normal(size=(256, 200)).astype("float32")
    for order in ((layers.ReLU, layers.BatchNormalization), (layers.BatchNormalization, "relu")):
        model = keras.Sequential([keras.Input((200,))])
        for _ in range(6):
            model.add(layers.Dense(200))
            for one in order:
                model.add(layers.Activation(one) if one == "relu" else one())
        model.add(layers.Dense(200))
        init.he(model, seed=1)
        np.testing.assert_allclose(variance_by_depth(model, images).forward, 1, rtol=0.15)


def test_he_takes_layers_without_a_graph_to_follow_a_relu():
    class Net(keras.Model):
        def __init__(self):
            super().__init__()
            self.first, self.second = layers.Dense(300), layers.Dense(300)

        def call(self, x):
            return self.second(self.first(x))

    model = Net()
    model(np.zeros((1, 300), "float32"))
    init.he(model)
    for layer in (model.first, model.second):
        assert _numpy(layer.kernel).std() == pytest.approx(np.sqrt(2 / 300), rel=0.02)


def test_variances_are_those_of_numpy_and_nothing_changes(tmp_path):
    inner = keras.Sequential([keras.Input((5,)), layers.Dense(4, "relu", name="hidden")])
    model = keras.Sequential(
        [
            keras.Input((5,)),
            inner,
            layers.Dropout(0.5, seed=1),
            layers.BatchNormalization(trainable=False),
            layers.Dense(3, name="top"),
        ]
    )
    model.get_layer(index=1).rate = 0.0
    model.compile("adam", "mse")
    init.he(model, seed=4)
    x, labels = RNG.normal(size=(8, 5)).astype("float32"), RNG.normal(size=(8, 3))
    w0, _, w1, _ = (_numpy(v) for v in model.trainable_variables)
    state = [_numpy(v) for v in model.variables]
    found = variance_by_depth(model, x, labels, "mse")
    y0 = x @ w0
    y1 = np.maximum(y0, 0) / np.sqrt(1.001) @ w1
    g1 = 2 * (y1 - labels) / labels.size
    g0 = (g1 @ w1.T) / np.sqrt(1.001) * (y0 > 0)
    assert found.layers == ("hidden", "top")
    np.testing.assert_allclose(found.forward, [y0.var(), y1.var()], rtol=1e-4)
    np.testing.assert_allclose(found.backward, [g0.var(), g1.var()], rtol=1e-4)
    for a, b in zip(state, model.variables, strict=True):
        np.testing.assert_array_equal(a, _numpy(b))
    assert isinstance(model.optimizer, keras.optimizers.Adam)
    assert "call" not in vars(model.get_layer("top"))
    found.plot(tmp_path / "variances.png")
    assert (tmp_path / "variances.png").stat().st_size > 5000
    with pytest.raises(ValueError, match="go together"):
        variance_by_depth(model, x, labels)


def test_lsuv_gives_every_layer_unit_variance(zoo):
    images = [(RNG.normal(1, 5, size=(8, 9, 9, 32)).astype("float32"), 0) for _ in range(3)]
    init.initialize(zoo, "lsuv", seed=2, data=images, batches=2, tolerance=0.01)
    found = variance_by_depth(zoo, np.concatenate([x for x, _ in images[:2]]))
    variances = init.lsuv(zoo, images, batches=2, tolerance=0.01, seed=2)
    assert set(variances) == {"conv", "grouped", "depthwise", "separable", "partial", "dense"}
    np.testing.assert_allclose(list(variances.values()), 1, atol=0.01)
    # Before the batch norm, which then sees its own batch: training and test differ behind it.
    np.testing.assert_allclose(found.forward[:3], 1, atol=0.01)
    assert "call" not in vars(zoo.get_layer("conv"))


def test_lsuv_refuses_data_without_variance():
    model = _mlp(2, 8)
    with pytest.raises(ValueError, match="Layer 'd0' gives the same number everywhere"):
        init.lsuv(model, np.zeros((4, 8)))
    with pytest.raises(ValueError, match="gives no batches"):
        init.lsuv(model, [])


def test_vgg_starts_from_the_shallower_net():
    options = {
        "weights": None,
        "width": 4,
        "units": (12, 10),
        "classes": 6,
        "input_shape": (32, 32, 3),
    }
    shallow, deep = kcc.VGG11(**options), kcc.VGG16(**options)
    init.gaussian(deep, std=0.1, seed=7)
    before = _by_name(deep)
    copied = init.from_shallower(deep, shallow)
    assert copied == {
        name: name
        for name in (
            "block1_conv1",
            "block2_conv1",
            "block3_conv1",
            "block3_conv2",
            "predictions",
            "fc2",
            "fc1",
        )
    }
    after, source = _by_name(deep), _by_name(shallow)
    for path, value in after.items():
        expected = source if path.split("/")[0] in copied else before
        np.testing.assert_array_equal(value, expected[path])
    with pytest.raises(ValueError, match="has 8 layers of the kind Conv2D, of which 9"):
        init.from_shallower(deep, shallow, convolutions=9)
    with pytest.raises(ValueError, match=r"Layer 'predictions' of .* has no place left"):
        init.from_shallower(kcc.VGG16(**{**options, "classes": 7}), shallow)


def test_refusals():
    model = _mlp(1, 8)
    with pytest.raises(ValueError, match="must be one of gaussian, glorot"):
        init.initialize(model, "xavier")
    with pytest.raises(ValueError, match="mode='both'"):
        init.he(model, mode="both")
    odd = keras.Sequential([keras.Input((8, 8, 3)), layers.Conv2DTranspose(4, 3, name="up")])
    before = odd.get_weights()
    with pytest.raises(ValueError, match="layer 'up', a Conv2DTranspose, are not known"):
        init.he(odd)
    np.testing.assert_array_equal(before[0], odd.get_weights()[0])


@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
def test_weight_normalization_starts_from_the_statistics_of_the_data(data_format):
    first = data_format == "channels_first"
    wrapped = [
        layers.Conv2D(4, 3, data_format=data_format),
        layers.DepthwiseConv2D(3, use_bias=False, data_format=data_format),
        layers.Conv2D(3, 3, 2, data_format=data_format),
        layers.Dense(5, activation="relu"),
    ]
    image = keras.Input((2, 9, 9) if first else (9, 9, 2))
    x, given = image, []
    for layer in wrapped:
        x = layers.Flatten()(x) if isinstance(layer, layers.Dense) else x
        x = WeightNormalization(layer)(x)
        given.append(x)
        x = layers.ReLU()(x)
    model = keras.Model(image, given)
    data = np.random.default_rng(3).normal(2, 3, (40, *image.shape[1:])).astype("float32")
    init.initialize(model, "weight_normalization", data=data, seed=4)
    assert 0.03 < _numpy(wrapped[0].kernel).std() < 0.07
    wrapped[-1].activation = None
    for layer, y in zip(wrapped, model(data), strict=True):
        axis = 1 if first and layer is not wrapped[-1] else -1
        seen = np.moveaxis(_numpy(y), axis, -1).reshape(-1, y.shape[axis])
        np.testing.assert_allclose(seen.std(0), 1, rtol=1e-3)
        if layer.use_bias:
            np.testing.assert_allclose(seen.mean(0), 0, atol=1e-3)
    with pytest.raises(ValueError, match="same number everywhere"):
        init.initialize(model, "weight_normalization", data=0 * data)
    with pytest.raises(ValueError, match="nothing to initialize"):
        init.initialize(_mlp(2), "weight_normalization", data=np.ones((4, 200)))


@pytest.mark.parametrize("builder", [kcc.CBAMResNet18, kcc.SelfAttentionResNet50])
def test_attention_layers_have_their_kernels_in_their_parts(builder):
    model = contracts.tiny(builder)
    init.initialize(model, "he", seed=1)
    images = contracts.images(model.input_shape[1:])
    layers = variance_by_depth(model, images).layers
    if builder is kcc.SelfAttentionResNet50:
        assert set("fghv") < set(layers)
        kernel = _numpy(model.get_layer("conv4_attention").f.kernel)
        expected = np.sqrt(2 / kernel.shape[-2])
        assert kernel.std() == pytest.approx(expected, rel=4 / np.sqrt(2 * kernel.size))
    else:
        assert {"fc1", "fc2", "conv"} < set(layers)


def test_lsuv_scales_parts_of_the_same_name():
    model = keras.Sequential(
        [
            keras.Input((4, 4, 6)),
            *[SqueezeExcite(2, "tanh", name=name) for name in ("one", "two")],
            layers.Conv2D(3, 1, name="last"),
        ]
    )
    variances = init.lsuv(model, RNG.normal(size=(20, 4, 4, 6)), tolerance=0.01)
    assert list(variances) == ["one/fc1", "one/fc2", "two/fc1", "two/fc2", "last"]
    np.testing.assert_allclose(list(variances.values()), 1, atol=0.01)


def test_he_looks_through_attention_for_the_activation():
    inputs = keras.Input((4, 4, 8))
    x = layers.Conv2D(64, 1, activation="tanh")(inputs)
    x = layers.Conv2D(500, 1, name="last")(SqueezeExcite(2, "relu")(x))
    model = keras.Model(inputs, x)
    init.he(model, seed=1)
    std = _numpy(model.get_layer("last").kernel).std()
    assert std == pytest.approx(init.gain("tanh") / 8, rel=0.02)


def test_kernels_of_each_position():
    model = contracts.tiny(kcc.DeepFace)
    layer = model.get_layer("l5")
    positions, inputs, filters = layer.kernel.shape
    window = np.prod(layer.kernel_size)
    for how, std in (
        ("gaussian", 0.01),
        ("glorot", np.sqrt(2 / (inputs + window * filters))),
        ("he", np.sqrt(2 / inputs)),
    ):
        init.initialize(model, how, seed=1)
        kernel = _numpy(layer.kernel)
        assert kernel.std() == pytest.approx(std, rel=4 / np.sqrt(2 * kernel.size)), how
    init.initialize(model, "orthogonal", seed=1)
    kernel = _numpy(layer.kernel)
    eye = np.broadcast_to(np.eye(filters), (positions, filters, filters))
    np.testing.assert_allclose(kernel.swapaxes(1, 2) @ kernel, eye, atol=1e-5)
    images = contracts.images(model.input_shape[1:], n=4)
    variances = init.lsuv(model, images)
    found = variance_by_depth(model, images)
    assert found.layers == tuple(variances)
    before_dropout = found.layers.index("fc7") + 1
    np.testing.assert_allclose(found.forward[:before_dropout], 1, atol=0.1)


def test_lsuv_scales_drop_connect():
    model = keras.Sequential(
        [keras.Input((20,)), DropConnect(30, 0.5, "relu", name="drop"), layers.Dense(10)]
    )
    images = RNG.normal(0, 5, size=(50, 20)).astype("float32")
    init.lsuv(model, images, tolerance=0.01)
    before = model.get_layer("drop")
    mean = 0.5 * (images @ _numpy(before.kernel))  # what it takes for the sums in inference
    assert mean.var() == pytest.approx(1, abs=0.01)
    assert before.activation is keras.activations.relu
    assert np.isfinite(variance_by_depth(model, images).forward).all()


def _weight_normalized():
    return keras.Sequential(
        [
            keras.Input((9, 9, 3)),
            WeightNormalization(layers.Conv2D(40, 3, activation="tanh")),
            WeightNormalization(layers.DepthwiseConv2D(3, depth_multiplier=2)),
            layers.Flatten(),
            WeightNormalization(layers.Dense(50, activation="relu")),
            layers.Dense(10),
        ]
    )


def test_the_lengths_of_weight_normalization_are_those_of_what_is_drawn():
    model = _weight_normalized()
    wrappers = [one for one in model.layers if isinstance(one, WeightNormalization)]
    for how in ("he", "glorot", "orthogonal", "gaussian"):
        for one in wrappers:
            one.g.assign(0 * one.g + 7)
        init.initialize(model, how, seed=2)
        for one in wrappers:
            kernel, length = _numpy(one.layer.kernel), _numpy(one.g)
            axes = tuple(i for i, n in enumerate(length.shape) if n == 1)
            norm = np.sqrt(np.sum(kernel**2, axis=axes, keepdims=True))
            np.testing.assert_allclose(length, norm, rtol=1e-5)
    init.he(model, seed=2)
    # The image is before the first, tanh before the second, and nothing before the third.
    for one, fan, gain in zip(wrappers, (27, 9, 25 * 80), (1, init.gain("tanh"), 1), strict=True):
        kernel = _numpy(one.layer.kernel)
        error = 4 / np.sqrt(2 * kernel.size)
        assert kernel.std() == pytest.approx(gain / np.sqrt(fan), rel=error)


def test_lsuv_scales_weight_normalization():
    model = _weight_normalized()
    images = RNG.normal(1, 5, size=(20, 9, 9, 3)).astype("float32")
    variances = init.lsuv(model, images, tolerance=0.01, seed=2)
    np.testing.assert_allclose(list(variances.values()), 1, atol=0.01)
    found = variance_by_depth(model, images)
    assert found.layers == tuple(variances)
    np.testing.assert_allclose(found.forward, 1, atol=0.011)


def test_gates_and_slopes_of_a_used_model_get_their_start():
    inputs = keras.Input((6, 6, 50))
    x = layers.PReLU(keras.initializers.Constant(0.25), shared_axes=[1, 2], name="slopes")(inputs)
    h = layers.Conv2D(50, 1, name="h")(x)
    model = keras.Model(inputs, HighwayGate(-4, name="gate")([x, h, h]))
    gate, slopes = model.get_layer("gate"), model.get_layer("slopes")
    for layer in (gate, slopes):
        layer.set_weights([w + 0.65 for w in layer.get_weights()])
    init.he(model, seed=1)
    np.testing.assert_array_equal(_numpy(gate.bias), np.full(50, -4))
    np.testing.assert_array_equal(_numpy(slopes.alpha), np.full((1, 1, 50), 0.25))
    std = _numpy(model.get_layer("h").kernel).std()
    assert std == pytest.approx(np.sqrt(2 / (1 + 0.25**2) / 50), rel=0.04)
