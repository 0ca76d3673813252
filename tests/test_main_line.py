"""Facts of the papers from GoogLeNet on that counts and parity do not hold."""

import inspect
import logging

import keras
import numpy as np
import pytest
from safetensors.numpy import save_file

import keras_cnn_classics as kcc
from keras_cnn_classics.applications import resnet_v2, senet
from keras_cnn_classics.applications.efficientnet import compound_scaling, released
from keras_cnn_classics.applications.googlenet import INCEPTION, inception, naive_inception
from keras_cnn_classics.blocks.residual import zero_pad_shortcut
from keras_cnn_classics.inspection import count
from keras_cnn_classics.preprocessing import preprocess_input
from keras_cnn_classics.testing import contracts
from keras_cnn_classics.weights import deferred, preprocessing_of
from tests.marks import slow


def empty(name, **options):
    """A network whose weights nobody needs."""
    return deferred.build_empty(lambda: kcc.build(name, weights=None, **options))


def test_bottlenecks_make_a_module_cheap():
    """The lectures' comparison on a map of 28x28x256: 854 against 358 million multiply-adds.

    The layers that the lectures list add up to 271 million; 358 is what they give with the 3x3
    convolution counted twice.
    """
    image = keras.Input((28, 28, 256))
    naive = keras.Model(image, naive_inception(image, 128, 192, 96, name="naive"))
    reduced = keras.Model(image, inception(image, 128, 64, 192, 64, 96, 64, name="reduced"))
    assert naive.output_shape[1:] == (28, 28, 672)
    assert reduced.output_shape[1:] == (28, 28, 480)
    assert round(count(naive).macs / 1e6) == 854
    cost = {row.name: row.macs for row in count(reduced).layers}
    assert round(sum(cost.values()) / 1e6) == 271
    assert round((sum(cost.values()) + cost["reduced_3x3"]) / 1e6) == 358


def test_googlenets_table():
    model = empty("GoogLeNet", aux=True)
    shapes = {
        "pool1": (56, 56, 64),
        "conv2": (56, 56, 192),
        "pool2": (28, 28, 192),
        "inception_3a_output": (28, 28, 256),
        "inception_3b_output": (28, 28, 480),
        "inception_4a_output": (14, 14, 512),
        "inception_4d_output": (14, 14, 528),
        "inception_4e_output": (14, 14, 832),
        "inception_5a_output": (7, 7, 832),
        "inception_5b_output": (7, 7, 1024),
        "aux1_pool": (4, 4, 512),
        "aux2_pool": (4, 4, 528),
    }
    assert {name: model.get_layer(name).output.shape[1:] for name in shapes} == shapes
    assert sum(int(np.prod(w.shape)) for w in model.trainable_weights) == 13_378_280
    assert model.get_layer("dropout").rate == 0.4
    assert model.get_layer("aux1_dropout").rate == 0.7
    assert set(INCEPTION) == {
        "3a",
        "3b",
        "pool3",
        "4a",
        "4b",
        "4c",
        "4d",
        "4e",
        "pool4",
        "5a",
        "5b",
    }


def test_torchvisions_googlenet():
    model = kcc.GoogLeNetBN(aux=True, weights=None)
    assert sum(int(np.prod(w.shape)) for w in model.trainable_weights) == 13_004_888
    shapes = {
        "pool1": (56, 56, 64),
        "pool2": (28, 28, 192),
        "pool3": (14, 14, 480),
        "pool4": (7, 7, 832),
        "aux1_pool": (4, 4, 512),
        "aux2_pool": (4, 4, 528),
    }
    assert {name: model.get_layer(name).output.shape[1:] for name in shapes} == shapes
    assert model.get_layer("inception_3a_5x5").kernel_size == (3, 3)
    assert model.get_layer("dropout").rate == 0.2
    assert model.get_layer("aux1_dropout").rate == 0.7
    small = kcc.GoogLeNetBN(aux=True, input_shape=(32, 32, 3), weights=None)
    assert small.get_layer("aux1_pool").input.shape[1:] == (2, 2, 512)


