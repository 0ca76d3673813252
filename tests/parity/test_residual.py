"""Residual and dense networks against pytorchcv, timm, and renderings of the papers' text."""

import importlib

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
    channels_first,
    compare,
    near,
    pytorchcv,
    randomize,
)

from tests.marks import slow  # noqa: E402

SMALL = X[:, :32, :32]
PYTORCHCV = {"first_inside": True, "stride_in": "3x3"}
GAIN = 0.8  # with 1, the large ones of timm differ from themselves in float64 by 20 to 50 %


@pytest.mark.parametrize(
    ("module", "theirs", "ours", "options"),
    [
        slow("preresnet", "preresnet200b", "ResNet200V2", PYTORCHCV),
        slow("preresnet", "preresnet200", "ResNet200V2", {"first_inside": True}),
        ("preresnet_cifar", "preresnet110_cifar10", "ResNet110V2", PYTORCHCV),
        slow("preresnet_cifar", "preresnet164bn_cifar10", "ResNet164V2", PYTORCHCV),
        slow("preresnet_cifar", "preresnet1001_cifar10", "ResNet1001V2", PYTORCHCV),
        slow("wrn_cifar", "wrn28_10_cifar10", "WideResNet28_10", {}),
        slow("wrn_cifar", "wrn16_10_cifar10", "WideResNet16_10", {}),
        slow("wrn_cifar", "wrn40_8_cifar10", "WideResNet40_8", {}),
        ("resnet_cifar", "resnet20_cifar10", "ResNet20", {"shortcut": "B"}),
        slow("resnet_cifar", "resnet110_cifar10", "ResNet110", {"shortcut": "B"}),
        slow("densenet_cifar", "densenet100_k12_bc_cifar10", "DenseNetBC100_12", {}),
    ],
)
def test_pytorchcv(module, theirs, ours, options, tmp_path):
    module = getattr(pytorchcv(module), theirs)(pretrained=False)
    randomize(module, 0.6 if ours == "ResNet1001V2" else 1.0)  # with 1 its numbers overflow
    x = SMALL if "cifar" in theirs else X
    compare(module, ours, tmp_path, x, **options)


@pytest.mark.parametrize(
    ("theirs", "ours", "options"),
    [
        ("legacy_seresnet50", "SEResNet50", {}),
        ("seresnet50", "SEResNet50", {"stride_in": "3x3", "ceil_mode": False}),
        slow("legacy_seresnext50_32x4d", "SEResNeXt50_32x4d", {}),
        slow("seresnext50_32x4d", "SEResNeXt50_32x4d", {"ceil_mode": False}),
    ],
)
def test_timm_squeeze_and_excitation(theirs, ours, options, tmp_path):
    module = randomize(timm.create_model(theirs), GAIN)
    compare(module, ours, tmp_path, **options)


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        slow("legacy_seresnet101", "SEResNet101"),
        slow("legacy_seresnet152", "SEResNet152"),
        slow("legacy_seresnext101_32x4d", "SEResNeXt101_32x4d"),
        slow("legacy_senet154", "SENet154"),
    ],
)
def test_timm_large_squeeze_and_excitation(theirs, ours, tmp_path):
    """On images that make every map odd somewhere, where pools that round up differ."""
    module = randomize(timm.create_model(theirs), GAIN)
    compare(module, ours, tmp_path, X[:, :131, :131], input_shape=(131, 131, 3))


@pytest.mark.slow
def test_densenet264(tmp_path):
    densenet = importlib.import_module("timm.models.densenet").DenseNet
    module = randomize(densenet(growth_rate=32, block_config=(6, 12, 64, 48)))
    compare(module, "DenseNet264", tmp_path, X[:, :97, :97], input_shape=(97, 97, 3))


class Block(torch.nn.Module):
    """Two 3x3 convolutions under the names of the usual CIFAR checkpoints, section 4.2.

    The shortcut is option A, zeros for the new channels, or C, a projection under torchvision's
    name, or there is none.
    """

    def __init__(self, channels, width, stride, shortcut, survival=1.0):
        super().__init__()
        self.conv1 = torch.nn.Conv2d(channels, width, 3, stride, 1, bias=False)
        self.bn1 = torch.nn.BatchNorm2d(width)
        self.conv2 = torch.nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2 = torch.nn.BatchNorm2d(width)
        self.stride, self.missing = stride, width - channels
        self.shortcut, self.survival = shortcut, survival
        if shortcut == "C":
            projection = torch.nn.Conv2d(channels, width, 1, stride, bias=False)
            self.downsample = torch.nn.Sequential(projection, torch.nn.BatchNorm2d(width))

    def forward(self, x):
        y = self.bn2(self.conv2(self.bn1(self.conv1(x)).relu())) * self.survival
        if self.shortcut == "C":
            y = y + self.downsample(x)
        if self.shortcut == "A":
            x = x[:, :, :: self.stride, :: self.stride]
            half = self.missing // 2
            y = y + torch.nn.functional.pad(x, (0, 0, 0, 0, half, self.missing - half))
        return y.relu()


