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


def test_survival_falls_linearly():
    model = kcc.StochasticDepthResNet110()
    kinds = [layer for layer in model.layers if type(layer).__name__ == "StochasticDepth"]
    survival = [layer.survival for layer in kinds]
    np.testing.assert_allclose(survival, [1 - i / 54 * 0.5 for i in range(1, 55)])
    always = kcc.StochasticDepthResNet110(survival=1.0)
    assert not [one for one in always.layers if type(one).__name__ == "StochasticDepth"]
    with pytest.raises(ValueError, match="Received: survival=0"):
        kcc.StochasticDepthResNet110(survival=0.0)


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("ResNet164V2", {"depth": 163}, "9n \\+ 2 with bottleneck=True. Received: depth=163"),
        ("ResNet110V2", {"depth": 2}, "6n \\+ 2 with bottleneck=False. Received: depth=2"),
        ("WideResNet28_10", {"depth": 20}, "6n \\+ 4, as 16, 28 or 40. Received: depth=20"),
    ],
)
def test_depths_of_the_networks_with_identity_mappings(name, options, words):
    with pytest.raises(ValueError, match=words):
        kcc.build(name, **options)


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
    assert count(kcc.WideResNet28_10(**options)).params == params


def test_branches_of_identity_mappings_begin_with_normalization():
    model = kcc.ResNet110V2()
    assert type(model.layers[-4]).__name__ == "BatchNormalization"  # then ReLU, average, classes
    assert model.get_layer("conv1_conv").output is model.get_layer("conv2_block1_preact_bn").input
    assert not any(layer.name == "conv1_bn" for layer in model.layers)