def test_auxiliary_heads_need_room():
    with pytest.raises(ValueError, match="GoogLeNet with aux=True needs images of at least 65x65"):
        kcc.GoogLeNet(aux=True, input_shape=(64, 64, 3))
    with pytest.raises(ValueError, match="needs a fixed height and width"):
        kcc.GoogLeNet(aux=True, input_shape=(None, None, 3))
    assert kcc.GoogLeNet(input_shape=(None, None, 3)).output_shape == (None, 1000)


@pytest.mark.parametrize(
    ("name", "shortcut", "params"),
    [
        ("ResNet18", "A", 11_515_688),
        ("ResNet18", "C", 12_043_816),
        ("ResNet34", "A", 21_623_848),
        ("ResNet34", "C", 22_716_840),
        ("ResNet20", "B", 272_474),
    ],
)
def test_shortcut_options(name, shortcut, params):
    assert count(empty(name, shortcut=shortcut)).params == params


def test_option_a_against_numpy():
    image = keras.Input((6, 6, 4))
    model = keras.Model(image, zero_pad_shortcut(image, 10, 2, name="a"))
    x = np.random.default_rng(0).normal(size=(2, 6, 6, 4)).astype("float32")
    expected = np.pad(x[:, ::2, ::2], ((0, 0), (0, 0), (0, 0), (3, 3)))
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(model(x)), expected)


def test_plain_networks_have_no_shortcuts():
    kinds = {type(layer).__name__ for layer in empty("PlainNet34").layers}
    assert "Add" not in kinds
    assert sum(type(layer).__name__ == "Add" for layer in empty("ResNet34").layers) == 16


def test_where_the_steps_are():
    def strides(**options):
        model = empty("ResNet50", include_top=False, **options)
        names = ("conv3_block1_1_conv", "conv3_block1_2_conv", "conv3_block1_0_conv")
        return [model.get_layer(name).strides[0] for name in names]

    assert strides() == [2, 1, 2]
    assert strides(stride_in="3x3") == [1, 2, 2]
    macs = count(empty("ResNet50", stride_in="3x3")).macs
    assert macs == 4_089_184_256  # torchvision's


@pytest.mark.parametrize("depth", [2, 7, 21])
def test_depths_of_the_cifar_networks(depth):
    with pytest.raises(ValueError, match=f"6n \\+ 2. Received: depth={depth}"):
        kcc.ResNet20(depth=depth)


def test_networks_of_other_depths_have_other_layers():
    deeper = empty("ResNet110", include_top=False)
    assert len(deeper.layers) > len(empty("ResNet20").layers)


@pytest.mark.parametrize(
    ("name", "alpha", "params"),
    [
        ("MobileNet", 0.25, 470_072),
        ("MobileNet", 0.5, 1_331_592),
        ("MobileNet", 0.75, 2_585_560),
        ("MobileNetV2", 0.35, 1_677_128),
        ("MobileNetV2", 0.5, 1_968_680),
        ("MobileNetV2", 0.75, 2_636_424),
        ("MobileNetV2", 1.3, 5_386_792),
        ("MobileNetV2", 1.4, 6_108_776),
    ],
)
def test_width_multipliers(name, alpha, params):
    assert count(empty(name, alpha=alpha)).params == params


@pytest.mark.parametrize(
    ("depth", "bc", "words"), [(41, False, "3n \\+ 4 with bc=False"), (43, True, "6n \\+ 4")]
)
def test_depths_of_the_dense_cifar_networks(depth, bc, words):
    with pytest.raises(ValueError, match=f"{words}.* Received: depth={depth}"):
        kcc.DenseNet40_12(depth=depth, bc=bc)


def test_survival_falls_linearly():
    model = empty("StochasticDepthResNet110")
    kinds = [layer for layer in model.layers if type(layer).__name__ == "StochasticDepth"]
    survival = [layer.survival for layer in kinds]
    np.testing.assert_allclose(survival, [1 - i / 54 * 0.5 for i in range(1, 55)])
    always = empty("StochasticDepthResNet110", survival=1.0)
    assert not [one for one in always.layers if type(one).__name__ == "StochasticDepth"]
    with pytest.raises(ValueError, match="Received: survival=0"):
        kcc.StochasticDepthResNet110(survival=0.0)


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("ResNet164V2", {"depth": 163}, "9n \\+ 2 with bottleneck=True. Received: depth=163"),
        ("ResNet110V2", {"depth": 2}, "6n \\+ 2 with bottleneck=False. Received: depth=2"),
        ("WideResNet28_10", {"depth": 20}, "6n \\+ 4. Received: depth=20"),
    ],
)
def test_depths_of_the_networks_with_identity_mappings(name, options, words):
    with pytest.raises(ValueError, match=words):
        kcc.build(name, weights=None, **options)


