"""The locally connected layer against NumPy, and by serialisation."""

import keras
import numpy as np
import pytest
from test_layers import again, check, run

from keras_cnn_classics.inspection import count
from keras_cnn_classics.layers import LocallyConnected2D

RNG = np.random.default_rng(2014)
X = RNG.normal(size=(2, 9, 8, 3)).astype("float32")


def numpy_locally_connected(x, kernel, bias, size, strides):
    height, width, filters = bias.shape
    y = np.zeros((len(x), height, width, filters), "float32")
    for i in range(height):
        for j in range(width):
            top, left = i * strides[0], j * strides[1]
            window = x[:, top : top + size[0], left : left + size[1]].reshape(len(x), -1)
            y[:, i, j] = window @ kernel[i * width + j] + bias[i, j]
    return y


@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
@pytest.mark.parametrize("use_bias", [True, False])
def test_against_numpy(data_format, use_bias):
    layer = LocallyConnected2D(
        5, (4, 3), (2, 1), activation="tanh", use_bias=use_bias, data_format=data_format
    )
    run(layer, X)
    shapes = [(3 * 6, 4 * 3 * 3, 5), (3, 6, 5)]
    assert [tuple(w.shape) for w in layer.weights] == shapes[: 1 + use_bias]
    kernel, bias = (RNG.normal(size=shape, scale=0.3).astype("float32") for shape in shapes)
    layer.set_weights([kernel, bias] if use_bias else [kernel])
    expected = numpy_locally_connected(X, kernel, bias * use_bias, (4, 3), (2, 1))
    check(layer, X, np.tanh(expected))


def test_equal_kernels_are_a_convolution():
    conv = keras.layers.Conv2D(4, 3, strides=2)
    expected = keras.ops.convert_to_numpy(conv(X))
    kernel, bias = conv.get_weights()
    layer = LocallyConnected2D(4, 3, strides=2)
    run(layer, X)
    area = expected.shape[1:3]
    layer.set_weights(
        [np.tile(kernel.reshape(1, 27, 4), (area[0] * area[1], 1, 1)), np.tile(bias, (*area, 1))]
    )
    check(layer, X, expected)


def test_initial_kernels_are_those_of_a_convolution():
    layer = LocallyConnected2D(8, 5)
    layer.build((None, 40, 40, 4))
    limit = np.sqrt(6 / (25 * 4 + 25 * 8))
    drawn = np.abs(keras.ops.convert_to_numpy(layer.kernel))
    assert 0.99 * limit < drawn.max() < 1.001 * limit
    given = LocallyConnected2D(8, 5, kernel_initializer="ones", bias_initializer="ones")
    given.build((None, 9, 9, 4))
    assert all(np.all(w == 1) for w in given.get_weights())


def test_penalties_and_constraints():
    layer = LocallyConnected2D(
        2,
        3,
        kernel_regularizer=keras.regularizers.L2(0.5),
        bias_regularizer="l1",
        kernel_constraint="non_neg",
        bias_constraint="unit_norm",
    )
    run(layer, X)
    layer.set_weights([np.full(w.shape, 2.0) for w in layer.weights])
    kernel, bias = layer.get_weights()
    losses = sorted(float(keras.ops.convert_to_numpy(loss)) for loss in layer.losses)
    np.testing.assert_allclose(losses, [0.01 * 2 * bias.size, 0.5 * 4 * kernel.size], rtol=1e-5)
    copy = again(layer) if run(layer, X).any() else None
    assert isinstance(copy.kernel.constraint, keras.constraints.NonNeg)
    assert isinstance(copy.bias.constraint, keras.constraints.UnitNorm)


def test_mixed_precision():
    layer = LocallyConnected2D(4, 3, dtype="mixed_float16")
    y = layer(X)
    assert keras.backend.standardize_dtype(y.dtype) == "float16"
    assert layer.kernel.dtype == "float32"
    full = LocallyConnected2D(4, 3)
    run(full, X)
    full.set_weights(layer.get_weights())
    np.testing.assert_allclose(run(layer, X), run(full, X), atol=0.01)


def test_it_learns():
    model = keras.Sequential([keras.Input((9, 8, 3)), LocallyConnected2D(2, 3)])
    model.compile(keras.optimizers.SGD(0.05), "mse", jit_compile=False)
    target = RNG.normal(size=(2, 7, 6, 2)).astype("float32")
    first = model.train_on_batch(X, target)
    for _ in range(20):
        last = model.train_on_batch(X, target)
    assert last < 0.9 * first


def test_what_it_costs():
    image = keras.Input((9, 8, 3))
    row = count(keras.Model(image, LocallyConnected2D(5, (4, 3), 2)(image))).layers[-1]
    cells = 3 * 3 * 5
    assert (row.macs, row.params) == (cells * 36, cells * 36 + cells)
    assert row.connections == cells * 37


def on_another_map(shape):
    layer = LocallyConnected2D(2, 3)
    layer(X)
    return layer(np.zeros(shape, "float32"))


def test_a_configuration_of_keras_2():
    config = {**LocallyConnected2D(2, 3).get_config(), "implementation": 1}
    assert LocallyConnected2D.from_config(config).filters == 2


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LocallyConnected2D(0, 3), "`filters` must be a positive integer"),
        (lambda: LocallyConnected2D(2, 3, padding="same"), "`ZeroPadding2D` before the layer"),
        (lambda: LocallyConnected2D(2, (1, 2, 3)), "`kernel_size` must be a positive integer or"),
        (lambda: LocallyConnected2D(2, 3)(keras.Input((None, 8, 3))), "must be known"),
        *(
            (lambda shape=shape: on_another_map(shape), f"expected axis {axis} of input shape")
            for axis, shape in ((1, (2, 8, 8, 3)), (1, (2, 12, 8, 3)), (2, (2, 9, 7, 3)))
        ),
        (lambda: LocallyConnected2D(2, 10)(X), "is larger than the map"),
    ],
)
def test_errors(make, message):
    with pytest.raises(ValueError, match=message):
        make()
