"""The Inception networks against timm, pytorchcv, torchvision's layout and the papers' tables."""

import itertools

import numpy as np
import pytest

import keras_cnn_classics as kcc
from keras_cnn_classics.applications import bn_inception, inception_resnet

pytestmark = pytest.mark.parity

timm = pytest.importorskip("timm", reason="the parity tests compare with timm")
torch = pytest.importorskip("torch", reason="the parity tests compare with PyTorch")
safetensors = pytest.importorskip("safetensors.torch")

import rough  # noqa: E402
from reference import (  # noqa: E402
    Functions,
    answers,
    channels_first,
    compare,
    lrn,
    near,
    pytorchcv,
    randomize,
)

from tests.marks import slow  # noqa: E402

X299 = np.random.default_rng(0).normal(size=(2, 299, 299, 3)).astype("float32")


def crop(height, width):
    """Images of that size, and the option that makes our models take them."""
    return {"x": X299[:, :height, :width], "input_shape": (height, width, 3)}


@pytest.mark.parametrize(
    ("theirs", "ours", "size", "options"),
    [
        ("inception_v3", "InceptionV3", (299, 299), {"scale": True, "count_padding": True}),
        slow("inception_v3", "InceptionV3", (131, 106), {"scale": True, "count_padding": True}),
        slow("inception_v4", "InceptionV4", (299, 299), {}),
        ("inception_v4", "InceptionV4", (131, 106), {}),
        slow("inception_resnet_v2", "InceptionResNetV2", (299, 299), {"scale": True}),
        ("inception_resnet_v2", "InceptionResNetV2", (131, 106), {"scale": True}),
    ],
)
def test_timm_inceptions(theirs, ours, size, options, tmp_path):
    module = randomize(timm.create_model(theirs))
    compare(module, ours, tmp_path, **options, **crop(*size))


@pytest.mark.parametrize("aux", [True, slow(False)])
def test_auxiliary_classifier_of_inception_v3(aux, tmp_path):
    """Under torchvision's names, which timm has kept, for a model with and without it."""
    module = randomize(timm.create_model("inception_v3", aux_logits=True))
    state = module.state_dict()
    assert sum(p.numel() for p in module.parameters()) == 27_161_264
    if not aux:
        module.aux_logits, module.AuxLogits = False, None
    compare(
        module,
        "InceptionV3",
        tmp_path,
        state=state,
        scale=True,
        count_padding=True,
        **crop(299, 299),
    )


@pytest.mark.parametrize("ones", [slow(True), False])
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
    near(ours, answers(module, X299), X299)


@pytest.mark.parametrize(
    ("theirs", "ours", "size"),
    [
        slow("bninception", "BNInception", (224, 224)),
        ("bninception", "BNInception", (225, 223)),
        slow("inceptionresnetv1", "InceptionResNetV1", (299, 299)),
        ("inceptionresnetv1", "InceptionResNetV1", (131, 106)),
    ],
)
def test_pytorchcv(theirs, ours, size, tmp_path):
    module = randomize(getattr(pytorchcv(theirs), theirs)(pretrained=False))
    # Its last pool is for one size of image only.
    module.features.final_pool = torch.nn.AdaptiveAvgPool2d(1)
    compare(module, ours, tmp_path, **crop(*size))


class BasicConv(torch.nn.Module):
    """Convolution, batch normalization and ReLU under torchvision's names."""

    def __init__(self, channels, filters, kernel, **kwargs):
        super().__init__()
        self.conv = torch.nn.Conv2d(channels, filters, kernel, bias=False, **kwargs)
        self.bn = torch.nn.BatchNorm2d(filters, eps=1e-3)

    def forward(self, x):
        return self.bn(self.conv(x)).relu()


