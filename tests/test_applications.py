"""What the papers fix beyond the counts: tables, options, codes, order of layers."""

import hashlib
import inspect

import keras
import numpy as np
import pytest

import keras_cnn_classics as kcc
from keras_cnn_classics.applications.lenet import C3_CONNECTIONS, codes, digit_codes


def names(model):
    return [layer.name for layer in model.layers]


def test_table_1_of_lenet5():
    sizes = [len(row) for row in C3_CONNECTIONS]
    assert sizes == [3] * 6 + [4] * 9 + [6]
    for row in C3_CONNECTIONS[:12]:  # neighbours on the ring of six maps
        gaps = [(b - a) % 6 for a, b in zip(row, (*row[1:], row[0]), strict=True)]
        assert sorted(gaps)[:-1] == [1] * (len(row) - 1)
    assert len(set(map(frozenset, C3_CONNECTIONS))) == 16
    each = [sum(i in row for row in C3_CONNECTIONS) for i in range(6)]
    assert each == [10] * 6  # every map of S2 is seen by ten of C3


def test_codes_of_lenet5():
    drawn = digit_codes()
    assert drawn.shape == (10, 84)
    assert set(np.unique(drawn)) == {-1.0, 1.0}
    one = drawn[1].reshape(12, 7)
    assert "".join("#" if v > 0 else "." for v in one[0]) == "...##.."
    assert "".join("#" if v > 0 else "." for v in one[9]) == ".######"
    # As figure 3 was transcribed by others, independently: each pixel of each digit counts.
    packed = np.packbits(drawn.astype(int) > 0).tobytes()
    assert hashlib.sha256(packed).hexdigest() == (
        "1ada2fe32175b2c4cacdbddf2ccce971e4b9195f5b5c998a8a5aa0a35509c680"
    )
    apart = (drawn[:, None] != drawn[None]).sum(-1) + 84 * np.eye(10, dtype=int)
    assert apart.min() >= 8  # the closest pair still differs in eight pixels
    many = codes(40)
    assert many.shape == (40, 84)
    assert len(np.unique(many, axis=0)) == 40
    np.testing.assert_array_equal(many[:7], codes(7))


def test_lenet5_recognises_its_own_drawings():
    """An F6 that shows a drawn digit makes that digit win, with distance zero."""
    model = kcc.LeNet5(classifier_activation=None)
    tail = keras.Model(model.get_layer("f6_act").output, model.output)
    scores = keras.ops.convert_to_numpy(tail(digit_codes().astype("float32")))
    np.testing.assert_array_equal(scores.argmax(1), range(10))
    np.testing.assert_allclose(np.diag(scores), 0, atol=1e-4)
    assert not model.get_layer("rbf").trainable_weights


@pytest.mark.parametrize(
    ("options", "params"),
    [
        ({}, 60_000),
        ({"connections": "dense"}, 60_900),
        ({"output": "dense"}, 60_850),
        ({"subsampling": "max"}, 59_956),
        ({"subsampling": "average", "output": "dense", "connections": "dense"}, 61_706),
        ({"subsampling": "overlapping", "activation": "relu"}, 59_956),
        ({"dropout": 0.5}, 60_000),
    ],
)
def test_variants_of_lenet5(options, params):
    model = kcc.LeNet5(**options)
    assert sum(int(np.prod(w.shape)) for w in model.trainable_weights) == params
    assert model.get_layer("c5").output.shape == (None, 1, 1, 120)


@pytest.mark.parametrize("option", ["connections", "subsampling", "output"])
def test_misspelt_values(option):
    with pytest.raises(ValueError, match=rf"`{option}` must be .* Received: {option}='x'"):
        kcc.LeNet5(**{option: "x"})


def test_lenet5_starts_within_the_papers_limits():
    """Appendix A: uniform within 2.4 divided by the inputs of a unit."""
    model = kcc.LeNet5()
    for name, fan_in in (("c1", 25), ("s2", 4), ("s4", 4), ("c5", 400), ("f6", 120)):
        values = np.abs(model.get_layer(name).get_weights()[0])
        assert values.max() <= 2.4 / fan_in
        if values.size > 100:
            assert values.max() > 0.98 * 2.4 / fan_in
            assert values.mean() == pytest.approx(1.2 / fan_in, rel=0.1)  # uniform, not normal
    assert np.abs(model.get_layer("c3").get_weights()[0]).max() <= 2.4 / 75