def stages(make, depths, width, channels):
    found = []
    for stage, depth in enumerate(depths):
        blocks = []
        for i in range(depth):
            blocks.append(make(channels, width * 2**stage, 2 if stage and not i else 1))
            channels = width * 2**stage
        found.append(torch.nn.Sequential(*blocks))
    return found


class CifarResNet(torch.nn.Module):
    """The CIFAR networks of the paper; `survival` is that of the last block."""

    def __init__(self, depth, shortcut="A", survival=1.0):
        super().__init__()
        n = (depth - 2) // 6
        count = iter(range(1, 3 * n + 1))

        def make(channels, width, stride):
            kept = 1 - next(count) / (3 * n) * (1 - survival)
            return Block(channels, width, stride, shortcut, kept)

        self.conv1 = torch.nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        self.bn1 = torch.nn.BatchNorm2d(16)
        self.layer1, self.layer2, self.layer3 = stages(make, (n, n, n), 16, 16)
        self.linear = torch.nn.Linear(64, 10)

    def forward(self, x):
        x = self.layer3(self.layer2(self.layer1(self.bn1(self.conv1(x)).relu())))
        return self.linear(x.mean((2, 3)))


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("ResNet20", {"depth": 20}),
        *(slow(f"ResNet{depth}", {"depth": depth}) for depth in (32, 44, 56, 110)),
        ("PlainNet20", {"depth": 20, "shortcut": "none"}),
        *(slow(f"PlainNet{n}", {"depth": n, "shortcut": "none"}) for n in (32, 44, 56)),
        ("StochasticDepthResNet110", {"depth": 110, "survival": 0.5}),
    ],
)
def test_cifar_networks(name, options, tmp_path):
    module = randomize(CifarResNet(**options))
    compare(module, name, tmp_path, SMALL)


def test_projections_everywhere_on_cifar(tmp_path):
    module = randomize(CifarResNet(20, shortcut="C"))
    compare(module, "ResNet20", tmp_path, SMALL, shortcut="C")


class ImageNetResNet(torch.nn.Module):
    """The networks of table 1 with blocks of two convolutions, under torchvision's names."""

    def __init__(self, depths, shortcut):
        super().__init__()
        self.conv1 = torch.nn.Conv2d(3, 64, 7, 2, 3, bias=False)
        self.bn1 = torch.nn.BatchNorm2d(64)

        def make(channels, width, stride):
            return Block(channels, width, stride, shortcut)

        self.layer1, self.layer2, self.layer3, self.layer4 = stages(make, depths, 64, 64)
        self.fc = torch.nn.Linear(512, 1000)

    def forward(self, x):
        x = torch.nn.functional.max_pool2d(self.bn1(self.conv1(x)).relu(), 3, 2, 1)
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(x.mean((2, 3)))


D18, D34 = (2, 2, 2, 2), (3, 4, 6, 3)


@pytest.mark.parametrize(("name", "depths"), [("PlainNet18", D18), slow("PlainNet34", D34)])
def test_plain_networks(name, depths, tmp_path):
    module = randomize(ImageNetResNet(depths, "none"))
    compare(module, name, tmp_path)


@pytest.mark.parametrize(
    ("name", "depths", "shortcut"),
    [
        ("ResNet18", D18, "A"),
        ("ResNet34", D34, "C"),
        slow("ResNet34", D34, "A"),
        slow("ResNet18", D18, "C"),
    ],
)
def test_shortcuts(name, depths, shortcut, tmp_path):
    """The two options of section 4.1 that torchvision does not have."""
    module = randomize(ImageNetResNet(depths, shortcut))
    options = {"shortcut": shortcut, "input_shape": (96, 96, 3)}
    compare(module, name, tmp_path, X[:, :96, :96], **options)


def activated(x, ours, name):
    return ours.norm(x, f"{name}_bn", 1e-5).relu()