class Inception(torch.nn.Module):
    """An inception module of torchvision's GoogLeNet, whose third branch is 3x3 too."""

    def __init__(self, channels, n1, n3_reduce, n3, n5_reduce, n5, n_pool):
        super().__init__()
        sequence = torch.nn.Sequential
        self.branch1 = BasicConv(channels, n1, 1)
        self.branch2 = sequence(
            BasicConv(channels, n3_reduce, 1), BasicConv(n3_reduce, n3, 3, padding=1)
        )
        self.branch3 = sequence(
            BasicConv(channels, n5_reduce, 1), BasicConv(n5_reduce, n5, 3, padding=1)
        )
        pool = torch.nn.MaxPool2d(3, 1, padding=1, ceil_mode=True)
        self.branch4 = sequence(pool, BasicConv(channels, n_pool, 1))

    def forward(self, x):
        return torch.cat([self.branch1(x), self.branch2(x), self.branch3(x), self.branch4(x)], 1)


class GoogLeNetAux(torch.nn.Module):
    """torchvision's auxiliary classifier."""

    def __init__(self, channels):
        super().__init__()
        self.conv = BasicConv(channels, 128, 1)
        self.fc1 = torch.nn.Linear(2048, 1024)
        self.fc2 = torch.nn.Linear(1024, 1000)

    def forward(self, x):
        x = self.conv(torch.nn.functional.adaptive_avg_pool2d(x, (4, 4)))
        return self.fc2(self.fc1(torch.flatten(x, 1)).relu())


# Channels before the module, then the columns of the paper's table 1.
GOOGLENET = {
    "3a": (192, 64, 96, 128, 16, 32, 32),
    "3b": (256, 128, 128, 192, 32, 96, 64),
    "4a": (480, 192, 96, 208, 16, 48, 64),
    "4b": (512, 160, 112, 224, 24, 64, 64),
    "4c": (512, 128, 128, 256, 24, 64, 64),
    "4d": (512, 112, 144, 288, 32, 64, 64),
    "4e": (528, 256, 160, 320, 32, 128, 128),
    "5a": (832, 256, 160, 320, 32, 128, 128),
    "5b": (832, 384, 192, 384, 48, 128, 128),
}


class TorchvisionGoogLeNet(torch.nn.Module):
    """GoogLeNet under torchvision's names; three answers with `aux`."""

    def __init__(self, aux):
        super().__init__()
        self.aux = aux
        self.conv1 = BasicConv(3, 64, 7, stride=2, padding=3)
        self.conv2 = BasicConv(64, 64, 1)
        self.conv3 = BasicConv(64, 192, 3, padding=1)
        for name, row in GOOGLENET.items():
            setattr(self, f"inception{name}", Inception(*row))
        if aux:
            self.aux1, self.aux2 = GoogLeNetAux(512), GoogLeNetAux(528)
        self.fc = torch.nn.Linear(1024, 1000)

    def forward(self, x):
        def pool(y, size):
            return torch.nn.functional.max_pool2d(y, size, 2, ceil_mode=True)

        x = pool(self.conv3(self.conv2(pool(self.conv1(x), 3))), 3)
        answers = []
        for name in GOOGLENET:
            x = getattr(self, f"inception{name}")(x)
            if name in ("3b", "4e"):
                x = pool(x, 3 if name == "3b" else 2)
            if self.aux and name in ("4a", "4d"):
                answers.append(self.aux1(x) if name == "4a" else self.aux2(x))
        x = self.fc(x.mean((2, 3)))
        return (x, *answers) if self.aux else x


@pytest.mark.parametrize(
    ("size", "aux"),
    [
        *(((224, 224), True), slow((131, 106), True), ((45, 38), True)),
        *(slow((224, 224), False), slow((131, 106), False), slow((45, 38), False)),
    ],
)
def test_torchvisions_googlenet(size, aux, tmp_path):
    module = randomize(TorchvisionGoogLeNet(aux))
    compare(module, "GoogLeNetBN", tmp_path, **crop(*size))


def test_torchvisions_googlenet_without_its_auxiliary_classifiers(tmp_path):
    module = randomize(TorchvisionGoogLeNet(aux=True))
    state = module.state_dict()
    module.aux = False
    del module.aux1, module.aux2
    compare(module, "GoogLeNetBN", tmp_path, state=state, **crop(97, 97))