@pytest.mark.parametrize(
    ("options", "params"),
    [
        ({"depth": 16, "widen": 8}, 10_961_370),
        ({"depth": 40, "widen": 4}, 8_949_210),
        ({"depth": 16, "widen": 10}, 17_116_634),
        ({"depth": 40, "widen": 8}, 35_748_314),
        ({"depth": 28, "widen": 10, "dropout": 0.3}, 36_479_194),
    ],
)
def test_other_wide_networks(options, params):
    assert count(empty("WideResNet28_10", **options)).params == params


def test_branches_of_identity_mappings_begin_with_normalization():
    model = empty("ResNet110V2")
    assert type(model.layers[-4]).__name__ == "BatchNormalization"  # then ReLU, average, classes
    assert model.get_layer("conv1_conv").output is model.get_layer("conv2_block1_preact_bn").input
    assert not any(layer.name == "conv1_bn" for layer in model.layers)


def test_both_ways_of_the_first_block_start_from_activated_maps():
    """Appendix of "Identity mappings"; pytorchcv's shortcut takes them as they are."""
    for options, shortcut in (
        ({}, "conv2_block1_preact_relu"),
        ({"first_inside": True}, "conv1_conv"),
    ):
        model = empty("ResNet110V2", **options)
        added = model.get_layer("conv2_block1_out").input
        assert added[0] is model.get_layer(shortcut).output


@pytest.mark.parametrize(
    ("name", "options", "params", "macs"),
    [
        ("ResNet164V2", {"stride_in": "3x3"}, 1_703_258, 247_646_720),
        slow("ResNet1001V2", {"stride_in": "3x3"}, 10_327_706, 1_490_995_712),
        ("ResNet200V2", {"first_inside": True}, 64_666_280, 14_776_270_848),
    ],
)
def test_pytorchcvs_identity_mappings(name, options, params, macs):
    """The counts of pytorchcv's forms; the authors' code steps in the first convolution."""
    counts = count(empty(name, **options))
    assert (counts.params, counts.macs) == (params, macs)


# The coefficients that the authors released: width, depth, pixels; the rule's phi; dropout.
EFFICIENTNETS = {
    "EfficientNetB0": (1.0, 1.0, 224, 0, 0.2),
    "EfficientNetB1": (1.0, 1.1, 240, 0.5, 0.2),
    "EfficientNetB2": (1.1, 1.2, 260, 1, 0.3),
    "EfficientNetB3": (1.2, 1.4, 300, 2, 0.3),
    "EfficientNetB4": (1.4, 1.8, 380, 3, 0.4),
    "EfficientNetB5": (1.6, 2.2, 456, 4, 0.4),
    "EfficientNetB6": (1.8, 2.6, 528, 5, 0.5),
    "EfficientNetB7": (2.0, 3.1, 600, 6, 0.5),
}


@pytest.mark.parametrize("name", EFFICIENTNETS)
def test_coefficients_of_the_efficientnets(name):
    width, depth, pixels, phi, dropout = EFFICIENTNETS[name]
    spec = kcc.get_builder(name).spec
    assert spec.config == {"width": width, "depth": depth, "dropout": dropout}
    assert spec.input_size == pixels
    rule = compound_scaling(phi)
    ratios = width / rule.width, depth / rule.depth, pixels / (224 * rule.resolution)
    if phi < 3:
        assert released(phi) == {"width": width, "depth": depth, "input_size": pixels}
        assert ratios == pytest.approx((1, 1, 1), abs=0.05)
    else:  # the authors went beyond their rule
        assert 1.05 < ratios[0] < 1.13
        assert 1.03 < ratios[1] < 1.07
        assert 1.11 < ratios[2] < 1.18