@pytest.mark.parametrize("name", ["AlexNet", "AlexNetOWT", "ZFNet", "VGG16", "VGG11BN"])
def test_dropout_is_the_papers(name):
    model = kcc.build(name, weights=None)
    rates = [one.rate for one in model.layers if isinstance(one, keras.layers.Dropout)]
    assert rates == [0.5, 0.5]


def test_batch_normalization_is_torchvisions():
    norm = kcc.VGG11BN(include_top=False, weights=None).get_layer("block3_conv2_bn")
    assert norm.momentum == 0.9  # 1 - 0.1, PyTorch's
    assert norm.epsilon == 1e-5


def test_lenet_of_the_lectures():
    model = kcc.LeNet()
    assert model.get_layer("pool2").output.shape == (None, 4, 4, 50)
    assert model.get_layer("flatten").output.shape == (None, 800)


def test_alexnet_is_the_papers():
    model = kcc.AlexNet()
    assert names(model) == [
        *("image", "conv1", "norm1", "pool1", "conv2", "norm2", "pool2"),
        *("conv3", "conv4", "conv5", "pool5", "flatten"),
        *("fc6", "dropout6", "fc7", "dropout7", "predictions"),
    ]
    groups = {n: model.get_layer(n).groups for n in ("conv1", "conv2", "conv3", "conv4", "conv5")}
    assert groups == {"conv1": 1, "conv2": 2, "conv3": 1, "conv4": 2, "conv5": 2}
    sides = [model.get_layer(n).output.shape[1] for n in ("conv1", "pool1", "pool2", "pool5")]
    assert sides == [55, 27, 13, 6]
    norm = model.get_layer("norm1")
    assert (norm.size, norm.alpha, norm.beta, norm.k) == (5, 1e-4, 0.75, 2.0)
    assert norm.convention == "paper"
    single = kcc.AlexNetSingle(weights=None)
    filters = [layer.filters for layer in single.layers if hasattr(layer, "filters")]
    assert filters == [96, 256, 384, 384, 256]


def test_alexnet_owt_drops_before_the_dense_layers():
    assert names(kcc.AlexNetOWT(weights=None))[-6:] == [
        *("flatten", "dropout6", "fc6", "dropout7", "fc7", "predictions")
    ]


def test_zfnet_has_the_maps_of_figure_3():
    model = kcc.ZFNet(weights=None)
    stages = ("conv1", "pool1", "norm1", "conv2", "pool2", "norm2", "conv3", "conv5", "pool5")
    sides = [model.get_layer(n).output.shape[1] for n in stages]
    assert sides == [110, 55, 55, 26, 13, 13, 13, 13, 6]


# Table 1 of the VGG paper; a negative number is a 1x1 convolution.
VGG_COLUMNS = {
    "VGG11": "64 M 128 M 256 256 M 512 512 M 512 512 M",
    "VGG11LRN": "64 N M 128 M 256 256 M 512 512 M 512 512 M",
    "VGG13": "64 64 M 128 128 M 256 256 M 512 512 M 512 512 M",
    "VGG16C": "64 64 M 128 128 M 256 256 -256 M 512 512 -512 M 512 512 -512 M",
    "VGG16": "64 64 M 128 128 M 256 256 256 M 512 512 512 M 512 512 512 M",
    "VGG19": "64 64 M 128 128 M 256 256 256 256 M 512 512 512 512 M 512 512 512 512 M",
}


@pytest.mark.parametrize(("name", "column"), VGG_COLUMNS.items())
def test_vggs_table_1(name, column):
    kinds = {"MaxPooling2D": "M", "LocalResponseNormalization": "N"}
    model = getattr(kcc, name)(include_top=False, weights=None)
    found = [
        kinds.get(type(layer).__name__)
        or str(layer.filters if layer.kernel_size == (3, 3) else -layer.filters)
        for layer in model.layers[1:]
    ]
    assert " ".join(found) == column


