"""The same outputs as PyTorch packages, through their own checkpoints with random weights."""

import itertools
import re

import numpy as np
import pytest

import keras_cnn_classics as kcc

pytestmark = pytest.mark.parity

timm = pytest.importorskip("timm", reason="the parity tests compare with timm")
torch = pytest.importorskip("torch", reason="the parity tests compare with PyTorch")
safetensors = pytest.importorskip("safetensors.torch")

import rough  # noqa: E402
from reference import (  # noqa: E402
    Functions,
    X,
    answers,
    channels_first,
    compare,
    lrn,
    near,
    pytorchcv,
    randomize,
)

from tests.marks import slow  # noqa: E402


@pytest.mark.parametrize(
    "name",
    [
        *("vgg11", slow("vgg13"), slow("vgg16"), slow("vgg19")),
        *(slow(f"vgg{depth}_bn") for depth in (11, 13, 16, 19)),
    ],
)
def test_timm(name, tmp_path):
    module = randomize(timm.create_model(name))
    compare(module, name.upper().replace("_", ""), tmp_path)


V1_5 = {"stride_in": "3x3", "bias": False}
PYTORCH = {"padding": "symmetric", "epsilon": 1e-5}
GAIN = {
    **{"efficientnet_b4": 0.95, "tf_efficientnet_b5": 0.95, "tf_efficientnet_b6": 0.85},
    "tf_efficientnet_b7": 0.85,
}
PREPARED = {"include_preprocessing": False, "input_shape": (224, 224, 3)}
SMALL = PREPARED | {"input_shape": (96, 96, 3)}


@pytest.mark.parametrize(
    ("theirs", "ours", "options"),
    [
        slow("resnet18", "ResNet18", {}),
        slow("resnet34", "ResNet34", {}),
        ("resnet50", "ResNet50", V1_5),
        slow("resnet101", "ResNet101", V1_5),
        slow("resnet152", "ResNet152", V1_5),
        ("resnext50_32x4d", "ResNeXt50_32x4d", {}),
        slow("resnext101_32x4d", "ResNeXt101_32x4d", {}),
        slow("resnext101_32x8d", "ResNeXt101_32x8d", {}),
        slow("resnext101_64x4d", "ResNeXt101_64x4d", {}),
        slow("wide_resnet50_2", "WideResNet50_2", {}),
        slow("wide_resnet101_2", "WideResNet101_2", {}),
        ("densenet121", "DenseNet121", {}),
        slow("densenet161", "DenseNet161", {}),
        slow("densenet169", "DenseNet169", {}),
        slow("densenet201", "DenseNet201", {}),
        ("mobilenetv1_100", "MobileNet", PYTORCH),
        ("mobilenetv2_100", "MobileNetV2", PYTORCH),
        slow("mobilenetv2_140", "MobileNetV2", {"alpha": 1.4, **PYTORCH}),
        slow("legacy_xception", "Xception", {**PYTORCH, "input_shape": (224, 224, 3)}),
        ("tf_efficientnet_b0", "EfficientNetB0", PREPARED),
        slow("tf_efficientnet_b2", "EfficientNetB2", SMALL),
        slow("tf_efficientnet_b3", "EfficientNetB3", SMALL),
        slow("tf_efficientnet_b5", "EfficientNetB5", SMALL),
        slow("tf_efficientnet_b6", "EfficientNetB6", SMALL),
        slow("tf_efficientnet_b7", "EfficientNetB7", PREPARED),
        slow("efficientnet_b0", "EfficientNetB0", PREPARED | PYTORCH),
        slow("efficientnet_b4", "EfficientNetB4", PREPARED | PYTORCH),
    ],
)
def test_timm_others(theirs, ours, options, tmp_path):
    module = randomize(timm.create_model(theirs), GAIN.get(theirs, 1.0))
    side = options.get("input_shape", X.shape[1:])[0]
    compare(module, ours, tmp_path, X[:, :side, :side], **options)