def test_compound_scaling():
    assert compound_scaling(0) == (1, 1, 1)
    assert compound_scaling(1) == (1.1, 1.2, 1.15)
    assert compound_scaling(3) == pytest.approx((1.331, 1.728, 1.520875))
    assert compound_scaling(2, alpha=1.3, beta=1.0, gamma=1.25) == pytest.approx((1, 1.69, 1.5625))
    width, depth, resolution = compound_scaling(1)
    assert depth * width**2 * resolution**2 == pytest.approx(1.92, abs=0.001)
    # What is rounded up costs more: see the docstring.
    macs = [kcc.get_builder(f"EfficientNetB{i}").spec.macs for i in (2, 0)]
    assert macs[0] / macs[1] == pytest.approx(2.58, abs=0.01)
    for bad in ({"alpha": 0.9}, {"gamma": 1.5}, {"beta": 1.0}):
        with pytest.raises(ValueError, match=r"alpha \* beta\^2 \* gamma\^2 about 2. Received: al"):
            compound_scaling(1, **bad)
    for phi in (-1, float("nan"), float("inf"), "1", None):
        with pytest.raises(ValueError, match=r"`phi` must be a finite number.*Received: phi="):
            compound_scaling(phi)


def test_table_1_of_efficientnet():
    model = empty("EfficientNetB0")
    shapes = {
        "stem_activation": (112, 112, 32),
        "block1a_project_bn": (112, 112, 16),
        "block2b_add": (56, 56, 24),
        "block3b_add": (28, 28, 40),
        "block4c_add": (14, 14, 80),
        "block5c_add": (14, 14, 112),
        "block6d_add": (7, 7, 192),
        "block7a_project_bn": (7, 7, 320),
        "top_activation": (7, 7, 1280),
    }
    assert {name: model.get_layer(name).output.shape[1:] for name in shapes} == shapes
    assert model.get_layer("block6d_drop").rate == pytest.approx(0.2 * 14 / 16)
    names = [layer.name for layer in empty("EfficientNetB0", drop_connect=0.0).layers]
    assert "block6d_drop" not in names


def test_what_an_efficientnet_does_with_pixels():
    def prepared(channels):
        model = kcc.EfficientNetB0(include_top=False, input_shape=(32, 32, channels), weights=None)
        return keras.Model(model.input, model.get_layer("normalization").output)

    x = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3)).astype("float32")
    expected = preprocess_input(x, "torch")
    np.testing.assert_allclose(keras.ops.convert_to_numpy(prepared(3)(x)), expected, atol=1e-5)
    grey = (x[..., :1] / 255 - 0.449) / 0.226  # the averages of the three
    np.testing.assert_allclose(keras.ops.convert_to_numpy(prepared(1)(x[..., :1])), grey, atol=1e-5)
    kinds = {
        type(layer).__name__
        for layer in kcc.EfficientNetB0(include_preprocessing=False, weights=None).layers
    }
    assert not kinds & {"Rescaling", "Normalization"}


@pytest.mark.parametrize(
    ("name", "path", "mode"),
    [
        ("EfficientNetB0", "timm.safetensors", "none"),
        ("EfficientNetB0", "keras.h5", "none"),
        ("MobileNet", "timm.pth", "tf"),
        ("MobileNetV2", "timm.pth", "torch"),
        ("MobileNetV2", "keras.h5", "tf"),
    ],
)
def test_preprocessing_that_goes_with_a_file(name, path, mode):
    assert preprocessing_of(kcc.get_builder(name).spec, path) == mode


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"padding": "valid"}, "'same', 'symmetric'. Received: padding='valid'"),
        ({"width": 0.0}, "positive number. Received: width=0.0"),
    ],
)
def test_options_of_the_efficientnets(options, words):
    with pytest.raises(ValueError, match=words):
        kcc.EfficientNetB0(**options, weights=None)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        *((name, {}) for name in ("MobileNet", "EfficientNetB0")),
        *((name, {"padding": "symmetric"}) for name in ("MobileNetV2", "Xception")),
        slow("MobileNetV2", {}),
        slow("NASNetMobile", {}),
        slow("MobileNet", {"padding": "symmetric"}),
        ("NASNetLarge", {"edge_zeros": "average"}),
        slow("NASNetLarge", {"edge_zeros": "none"}),
    ],
)
@pytest.mark.parametrize("side", [slow(80), 75])
def test_images_of_unknown_size_are_padded_by_their_own(name, options, side):
    builder = kcc.get_builder(name)
    kwargs = {"include_top": False, **builder.spec.tiny, **options}
    free, fixed = (
        builder(weights=None, input_shape=shape, **kwargs)
        for shape in ((None, None, 3), (side, side, 3))
    )
    fixed.set_weights(free.get_weights())
    x = np.random.default_rng(0).normal(size=(2, side, side, 3)).astype("float32")
    a, b = (keras.ops.convert_to_numpy(m(x, training=False)) for m in (fixed, free))
    np.testing.assert_allclose(b, a, rtol=0, atol=1e-5 * np.abs(a).max())


