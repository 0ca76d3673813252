"""Facts of Network in Network, OverFeat, the highway and the PReLU networks; dense evaluation."""

import itertools

import keras
import numpy as np
import pytest

import keras_cnn_classics as kcc
from keras_cnn_classics import evaluation
from keras_cnn_classics.blocks.core import image_shape
from keras_cnn_classics.inspection import count
from keras_cnn_classics.layers import HighwayGate
from keras_cnn_classics.testing import contracts, golden
from keras_cnn_classics.weights import deferred
from tests.marks import slow

RNG = np.random.default_rng(1312)


def empty(name, **options):
    """A model without values for its weights."""
    return deferred.build_empty(lambda: kcc.build(name, weights=None, **options))


def shapes(model, names):
    return {name: model.get_layer(name).output.shape[1:] for name in names}


def test_sizes_of_nin():
    expected = {
        **{"conv1": (54, 54, 96), "pool1": (27, 27, 96), "cccp4": (27, 27, 256)},
        **{"pool2": (13, 13, 256), "pool3": (6, 6, 384), "cccp7": (6, 6, 1024)},
        **{"cccp8": (6, 6, 1000), "pool4": (1000,)},
    }
    assert shapes(empty("NIN"), expected) == expected
    expected = {"pool1": (16, 16, 96), "pool2": (8, 8, 192), "cccp6": (8, 8, 10), "pool3": (10,)}
    for form in ("caffe", "pytorchcv"):
        assert shapes(empty("NINCIFAR", form=form), expected) == expected


def test_the_pools_of_nin():
    """Caffe's leave out what is beyond the edge; pytorchcv's reach over the near edge, to zeros."""
    x = RNG.uniform(1, 2, (1, 8, 8, 16)).astype("float32")
    for form, start in (("caffe", 0), ("pytorchcv", -1)):
        model = contracts.tiny(kcc.get_builder("NINCIFAR"), form=form)
        for number, reduce in ((1, np.max), (2, np.mean)):
            layers = [layer for layer in model.layers if layer.name.startswith(f"pool{number}")]
            y = x
            for layer in layers:
                y = layer(y)
            for i, j in itertools.product(range(4), range(4)):
                top, left = 2 * i + start, 2 * j + start
                window = x[0, max(top, 0) : top + 3, max(left, 0) : left + 3]
                seen = reduce(window, axis=(0, 1))
                if form == "pytorchcv" and number == 2:
                    seen = window.sum((0, 1)) / 9
                np.testing.assert_allclose(y[0, i, j], seen, rtol=1e-5)


def test_sizes_of_overfeat():
    expected = {"conv1": (56, 56, 96), "conv2": (24, 24, 256), "conv3": (12, 12, 512)}
    expected |= {"pool5": (6, 6, 1024), "fc6": (3072,), "fc7": (4096,)}
    assert shapes(empty("OverFeatFast"), expected) == expected
    expected = {"pool1": (36, 36, 96), "conv2": (30, 30, 256), "pool2": (15, 15, 256)}
    expected |= {"conv4": (15, 15, 512), "pool6": (5, 5, 1024), "fc7": (4096,), "fc8": (4096,)}
    assert shapes(empty("OverFeatAccurate"), expected) == expected


def weights_of(rows):
    """Weights and biases of layers: kernel, inputs, outputs."""
    return sum(kernel * kernel * n * m + m for kernel, n, m in rows)


def test_weights_of_the_prelu_networks_by_hand():
    """Table 3, layer by layer, with a slope for each channel behind all but the last."""
    for name, depth, widths in (
        ("PReLUNetA", 5, (256, 512, 512)),
        ("PReLUNetB", 6, (256, 512, 512)),
        ("PReLUNetC", 6, (384, 768, 896)),
    ):
        a, b, c = widths
        rows = [(7, 3, 96), (3, 96, a), *[(3, a, a)] * (depth - 1)]
        rows += [(3, a, b), *[(3, b, b)] * (depth - 1), (3, b, c), *[(3, c, c)] * (depth - 1)]
        rows += [(1, (49 + 9 + 4 + 1) * c, 4096), (1, 4096, 4096)]
        slopes = sum(m for _, _, m in rows)
        expected = weights_of([*rows, (1, 4096, 1000)]) + slopes
        assert kcc.get_builder(name).spec.params == expected


def test_a_prelu_network_takes_images_of_any_size():
    builder = kcc.get_builder("PReLUNetA")
    model = contracts.tiny(builder, input_shape=(None, None, 3))
    for side in (32, 47):
        y = model.predict(contracts.images((side, side, 3)), verbose=0)
        np.testing.assert_allclose(y.sum(-1), 1, rtol=1e-5)
    assert model.get_layer("spp").output.shape == (None, 32 * 63)
    (slope,) = model.get_layer("conv1_prelu").get_weights()
    np.testing.assert_array_equal(slope, np.full((1, 1, 16), 0.25, "float32"))