def test_the_published_densenets(tmp_path):
    """torchvision's files are older than its names, `denselayer1.norm.1` for `denselayer1.norm1`.

    Both packages rename the parts of their layers when they load them.
    """
    module = randomize(timm.create_model("densenet121"))
    old = re.compile(r"(denselayer\d+\.(?:norm|conv))([12]\.)")
    state = {old.sub(r"\1.\2", key): value for key, value in module.state_dict().items()}
    assert sum(".norm.1." in key for key in state) == 5 * sum((6, 12, 24, 16))
    side = 64
    options = {"state": state, "input_shape": (side, side, 3)}
    compare(module, "DenseNet121", tmp_path, X[:, :side, :side], **options)


# From timm's names of a block's parts to the place in torchvision's: with an expansion, without.
EFFICIENTNET = (
    {
        **{"conv_pw": "block.0.0", "bn1": "block.0.1", "conv_dw": "block.1.0", "bn2": "block.1.1"},
        **{"se.conv_reduce": "block.2.fc1", "se.conv_expand": "block.2.fc2"},
        **{"conv_pwl": "block.3.0", "bn3": "block.3.1"},
    },
    {
        **{"conv_dw": "block.0.0", "bn1": "block.0.1"},
        **{"se.conv_reduce": "block.1.fc1", "se.conv_expand": "block.1.fc2"},
        **{"conv_pw": "block.2.0", "bn2": "block.2.1"},
    },
)
MOBILENET_V2 = (
    {
        **{"conv_pw": "conv.0.0", "bn1": "conv.0.1", "conv_dw": "conv.1.0", "bn2": "conv.1.1"},
        **{"conv_pwl": "conv.2", "bn3": "conv.3"},
    },
    {"conv_dw": "conv.0.0", "bn1": "conv.0.1", "conv_pw": "conv.1", "bn2": "conv.2"},
)


def torchvision_names(state, parts, *, flat):
    """A state dict of timm's under torchvision's names, whose network is the same.

    With `flat`, torchvision counts all blocks, else those of each stage.
    """
    blocks = [".".join(key.split(".")[1:3]) for key in state if key.startswith("blocks.")]
    blocks = list(dict.fromkeys(blocks))
    last = len(blocks) + 1 if flat else 8
    whole = {"conv_stem": "features.0.0", "bn1": "features.0.1", "classifier": "classifier.1"}
    whole |= {"conv_head": f"features.{last}.0", "bn2": f"features.{last}.1"}
    renamed = {}
    for key, value in state.items():
        module, leaf = key.rsplit(".", 1)
        if module in whole:
            theirs = whole[module]
        else:
            _, stage, i, part = module.split(".", 3)
            place = f"{blocks.index(f'{stage}.{i}') + 1}" if flat else f"{int(stage) + 1}.{i}"
            theirs = f"features.{place}.{parts[stage == '0'][part]}"
        renamed[f"{theirs}.{leaf}"] = value
    return renamed


@pytest.mark.parametrize(
    ("theirs", "ours", "parts", "options"),
    [
        slow("efficientnet_b1", "EfficientNetB1", EFFICIENTNET, PREPARED | PYTORCH),
        ("mobilenetv2_100", "MobileNetV2", MOBILENET_V2, PYTORCH),
    ],
)
def test_mobile_networks_in_torchvisions_layout(theirs, ours, parts, options, tmp_path):
    module = randomize(timm.create_model(theirs))
    state = torchvision_names(module.state_dict(), parts, flat=ours == "MobileNetV2")
    compare(module, ours, tmp_path, state=state, **options)


def test_pixels_go_into_an_efficientnet(tmp_path):
    """The network's own normalization is the one that timm's checkpoints were trained with."""
    module = randomize(timm.create_model("tf_efficientnet_b0"))
    config = module.default_cfg
    safetensors.save_file(module.state_dict(), tmp_path / "theirs.safetensors")
    ours = kcc.EfficientNetB0(weights=tmp_path / "theirs.safetensors", classifier_activation=None)
    pixels = np.random.default_rng(0).uniform(0, 255, (2, 224, 224, 3)).astype("float32")
    prepared = ((pixels / 255 - config["mean"]) / config["std"]).astype("float32")
    near(ours, answers(module, prepared), pixels)


class TorchvisionLayout(torch.nn.Module):
    """A network under torchvision's names: `features`, an adaptive pool, `classifier`."""

    def __init__(self, features, side, classifier):
        super().__init__()
        self.features = torch.nn.Sequential(*features)
        self.avgpool = torch.nn.AdaptiveAvgPool2d(side)
        self.classifier = torch.nn.Sequential(*classifier)

    def forward(self, x):
        return self.classifier(torch.flatten(self.avgpool(self.features(x)), 1))