def test_figure_5_of_xception():
    model = empty("Xception")
    shapes = {
        "block1_conv2_act": (147, 147, 64),
        "block2_add": (74, 74, 128),
        "block3_add": (37, 37, 256),
        "block4_add": (19, 19, 728),
        "block12_add": (19, 19, 728),
        "block13_add": (10, 10, 1024),
        "block14_sepconv2_act": (10, 10, 2048),
    }
    assert {name: model.get_layer(name).output.shape[1:] for name in shapes} == shapes
    kinds = [type(layer).__name__ for layer in model.layers]
    assert kinds.count("SeparableConv2D") + kinds.count("Conv2D") - 4 == 36  # section 4's count


def test_cells_of_nasnet():
    model = empty("NASNetMobile")
    shapes = {
        "stem_bn1": (111, 111, 32),
        "reduction_concat_stem_1": (56, 56, 44),
        "reduction_concat_stem_2": (28, 28, 88),
        "normal_concat_0": (28, 28, 264),
        "normal_concat_3": (28, 28, 264),
        "reduction_concat_reduce_4": (14, 14, 352),
        "normal_concat_8": (14, 14, 528),
        "reduction_concat_reduce_8": (7, 7, 704),
        "normal_concat_12": (7, 7, 1056),
    }
    assert {name: model.get_layer(name).output.shape[1:] for name in shapes} == shapes
    with pytest.raises(ValueError, match=r"24 \* filter_multiplier\^2. Received: penultimate_f"):
        kcc.NASNetMobile(penultimate_filters=1000, weights=None)
    with pytest.raises(ValueError, match=r"'none'\. Received: edge_zeros='max'"):
        kcc.NASNetMobile(edge_zeros="max", weights=None)


