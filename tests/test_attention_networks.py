"""Facts of the networks with attention that counts and parity do not hold."""

import keras
import numpy as np
import pytest

import keras_cnn_classics as kcc
from keras_cnn_classics.inspection import count
from keras_cnn_classics.testing import contracts, golden
from keras_cnn_classics.weights import deferred
from tests.marks import slow


def empty(name, **options):
    return deferred.build_empty(lambda: kcc.build(name, weights=None, **options))


def names_of(model):
    return [layer.name for layer in model.layers]


@pytest.mark.parametrize(
    ("name", "billions"),  # the catalogue's
    [
        ("CBAMResNet18", 1.815),
        ("CBAMResNet34", 3.665),
        ("CBAMResNet50", 4.096),
        ("CBAMResNet101", 7.813),
        ("Attention56", 6.271),
        ("Attention92", 10.534),
    ],
)
def test_multiply_adds(name, billions):
    assert round(kcc.get_builder(name).spec.macs / 1e9, 3) == billions


def test_parameters_of_cbam_by_hand():
    """Those of ResNet-50, and of 16 modules of two dense layers, a convolution and its norm."""
    modules = 0
    for depth, channels in zip((3, 4, 6, 3), (256, 512, 1024, 2048), strict=True):
        units = channels // 16
        modules += depth * (2 * channels * units + units + channels + 7 * 7 * 2 + 2)
    assert kcc.get_builder("CBAMResNet50").spec.params == 25_557_032 + modules


def test_where_cbam_is():
    names = names_of(empty("CBAMResNet50"))
    i = names.index("conv3_block2_channels")
    assert names[i - 1 : i + 4] == [
        "conv3_block2_3_bn",
        "conv3_block2_channels",
        "conv3_block2_positions",
        "conv3_block2_add",
        "conv3_block2_out",
    ]
    assert sum(name.endswith("_positions") for name in names) == 16