@pytest.mark.parametrize("name", ["VGG16", "VGG19"])
def test_layer_names_are_keras(name):
    ours = kcc.build(name, weights=None)
    theirs = getattr(keras.applications, name)(weights=None)
    dropped = [n for n in names(ours) if not n.startswith("dropout")]
    assert dropped[1:] == names(theirs)[1:]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"width": "wide"}, r"`width` of VGG11 must be a positive integer. Received: width='wide'"),
        ({"width": True}, "must be a positive integer"),
        ({"depths": 3}, r"must be several integers, all positive, as \(1, 2\). Received: depths=3"),
        ({"depths": (1, "2")}, "must be several integers"),
        ({"lrn": "yes"}, "must be True or False"),
        ({"dropout": "half"}, "must be a number from 0 to less than 1. Received: dropout='half'"),
    ],
)
def test_options_of_another_type(options, words):
    with pytest.raises(ValueError, match=words):
        kcc.VGG11(weights=None, **options)


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("EfficientNetB0", {"width": float("nan")}, "a positive number. Received: width=nan"),
        ("EfficientNetB0", {"depth": np.inf}, "a positive number. Received: depth=inf"),
        ("EfficientNetB0", {"drop_connect": 1.0}, "less than 1. Received: drop_connect=1.0"),
        ("MobileNet", {"alpha": 0.0}, "a positive number. Received: alpha=0.0"),
        ("VGG11", {"dropout": -0.1}, "less than 1. Received: dropout=-0.1"),
        ("AlexNet", {"groups": 0}, "a positive integer. Received: groups=0"),
        ("SEVGG16", {"ratio": -4}, "a positive integer. Received: ratio=-4"),
        ("InceptionV4", {"repeats": (0, 1, 1)}, r"all positive.* Received: repeats=\(0, 1, 1\)"),
        ("VGG11", {"units": (8, 0)}, r"all positive.* Received: units=\(8, 0\)"),
        ("InceptionResNetV1", {"units": -1}, "0 or a positive integer. Received: units=-1"),
        ("ResNet20", {"depth": True}, "a positive integer. Received: depth=True"),
    ],
)
def test_numbers_that_nothing_can_be_built_of(name, options, words):
    with pytest.raises(ValueError, match=words):
        kcc.build(name, weights=None, **options)


@pytest.mark.parametrize("bad", [np.nan, -1, True, "1"])
def test_every_number_is_checked(bad):
    """Before the network is built, not somewhere inside Keras."""
    for builder in map(kcc.get_builder, kcc.list_models()):
        for option in inspect.signature(builder).parameters.values():
            if option.name == "transform_bias" and bad == -1:
                continue  # as the papers have it
            if option.annotation in (int, float):
                with pytest.raises(ValueError, match=f"Received: {option.name}={bad!r}"):
                    builder(weights=None, **{option.name: bad})


@pytest.mark.parametrize("name", ["AlexNet", "AlexNetOWT", "ZFNet"])
def test_five_convolutions_have_five_widths(name):
    with pytest.raises(
        ValueError, match=r"`widths` must hold 5 numbers. Received: widths=\(16, 32\)"
    ):
        kcc.build(name, weights=None, widths=(16, 32))


def test_numpys_integers_are_integers():
    side = np.int64(64)
    model = kcc.VGG11(input_shape=(side, side, 3), classes=np.int32(4), units=[8], weights=None)
    assert model.output_shape == (None, 4)


def test_both_shapes_given():
    image = keras.Input((64, 48, 3))
    model = kcc.VGG11(input_tensor=image, input_shape=(64, 48, 3), include_top=False, weights=None)
    assert model.output_shape == (None, 2, 1, 512)
    with pytest.raises(ValueError, match=r"that of `input_tensor`, \(64, 48, 3\)"):
        kcc.VGG11(input_tensor=image, input_shape=(64, 64, 3), include_top=False, weights=None)


def test_a_network_behind_a_graph_of_many_ways():
    """Sixty forks make 2**60 ways from the input to the end; each tensor is to be seen once."""
    images = [keras.Input((32, 32, 1), name=name) for name in ("left", "right")]
    x = keras.layers.Concatenate(name="both")(images)
    for i in range(60):
        x = keras.layers.Add(name=f"add{i}")([x, x])
    model = kcc.LeNet5(input_tensor=x)
    assert [one.name for one in model.inputs] == ["left", "right"]


@pytest.mark.parametrize(
    ("name", "guess"),
    [("Resnet50", ". Did you mean 'ResNet50'?"), ("vgg6", ". Did you mean 'VGG16'?"), ("xyz", "")],
)
def test_misspelt_names(name, guess):
    with pytest.raises(AttributeError) as caught:
        getattr(kcc, name)
    assert str(caught.value) == f"module 'keras_cnn_classics' has no attribute {name!r}{guess}"