@pytest.mark.parametrize("side", [slow(64), 67])
@pytest.mark.parametrize(
    ("edge_zeros", "in_maxima", "in_averages"),
    [slow("all", True, True), ("average", False, True), ("none", False, False)],
)
def test_pools_of_a_reduction_cell_at_the_edge(edge_zeros, in_maxima, in_averages, side):
    """Against NumPy, on maps of 31x31 and 16x16, and of 33x33 and 17x17."""
    model = kcc.NASNetMobile(input_shape=(side, side, 3), edge_zeros=edge_zeros, weights=None)
    for cell in ("stem_1", "stem_2"):
        names = ("reduction_bn_1", "reduction_left2", "reduction_right5", "reduction_left3")
        outputs = [model.get_layer(f"{name}_{cell}").output for name in names]
        x = np.random.default_rng(0).normal(size=(2, side, side, 3)).astype("float32")
        h, left, right, mean = map(keras.ops.convert_to_numpy, keras.Model(model.input, outputs)(x))
        before = h.shape[1] % 2
        edge = ((0, 0), (before, 1), (before, 1), (0, 0))
        maps = np.pad(h, edge, constant_values=np.nan)
        steps = [(i, j) for i in range(3) for j in range(3)]
        size = left.shape[1]
        seen = np.stack(
            [maps[:, i : i + 2 * size : 2, j : j + 2 * size : 2][:, :size, :size] for i, j in steps]
        )
        zeros = np.nan_to_num(seen)
        np.testing.assert_array_equal(left, np.nanmax(zeros if in_maxima else seen, axis=0))
        np.testing.assert_array_equal(right, left)
        expected = np.nanmean(zeros if in_averages else seen, axis=0)
        np.testing.assert_allclose(mean, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "shapes"),
    [
        (
            "BNInception",
            {
                "pool1": (56, 56, 64),
                "conv2_3x3": (56, 56, 192),
                "pool2": (28, 28, 192),
                "inception_3a_output": (28, 28, 256),
                "inception_3b_output": (28, 28, 320),
                "inception_3c_output": (14, 14, 576),
                "inception_4d_output": (14, 14, 608),
                "inception_4e_output": (7, 7, 1056),
                "inception_5b_output": (7, 7, 1024),
            },
        ),
        (
            "InceptionV2",  # table 1, which gives the inputs of its rows
            {
                "activation": (149, 149, 32),
                "activation_1": (147, 147, 32),
                "activation_2": (147, 147, 64),
                "pool1": (73, 73, 64),
                "activation_3": (71, 71, 80),
                "activation_4": (35, 35, 192),
                "activation_5": (35, 35, 288),
                "mixed2": (17, 17, 768),
                "mixed7": (8, 8, 1280),
                "mixed9": (8, 8, 2048),
                "avg_pool": (2048,),
            },
        ),
        (
            "InceptionV3",
            {
                "pool1": (73, 73, 64),
                "pool2": (35, 35, 192),
                "mixed0": (35, 35, 256),
                "mixed2": (35, 35, 288),
                "mixed3": (17, 17, 768),
                "mixed7": (17, 17, 768),
                "mixed8": (8, 8, 1280),
                "mixed10": (8, 8, 2048),
            },
        ),
        (
            "InceptionV4",  # figures 3 and 9
            {
                "mixed_3a": (73, 73, 160),
                "mixed_4a": (71, 71, 192),
                "mixed_5a": (35, 35, 384),
                "module35_4": (35, 35, 384),
                "reduction35": (17, 17, 1024),
                "module17_7": (17, 17, 1024),
                "reduction17": (8, 8, 1536),
                "module8_3": (8, 8, 1536),
            },
        ),
        (
            "InceptionResNetV1",  # figures 14 and 15
            {
                "activation_5": (35, 35, 256),
                "block35_5_ac": (35, 35, 256),
                "mixed_6a": (17, 17, 896),
                "block17_10_ac": (17, 17, 896),
                "mixed_7a": (8, 8, 1792),
                "block8_6_add": (8, 8, 1792),
            },
        ),
        (
            "InceptionResNetV2",
            {
                "mixed_5b": (35, 35, 320),
                "mixed_6a": (17, 17, 1088),
                "mixed_7a": (8, 8, 2080),
                "block8_10_add": (8, 8, 2080),
                "conv_7b_ac": (8, 8, 1536),
            },
        ),
    ],
)
def test_tables_of_the_inceptions(name, shapes):
    model = empty(name)
    assert {layer: model.get_layer(layer).output.shape[1:] for layer in shapes} == shapes


@pytest.mark.parametrize(
    ("name", "options", "params"),
    [
        ("BNInception", {"bias": False}, 11_285_224),
        ("InceptionV3", {"scale": True}, 23_834_568),
        ("InceptionV3", {"scale": True, "aux": True}, 27_161_264),
        ("InceptionResNetV2", {"scale": True}, 55_843_464),
        # FaceNet's, for VGGFace2, and the paper's classifier
        ("InceptionResNetV1", {"classes": 8631}, 27_910_327),
        ("InceptionResNetV1", {"units": 0}, 23_995_624 - 512 * 1794 - 513_000 + 1_793_000),
    ],
)
def test_forms_of_the_inceptions(name, options, params):
    assert count(empty(name, **options)).params == params


@pytest.mark.parametrize("name", ["InceptionResNetV1", "InceptionResNetV2"])
def test_residuals_are_scaled(name):
    model = empty(name, include_top=False)
    factors = {layer.name: layer.scale for layer in model.layers if layer.name.endswith("_scale")}
    *others, last = factors
    assert last.startswith("block8")
    assert factors.pop(last) == 1.0
    assert f"{last.removesuffix('_scale')}_ac" not in {layer.name for layer in model.layers}
    kinds = {"block35": 0.17, "block17": 0.1, "block8": 0.2}
    assert factors == {name: kinds[name.split("_")[0]] for name in others}