def residual_unit(x, ours, name, kernels, steps, *, first):
    """Figure 4(e), with steps in the first convolution, as in the authors' code.

    Where the shape changes, what is activated is projected. What comes to the first unit is.
    """
    y = x if first else activated(x, ours, f"{name}_preact")
    out = ours.weights[f"{name}_{len(kernels)}_conv"][0].shape[-1]
    if x.shape[1] != out:
        x = ours.conv(y, f"{name}_0_conv", stride=steps)
    for i, kernel in enumerate(kernels, 1):
        assert ours.weights[f"{name}_{i}_conv"][0].shape[:2] == (kernel, kernel)
        if i > 1:
            y, steps = activated(y, ours, f"{name}_{i - 1}"), 1
        y = ours.conv(y, f"{name}_{i}_conv", stride=steps, padding=kernel // 2)
    return x + y


def identity_mappings(x, ours, depths, kernels):
    """The networks of "Identity mappings" in PyTorch functions.

    The appendix: the first activation comes right after the first convolution, before the ways
    part, and one more after the last addition.
    """
    if len(depths) == 4:
        x = activated(ours.conv(x, "conv1_conv", stride=2, padding=3), ours, "conv1")
        x = torch.nn.functional.max_pool2d(x, 3, 2, 1)
    else:
        x = activated(ours.conv(x, "conv1_conv", padding=1), ours, "conv2_block1_preact")
    for stage, depth in enumerate(depths):
        for i in range(depth):
            steps = 2 if stage and not i else 1
            name = f"conv{stage + 2}_block{i + 1}"
            x = residual_unit(x, ours, name, kernels, steps, first=not stage and not i)
    return ours.dense(activated(x, ours, "post").mean((2, 3)), "predictions")


@pytest.mark.parametrize(
    ("name", "depths", "kernels", "gain"),
    [
        ("ResNet110V2", (18, 18, 18), (3, 3), 1.0),
        slow("ResNet164V2", (18, 18, 18), (1, 3, 1), 1.0),
        slow("ResNet1001V2", (111, 111, 111), (1, 3, 1), 0.6),  # with 1 its numbers overflow
        slow("ResNet200V2", (3, 24, 36, 3), (1, 3, 1), 1.0),
    ],
)
def test_identity_mappings(name, depths, kernels, gain):
    model = getattr(kcc, name)(weights=None, classifier_activation=None)
    rough.randomize(model, gain=gain)
    x = X if len(depths) == 4 else SMALL
    near(model, identity_mappings(channels_first(x), Functions(model), depths, kernels), x)


class DenseUnit(torch.nn.Module):
    """A layer without bottleneck under pytorchcv's names, whose network halves its transitions."""

    def __init__(self, channels, growth, kernel=3):
        super().__init__()
        self.conv = torch.nn.Module()
        self.conv.bn = torch.nn.BatchNorm2d(channels)
        self.conv.conv = torch.nn.Conv2d(channels, growth, kernel, padding=kernel // 2, bias=False)

    def forward(self, x):
        return torch.cat([x, self.conv.conv(self.conv.bn(x).relu())], 1)


class Transition(DenseUnit):
    def __init__(self, channels):
        super().__init__(channels, channels, kernel=1)

    def forward(self, x):
        return torch.nn.functional.avg_pool2d(self.conv.conv(self.conv.bn(x).relu()), 2)


def densenet40():
    """DenseNet with 40 layers and growth rate 12, whose transitions keep all maps: section 3."""
    features = torch.nn.Sequential()
    features.add_module("init_block", torch.nn.Conv2d(3, 16, 3, padding=1, bias=False))
    channels = 16
    for stage in (1, 2, 3):
        blocks = torch.nn.Sequential()
        if stage > 1:
            blocks.add_module(f"trans{stage}", Transition(channels))
        for i in range(1, 13):
            blocks.add_module(f"unit{i}", DenseUnit(channels, 12))
            channels += 12
        features.add_module(f"stage{stage}", blocks)
    last = torch.nn.Sequential()
    last.add_module("bn", torch.nn.BatchNorm2d(channels))
    features.add_module("post_activ", last)
    network = torch.nn.Sequential()
    network.add_module("features", features)
    network.add_module("relu", torch.nn.ReLU())
    network.add_module("pool", torch.nn.AdaptiveAvgPool2d(1))
    network.add_module("flatten", torch.nn.Flatten())
    network.add_module("output", torch.nn.Linear(channels, 10))
    return network


def test_densenet40(tmp_path):
    module = randomize(densenet40())
    compare(module, "DenseNet40_12", tmp_path, SMALL)


def se_vgg(x, ours):
    """Table 2's VGG-16 with batch normalization, in PyTorch functions."""
    for block, depth in enumerate((2, 2, 3, 3, 3), 1):
        for i in range(1, depth + 1):
            name = f"block{block}_conv{i}"
            x = ours.conv(x, f"{name}_conv", padding=1)
            x = ours.norm(x, f"{name}_bn", 1e-5).relu()
            weight = ours.conv(x.mean((2, 3), keepdim=True), f"{name}_se_reduce").relu()
            x = x * ours.conv(weight, f"{name}_se_expand").sigmoid()
        x = torch.nn.functional.max_pool2d(x, 2)
    return ours.classify(x, ("fc1", "fc2", "predictions"))


@pytest.mark.parametrize("side", [96, slow(224)])
def test_se_vgg(side):
    model = kcc.SEVGG16(classifier_activation=None, input_shape=(side, side, 3))
    rough.randomize(model, gain=1.5)  # with 1 the weighing leaves little of the image
    x = X[:, :side, :side]
    near(model, se_vgg(channels_first(x), Functions(model)), x)
