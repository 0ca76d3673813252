"""C3D, DeepFace and the deconvnet against plain renderings of the papers in PyTorch."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from rough import assert_near, randomize

import keras_cnn_classics as kcc
from keras_cnn_classics.inspection import Deconvnet
from keras_cnn_classics.testing import contracts

pytestmark = pytest.mark.parity

torch = pytest.importorskip("torch", reason="the parity tests compare with PyTorch")
reference = pytest.importorskip("reference")
F = torch.nn.functional

RNG = np.random.default_rng(2014)
FACES = RNG.normal(size=(2, 152, 152, 3)).astype("float32")


WIDTHS = {"1": 1, "2": 2, "3a": 4, "3b": 4, "4a": 8, "4b": 8, "5a": 8, "5b": 8}


class VideoNet(torch.nn.Module):
    """Figure 3 of C3D's paper, with the names of c3d-pytorch."""

    def __init__(self, width, units, classes, symmetric):
        super().__init__()
        before = 3
        for name, factor in WIDTHS.items():
            setattr(self, f"conv{name}", torch.nn.Conv3d(before, factor * width, 3, padding=1))
            before = factor * width
        self.fc6 = torch.nn.Linear(16 * before, units[0])
        self.fc7 = torch.nn.Linear(*units)
        self.fc8 = torch.nn.Linear(units[1], classes)
        self.symmetric = symmetric

    def forward(self, x):
        x = F.max_pool3d(self.conv1(x).relu(), (1, 2, 2))
        x = F.max_pool3d(self.conv2(x).relu(), 2)
        for block in "345":
            x = getattr(self, f"conv{block}a")(x).relu()
            x = getattr(self, f"conv{block}b")(x).relu()
            if block < "5":
                x = F.max_pool3d(x, 2)
        padding = (0, 1, 1) if self.symmetric else 0
        x = F.max_pool3d(x, 2, padding=padding, ceil_mode=not self.symmetric).flatten(1)
        return self.fc8(self.fc7(self.fc6(x).relu()).relu())


@pytest.mark.parametrize("padding", ["same", "symmetric"])
def test_c3d(padding, tmp_path):
    module = VideoNet(16, (64, 32), 11, padding == "symmetric")
    clips = RNG.normal(size=(2, 16, 112, 112, 3)).astype("float32")
    options = {"width": 16, "units": (64, 32), "classes": 11, "padding": padding}
    reference.compare(reference.randomize(module), "C3D", tmp_path, clips, **options)


def deepface(model, x):
    """The table of DeepFace's paper, by unfolding maps into windows."""
    functions = reference.Functions(model)

    def local(x, name, size, strides=1):
        kernel, bias = functions.weights[name]
        height, width, filters = bias.shape
        windows = F.unfold(x, size, stride=strides)  # (batch, channels * window, positions)
        kernel = kernel.reshape(len(kernel), size * size, -1, filters).transpose(1, 2)
        y = torch.einsum("nkp,pkf->nfp", windows, kernel.reshape(len(kernel), -1, filters))
        return (y.reshape(-1, filters, height, width) + bias.permute(2, 0, 1)).relu()

    x = functions.conv(reference.channels_first(x), "c1").relu()
    x = functions.conv(F.max_pool2d(x, 3, 2, ceil_mode=True), "c3").relu()
    x = local(local(local(x, "l4", 9), "l5", 7, 2), "l6", 5)
    return functions.classify(x, ["fc7", "predictions"])


def test_deepface():
    model = kcc.DeepFace(classes=11, units=(64,), classifier_activation=None)
    randomize_positions(model)
    reference.near(model, deepface(model, FACES), FACES)


def randomize_positions(model):
    """Rough weights; a locally connected kernel holds those of all positions."""
    randomize(model)
    for name in ("l4", "l5", "l6"):
        kernel, bias = model.get_layer(name).get_weights()
        model.get_layer(name).set_weights([kernel * np.sqrt(len(kernel)), bias])


@pytest.mark.skipif(not importlib.util.find_spec("tf_keras"), reason="compares with Keras 2")
def test_deepfaces_file_of_keras_2(tmp_path):
    faces = FACES[:, :91, :91]  # Keras 2 calls an operation for every position
    np.save(tmp_path / "images.npy", faces)
    script = Path(__file__).with_name("tf_keras_deepface.py")
    command = [sys.executable, script, tmp_path, "4", "32", "11"]
    subprocess.run(command, check=True, timeout=600)
    model = kcc.DeepFace(
        weights=tmp_path / "theirs.h5",
        classes=11,
        classifier_activation=None,
        input_shape=(91, 91, 3),
        widths=(8, 4, 4, 4, 4),
        units=(32,),
    )
    got = keras.ops.convert_to_numpy(model(faces, training=False))
    assert_near(got, np.load(tmp_path / "answers.npy"))


def deconvolved(model, x, end, channel):
    """What a deconvnet of PyTorch's functions shows: its gradients go back through each layer."""
    functions, ways = reference.Functions(model), []
    x = reference.channels_first(x)
    for layer in model.layers[1:]:
        name, before = layer.name, x
        if isinstance(layer, keras.layers.Conv2D):
            height, width = (
                (n - 1) // 2 if layer.padding == "same" else 0 for n in layer.kernel_size
            )
            weights = functions.weights[name][0].permute(3, 2, 0, 1)
            way = {"stride": layer.strides, "padding": (height, width)}

            def linear(y, weights=weights, way=way):
                return F.conv2d(y, weights, **way)

            x = functions.conv(x, name, **way).relu()
        elif isinstance(layer, keras.layers.MaxPooling2D):
            (size, _), (step, _) = layer.pool_size, layer.strides

            def linear(y, size=size, step=step, ceil=layer.padding == "same"):
                return F.max_pool2d(y, size, step, ceil_mode=ceil)

            x = linear(x)
        elif isinstance(layer, keras.layers.ZeroPadding2D):
            (top, _), _ = layer.padding

            def linear(y, top=top):
                return F.pad(y, (top,) * 4)

            x = linear(x)
        else:
            x, linear = reference.lrn(x), None
        ways.append((before, linear, isinstance(layer, keras.layers.Conv2D)))
        if name == end:
            break
    maps = x[:, channel]
    best = maps.flatten(1).argmax(1)
    signal = torch.zeros_like(x)
    for i, place in enumerate(best):
        row, column = divmod(int(place), maps.shape[2])
        signal[i, channel, row, column] = maps[i, row, column]
    for before, linear, rectified in reversed(ways):
        signal = signal.relu() if rectified else signal
        if linear is not None:
            before = before.clone().requires_grad_()
            (signal,) = torch.autograd.grad(linear(before), before, signal)
    return signal.permute(0, 2, 3, 1).detach().numpy()


@pytest.mark.parametrize(("name", "layer"), [("ZFNet", "conv5"), ("VGG11", "block5_conv2")])
def test_deconvnet(name, layer):
    """ZFNet's pools overlap, and VGG's do not."""
    x = RNG.normal(size=(2, 224, 224, 3)).astype("float32")
    options = {"include_top": False, "input_shape": x.shape[1:]}
    model = contracts.tiny(kcc.get_builder(name), **options)
    randomize(model)
    seen = Deconvnet(model, layer)(x, channel=5)
    assert_near(seen.pixels, deconvolved(model, x, layer, 5))
