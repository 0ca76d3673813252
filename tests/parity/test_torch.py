"""The same outputs as PyTorch packages, through their own checkpoints with random weights."""

import gc
import itertools
import math

import keras
import numpy as np
import pytest

import keras_cnn_classics as kcc

pytestmark = [pytest.mark.parity, pytest.mark.slow]

timm = pytest.importorskip("timm", reason="the parity tests compare with timm")
torch = pytest.importorskip("torch", reason="the parity tests compare with PyTorch")
safetensors = pytest.importorskip("safetensors.torch")

X = np.random.default_rng(0).normal(size=(2, 224, 224, 3)).astype("float32")


def randomize(module):
    """Rough weights; batch-norm statistics far from 0 and 1."""
    generator = torch.Generator().manual_seed(1)
    for part in module.modules():
        if isinstance(part, (torch.nn.BatchNorm1d, torch.nn.BatchNorm2d)):
            part.running_mean.normal_(0, 0.5, generator=generator)
            part.running_var.uniform_(0.5, 2.0, generator=generator)
            part.weight.data.uniform_(0.5, 1.5, generator=generator)
            part.bias.data.normal_(0, 0.3, generator=generator)
        elif isinstance(part, (torch.nn.Conv2d, torch.nn.Linear)):
            fan_in = part.weight[0].numel()
            part.weight.data.normal_(0, (2 / fan_in) ** 0.5, generator=generator)
            if part.bias is not None:
                part.bias.data.normal_(0, 0.2, generator=generator)
    return module.eval()


def compare(module, name, path, x=X, **options):
    """Our model with the module's checkpoint against the module.

    A module that gives several answers is compared with our model and its auxiliary classifiers.
    """
    with torch.no_grad():
        theirs = module(torch.from_numpy(np.moveaxis(x, -1, 1).copy()))
    theirs = theirs if isinstance(theirs, tuple) else (theirs,)
    aux = len(theirs) > 1
    ours = getattr(kcc, name)(weights=path, classifier_activation=None, aux=aux, **options)
    path.unlink()
    got = keras.tree.map_structure(keras.ops.convert_to_numpy, ours(x, training=False))
    got = [got.pop("predictions"), *(got[key] for key in sorted(got))] if aux else [got]
    for a, b in zip(got, theirs, strict=True):
        np.testing.assert_allclose(a, b.numpy(), rtol=0, atol=1e-4 * b.abs().max().item())
    trainable = sum(p.numel() for p in module.parameters())
    assert trainable == sum(math.prod(w.shape) for w in ours.trainable_weights)
    if not options and not aux:
        assert trainable == getattr(kcc, name).spec.params
    del ours
    gc.collect()


@pytest.mark.parametrize("name", ["vgg11", "vgg13", "vgg16", "vgg19"])
@pytest.mark.parametrize("suffix", ["", "_bn"])
def test_timm(name, suffix, tmp_path):
    module = randomize(timm.create_model(f"{name}{suffix}"))
    path = tmp_path / "theirs.safetensors"
    safetensors.save_file(module.state_dict(), path)
    compare(module, name.upper() + suffix.removeprefix("_").upper(), path)


V1_5 = {"stride_in": "3x3", "bias": False}


@pytest.mark.parametrize(
    ("theirs", "ours", "options"),
    [
        ("resnet18", "ResNet18", {}),
        ("resnet34", "ResNet34", {}),
        ("resnet50", "ResNet50", V1_5),
        ("resnet101", "ResNet101", V1_5),
        ("resnet152", "ResNet152", V1_5),
        ("resnext50_32x4d", "ResNeXt50_32x4d", {}),
        ("resnext101_32x4d", "ResNeXt101_32x4d", {}),
        ("resnext101_32x8d", "ResNeXt101_32x8d", {}),
        ("resnext101_64x4d", "ResNeXt101_64x4d", {}),
        ("wide_resnet50_2", "WideResNet50_2", {}),
        ("densenet121", "DenseNet121", {}),
        ("densenet169", "DenseNet169", {}),
        ("densenet201", "DenseNet201", {}),
    ],
)
def test_timm_others(theirs, ours, options, tmp_path):
    module = randomize(timm.create_model(theirs))
    path = tmp_path / "theirs.safetensors"
    safetensors.save_file(module.state_dict(), path)
    compare(module, ours, path, **options)


