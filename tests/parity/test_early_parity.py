"""Network in Network against pytorchcv; it and the others against renderings of their papers."""

import numpy as np
import pytest

import keras_cnn_classics as kcc

pytestmark = pytest.mark.parity

torch = pytest.importorskip("torch", reason="the parity tests compare with PyTorch")

import rough  # noqa: E402
from reference import (  # noqa: E402
    Functions,
    channels_first,
    compare,
    near,
    pytorchcv,
    randomize,
)

from tests.marks import slow  # noqa: E402

F = torch.nn.functional


def images(side, channels=3):
    """Two images that differ in contrast too, so that averages of many cells tell them apart."""
    x = np.random.default_rng(0).normal(size=(2, side, side, channels)).astype("float32")
    return x * np.float32([1, 3]).reshape(2, 1, 1, 1)


@pytest.mark.parametrize(("theirs", "classes"), [("nin_cifar10", 10), slow("nin_cifar100", 100)])
@pytest.mark.parametrize("side", [32, slow(41)])
def test_nin_of_pytorchcv(theirs, classes, side, tmp_path):
    module = randomize(getattr(pytorchcv("nin_cifar"), theirs)(pretrained=False))
    module.output.final_pool = torch.nn.AdaptiveAvgPool2d(1)  # for images of other sizes
    options = {} if classes == 10 else {"classes": classes}
    options |= {} if side == 32 else {"input_shape": (side, side, 3)}
    compare(module, "NINCIFAR", tmp_path, images(side), form="pytorchcv", **options)


class ConvertedNIN(torch.nn.Module):
    """The Caffe model under the names that its conversion to PyTorch has."""

    def __init__(self):
        super().__init__()
        parts, channels = [], 3
        for filters, kernel, strides, padding in (
            (96, 11, 4, 0),
            (256, 5, 1, 2),
            (384, 3, 1, 1),
            (1024, 3, 1, 1),
        ):
            if filters == 1024:
                parts.append(torch.nn.Dropout(0.5))
            for n in (filters, filters, 1000 if filters == 1024 else filters):
                parts += [torch.nn.Conv2d(channels, n, kernel, strides, padding), torch.nn.ReLU()]
                channels, kernel, strides, padding = n, 1, 1, 0
            if filters != 1024:
                parts.append(torch.nn.MaxPool2d(3, 2, ceil_mode=True))
        self.features = torch.nn.Sequential(*parts, torch.nn.AvgPool2d(6, 1))

    def forward(self, x):
        return self.features(x).flatten(1)


def test_nin_of_caffe(tmp_path):
    compare(randomize(ConvertedNIN()), "NIN", tmp_path, images(224))


def nin_cifar(x, ours, _):
    """The authors' model for CIFAR-10, with Caffe's average of what is inside the map."""
    x = ours.conv(x, "conv1", padding=2).relu()
    for name in ("cccp1", "cccp2"):
        x = ours.conv(x, name).relu()
    x = F.max_pool2d(x, 3, 2, ceil_mode=True)
    x = ours.conv(x, "conv2", padding=2).relu()
    for name in ("cccp3", "cccp4"):
        x = ours.conv(x, name).relu()
    x = F.avg_pool2d(x, 3, 2, ceil_mode=True, count_include_pad=False)
    x = ours.conv(x, "conv3", padding=1).relu()
    for name in ("cccp5", "cccp6"):
        x = ours.conv(x, name).relu()
    return x.mean((2, 3))


def overfeat_fast(x, ours, _):
    """Table 1."""
    x = F.max_pool2d(ours.conv(x, "conv1", stride=4).relu(), 2)
    x = F.max_pool2d(ours.conv(x, "conv2").relu(), 2)
    for name in ("conv3", "conv4", "conv5"):
        x = ours.conv(x, name, padding=1).relu()
    return ours.classify(F.max_pool2d(x, 2), ("fc6", "fc7", "predictions"))


def overfeat_accurate(x, ours, _):
    """Table 3."""
    x = F.max_pool2d(ours.conv(x, "conv1", stride=2).relu(), 3)
    x = F.max_pool2d(ours.conv(x, "conv2").relu(), 2)
    for name in ("conv3", "conv4", "conv5", "conv6"):
        x = ours.conv(x, name, padding=1).relu()
    return ours.classify(F.max_pool2d(x, 3), ("fc7", "fc8", "predictions"))


