"""Facts of PolyNet, PyramidNet and dual path networks that counts and parity do not hold."""

import keras
import numpy as np
import pytest

import keras_cnn_classics as kcc
from keras_cnn_classics.applications import polynet, pyramidnet
from keras_cnn_classics.inspection import count
from keras_cnn_classics.preprocessing import preprocess_input
from keras_cnn_classics.testing import golden
from keras_cnn_classics.weights import WeightsError, deferred


def empty(name, **options):
    """The model without values."""
    return deferred.build_empty(lambda: kcc.build(name, weights=None, **options))


def test_table_1_of_the_dual_path_networks():
    """The sizes of maps, and the channels of both paths: 256 and more, and 16 for each block."""
    model = empty("DPN92")
    shapes = {
        "conv1_relu": (112, 112, 64),
        "conv2_block1_0_conv": (56, 56, 256 + 2 * 16),
        "conv2_block3_out": (56, 56, 256 + 5 * 16),
        "conv3_block4_out": (28, 28, 512 + 6 * 32),
        "conv4_block20_out": (14, 14, 1024 + 22 * 24),
        "conv5_block3_out": (7, 7, 2048 + 5 * 128),
    }
    assert {name: model.get_layer(name).output.shape[1:] for name in shapes} == shapes
    grouped = [one for one in model.layers if type(one).__name__ == "GroupedConv2D"]
    assert len(grouped) == 3 + 4 + 20 + 3
    assert {one.groups for one in grouped} == {32}
    assert [grouped[i].filters for i in (0, 3, 7, 27)] == [96, 192, 384, 768]


def test_a_dual_path_block_adds_and_appends():
    """Figure 2(d): what goes on is the sum on the first path and all that is on the second."""
    options = kcc.get_builder("DPN92").spec.tiny | {"depths": (3, 1, 1, 1)}
    image = keras.Input((32, 32, 3))
    model = kcc.DPN92(weights=None, include_top=False, input_tensor=image, **options)
    names = [f"conv2_block{i}_{part}" for i in (1, 2, 3) for part in ("out", "3_conv")]
    maps = keras.Model(image, [model.get_layer(name).output for name in names])
    x = np.random.default_rng(0).normal(size=(2, 32, 32, 3)).astype("float32")
    outs = [keras.ops.convert_to_numpy(y) for y in maps(x)]
    width = options["out"]
    for before, after, gives in ((outs[0], outs[2], outs[3]), (outs[2], outs[4], outs[5])):
        sums = before[..., :width] + gives[..., :width]
        kept = before[..., width:], gives[..., width:]
        np.testing.assert_allclose(after, np.concatenate([sums, *kept], -1), atol=1e-5)


def test_preprocessing_of_the_dual_path_networks():
    """The authors subtract a mean color and multiply by 0.0167."""
    pixels = np.random.default_rng(0).uniform(0, 255, (2, 4, 5, 3)).astype("float32")
    expected = (pixels - [124, 117, 104]) * 0.0167
    np.testing.assert_allclose(preprocess_input(pixels, "dpn"), expected, rtol=1e-5, atol=1e-5)
    assert {kcc.get_builder(f"DPN{n}").spec.preprocessing for n in (92, 98, 131)} == {"dpn"}


@pytest.mark.parametrize("option", ["depths", "growths"])
def test_dual_path_networks_have_four_stages(option):
    with pytest.raises(ValueError, match=rf"`{option}` must hold 4 numbers. Received: {option}="):
        kcc.DPN92(weights=None, **{option: (1, 2, 3)})


@pytest.mark.parametrize(
    ("name", "options", "params", "features"),
    [
        ("PyramidNet200", {"alpha": 450}, 116_775_213, 2056),
        ("PyramidNet200", {"depths": (3, 4, 23, 3), "alpha": 360}, 42_455_070, 1696),
        ("PyramidNet110", {"alpha": 84}, 3_904_446, 100),
        ("PyramidNet110", {"depth": 164, "bottleneck": True, "alpha": 270}, 27_216_021, 1144),
    ],
)
def test_other_pyramids(name, options, params, features):
    """The paper's and pytorchcv's other networks, of which the authors' page has the features."""
    model = empty(name, **options)
    assert count(model).params == params
    assert model.get_layer("avg_pool").output.shape[1:] == (features,)


def test_every_block_of_a_pyramid_is_wider():
    """By alpha / 66 on average, in all stages alike; bottlenecks give four times their width."""
    model = empty("PyramidNet200")
    kernels = [layer for layer in model.layers if layer.name.endswith("_2_conv")]
    widths = [kernel.filters for kernel in kernels]
    assert len(widths) == 66
    assert widths[0] == 69  # 64 + 300 / 66
    assert widths[-1] == 64 + 300
    assert set(np.diff(widths)) == {4, 5}
    ends = [layer.filters for layer in model.layers if layer.name.endswith("_3_conv")]
    assert ends == [4 * width for width in widths]


