"""Decay and bounds of filters, in a step, in a saved model, and where they are refused."""

import keras
import numpy as np
import pytest
from keras import layers

import keras_cnn_classics as kcc
from keras_cnn_classics.layers import PartiallyConnectedConv2D, SqueezeExcite
from keras_cnn_classics.testing import contracts
from keras_cnn_classics.training.penalties import FilterRMS, add_l2, constrain
from tests.marks import slow_compiled

IMAGES = np.random.default_rng(0).normal(size=(4, 8, 8, 4)).astype("float32")


def _net():
    inner = keras.Sequential(
        [keras.Input((8, 8, 4)), layers.DepthwiseConv2D(3, padding="same", name="depth")]
    )
    return keras.Sequential(
        [
            keras.Input((8, 8, 4)),
            inner,
            layers.SeparableConv2D(8, 3, name="separable"),
            layers.BatchNormalization(name="norm"),
            layers.Conv2D(8, 3, name="conv"),
            layers.GlobalAveragePooling2D(),
            layers.Dense(2, name="top"),
        ]
    )


def _numpy(variable):
    return np.array(keras.ops.convert_to_numpy(variable))


def _decayed(model):
    return {_name(v) for v in model.trainable_variables if v.regularizer is not None}


def _name(variable):
    return "/".join(variable.path.split("/")[-2:])


KERNELS = {
    "depth/kernel",
    "separable/depthwise_kernel",
    "separable/pointwise_kernel",
    "conv/kernel",
    "top/kernel",
}


@pytest.mark.parametrize(
    ("options", "paths"),
    [
        slow_compiled({}, KERNELS),
        slow_compiled(
            {"depthwise": False}, {"separable/pointwise_kernel", "conv/kernel", "top/kernel"}
        ),
        ({"exclude": ("sep*", "top")}, {"depth/kernel", "conv/kernel"}),
    ],
)
def test_what_decays(options, paths, tmp_path):
    model = _net()
    add_l2(model, 0.01, **options)
    assert _decayed(model) == paths
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert _decayed(loaded) == paths
    penalty = sum(np.sum(_numpy(v) ** 2) for v in loaded.trainable_variables if _name(v) in paths)
    assert _numpy(sum(loaded.losses)) == pytest.approx(0.005 * penalty, rel=1e-4)
    add_l2(model, 0)
    assert _decayed(model) == set()


def _squeezed():
    return keras.Sequential(
        [
            keras.Input((8, 8, 4)),
            layers.Conv2D(4, 3, name="conv"),
            SqueezeExcite(2, name="excite"),
        ]
    )


@pytest.mark.parametrize(
    "build",
    [
        _squeezed,
        slow_compiled(lambda: contracts.tiny(kcc.CBAMResNet18)),
        slow_compiled(lambda: contracts.tiny(kcc.SelfAttentionResNet50)),
    ],
)
def test_the_parts_of_attention_layers_decay(build, tmp_path):
    model = build()
    kernels = {_name(v) for v in model.trainable_variables if v.path.endswith("/kernel")}
    add_l2(model, 0.01)
    assert _decayed(model) == kernels
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert _decayed(loaded) == kernels
    expected = _numpy(sum(model.losses))
    assert _numpy(sum(loaded.losses)) == pytest.approx(expected, rel=1e-5)


def test_attention_layers_are_one_layer_to_decay_and_constraints():
    model = _squeezed()
    add_l2(model, 0.01)
    add_l2(model, 0, exclude="conv")
    assert _decayed(model) == {"conv/kernel"}
    assert model.get_layer("excite").get_config()["kernel_regularizer"] is None
    add_l2(model, 0.01, exclude="excite")
    assert _decayed(model) == {"conv/kernel"}
    with pytest.raises(ValueError, match="'excite' is a SqueezeExcite"):
        constrain(model, FilterRMS())
    constrain(model, FilterRMS(), "conv")