def test_parameters_of_self_attention_by_hand():
    """ResNet-50 without biases, and 1.25 C^2 + 1 with C = 1024: f and g C^2/8, h and v C^2/2."""
    spec = kcc.SelfAttentionResNet50.spec
    c, cells = 1024, 14 * 14
    assert spec.params == 25_557_032 + 2 * c * c // 8 + 2 * c * c // 2 + 1
    convolutions = cells * (2 * c * c // 8 + 2 * c * c // 2)
    products = cells * cells * (c // 8 + c // 2)
    plain = count(empty("ResNet50", bias=False, stride_in="3x3"))
    assert spec.macs == plain.macs + convolutions + products
    assert spec.params == plain.params + 1_310_721
    paper = count(empty("SelfAttentionResNet50", value_reduction=8, pool_size=2))
    assert paper.params == plain.params + 4 * c * c // 8 + 1
    assert paper.macs == plain.macs + cells * 4 * c * c // 8 + cells * 49 * 2 * c // 8


def test_where_self_attention_is():
    model = empty("SelfAttentionResNet50")
    names = names_of(model)
    i = names.index("conv4_attention")
    assert (names[i - 1], names[i + 1]) == ("conv4_block5_out", "conv4_block6_1_conv")
    assert model.get_layer("conv4_attention").output.shape[1:] == (14, 14, 1024)


def test_self_attention_starts_as_the_resnet(tmp_path):
    """Also from a file of the ResNet."""
    tiny = kcc.SelfAttentionResNet50.spec.tiny
    options = {"weights": None, "classes": 7, "input_shape": (64, 64, 3), **tiny}
    plain = kcc.ResNet50(bias=False, stride_in="3x3", **options)
    golden.fill(plain)
    plain.save_weights(tmp_path / "resnet.weights.h5")
    options["weights"] = tmp_path / "resnet.weights.h5"
    model = kcc.SelfAttentionResNet50(skip_mismatch=True, **options)
    x = contracts.images((64, 64, 3))
    a, b = (keras.ops.convert_to_numpy(m(x)) for m in (plain, model))
    np.testing.assert_allclose(a, b, rtol=1e-5)


@pytest.mark.parametrize(("name", "modules"), [("Attention56", 3), ("Attention92", 6)])
def test_table_1_of_residual_attention(name, modules):
    model = empty(name)
    shapes = {
        "conv1_conv": (112, 112, 64),
        "pool1_pool": (56, 56, 64),
        "conv2_attention1_last1_out": (56, 56, 256),
        "conv3_attention1_last1_out": (28, 28, 512),
        "conv4_attention1_last1_out": (14, 14, 1024),
        "conv5_block3_out": (7, 7, 2048),
        # Each mask goes down to 7x7 and comes back.
        "conv2_attention1_down3_pool": (7, 7, 256),
        "conv3_attention1_down2_pool": (7, 7, 512),
        "conv4_attention1_down1_pool": (7, 7, 1024),
        "conv2_attention1_mask": (56, 56, 256),
    }
    assert {layer: model.get_layer(layer).output.shape[1:] for layer in shapes} == shapes
    names = names_of(model)
    assert sum(name.endswith("_weigh") for name in names) == modules
    # The name counts the layers from the image to the classes along the trunks: a module's are
    # those of p + t + p blocks of three.
    weighted = 1 + 3 * (4 * modules + 3 + 3) + 1
    assert f"Attention{weighted}" == name


def test_a_mask_of_zeros_leaves_half_as_much_again():
    """(1 + M) T with M = 1/2 everywhere, section 3.1."""
    model = contracts.tiny(kcc.Attention56)
    name = "conv4_attention1"
    last = model.get_layer(f"{name}_mask2_conv")
    last.set_weights([np.zeros(w.shape) for w in last.weights])
    outputs = [model.get_layer(f"{name}_{part}").output for part in ("trunk2_out", "add")]
    part = keras.Model(model.input, outputs)
    x = contracts.images(contracts.image_shape(kcc.Attention56))
    trunk, weighed = map(keras.ops.convert_to_numpy, part(x))
    np.testing.assert_allclose(weighed, 1.5 * trunk, rtol=1e-5)


@pytest.mark.parametrize("side", [slow(32), 45])
def test_the_forms_of_residual_attention_differ(side):
    """pytorchcv's has the same weights, and other answers."""
    shape = (side, side, 3)
    x = contracts.images(shape)
    both = [
        contracts.tiny(kcc.Attention56, form=form, input_shape=shape, classifier_activation=None)
        for form in ("paper", "pytorchcv")
    ]
    for model in both:
        golden.fill(model)
    a, b = (keras.ops.convert_to_numpy(model(x)) for model in both)
    assert count(both[0]).params == count(both[1]).params
    assert np.abs(a - b).max() > 0.01 * np.abs(a).max()


def test_errors_of_networks_with_attention():
    with pytest.raises(ValueError, match=r"'pytorchcv'\. Received: form='caffe'"):
        kcc.Attention56(form="caffe")
    with pytest.raises(ValueError, match=r"`modules` must hold 3 numbers"):
        kcc.Attention56(modules=(1, 1))
    with pytest.raises(ValueError, match=r"`ratio` of layer 'conv2_block1_channels' must be at"):
        kcc.CBAMResNet18(weights=None, ratio=65)
    with pytest.raises(ValueError, match=r"`reduction` of layer 'conv4_attention' must be at most"):
        kcc.SelfAttentionResNet50(reduction=2000)


def test_written_weights_of_layers_in_layers(tmp_path):
    """What is converted to Keras's layout can be read by Keras itself."""
    from keras_cnn_classics.weights import _files

    model, other = contracts.tiny(kcc.CBAMResNet18), contracts.tiny(kcc.CBAMResNet18)
    golden.fill(model)
    arrays = {layer.name: layer.get_weights() for layer in model.layers}
    path = tmp_path / "converted.weights.h5"
    _files.write_weights_h5(path, model.layers, arrays, {})
    other.load_weights(path)
    for a, b in zip(model.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