def test_shortcuts_of_a_pyramid_have_no_weights():
    """Zeros come last of the channels, and where a stage begins 2x2 pixels are averaged."""
    image = keras.Input((13, 13, 3))
    tensor = pyramidnet.block(image, 7, 2, name="one", bottleneck=False)
    added = keras.Model(image, tensor).get_layer("one_out").input
    both = keras.Model(image, [*added, tensor])
    x = np.random.default_rng(0).normal(size=(2, 13, 13, 3)).astype("float32")
    shortcut, branch, out = (keras.ops.convert_to_numpy(y) for y in both(x))
    expected = np.zeros((2, 7, 7, 7), "float32")
    for i in range(7):
        for j in range(7):
            window = x[:, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2]
            expected[:, i, j, :3] = window.mean((1, 2))
    np.testing.assert_allclose(shortcut, expected, atol=1e-6)
    np.testing.assert_allclose(out, shortcut + branch, atol=1e-6)


def test_a_pyramids_block_has_one_activation_less():
    model = empty("PyramidNet110")
    kinds = [type(layer).__name__ for layer in model.layers]
    assert kinds.count("BatchNormalization") == 54 * 3 + 2
    assert kinds.count("ReLU") == 54 + 1
    first = model.get_layer("conv2_block1_preact_bn")
    assert model.get_layer("conv2_block1_1_conv").input is first.output


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"depth": 111}, "6n \\+ 2 with bottleneck=False. Received: depth=111"),
        ({"depth": 110, "alpha": -1.0}, "Received: alpha=-1.0"),
        ({"depth": 100, "bottleneck": True}, "9n \\+ 2 with bottleneck=True. Received: depth=100"),
    ],
)
def test_pyramids_that_do_not_exist(options, words):
    with pytest.raises(ValueError, match=words):
        kcc.PyramidNet110(weights=None, **options)


@pytest.fixture(scope="module")
def full_polynet():
    return empty("PolyNet")


def test_modules_of_polynet(full_polynet):
    """10-20-10 modules; of those of the second and third stage every other one is poly-3."""
    model = full_polynet
    names = [layer.name for layer in model.layers]
    modules = [name.removesuffix("_add") for name in names if name.endswith("_add")]
    assert [sum(name[0] == letter for name in modules) for letter in "abc"] == [10, 20, 10]
    poly = [name for name in modules if f"{name}_1_1_conv" in names]
    assert poly == [f"{k}{i}" for k, n in (("b", 20), ("c", 10)) for i in range(1, n, 2)]
    shapes = {
        "stem4_out": (39, 39, 384),
        "a10_out": (39, 39, 384),
        "b20_out": (19, 19, 1152),
        "c10_out": (9, 9, 2048),
    }
    assert {name: model.get_layer(name).output.shape[1:] for name in shapes} == shapes


def test_factors_of_polynet(full_polynet):
    """They fall linearly over the 40 modules to 0.7; the first module has none."""
    kept = {}
    for layer in full_polynet.layers:
        if type(layer).__name__ == "StochasticDepth":
            kept.setdefault(layer.name.partition("_")[0], []).append(layer.survival)
    assert len(kept) == 39
    assert kept["a2"] == pytest.approx([0.992308] * 2, abs=1e-6)
    assert kept["b1"] == pytest.approx([0.923077] * 3, abs=1e-6)
    assert kept["c10"] == [0.7] * 2
    always = empty("PolyNet", repeats=(1, 1, 1), survival=1.0)
    assert not [one for one in always.layers if type(one).__name__ == "StochasticDepth"]
    with pytest.raises(ValueError, match="Received: survival="):
        kcc.PolyNet(weights=None, survival=1.1)


def test_a_polynomial_of_one_block():
    """x + F(x) + F(F(x)) + ...: the convolutions of the branches are one set, used three times."""
    image = keras.Input((9, 9, 32))
    out = polynet.module(image, (((8, 1), (8, 3)), ((16, 1),)), 1.0, 0.5, name="m", poly=3)
    model = keras.Model(image, out)
    kernels = [layer for layer in model.layers if isinstance(layer, keras.layers.Conv2D)]
    assert [layer.name for layer in kernels if "term" not in layer.name] == [
        "m_1_1_conv",
        "m_1_2_conv",
        "m_2_1_conv",
    ]
    ones = {row.name: row for row in count(model).layers}
    assert ones["m_1_2_conv"].macs == 3 * 81 * 9 * 8 * 8
    assert ones["m_1_2_conv"].activations == 3 * 81 * 8
    assert ones["m_term2_end_conv"].macs == 81 * 24 * 32
    golden.fill(model)
    x = np.random.default_rng(0).normal(size=(2, 9, 9, 32)).astype("float32")
    terms = [model.get_layer(f"m_term{i}_end_bn").output for i in (1, 2, 3)]
    first, second, third, got = map(
        keras.ops.convert_to_numpy, keras.Model(image, [*terms, out])(x, training=False)
    )
    expected = np.maximum(x + 0.5 * (first + second + third), 0)
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-4)


SHORT = {"repeats": (1, 1, 1), "width": 0.25, "classes": 5, "input_shape": (75, 75, 3)}


def test_whole_files_with_layers_that_are_used_several_times(tmp_path):
    """They are compared use by use: what each use is given, and how many there are."""
    path = tmp_path / "model.keras"
    saved = kcc.PolyNet(weights=None, **SHORT)
    saved.save(path)
    again = kcc.PolyNet(weights=path, **SHORT)
    for a, b in zip(saved.weights, again.weights, strict=True):
        np.testing.assert_array_equal(*map(keras.ops.convert_to_numpy, (a, b)))
    with pytest.raises(WeightsError, match=r"StochasticDepth\(|survival="):
        kcc.PolyNet(weights=path, survival=0.5, **SHORT)