def test_the_step_is_that_of_the_papers():
    # v = 0.9 v - 0.1 (g + 0.5 w), with g = 0 because the loss is constant.
    model = keras.Sequential([keras.Input((2,)), layers.Dense(3, bias_initializer="ones")])
    add_l2(model, 0.5)
    model.compile(keras.optimizers.SGD(0.1, momentum=0.9), lambda y, p: 0 * keras.ops.mean(p))
    w, v = _numpy(model.layers[0].kernel), 0
    for _ in range(3):
        model.train_on_batch(np.ones((1, 2)), np.ones((1, 3)))
        v = 0.9 * v - 0.1 * 0.5 * w
        w = w + v
    np.testing.assert_allclose(_numpy(model.layers[0].kernel), w, rtol=1e-5)
    np.testing.assert_array_equal(_numpy(model.layers[0].bias), np.ones(3))


def test_filters_are_scaled_down_to_the_bound_and_no_further():
    kernel = np.random.default_rng(0).normal(size=(3, 3, 4, 2)).astype("float32")
    kernel[..., 1] *= 0.01
    bounded = _numpy(FilterRMS(0.1)(kernel))
    np.testing.assert_allclose(np.sqrt(np.mean(bounded[..., 0] ** 2)), 0.1, rtol=1e-5)
    np.testing.assert_allclose(
        bounded[..., 0] / kernel[..., 0], bounded[0, 0, 0, 0] / kernel[0, 0, 0, 0], rtol=1e-4
    )
    np.testing.assert_allclose(bounded[..., 1], kernel[..., 1], rtol=1e-6)
    depthwise = _numpy(FilterRMS(0.2, axis=(0, 1))(kernel))
    assert np.sqrt(np.mean(depthwise**2, axis=(0, 1))).max() == pytest.approx(0.2, rel=1e-5)
    assert not np.isnan(_numpy(FilterRMS(0.1)(np.zeros((3, 2), "float32")))).any()
    with pytest.raises(ValueError, match=r"`maximum` must be .* Received: 0"):
        FilterRMS(0)


def test_a_constraint_acts_after_each_step_and_is_saved(tmp_path):
    model = _net()
    constrain(model, FilterRMS(0.05), layers=("conv", "separable"))
    model.save(tmp_path / "model.keras")
    for one in (model, keras.saving.load_model(tmp_path / "model.keras")):
        one.compile(keras.optimizers.SGD(1.0), "mse")
        one.fit(IMAGES, np.ones((4, 2)), verbose=0)
        conv = _numpy(one.get_layer("conv").kernel)
        rms = np.sqrt(np.mean(conv**2, axis=(0, 1, 2)))
        assert rms.max() == pytest.approx(0.05, rel=1e-4)
        assert np.abs(_numpy(one.get_layer("top").kernel)).max() > 0.3


def test_refusals():
    model = _net()
    with pytest.raises(ValueError, match=r"`decay` must be .* Received: -1"):
        add_l2(model, -1)
    with pytest.raises(ValueError, match="Received: layers='nothing'"):
        constrain(model, FilterRMS(), "nothing")
    with pytest.raises(ValueError, match="has no weights yet"):
        add_l2(keras.Sequential([layers.Dense(2)]), 0.1)
    partial = keras.Sequential(
        [keras.Input((8, 8, 4)), PartiallyConnectedConv2D([[0, 1], [2]], 3, name="partial")]
    )
    with pytest.raises(ValueError, match="'partial' is a PartiallyConnectedConv2D"):
        constrain(partial, FilterRMS())
    model.compile("sgd", "mse")
    model.train_on_batch(IMAGES, np.ones((4, 2)))
    for change in (lambda: add_l2(model, 0.1), lambda: constrain(model, FilterRMS())):
        with pytest.raises(ValueError, match="compile the model again"):
            change()
    model.compile("sgd", "mse")
    add_l2(model, 0.1)
