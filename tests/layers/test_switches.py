"""Pooling with switches and unpooling against NumPy, and by serialisation."""

import keras
import numpy as np
import pytest
from test_layers import again

from keras_cnn_classics.layers import MaxPoolingWithSwitches, MaxUnpooling

RNG = np.random.default_rng(2013)
# Windows that overlap, that lie side by side, that leave cells out.
WINDOWS = [(3, 2), (2, 2), ((3, 2), (1, 2)), (2, 3), (3, 1)]


def windows(shape, size, strides, padding):
    """Where each window begins, beyond the near edge if it hangs over it."""
    starts = []
    for side, n, step in zip(shape, size, strides, strict=True):
        if padding == "same":
            count = -(-side // step)
            before = max((count - 1) * step + n - side, 0) // 2
        else:
            count, before = (side - n) // step + 1, 0
        starts.append([i * step - before for i in range(count)])
    return starts


def numpy_switches(x, size, strides, padding):
    """Maxima and places, window by window."""
    rows, columns = windows(x.shape[1:3], size, strides, padding)
    values = np.empty((len(x), len(rows), len(columns), x.shape[3]), "float32")
    places = np.empty(values.shape, "int32")
    for (i, top), (j, left) in ((a, b) for a in enumerate(rows) for b in enumerate(columns)):
        window = np.full((len(x), *size, x.shape[3]), -np.inf)
        for r in range(size[0]):
            for c in range(size[1]):
                if 0 <= top + r < x.shape[1] and 0 <= left + c < x.shape[2]:
                    window[:, r, c] = x[:, top + r, left + c]
        window = window.reshape(len(x), -1, x.shape[3])
        values[:, i, j], places[:, i, j] = window.max(1), window.argmax(1)
    return values, places


def numpy_unpooled(values, places, shape, size, strides, padding):
    """Each value added where its switch points to."""
    rows, columns = windows(shape, size, strides, padding)
    y = np.zeros((len(values), *shape, values.shape[3]), "float32")
    for n, i, j, c in np.ndindex(values.shape):
        r, k = divmod(places[n, i, j, c], size[1])
        y[n, rows[i] + r, columns[j] + k, c] += values[n, i, j, c]
    return y


def move(x, data_format, back=False):
    if data_format == "channels_last":
        return x
    return np.moveaxis(x, 1, -1) if back else np.moveaxis(x, -1, 1)


def arrays(tensors):
    return [keras.ops.convert_to_numpy(one) for one in tensors]


def pair(n):
    return n if isinstance(n, tuple) else (n, n)


@pytest.mark.parametrize(
    ("area", "data_format"), [((7, 9), "channels_last"), ((8, 6), "channels_first")]
)
@pytest.mark.parametrize("padding", ["valid", "same"])
@pytest.mark.parametrize(("size", "strides"), WINDOWS)
def test_against_numpy(area, size, strides, padding, data_format):
    x = RNG.normal(size=(2, *area, 3)).astype("float32") - 3  # zeros beyond the edge would win
    options = {"strides": strides, "padding": padding, "data_format": data_format}
    pool = MaxPoolingWithSwitches(size, **options)
    given = move(x, data_format)
    values, places = numpy_switches(x, pair(size), pair(strides), padding)
    for layer in (pool, again(pool)):
        got = [move(y, data_format, back=True) for y in arrays(layer(given))]
        np.testing.assert_allclose(got[0], values)
        np.testing.assert_array_equal(got[1], places)
    assert got[1].dtype == "int32"
    shapes = [move(y, data_format).shape for y in (values, places)]
    assert list(pool.compute_output_shape(given.shape)) == shapes

    back = RNG.normal(size=values.shape).astype("float32")
    expected = numpy_unpooled(back, places, area, pair(size), pair(strides), padding)
    unpool = MaxUnpooling(size, **options, output_size=area)
    for layer in (unpool, again(unpool)):
        y = keras.ops.convert_to_numpy(layer([move(back, data_format), move(places, data_format)]))
        np.testing.assert_allclose(move(y, data_format, back=True), expected, atol=1e-6)
    assert unpool.compute_output_shape(shapes) == move(expected, data_format).shape


def test_the_first_of_equal_values_counts():
    x = np.zeros((1, 4, 4, 1), "float32")
    values, places = arrays(MaxPoolingWithSwitches(3, 1)(x))
    assert not values.any()
    assert not places.any()
    _, places = arrays(MaxPoolingWithSwitches(3, 2, "same")(x))
    assert not places.any()  # the windows hang over the far edge alone


def test_integers():
    values, switches = MaxPoolingWithSwitches(2, data_format="channels_last")(
        keras.ops.convert_to_tensor(np.arange(4, dtype="int32").reshape(1, 2, 2, 1))
    )
    assert keras.ops.convert_to_numpy(values).ravel() == [3]
    assert keras.ops.convert_to_numpy(switches).ravel() == [3]


def test_overlapping_windows_add_up():
    x = np.zeros((1, 5, 5, 1), "float32")
    x[0, 2, 2] = 1  # the maximum of all four windows
    values, places = MaxPoolingWithSwitches(3, 2)(x)
    y = keras.ops.convert_to_numpy(MaxUnpooling(3, 2)([values, places]))
    expected = np.zeros_like(x)
    expected[0, 2, 2] = 4
    np.testing.assert_array_equal(y, expected)


@pytest.mark.parametrize(("padding", "side"), [("valid", 7), ("same", 8)])
def test_without_a_size_the_map_is_the_one_that_the_windows_need(padding, side):
    x = RNG.normal(size=(1, side, side, 2)).astype("float32")
    image = keras.Input((None, None, 2))
    pooled = MaxPoolingWithSwitches(3, 2, padding)(image)
    model = keras.Model(image, MaxUnpooling(3, 2, padding)(list(pooled)))
    assert model.output_shape == (None, None, None, 2)
    y = model.predict(x, verbose=0)  # compiled, where the backend can
    values, places = numpy_switches(x, (3, 3), (2, 2), padding)
    expected = numpy_unpooled(values, places, (side, side), (3, 3), (2, 2), padding)
    np.testing.assert_allclose(y, expected, rtol=1e-6)


def test_a_network_that_is_saved(tmp_path):
    image = keras.Input((6, 6, 2))
    x = keras.layers.Conv2D(4, 3, padding="same")(image)
    values, switches = MaxPoolingWithSwitches(2)(x)
    x = MaxUnpooling(2)([keras.layers.Conv2D(4, 3, padding="same")(values), switches])
    model = keras.Model(image, keras.layers.Conv2D(1, 3, padding="same")(x))
    model.save(tmp_path / "segnet.keras")
    loaded = keras.saving.load_model(tmp_path / "segnet.keras")
    x = RNG.normal(size=(2, 6, 6, 2)).astype("float32")
    np.testing.assert_allclose(*(m.predict(x, verbose=0) for m in (model, loaded)), rtol=1e-6)
    model.compile("sgd", "mse", jit_compile=False)
    before = [w.copy() for w in model.get_weights()]
    model.train_on_batch(x, np.ones((2, 6, 6, 1), "float32"))
    changed = [np.any(a != b) for a, b in zip(before, model.get_weights(), strict=True)]
    assert all(changed)


def test_mixed_precision():
    x = RNG.normal(size=(1, 4, 4, 2)).astype("float32")
    x = np.round(x, 2)  # so that rounding to float16 changes no order
    plain, places = MaxPoolingWithSwitches(2)(x)
    values, switches = MaxPoolingWithSwitches(2, dtype="mixed_float16")(x)
    to_numpy = keras.ops.convert_to_numpy
    np.testing.assert_array_equal(to_numpy(switches), to_numpy(places))
    np.testing.assert_allclose(to_numpy(values), to_numpy(plain), rtol=1e-3)
    assert keras.backend.standardize_dtype(values.dtype) == "float16"
    y = MaxUnpooling(2, dtype="mixed_float16")([values, switches])
    assert keras.backend.standardize_dtype(y.dtype) == "float16"
    unpooled = to_numpy(MaxUnpooling(2)([plain, places]))
    np.testing.assert_allclose(to_numpy(y), unpooled, rtol=1e-3)
    assert keras.backend.standardize_dtype(switches.dtype) == "int32"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: MaxPoolingWithSwitches(0), "`pool_size` must be a positive integer or two"),
        (lambda: MaxPoolingWithSwitches(3)(np.zeros((1, 2, 3, 1))), "larger than the map"),
        (lambda: MaxPoolingWithSwitches(2, padding="full"), "`padding` must be 'valid' or 'same'"),
        (lambda: MaxUnpooling(2)(np.zeros((1, 2, 2, 1))), "takes a list of values and switches"),
        (
            lambda: MaxUnpooling(2, output_size=9)([np.zeros((1, 2, 3, 1))] * 2),
            r"must be that of a map with 2x3 windows.*output_size=\(9, 9\), which has 4x4",
        ),
    ],
)
def test_errors(make, message):
    with pytest.raises(ValueError, match=message):
        make()