def test_weights_of_highway_networks_by_hand():
    def both(kernel, maps):  # a highway layer
        return 2 * weights_of([(kernel, maps, maps)])

    for name, depth in (("HighwayFC10", 10), ("HighwayFC50", 50), ("HighwayFC100", 100)):
        expected = (784 * 50 + 50) + (depth - 1) * both(1, 50) + 510
        assert kcc.get_builder(name).spec.params == expected
    for width in (16, 32):
        expected = weights_of([(5, 1, width)]) + 8 * both(3, width) + 9 * width * 10 + 10
        assert kcc.get_builder(f"Highway10_{width}").spec.params == expected
    expected = weights_of([(3, 3, 32), (3, 32, 80), (3, 80, 128), (1, 128, 100), (1, 100, 10)])
    expected += 4 * both(3, 32) + 5 * both(3, 80) + 5 * both(3, 128)
    assert kcc.get_builder("Highway19").spec.params == expected
    assert count(empty("Highway19", classes=100)).params == expected + 90 * 101


@pytest.mark.parametrize(
    ("name", "layers", "bias"),
    [
        *(("HighwayFC20", 21, -2), ("Highway10_16", 10, -1), ("Highway11", 11, -2)),
        slow("Highway19", 19, -2),
        slow("Highway32", 32, -2),
    ],
)
def test_gates_of_highway_networks(name, layers, bias):
    model = empty(name)
    gates = [layer for layer in model.layers if isinstance(layer, HighwayGate)]
    weighted = [layer for layer in model.layers if hasattr(layer, "kernel")]
    assert len(weighted) - len(gates) == layers
    assert {gate.transform_bias for gate in gates} == {bias}
    plain = empty(name, gated=False)
    assert not [layer for layer in plain.layers if isinstance(layer, HighwayGate)]
    assert len([layer for layer in plain.layers if hasattr(layer, "kernel")]) == layers
    assert count(empty(name, transform_bias=-4.5)).params == count(model).params


def test_kernels_of_the_32_layers_alternate():
    model = empty("Highway32")
    names = [f"conv{i}" for i in range(1, 31)]
    known = {layer.name for layer in model.layers if hasattr(layer, "kernel")}
    real = [name if name in known else f"{name}_transform" for name in names]
    assert [model.get_layer(name).kernel_size[0] for name in real] == [3, 1] * 15


def test_sizes_of_the_mnist_highway():
    expected = {"conv1": (24, 24, 32), "pool1": (12, 12, 32), "pool2": (6, 6, 32)}
    model = empty("Highway10_32")
    assert shapes(model, [*expected, "pool3"]) == {**expected, "pool3": (3, 3, 32)}
    rates = [model.get_layer(f"drop{i}").rate for i in range(1, 5)]
    np.testing.assert_allclose(rates, [0.2, 0.3, 0.4, 0.5])
    model = empty("Highway10_32", dropout=0)
    assert {model.get_layer(f"drop{i}").rate for i in range(1, 5)} == {0}


def test_a_bias_of_gates_is_any_number():
    for bad in ("low", True, float("nan"), None):
        with pytest.raises(ValueError, match="`transform_bias` of Highway11 must be a finite"):
            kcc.Highway11(transform_bias=bad)


# Dense evaluation


def classifier(side, channels=2):
    """A classifier without padding, for images so large, with rough weights."""
    x = inputs = keras.Input(image_shape(side, channels))
    x = keras.layers.Conv2D(6, 3, 2, activation="relu", name="conv1")(x)
    x = keras.layers.MaxPooling2D(2, name="pool1")(x)
    x = keras.layers.Conv2D(8, 3, activation="relu", name="conv2")(x)
    x = keras.layers.MaxPooling2D(3, 3, name="pool2")(x)
    x = keras.layers.Flatten(name="flatten")(x)
    x = keras.layers.Dropout(0.5, name="dropout")(x)
    x = keras.layers.Dense(10, activation="relu", name="fc1")(x)
    x = keras.layers.Dense(5, name="fc2", use_bias=False)(x)
    model = keras.Model(inputs, keras.layers.Activation("softmax", name="predictions")(x))
    for layer in model.layers:
        scales = [
            1 / np.sqrt(np.prod(w.shape[:-1])) if len(w.shape) > 1 else 0.1 for w in layer.weights
        ]
        weights = zip(layer.weights, scales, strict=True)
        layer.set_weights([RNG.normal(0, scale, w.shape) for w, scale in weights])
    return model