@pytest.mark.parametrize("side", [slow(224), 225, slow(239), slow(250), 256])
def test_bn_inception_halves_maps_of_any_size(side):
    """Caffe's and PyTorch's networks stop at the first map of odd size."""
    model = empty("BNInception", include_top=False, input_shape=(side, side, 3))
    assert model.output_shape[1] in (7, 8)


@pytest.mark.parametrize("name", ["InceptionV4", "InceptionResNetV1", "InceptionResNetV2"])
def test_repeats_of_the_inceptions(name):
    with pytest.raises(ValueError, match=r"`repeats` must hold 3 numbers. Received: repeats=\(1,"):
        kcc.build(name, weights=None, repeats=(1, 1))


def test_the_auxiliary_classifier_of_inception_v3():
    half = kcc.InceptionV3(aux=True, width=0.5, weights=None)
    filters = [half.get_layer(name).filters for name in ("conv2d_5", "aux1_conv0", "aux1_conv1")]
    assert filters == [32, 64, 384]
    model = kcc.InceptionV3(aux=True, weights=None)
    assert model.get_layer("aux1_pool").output.shape[1:] == (5, 5, 768)
    assert model.get_layer("aux1_conv1").output.shape[1:] == (1, 1, 768)
    with pytest.raises(ValueError, match="needs images of at least 299x299"):
        kcc.InceptionV3(aux=True, input_shape=(298, 298, 3), weights=None)


TIMMS = {"stride_in": "3x3", "ceil_mode": False}


def write_checkpoint(name, path, names=senet._resnet_names, **options):
    """A tiny network as a package of PyTorch would have saved it in this form."""
    builder = kcc.get_builder(name)
    model = contracts.tiny(builder, **options)
    parameters = inspect.signature(builder).parameters.values()
    values = {p.name: p.default for p in parameters} | builder.spec.tiny | options
    tensors = {}
    for layer, (module, *_) in names(**values).items():
        parts = ("weight", "bias", "running_mean", "running_var")
        arrays = model.get_layer(layer).get_weights() if layer in names_of(model) else []
        for part, array in zip(parts, arrays, strict=False):
            order = {1: (0,), 2: (1, 0), 4: (3, 2, 0, 1)}[array.ndim]
            tensors[f"{module}.{part}"] = np.ascontiguousarray(array.transpose(order))
    save_file(tensors, path)
    return model


def names_of(model):
    return {layer.name for layer in model.layers}


@pytest.mark.parametrize(
    ("name", "form", "others"),
    [
        ("SEResNet50", {}, [TIMMS, {"ceil_mode": False}, {"stride_in": "3x3"}]),
        ("SEResNet50", TIMMS, [{}, {"ceil_mode": False}, {"stride_in": "3x3"}]),
        ("SEResNeXt50_32x4d", {}, [{"ceil_mode": False}, {"stride_in": "1x1"}]),
        ("SEResNeXt50_32x4d", {"ceil_mode": False}, [{}, {**TIMMS, "stride_in": "1x1"}]),
    ],
)
def test_an_se_resnet_takes_weights_of_its_own_form_only(name, form, others, tmp_path, caplog):
    """The tensors of both forms have the same shapes, and under the other they answer wrongly."""
    path, builder = tmp_path / "theirs.safetensors", kcc.get_builder(name)
    model = write_checkpoint(name, path, **form)
    with caplog.at_level(logging.WARNING, "keras_cnn_classics"):
        again = contracts.tiny(builder, weights=path, **form)
    assert not caplog.records
    for a, b in zip(model.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    for options in others:
        with pytest.raises(ValueError, match="tensors that belong to no layer"):
            contracts.tiny(builder, weights=path, **options)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "want stride_in='3x3', ceil_mode=False$"),
        ({"ceil_mode": False}, "want stride_in='3x3'$"),
        ({"stride_in": "3x3"}, "want ceil_mode=False$"),
    ],
)
def test_the_error_says_what_timms_own_networks_want(options, words, tmp_path):
    path = tmp_path / "theirs.safetensors"
    write_checkpoint("SEResNet50", path, **TIMMS)
    with pytest.raises(ValueError, match=words):
        contracts.tiny(kcc.SEResNet50, weights=path, **options)