def prelu_net(x, ours, depth):
    """Table 3, pooled by PyTorch's own adaptive windows."""

    def prelu(y, name):
        return F.prelu(y, ours.weights[name][0].flatten())

    x = prelu(ours.conv(x, "conv1", stride=2, padding=3), "conv1_prelu")
    for block in (1, 2, 3):
        x = F.max_pool2d(x, 2)
        for i in range(1, depth + 1):
            name = f"block{block}_conv{i}"
            x = prelu(ours.conv(x, name, padding=1), f"{name}_prelu")
    grids = [F.adaptive_max_pool2d(x, n).permute(0, 2, 3, 1).flatten(1) for n in (7, 3, 2, 1)]
    x = torch.cat(grids, 1)
    for name in ("fc1", "fc2"):
        x = prelu(ours.dense(x, name), f"{name}_prelu")
    return ours.dense(x, "predictions")


def gate(x, ours, name, padding):
    """A highway layer, with the gate's bias where the authors' code has it."""
    kernel, (bias,) = ours.weights[f"{name}_gate"][0], ours.weights[name]
    t = F.conv2d(x, kernel.permute(3, 2, 0, 1), bias, padding=padding).sigmoid()
    return ours.conv(x, f"{name}_transform", padding=padding).relu() * t + x * (1 - t)


def dense_highway(x, ours, depth):
    """Section 3.1, on vectors."""
    kernel, bias = ours.weights["fc1"]
    x = (x.permute(0, 2, 3, 1).flatten(1) @ kernel.reshape(784, -1) + bias).relu()
    for i in range(2, depth + 1):
        kernel, bias = ours.weights[f"fc{i}_transform"]
        h = (x @ kernel[0, 0] + bias).relu()
        t = (x @ ours.weights[f"fc{i}_gate"][0][0, 0] + ours.weights[f"fc{i}"][0]).sigmoid()
        x = h * t + x * (1 - t)
    return ours.dense(x, "predictions")


def mnist_highway(x, ours, _):
    """The authors' mnist-10layers, whose pools halve upwards."""
    x = ours.conv(x, "conv1").relu()
    for i in range(2, 10):
        x = gate(x, ours, f"conv{i}", 1)
        if i in (3, 6):
            x = F.max_pool2d(x, 3, 2, ceil_mode=True)
    return ours.classify(F.max_pool2d(x, 2), ("predictions",))


def cifar_highway(x, ours, stages):
    """The authors' cifar10-19layers, and the same with other stages and kernels."""
    number = 0
    for stage, kernels in enumerate(stages):
        x = F.max_pool2d(x, 2) if stage else x
        for i, kernel in enumerate(kernels):
            number += 1
            if i:
                x = gate(x, ours, f"conv{number}", kernel // 2)
            else:
                x = ours.conv(x, f"conv{number}", padding=kernel // 2).relu()
    x = ours.conv(x, f"conv{number + 1}").relu().mean((2, 3))
    return ours.dense(x, "predictions")


@pytest.mark.parametrize(
    ("name", "rendering", "item", "side"),
    [
        *(("NINCIFAR", nin_cifar, None, side) for side in (32, 33, 38)),
        ("OverFeatFast", overfeat_fast, None, 231),
        ("OverFeatAccurate", overfeat_accurate, None, 221),
        ("PReLUNetA", prelu_net, 5, 112),
        slow("PReLUNetB", prelu_net, 6, 224),
        slow("PReLUNetC", prelu_net, 6, 96),
        ("HighwayFC20", dense_highway, 20, 28),
        slow("HighwayFC10", dense_highway, 10, 28),
        slow("HighwayFC50", dense_highway, 50, 28),
        slow("HighwayFC100", dense_highway, 100, 28),
        slow("Highway10_16", mnist_highway, None, 28),
        ("Highway10_32", mnist_highway, None, 28),
        slow("Highway11", cifar_highway, [[3] * 3] * 3, 32),
        ("Highway19", cifar_highway, [[3] * 5, [3] * 6, [3] * 6], 32),
        ("Highway32", cifar_highway, [[3, 1] * 5] * 3, 32),
    ],
)
def test_a_rendering_of_the_paper(name, rendering, item, side):
    builder = kcc.get_builder(name)
    x = images(side, builder.spec.channels)
    options = {} if side == builder.spec.input_size else {"input_shape": x.shape[1:]}
    if rendering in (overfeat_fast, overfeat_accurate, prelu_net):
        options["units"] = (40, 30)  # most of the weights, and most of the time, for nothing
    model = builder(weights=None, classifier_activation=None, **options)
    rough.randomize(model)
    near(model, rendering(channels_first(x), Functions(model), item), x)