def conv(*args, **kwargs):
    return [torch.nn.Conv2d(*args, **kwargs), torch.nn.ReLU()]


def dense(sizes, dropout_first):
    layers = []
    for before, after in itertools.pairwise(sizes[:-1]):
        block = [torch.nn.Linear(before, after), torch.nn.ReLU()]
        drop = [torch.nn.Dropout()]
        layers += drop + block if dropout_first else block + drop
    return [*layers, torch.nn.Linear(*sizes[-2:])]


def torchvision_alexnet():
    pool = torch.nn.MaxPool2d(3, 2)
    features = [
        *conv(3, 64, 11, stride=4, padding=2),
        pool,
        *conv(64, 192, 5, padding=2),
        pool,
        *conv(192, 384, 3, padding=1),
        *conv(384, 256, 3, padding=1),
        *conv(256, 256, 3, padding=1),
        pool,
    ]
    return TorchvisionLayout(features, 6, dense((9216, 4096, 4096, 1000), dropout_first=True))


def torchvision_vgg11_bn():
    features, channels = [], 3
    for block in ((64,), (128,), (256, 256), (512, 512), (512, 512)):
        for width in block:
            norm = torch.nn.BatchNorm2d(width)
            features += [torch.nn.Conv2d(channels, width, 3, padding=1), norm, torch.nn.ReLU()]
            channels = width
        features.append(torch.nn.MaxPool2d(2, 2))
    return TorchvisionLayout(features, 7, dense((25088, 4096, 4096, 1000), dropout_first=False))


class Fire(torch.nn.Module):
    """A fire module under torchvision's names."""

    def __init__(self, channels, squeeze, expand):
        super().__init__()
        self.squeeze = torch.nn.Conv2d(channels, squeeze, 1)
        self.expand1x1 = torch.nn.Conv2d(squeeze, expand, 1)
        self.expand3x3 = torch.nn.Conv2d(squeeze, expand, 3, padding=1)

    def forward(self, x):
        x = self.squeeze(x).relu()
        return torch.cat([self.expand1x1(x).relu(), self.expand3x3(x).relu()], 1)


class TorchvisionSqueezeNet(torch.nn.Module):
    """SqueezeNet under torchvision's names, from its column of layers."""

    def __init__(self, first, column):
        super().__init__()
        features = [torch.nn.Conv2d(3, first[0], first[1], stride=2), torch.nn.ReLU()]
        channels = first[0]
        for item in column:
            if item == "M":
                features.append(torch.nn.MaxPool2d(3, 2, ceil_mode=True))
            else:
                features.append(Fire(channels, *item))
                channels = 2 * item[1]
        self.features = torch.nn.Sequential(*features)
        self.classifier = torch.nn.Sequential(
            torch.nn.Dropout(), torch.nn.Conv2d(512, 1000, 1), torch.nn.ReLU()
        )

    def forward(self, x):
        return self.classifier(self.features(x)).mean((2, 3))


NARROW, MIDDLE, LARGE, WIDE = (16, 64), (32, 128), (48, 192), (64, 256)


@pytest.mark.parametrize(
    ("name", "first", "column"),
    [
        (
            "SqueezeNet1_0",
            (96, 7),
            ["M", NARROW, NARROW, MIDDLE, "M", MIDDLE, LARGE, LARGE, WIDE, "M", WIDE],
        ),
        (
            "SqueezeNet1_1",
            (64, 3),
            ["M", NARROW, NARROW, "M", MIDDLE, MIDDLE, "M", LARGE, LARGE, WIDE, WIDE],
        ),
    ],
)
@pytest.mark.parametrize("side", [slow(224), 125, slow(131)])
def test_squeezenet(name, first, column, side, tmp_path):
    module = randomize(TorchvisionSqueezeNet(first, column))
    compare(module, name, tmp_path, X[:, :side, :side], input_shape=(side, side, 3))


@pytest.mark.parametrize(
    ("name", "make"), [("AlexNetOWT", torchvision_alexnet), slow("VGG11BN", torchvision_vgg11_bn)]
)
def test_torchvision_layout(name, make, tmp_path):
    module = randomize(make())
    compare(module, name, tmp_path)