@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
def test_dense_evaluation_goes_by_the_model_not_by_the_settings(data_format):
    before = keras.config.image_data_format(), keras.config.dtype_policy()
    try:
        keras.config.set_image_data_format(data_format)
        model = classifier(33)
        x = RNG.normal(size=(2, *model.input_shape[1:])).astype("float32")
        expected = model.predict(x, verbose=0)
        others = {"channels_last": "channels_first", "channels_first": "channels_last"}
        keras.config.set_image_data_format(others[data_format])
        keras.config.set_dtype_policy("mixed_float16")
        network = evaluation.fully_convolutional(model)
        got = network.predict(x, verbose=0)
    finally:
        keras.config.set_image_data_format(before[0])
        keras.config.set_dtype_policy(before[1])
    np.testing.assert_allclose(got[:, 0, 0], expected, atol=1e-5)


@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
@pytest.mark.parametrize(("offsets", "step"), [(True, 4), (False, 12)])
def test_dense_evaluation_is_the_network_on_each_window(data_format, offsets, step):
    before = keras.config.image_data_format()
    keras.config.set_image_data_format(data_format)
    try:
        side = 33  # then 16, 8, 6 and 2 cells: not one pixel more than is needed
        model = classifier(side)
        network = evaluation.fully_convolutional(model, offsets=offsets)
        shape = (2, 2, 61, 75)
        images = RNG.normal(size=shape).astype("float32")
        if data_format == "channels_last":
            images = np.moveaxis(images, 1, -1)
        got = network.predict(images, verbose=0)
        rows, columns = ((n - side) // step + 1 for n in shape[2:])
        assert got.shape == (2, rows, columns, 5)
        windows = []
        for i, j in itertools.product(range(rows), range(columns)):
            area = slice(step * i, step * i + side), slice(step * j, step * j + side)
            last = data_format == "channels_last"
            windows.append(images[(..., *area, slice(None)) if last else (..., *area)])
        expected = model.predict(np.concatenate(windows), verbose=0)
        expected = expected.reshape(rows, columns, 2, 5).transpose(2, 0, 1, 3)
        np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-6)
        assert np.ptp(got, axis=(1, 2)).max() > 0.01  # the windows make a difference
    finally:
        keras.config.set_image_data_format(before)


def test_cells_that_the_last_pool_leaves_out():
    """They belong to the classifier's images, and so to each window."""
    image = keras.Input((11, 12, 1))
    x = keras.layers.MaxPooling2D(3)(keras.layers.Conv2D(2, 2, activation="relu")(image))
    inner = keras.Model(image, keras.layers.Dense(4)(keras.layers.Flatten()(x)))
    model = keras.Sequential([*inner.layers])  # whose output is no attribute on every backend
    network = evaluation.fully_convolutional(model)
    images = RNG.normal(size=(1, 14, 13, 1)).astype("float32")
    got = network.predict(images, verbose=0)
    assert got.shape == (1, 4, 2, 4)
    for i, j in itertools.product(range(4), range(2)):
        window = model.predict(images[:, i : i + 11, j : j + 12], verbose=0)
        np.testing.assert_allclose(got[:, i, j], window, rtol=1e-4, atol=1e-6)