X299 = np.random.default_rng(0).normal(size=(2, 299, 299, 3)).astype("float32")


def crop(height, width):
    """Images of that size, and the option that makes our models take them."""
    return {"x": X299[:, :height, :width], "input_shape": (height, width, 3)}


@pytest.mark.parametrize(
    ("theirs", "ours", "options"),
    [
        ("inception_v3", "InceptionV3", {"scale": True, "count_padding": True}),
        ("inception_v4", "InceptionV4", {}),
        ("inception_resnet_v2", "InceptionResNetV2", {"scale": True}),
    ],
)
@pytest.mark.parametrize("size", [(299, 299), (131, 106)])
def test_timm_inceptions(theirs, ours, options, size, tmp_path):
    module = randomize(timm.create_model(theirs))
    path = tmp_path / "theirs.safetensors"
    safetensors.save_file(module.state_dict(), path)
    compare(module, ours, path, **options, **crop(*size))


@pytest.mark.parametrize("aux", [True, False])
def test_auxiliary_classifier_of_inception_v3(aux, tmp_path):
    """Under torchvision's names, which timm has kept, for a model with and without it."""
    module = randomize(timm.create_model("inception_v3", aux_logits=True))
    path = tmp_path / "theirs.pth"
    torch.save(module.state_dict(), path)
    assert sum(p.numel() for p in module.parameters()) == 27_161_264
    if not aux:
        module.aux_logits, module.AuxLogits = False, None
    compare(module, "InceptionV3", path, scale=True, count_padding=True, **crop(299, 299))


@pytest.mark.parametrize("ones", [True, False])
def test_scales_of_one(ones, tmp_path):
    """Networks that came from TensorFlow have scales of 1, and load where there are none."""
    module = randomize(timm.create_model("inception_v3"))
    for name, weight in module.named_parameters():
        if name.endswith("bn.weight"):
            weight.data.fill_(1.0)
    if not ones:
        module.Conv2d_1a_3x3.bn.weight.data[3] = 0.5
    path = tmp_path / "theirs.safetensors"
    safetensors.save_file(module.state_dict(), path)
    if not ones:
        with pytest.raises(ValueError, match="build the model with scale=True"):
            kcc.InceptionV3(weights=path)
        return
    ours = kcc.InceptionV3(weights=path, count_padding=True, classifier_activation=None)
    with torch.no_grad():
        theirs = module(torch.from_numpy(np.moveaxis(X299, -1, 1).copy())).numpy()
    got = keras.ops.convert_to_numpy(ours(X299, training=False))
    np.testing.assert_allclose(got, theirs, rtol=0, atol=1e-4 * np.abs(theirs).max())


@pytest.mark.parametrize(
    ("theirs", "ours", "size"),
    [
        ("bninception", "BNInception", (224, 224)),
        ("bninception", "BNInception", (225, 223)),
        ("inceptionresnetv1", "InceptionResNetV1", (299, 299)),
        ("inceptionresnetv1", "InceptionResNetV1", (131, 106)),
    ],
)
@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_pytorchcv(theirs, ours, size, suffix, tmp_path):
    provider = pytest.importorskip("pytorchcv.model_provider", reason="compares with pytorchcv")
    module = randomize(provider.get_model(theirs))
    # Its last pool is for one size of image only.
    module.features.final_pool = torch.nn.AdaptiveAvgPool2d(1)
    path = tmp_path / f"theirs{suffix}"
    if suffix == ".pth":
        torch.save(module.state_dict(), path)
    else:
        safetensors.save_file(module.state_dict(), path)
    compare(module, ours, path, **crop(*size))


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


SMALL, MIDDLE, LARGE, WIDE = (16, 64), (32, 128), (48, 192), (64, 256)