def test_wrapped_checkpoint(tmp_path):
    """As a training script saves it from several GPUs."""
    module = randomize(torchvision_alexnet())
    state = {f"module.{key}": value for key, value in module.state_dict().items()}
    torch.save({"epoch": 90, "state_dict": state}, tmp_path / "checkpoint.pth")
    ours = kcc.AlexNetOWT(weights=tmp_path / "checkpoint.pth", classifier_activation=None)
    near(ours, answers(module, X), X)


# Pixels less their mean, so large that the normalization of responses has an effect.
PIXELS = np.random.default_rng(2).uniform(-120, 130, (2, 227, 227, 3)).astype("float32")


def compare_with(rendering, name, item, side):
    """Compares our model with a rendering of its paper that has the model's weights."""
    x = PIXELS[:, :side, :side]
    model = getattr(kcc, name)(weights=None, classifier_activation=None, input_shape=x.shape[1:])
    rough.randomize(model)
    near(model, rendering(channels_first(x), Functions(model), item), x)


def towers(x, ours, groups):
    """AlexNet of 2012 in PyTorch functions."""
    f = torch.nn.functional
    x = f.max_pool2d(lrn(ours.conv(x, "conv1", stride=4).relu()), 3, 2)
    x = f.max_pool2d(lrn(ours.conv(x, "conv2", padding=2, groups=groups).relu()), 3, 2)
    x = ours.conv(x, "conv3", padding=1).relu()
    x = ours.conv(x, "conv4", padding=1, groups=groups).relu()
    x = f.max_pool2d(ours.conv(x, "conv5", padding=1, groups=groups).relu(), 3, 2)
    return ours.classify(x, ("fc6", "fc7", "predictions"))


@pytest.mark.parametrize(("name", "groups"), [("AlexNet", 2), slow("AlexNetSingle", 1)])
def test_alexnet(name, groups):
    compare_with(towers, name, groups, 227)


def figure_3(x, ours, maps):
    """ZFNet in PyTorch functions: figure 3 of its paper, whose sizes the maps must have.

    Its pools halve 110 to 55 and 26 to 13, so that their last windows hang over the edge.
    """

    def is_map(side, depth):
        assert x.shape[1:] == (depth, side, side)

    def conv(y, name, kernel, **kwargs):
        assert ours.weights[name][0].shape[:2] == (kernel, kernel)
        return ours.conv(y, name, **kwargs).relu()

    def pool(y):
        return torch.nn.functional.max_pool2d(y, 3, 2, ceil_mode=True)

    x = conv(x, "conv1", 7, stride=2, padding=1)
    is_map(110, 96)
    x = lrn(pool(x))
    is_map(55, 96)
    x = conv(x, "conv2", 5, stride=2)
    is_map(26, 256)
    x = lrn(pool(x))
    is_map(13, 256)
    for name, depth in zip(("conv3", "conv4", "conv5"), maps, strict=True):
        x = conv(x, name, 3, padding=1)
        is_map(13, depth)
    x = pool(x)
    is_map(6, maps[-1])
    return ours.classify(x, ("fc6", "fc7", "predictions"))


# The maps of layers 3 to 5: figure 3, and model (b) of table 2.
@pytest.mark.parametrize(
    ("name", "maps"), [("ZFNet", (384, 384, 256)), slow("ZFNetWide", (512, 1024, 512))]
)
def test_zfnet(name, maps):
    compare_with(figure_3, name, maps, 224)


@pytest.mark.parametrize(
    ("file", "theirs", "ours"),
    [
        slow("alexnet", "alexnet", "AlexNetSingle"),
        ("zfnet", "zfnet", "ZFNet"),
        slow("zfnet", "zfnetb", "ZFNetWide"),
    ],
)
def test_pytorchcvs_form(file, theirs, ours, tmp_path):
    module = randomize(getattr(pytorchcv(file), theirs)(pretrained=False))
    x = PIXELS[:, :224, :224]
    compare(module, ours, tmp_path, x, form="pytorchcv", input_shape=x.shape[1:])