def pooled(x, size, dy, dx):
    """Maxima of whole windows that begin at an offset."""
    rows, columns = ((n - d) // size for n, d in zip(x.shape[1:3], (dy, dx), strict=True))
    x = x[:, dy : dy + rows * size, dx : dx + columns * size]
    return x.reshape(len(x), rows, size, columns, size, -1).max((2, 4))


@pytest.mark.parametrize(
    ("name", "pool", "window", "size"),
    [("OverFeatAccurate", 3, 5, (245, 281)), ("OverFeatFast", 2, 6, (263, 280))],
)
def test_overfeats_procedure(name, pool, window, size):
    """Figure 3, with the unpooled maps and the classifier of the network itself."""
    builder = kcc.get_builder(name)
    spec = builder.spec
    model = contracts.tiny(builder, input_shape=(spec.input_size,) * 2 + (3,))
    golden.fill(model)
    network = evaluation.fully_convolutional(model)
    images = contracts.images((*size, 3))
    last = next(layer for layer in network.layers if layer.name in ("pool5", "pool6"))
    unpooled = keras.Model(network.input, last.input).predict(images, verbose=0)
    head = keras.Model(model.get_layer("flatten").input, model.output)
    got = network.predict(images, verbose=0)
    windows, places = [], []
    for dy, dx in itertools.product(range(pool), range(pool)):
        maps = pooled(unpooled, pool, dy, dx)
        for i in range(maps.shape[1] - window + 1):
            for j in range(maps.shape[2] - window + 1):
                windows.append(maps[:, i : i + window, j : j + window])
                places.append((pool * i + dy, pool * j + dx))
    assert sorted(places) == list(itertools.product(*map(range, got.shape[1:3])))
    answers = head.predict(np.concatenate(windows), verbose=0).reshape(len(places), 2, -1)
    for place, answer in zip(places, answers, strict=True):
        np.testing.assert_allclose(got[:, *place], answer, rtol=1e-3, atol=1e-6)
    own = contracts.images(model.input_shape[1:])
    expected = model.predict(own, verbose=0)
    np.testing.assert_allclose(network.predict(own, verbose=0)[:, 0, 0], expected, rtol=1e-3)


def test_the_maps_of_overfeats_six_scales():
    """Table 5; its 35 for the width of scale 5 must be 38, from which its 24 follows."""
    model = contracts.tiny(kcc.get_builder("OverFeatAccurate"), input_shape=(221, 221, 3))
    fine, coarse = (evaluation.fully_convolutional(model, offsets=o) for o in (True, False))
    sides = [(3, 3), (6, 9), (9, 15), (15, 21), (18, 24), (21, 30)]
    for size, (rows, columns) in zip(evaluation.OVERFEAT_SIZES, sides, strict=True):
        assert fine.compute_output_shape((1, *size, 3))[1:3] == (rows, columns)
        assert coarse.compute_output_shape((1, *size, 3))[1:3] == (rows // 3, columns // 3)


def test_score_maps_and_the_vote():
    model = classifier(33)
    network = evaluation.fully_convolutional(model)
    images = RNG.normal(size=(3, 50, 43, 2)).astype("float32")
    sizes = [(50, 43), (60, 60)]
    maps = evaluation.score_maps(network, images, sizes, batch_size=2)
    assert [one.shape for one in maps] == [(3, 5, 3, 5)] * 2 + [(3, 7, 7, 5)] * 2
    np.testing.assert_allclose(maps[0], network.predict(images, verbose=0), rtol=1e-5)
    mirrored = network.predict(images[:, :, ::-1], verbose=0)[:, :, ::-1]
    np.testing.assert_allclose(maps[1], mirrored, rtol=1e-5)
    larger = keras.ops.image.resize(images, (60, 60), antialias=True)
    np.testing.assert_allclose(maps[2], network.predict(larger, verbose=0), rtol=1e-3, atol=1e-6)
    (alone,) = evaluation.score_maps(network, images, None, flip=False)
    np.testing.assert_allclose(alone, maps[0], rtol=1e-5)
    for spatial, reduce in (("max", np.max), ("mean", np.mean)):
        expected = sum(reduce(one.reshape(3, -1, 5), axis=1) for one in maps) / 4
        np.testing.assert_allclose(evaluation.vote(maps, spatial), expected, rtol=1e-5)


def test_what_dense_evaluation_refuses():
    with pytest.raises(ValueError, match="must be a classifier with one output that ends in"):
        evaluation.fully_convolutional(contracts.tiny(kcc.get_builder("NINCIFAR")))
    with pytest.raises(ValueError, match="one output that ends in"):
        evaluation.fully_convolutional(
            contracts.tiny(kcc.get_builder("VGG11"), include_top=False, pooling="avg")
        )
    without_pool = contracts.tiny(kcc.get_builder("HighwayFC10"))
    with pytest.raises(ValueError, match="'fc3' comes before it"):
        evaluation.fully_convolutional(without_pool)
    network = evaluation.fully_convolutional(classifier(33))
    with pytest.raises(ValueError, match=r"less than a window of .* Received: \(32, 60\)"):
        evaluation.score_maps(network, np.zeros((1, 50, 50, 2)), [(32, 60)])
    with pytest.raises(ValueError, match="must take images of any size"):
        evaluation.score_maps(classifier(33), np.zeros((1, 33, 33, 2)))
    for images, sizes in (
        (np.zeros((50, 50, 2)), [(50, 50)]),
        (np.zeros((1, 50, 50, 2)), (50, 50)),
        (np.zeros((1, 50, 50, 2)), 50),
    ):
        with pytest.raises(ValueError, match="`sizes` pairs of height and width"):
            evaluation.score_maps(network, images, sizes)
    with pytest.raises(ValueError, match="must be 'max' or 'mean'"):
        evaluation.vote([np.zeros((1, 2, 2, 3))], "sum")
    with pytest.raises(ValueError, match="at least one map"):
        evaluation.vote([])
