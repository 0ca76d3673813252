"""Every layer under every dtype policy: the type of the outputs, and nearly float32's values."""

import keras
import numpy as np
import pytest

from keras_cnn_classics import layers

X = np.random.default_rng(0).normal(size=(2, 6, 6, 4)).astype("float32")
RBF = np.sign(np.random.default_rng(1).normal(size=(3, 4)))
CONNECTIONS = ((0, 1), (1, 2), (2, 3))
ALL = {
    "AdaptiveAveragePooling": lambda **kw: layers.AdaptiveAveragePooling(3, **kw),
    "CeilAveragePooling2D": lambda **kw: layers.CeilAveragePooling2D(3, 2, **kw),
    "ChannelAttention": lambda **kw: layers.ChannelAttention(ratio=2, **kw),
    "ChannelPadding": lambda **kw: layers.ChannelPadding(1, 2, **kw),
    "ChannelSlice": lambda **kw: layers.ChannelSlice(1, 3, **kw),
    "DropBlock2D": lambda **kw: layers.DropBlock2D(0.2, 3, 5, **kw),
    "DropConnect": lambda **kw: layers.DropConnect(4, 0.3, "relu", use_bias=False, **kw),
    "EdgePadding2D": lambda **kw: layers.EdgePadding2D(1, 2, **kw),
    "EuclideanRBF": lambda **kw: layers.EuclideanRBF(RBF, **kw),
    "GroupedConv2D": lambda **kw: layers.GroupedConv2D(4, 3, groups=2, **kw),
    "HighwayGate": lambda **kw: layers.HighwayGate(-1, **kw),
    "LocalContrastNormalization": lambda **kw: layers.LocalContrastNormalization(5, **kw),
    "LocalResponseNormalization": lambda **kw: layers.LocalResponseNormalization(3, **kw),
    "LocallyConnected2D": lambda **kw: layers.LocallyConnected2D(4, 3, use_bias=False, **kw),
    "LpPooling2D": lambda **kw: layers.LpPooling2D(3, 2, maps=2, **kw),
    "MaxPoolingWithSwitches": lambda **kw: layers.MaxPoolingWithSwitches(2, **kw),
    "MaxUnpooling": lambda **kw: layers.MaxUnpooling(2, **kw),
    "Maxout": lambda **kw: layers.Maxout(2, **kw),
    "OddPadding2D": lambda **kw: layers.OddPadding2D(**kw),
    "PartiallyConnectedConv2D": lambda **kw: layers.PartiallyConnectedConv2D(
        CONNECTIONS, 3, use_bias=False, **kw
    ),
    "PreprocessInput": lambda **kw: layers.PreprocessInput("tf", **kw),
    "ResizeLike": lambda **kw: layers.ResizeLike(**kw),
    "SameAveragePooling2D": lambda **kw: layers.SameAveragePooling2D(3, 2, **kw),
    "SamePadding2D": lambda **kw: layers.SamePadding2D(3, 2, **kw),
    "ScaledTanh": lambda **kw: layers.ScaledTanh(**kw),
    "SelfAttention2D": lambda **kw: layers.SelfAttention2D(reduction=2, **kw),
    "SoftmaxAttention2D": lambda **kw: layers.SoftmaxAttention2D(**kw),
    "SpatialAttention": lambda **kw: layers.SpatialAttention(**kw),
    "SpatialPyramidPooling": lambda **kw: layers.SpatialPyramidPooling((2, 1), **kw),
    "SqueezeExcite": lambda **kw: layers.SqueezeExcite(ratio=2, **kw),
    "StochasticDepth": lambda **kw: layers.StochasticDepth(0.7, **kw),
    "StochasticPooling2D": lambda **kw: layers.StochasticPooling2D(3, 2, "same", **kw),
    "TrainableSubsampling": lambda **kw: layers.TrainableSubsampling(2, **kw),
    "WeightNormalization": lambda **kw: layers.WeightNormalization(
        keras.layers.Conv2D(4, 3, **kw), **kw
    ),
}


def inputs(name):
    x = 10 * X
    if name == "MaxUnpooling":
        return [x[:, :3, :3], layers.MaxPoolingWithSwitches(2)(x)[1]]
    several = {"ResizeLike": [x[:, :3, :3], x], "SoftmaxAttention2D": [X, X, X]}
    several |= {"HighwayGate": [x, x[::-1], x / 10], "EuclideanRBF": X[:, 0, 0]}
    return several.get(name, x)


def floats(outputs):
    """The outputs that are no places of maxima, as float32, and their types."""
    found = [keras.ops.convert_to_tensor(one) for one in keras.tree.flatten(outputs)]
    found = [one for one in found if "float" in keras.backend.standardize_dtype(one.dtype)]
    types = {keras.backend.standardize_dtype(one.dtype) for one in found}
    return [keras.ops.convert_to_numpy(keras.ops.cast(one, "float32")) for one in found], types


def test_no_layer_is_left_out():
    exported = {name for name in layers.__all__ if isinstance(getattr(layers, name), type)}
    exported = {n for n in exported if issubclass(getattr(layers, n), keras.layers.Layer)}
    assert set(ALL) == exported


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16", "float64"])
def test_dtype_policies(name, policy):
    if policy == "float64" and keras.backend.backend() == "jax":
        pytest.skip("JAX has float64 only by a setting for the whole process")
    exact, layer = ALL[name](), ALL[name](dtype=policy)
    x = inputs(name)
    expected, _ = floats(exact(x))
    layer(x)
    layer.set_weights(exact.get_weights())
    assert {keras.backend.standardize_dtype(w.dtype) for w in layer.weights if w.trainable} <= {
        layer.variable_dtype
    }
    got, types = floats(layer(x))
    assert types == {layer.compute_dtype}
    tolerance = {"mixed_float16": 1e-2, "mixed_bfloat16": 6e-2, "float64": 1e-5}[policy]
    for ours, theirs in zip(got, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=tolerance * np.abs(theirs).max())