def column(x, ours, items):
    """A column of VGG's table 1 in PyTorch functions: kernel and filters, LRN, or M, a pool."""
    block, number = 1, 0
    for item in items.split():
        if item == "M":
            x = torch.nn.functional.max_pool2d(x, 2)
            block, number = block + 1, 0
        elif item == "LRN":
            x = lrn(x)
        else:
            number += 1
            kernel, filters = map(int, item.split("-"))
            x = ours.conv(x, f"block{block}_conv{number}", padding=kernel // 2).relu()
            assert x.shape[1] == filters
    return ours.classify(x, ("fc1", "fc2", "predictions"))


A_LRN = "3-64 LRN M 3-128 M 3-256 3-256 M 3-512 3-512 M 3-512 3-512 M"
C = "3-64 3-64 M 3-128 3-128 M 3-256 3-256 1-256 M 3-512 3-512 1-512 M 3-512 3-512 1-512 M"


@pytest.mark.parametrize(
    ("name", "items"), [("VGG11LRN", A_LRN), ("VGG16C", C)], ids=["VGG11LRN", "VGG16C"]
)
def test_columns_of_vgg(name, items):
    compare_with(column, name, items, 96)


@pytest.mark.parametrize("side", [slow(299), 127])
def test_xception_under_the_names_of_its_origin(side, tmp_path):
    """At the paper's size and at another, so that maps of even and odd sizes are halved."""
    module = randomize(timm.create_model("legacy_xception"))
    state = {key.replace("fc.", "last_linear."): v for key, v in module.state_dict().items()}
    x = np.random.default_rng(0).normal(size=(2, side, side, 3)).astype("float32")
    options = {**PYTORCH, "input_shape": (side, side, 3)}
    compare(module, "Xception", tmp_path, x, state=state, **options)


@pytest.mark.parametrize("side", [slow(331), 96])
def test_nasnet(side, tmp_path):
    """timm's pools leave out what is beyond the edge in maxima, and count zeros in averages."""
    module = randomize(timm.create_model("nasnetalarge"))
    x = np.random.default_rng(0).normal(size=(2, side, side, 3)).astype("float32")
    options = {"edge_zeros": "average", "input_shape": (side, side, 3)}
    compare(module, "NASNetLarge", tmp_path, x, **options)


def test_a_checkpoint_for_other_options(tmp_path, caplog):
    """It fits, and gives other answers; or it does not fit, for want of an option."""
    module = timm.create_model("mobilenetv2_100")
    torch.save({"model": module.bfloat16().state_dict(), "epoch": 3}, tmp_path / "mobile.pth")
    kcc.MobileNetV2(weights=tmp_path / "mobile.pth", **PYTORCH)
    assert not caplog.records
    kcc.MobileNetV2(weights=tmp_path / "mobile.pth")
    assert "mostly want padding='symmetric', epsilon=1e-05; without" in caplog.text
    torch.save(timm.create_model("resnet50").state_dict(), tmp_path / "resnet.pth")
    with pytest.raises(ValueError, match=r"mostly want stride_in='3x3', bias=False$"):
        kcc.ResNet50(weights=tmp_path / "resnet.pth")
    torch.save(timm.create_model("seresnet50").state_dict(), tmp_path / "se.pth")
    with pytest.raises(ValueError, match="tensors that belong to no layer"):
        kcc.SEResNet50(weights=tmp_path / "se.pth")


@pytest.mark.parametrize(
    ("theirs", "ours", "options"),
    [
        ("resnet18", "ResNet18", {}),
        ("mobilenetv2_100", "MobileNetV2", PYTORCH),
        slow("resnext50_32x4d", "ResNeXt50_32x4d", {}),
        slow("legacy_seresnet50", "SEResNet50", {}),
    ],
)
def test_a_trunk_from_a_checkpoint_with_a_classifier(theirs, ours, options, tmp_path):
    torch.save(timm.create_model(theirs).state_dict(), tmp_path / "whole.pth")
    options = {**options, "weights": tmp_path / "whole.pth"}
    whole, trunk = (getattr(kcc, ours)(**options, include_top=top) for top in (True, False))
    for layer in trunk.layers:
        expected = whole.get_layer(layer.name).get_weights()
        for a, b in zip(layer.get_weights(), expected, strict=True):
            np.testing.assert_array_equal(a, b)