def googlenet_of_2014(x, ours):
    """GoogLeNet in PyTorch functions, from our weights: the column of table 1, top to bottom."""
    f = torch.nn.functional

    def conv(y, name, size=1):
        return ours.conv(y, name, padding=size // 2).relu()

    def pool(y):
        return f.max_pool2d(y, 3, 2, ceil_mode=True)

    def classify(y, name):
        y = conv(f.avg_pool2d(y, 5, 3), f"{name}_conv")
        return ours.classify(y, (f"{name}_fc", name))

    answers = {}
    # The far sides are padded more, as by TensorFlow; the paper does not say.
    x = ours.conv(f.pad(x, (2, 3, 2, 3)), "conv1", stride=2).relu()
    x = lrn(pool(x))
    x = pool(lrn(conv(conv(x, "conv2_reduce"), "conv2", 3)))
    for row in GOOGLENET:
        name = f"inception_{row}"
        x = torch.cat(
            [
                conv(x, f"{name}_1x1"),
                conv(conv(x, f"{name}_3x3_reduce"), f"{name}_3x3", 3),
                conv(conv(x, f"{name}_5x5_reduce"), f"{name}_5x5", 5),
                conv(f.max_pool2d(x, 3, 1, 1), f"{name}_pool_proj"),
            ],
            1,
        )
        if row in ("4a", "4d"):
            tap = "aux1" if row == "4a" else "aux2"
            answers[tap] = classify(x, tap)
        if row in ("3b", "4e"):
            x = pool(x)
    return {**answers, "predictions": ours.dense(x.mean((2, 3)), "predictions")}


def test_googlenet_of_2014():
    model = kcc.GoogLeNet(classifier_activation=None, aux=True)
    rough.randomize(model)
    x = np.random.default_rng(0).uniform(-120, 130, (2, 224, 224, 3)).astype("float32")
    near(model, googlenet_of_2014(channels_first(x), Functions(model)), x)


def inception_v2_of_table_1(x, ours):
    """Inception v2 in PyTorch functions, with our weights in the order of their numbers.

    The modules are those of the figures, with the filters that the kernels have.
    """
    f = torch.nn.functional
    numbers = itertools.count()

    def conv(y, height, width, stride=1, padding=True):
        number = next(numbers)
        name = f"_{number}" if number else ""
        assert ours.weights[f"conv2d{name}"][0].shape[:2] == (height, width)
        zeros = (height // 2, width // 2) if padding else 0
        y = ours.conv(y, f"conv2d{name}", stride=stride, padding=zeros)
        return ours.norm(y, f"batch_normalization{name}", 1e-3).relu()

    def average(y):
        return f.avg_pool2d(y, 3, 1, 1, count_include_pad=False)

    def rows_and_columns(y):
        return torch.cat([conv(y, 1, 3), conv(y, 3, 1)], 1)

    def figure_5(y):
        return torch.cat(
            [
                conv(y, 1, 1),
                conv(conv(y, 1, 1), 3, 3),
                conv(conv(conv(y, 1, 1), 3, 3), 3, 3),
                conv(average(y), 1, 1),
            ],
            1,
        )

    def figure_6(y):
        one = conv(y, 1, 1)
        seven = conv(conv(conv(y, 1, 1), 1, 7), 7, 1)
        sevens = conv(conv(y, 1, 1), 7, 1)
        sevens = conv(conv(conv(sevens, 1, 7), 7, 1), 1, 7)
        return torch.cat([one, seven, sevens, conv(average(y), 1, 1)], 1)

    def figure_7(y):
        one = conv(y, 1, 1)
        three = rows_and_columns(conv(y, 1, 1))
        threes = rows_and_columns(conv(conv(y, 1, 1), 3, 3))
        return torch.cat([one, three, threes, conv(average(y), 1, 1)], 1)

    def is_map(side, depth):
        assert x.shape[1:] == (depth, side, side)

    is_map(299, 3)
    x = conv(x, 3, 3, 2, padding=False)
    is_map(149, 32)
    x = conv(x, 3, 3, padding=False)
    is_map(147, 32)
    x = conv(x, 3, 3)
    is_map(147, 64)
    x = f.max_pool2d(x, 3, 2)
    is_map(73, 64)
    x = conv(x, 3, 3, padding=False)
    is_map(71, 80)
    x = conv(x, 3, 3, 2, padding=False)
    is_map(35, 192)
    x = conv(x, 3, 3)
    is_map(35, 288)
    x = figure_5(figure_5(x))
    is_map(35, 288)
    large = conv(x, 3, 3, 2, padding=False)
    double = conv(conv(conv(x, 1, 1), 3, 3), 3, 3, 2, padding=False)
    x = torch.cat([large, double, f.max_pool2d(x, 3, 2)], 1)
    is_map(17, 768)
    x = figure_6(figure_6(figure_6(figure_6(x))))
    is_map(17, 768)
    large = conv(conv(x, 1, 1), 3, 3, 2, padding=False)
    seven = conv(conv(conv(conv(x, 1, 1), 1, 7), 7, 1), 3, 3, 2, padding=False)
    x = torch.cat([large, seven, f.max_pool2d(x, 3, 2)], 1)
    is_map(8, 1280)
    x = figure_7(figure_7(x))
    is_map(8, 2048)
    assert f"conv2d_{next(numbers)}" not in ours.weights
    return ours.dense(x.mean((2, 3)), "predictions")


def test_inception_v2():
    model = kcc.InceptionV2(classifier_activation=None)
    rough.randomize(model)
    near(model, inception_v2_of_table_1(channels_first(X299), Functions(model)), X299)


def fill_from(model, module, names):
    """Gives a module our model's weights; convolutions that have none of a kind get zeros."""
    for layer in model.layers:
        candidates = names.get(layer.name, ())
        found = [name for name in candidates if name in dict(module.named_modules())]
        if not found:
            continue
        part = module.get_submodule(found[0])
        weights = [torch.from_numpy(w) for w in layer.get_weights()]
        if isinstance(part, torch.nn.BatchNorm2d):
            names_of_weights = ("weight", "bias", "running_mean", "running_var")
            state = dict(zip(names_of_weights, weights, strict=True))
        else:
            kernel = weights[0].permute(3, 2, 0, 1) if weights[0].ndim == 4 else weights[0].T
            bias = weights[1] if len(weights) > 1 else torch.zeros(len(kernel))
            state = {"weight": kernel} if part.bias is None else {"weight": kernel, "bias": bias}
        part.load_state_dict(state, strict=False)


def excite(model, name):
    """A hook that weighs a module's output as our layers of that name do: figure 2 of the paper."""
    reduce, expand = (
        [torch.from_numpy(w) for w in model.get_layer(f"{name}_se_{part}").get_weights()]
        for part in ("reduce", "expand")
    )

    def hook(module, inputs, y):
        z = y.mean((2, 3))
        z = torch.relu(z @ reduce[0][0, 0] + reduce[1])
        z = torch.sigmoid(z @ expand[0][0, 0] + expand[1])
        return y * z[:, :, None, None]

    return hook


def test_se_bn_inception():
    """pytorchcv's BN-Inception, each module's output weighed."""
    model = kcc.SEBNInception(classifier_activation=None)
    rough.randomize(model, gain=1.2)  # with 1 the weighing leaves little of the image
    module = pytorchcv("bninception").bninception(pretrained=False).eval()
    fill_from(model, module, bn_inception.torch_names())
    places = [*(f"stage1.unit{i}" for i in (1, 2)), *(f"stage2.unit{i}" for i in range(1, 6))]
    places += [f"stage3.unit{i}" for i in (1, 2, 3)]
    for row, place in zip(bn_inception.INCEPTION, places, strict=True):
        part = module.features.get_submodule(place)
        part.register_forward_hook(excite(model, f"inception_{row}"))
    x = X299[:, :224, :224]
    near(model, answers(module, x), x)


@pytest.mark.slow
def test_se_inception_resnet():
    """timm's Inception-ResNet v2, each residual weighed before its factor."""
    repeats = (10, 20, 10)
    model = kcc.SEInceptionResNetV2(classifier_activation=None, input_shape=(131, 131, 3))
    rough.randomize(model, gain=0.8)
    module = timm.create_model("inception_resnet_v2").eval()
    names = inception_resnet.torch_names_v2(repeats=repeats)
    fill_from(model, module, names)
    for name, places in names.items():
        if name.startswith("block") and name.endswith("_conv"):
            part = module.get_submodule(places[0])
            part.register_forward_hook(excite(model, name.removesuffix("_conv")))
    x = X299[:, :131, :131]
    near(model, answers(module, x), x)