PYTORCHCV = {"first_inside": True, "stride_in": "3x3"}


@pytest.mark.parametrize(
    ("name", "form", "warning"),
    [
        ("ResNet200V2", {}, None),  # one of pytorchcv's has a layer more
        ("ResNet200V2", {"first_inside": True}, "mostly want stride_in='3x3'; without"),
        ("ResNet200V2", PYTORCHCV, None),
        ("ResNet110V2", {}, "mostly want first_inside=True; without"),
        ("ResNet110V2", {"first_inside": True}, None),
        ("ResNet164V2", {}, "mostly want stride_in='3x3'; without"),
        ("ResNet164V2", {"stride_in": "3x3"}, None),
    ],
)
def test_warnings_where_a_checkpoint_of_identity_mappings_fits(
    name, form, warning, tmp_path, caplog
):
    cifar = name != "ResNet200V2"
    names = resnet_v2._cifar_torch_names if cifar else resnet_v2._imagenet_torch_names
    model = write_checkpoint(name, tmp_path / "theirs.safetensors", names, **form)
    again = contracts.tiny(kcc.get_builder(name), weights=tmp_path / "theirs.safetensors", **form)
    for a, b in zip(model.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    if warning is None:
        assert not caplog.records
    else:
        assert warning in caplog.text


def test_a_checkpoint_of_identity_mappings_that_does_not_fit(tmp_path):
    path = tmp_path / "theirs.safetensors"
    write_checkpoint("ResNet200V2", path, resnet_v2._imagenet_torch_names, **PYTORCHCV)
    with pytest.raises(
        ValueError, match=r"unit1\.body\.conv1\.bn\..*want stride_in='3x3', first_inside=True$"
    ):
        contracts.tiny(kcc.ResNet200V2, weights=path)


@pytest.mark.parametrize(
    ("name", "option"),
    [("ResNet164V2", {"first_inside": True}), ("ResNet110V2", {"stride_in": "3x3"})],
)
def test_options_of_identity_mappings_without_effect(name, option):
    """So that PyTorch's checkpoints do not want them."""
    builder = kcc.get_builder(name)
    assert not set(option) & set(builder.spec.torch_options)
    model, other = contracts.tiny(builder), contracts.tiny(builder, **option)
    other.set_weights(model.get_weights())
    x = contracts.images(contracts.image_shape(builder))
    np.testing.assert_array_equal(*(keras.ops.convert_to_numpy(m(x)) for m in (model, other)))


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("ResNet200V2", PYTORCHCV),
        ("SEResNet50", TIMMS),
        ("SEResNeXt50_32x4d", {"ceil_mode": False}),
        ("NASNetMobile", {}),  # no checkpoint of it is read
        ("NASNetLarge", {"edge_zeros": "average"}),
        ("EfficientNetB4", {"padding": "symmetric", "epsilon": 1e-5}),
        ("EfficientNetB5", {"padding": "symmetric"}),  # timm's epsilon is not torchvision's
    ],
)
def test_options_for_pytorchs_checkpoints(name, options):
    assert kcc.get_builder(name).spec.torch_options == options


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="XLA by TensorFlow")
@pytest.mark.parametrize(
    "name",
    [slow("ResNeXt50_32x4d"), "StochasticDepthResNet110"],
)
def test_a_compiled_training_step(name):
    """Grouped convolutions and skipped blocks are compiled by XLA, forward and back."""
    builder = kcc.get_builder(name)
    model = contracts.tiny(builder)
    before = model.get_weights()
    model.compile("sgd", "sparse_categorical_crossentropy", jit_compile=True)
    x = contracts.images(contracts.image_shape(builder), n=8)
    loss = model.train_on_batch(x, np.arange(8) % contracts.CLASSES)
    assert np.isfinite(loss)
    after = model.get_weights()
    assert all(np.isfinite(w).all() for w in after)
    assert np.any(before[0] != after[0])  # the gradient came through to the first convolution