@pytest.mark.parametrize(
    ("name", "first", "column"),
    [
        (
            "SqueezeNet1_0",
            (96, 7),
            ["M", SMALL, SMALL, MIDDLE, "M", MIDDLE, LARGE, LARGE, WIDE, "M", WIDE],
        ),
        (
            "SqueezeNet1_1",
            (64, 3),
            ["M", SMALL, SMALL, "M", MIDDLE, MIDDLE, "M", LARGE, LARGE, WIDE, WIDE],
        ),
    ],
)
@pytest.mark.parametrize("side", [224, 125, 131])
def test_squeezenet(name, first, column, side, tmp_path):
    module = randomize(TorchvisionSqueezeNet(first, column))
    path = tmp_path / "theirs.pth"
    torch.save(module.state_dict(), path)
    compare(module, name, path, X[:, :side, :side], input_shape=(side, side, 3))


@pytest.mark.parametrize(
    ("name", "make"), [("AlexNetOWT", torchvision_alexnet), ("VGG11BN", torchvision_vgg11_bn)]
)
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_torchvision_layout(name, make, suffix, tmp_path):
    module = randomize(make())
    path = tmp_path / f"theirs{suffix}"
    if suffix == ".pth":
        torch.save(module.state_dict(), path)
    else:
        safetensors.save_file(module.state_dict(), path)
    compare(module, name, path)


def test_wrapped_checkpoint(tmp_path):
    """As a training script saves it from several GPUs."""
    module = randomize(torchvision_alexnet())
    state = {f"module.{key}": value for key, value in module.state_dict().items()}
    torch.save({"epoch": 90, "state_dict": state}, tmp_path / "checkpoint.pth")
    compare(module, "AlexNetOWT", tmp_path / "checkpoint.pth")


def towers(x, weights, groups):
    """AlexNet of 2012 in PyTorch functions, from our weights."""
    f = torch.nn.functional

    def w(layer):
        kernel, bias = (torch.from_numpy(v) for v in weights[layer])
        return (kernel.permute(3, 2, 0, 1) if kernel.ndim == 4 else kernel.T), bias

    def lrn(y):  # the paper's alpha is for the sum, PyTorch's for the mean
        return f.local_response_norm(y, 5, alpha=5e-4, beta=0.75, k=2.0)

    x = f.max_pool2d(lrn(f.relu(f.conv2d(x, *w("conv1"), stride=4))), 3, 2)
    x = f.max_pool2d(lrn(f.relu(f.conv2d(x, *w("conv2"), padding=2, groups=groups))), 3, 2)
    x = f.relu(f.conv2d(x, *w("conv3"), padding=1))
    x = f.relu(f.conv2d(x, *w("conv4"), padding=1, groups=groups))
    x = f.max_pool2d(f.relu(f.conv2d(x, *w("conv5"), padding=1, groups=groups)), 3, 2)
    x = torch.flatten(x.permute(0, 2, 3, 1), 1)
    return f.linear(f.relu(f.linear(f.relu(f.linear(x, *w("fc6"))), *w("fc7"))), *w("predictions"))


@pytest.mark.parametrize(("name", "groups"), [("AlexNet", 2), ("AlexNetSingle", 1)])
def test_alexnet(name, groups):
    model = getattr(kcc, name)(classifier_activation=None)
    rng = np.random.default_rng(2)
    for layer in model.layers:
        if layer.weights:
            kernel, bias = layer.get_weights()
            scale = np.sqrt(2 / np.prod(kernel.shape[:-1]))
            kernel = rng.standard_normal(kernel.shape, "float32") * scale
            layer.set_weights([kernel, rng.normal(0, 0.2, bias.shape)])
    x = rng.uniform(-120, 130, (2, 227, 227, 3)).astype("float32")
    weights = {layer.name: layer.get_weights() for layer in model.layers}
    theirs = towers(torch.from_numpy(np.moveaxis(x, -1, 1).copy()), weights, groups).numpy()
    got = keras.ops.convert_to_numpy(model(x, training=False))
    np.testing.assert_allclose(got, theirs, rtol=0, atol=1e-4 * np.abs(theirs).max())
