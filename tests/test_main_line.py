"""Facts of the papers from GoogLeNet on that counts and parity do not hold."""

import keras
import numpy as np
import pytest

import keras_cnn_classics as kcc
from keras_cnn_classics.applications.googlenet import INCEPTION, inception, naive_inception
from keras_cnn_classics.applications.resnet import zero_pad_shortcut
from keras_cnn_classics.inspection import count


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
    model = kcc.GoogLeNet(aux=True)
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
    model = kcc.GoogLeNetBN(aux=True)
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
    small = kcc.GoogLeNetBN(aux=True, input_shape=(32, 32, 3))
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
    assert count(kcc.build(name, shortcut=shortcut)).params == params


def test_option_a_against_numpy():
    image = keras.Input((6, 6, 4))
    model = keras.Model(image, zero_pad_shortcut(image, 10, 2, name="a"))
    x = np.random.default_rng(0).normal(size=(2, 6, 6, 4)).astype("float32")
    expected = np.pad(x[:, ::2, ::2], ((0, 0), (0, 0), (0, 0), (3, 3)))
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(model(x)), expected)


def test_plain_networks_have_no_shortcuts():
    kinds = {type(layer).__name__ for layer in kcc.PlainNet34().layers}
    assert "Add" not in kinds
    assert sum(type(layer).__name__ == "Add" for layer in kcc.ResNet34().layers) == 16


def test_where_the_steps_are():
    def strides(**options):
        model = kcc.ResNet50(include_top=False, **options)
        names = ("conv3_block1_1_conv", "conv3_block1_2_conv", "conv3_block1_0_conv")
        return [model.get_layer(name).strides[0] for name in names]

    assert strides() == [2, 1, 2]
    assert strides(stride_in="3x3") == [1, 2, 2]
    macs = count(kcc.ResNet50(stride_in="3x3")).macs
    assert macs == 4_089_184_256  # torchvision's


@pytest.mark.parametrize("depth", [2, 7, 21])
def test_depths_of_the_cifar_networks(depth):
    with pytest.raises(ValueError, match=f"6n \\+ 2, as 20, 32 or 110. Received: depth={depth}"):
        kcc.ResNet20(depth=depth)
    assert len(kcc.ResNet110(include_top=False).layers) > len(kcc.ResNet20().layers)


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
    assert count(kcc.build(name, alpha=alpha)).params == params


@pytest.mark.parametrize(
    ("depth", "bc", "words"), [(41, False, "3n \\+ 4 with bc=False"), (43, True, "6n \\+ 4")]
)
def test_depths_of_the_dense_cifar_networks(depth, bc, words):
    with pytest.raises(ValueError, match=f"{words}.* Received: depth={depth}"):
        kcc.DenseNet40_12(depth=depth, bc=bc)


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
    model = kcc.build(name)
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
    assert count(kcc.build(name, **options)).params == params


@pytest.mark.parametrize("name", ["InceptionResNetV1", "InceptionResNetV2"])
def test_residuals_are_scaled(name):
    model = kcc.build(name, include_top=False)
    factors = {layer.name: layer.scale for layer in model.layers if layer.name.endswith("_scale")}
    *others, last = factors
    assert last.startswith("block8")
    assert factors.pop(last) == 1.0
    assert f"{last.removesuffix('_scale')}_ac" not in {layer.name for layer in model.layers}
    kinds = {"block35": 0.17, "block17": 0.1, "block8": 0.2}
    assert factors == {name: kinds[name.split("_")[0]] for name in others}


@pytest.mark.parametrize("side", [224, 225, 239, 250, 256])
def test_bn_inception_halves_maps_of_any_size(side):
    """Caffe's and PyTorch's networks stop at the first map of odd size."""
    model = kcc.BNInception(include_top=False, input_shape=(side, side, 3))
    assert model.output_shape[1] in (7, 8)


@pytest.mark.parametrize("name", ["InceptionV4", "InceptionResNetV1", "InceptionResNetV2"])
def test_repeats_of_the_inceptions(name):
    with pytest.raises(ValueError, match=r"`repeats` must hold 3 numbers. Received: repeats=\(1,"):
        kcc.build(name, repeats=(1, 1))


def test_the_auxiliary_classifier_of_inception_v3():
    model = kcc.InceptionV3(aux=True)
    assert model.get_layer("aux1_pool").output.shape[1:] == (5, 5, 768)
    assert model.get_layer("aux1_conv1").output.shape[1:] == (1, 1, 768)
    with pytest.raises(ValueError, match="needs images of at least 299x299"):
        kcc.InceptionV3(aux=True, input_shape=(298, 298, 3))
