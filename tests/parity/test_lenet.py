"""LeNet-5 against a rendering of the paper's section II.B, LeNet against one of its layers."""

import keras
import numpy as np
import pytest

pytestmark = pytest.mark.parity

torch = pytest.importorskip("torch", reason="the parity tests compare with PyTorch")
pytest.importorskip("safetensors.torch")

from reference import Functions, channels_first, near  # noqa: E402
from rough import randomize  # noqa: E402

import keras_cnn_classics as kcc  # noqa: E402

# Table I, row by row: the maps of C3 that each map of S2 goes to.
TABLE_1 = """
X...XXX..XXXX.XX
XX...XXX..XXXX.X
XXX...XXX..X.XXX
.XXX..XXXX..X.XX
..XXX..XXXX.XX.X
...XXX..XXXX.XXX
"""


def squash(x):
    return 1.7159 * torch.tanh(2 / 3 * x)


def lenet5(x, functions):
    """C1 to F6, and the negative distances of the output; `functions` has our weights."""

    def subsample(y, name):
        coefficient, bias = (w[:, None, None] for w in functions.weights[name])
        return squash(4 * torch.nn.functional.avg_pool2d(y, 2) * coefficient + bias)

    def c3(y):
        kernel, bias = functions.weights["c3"]
        sees = np.array([list(row) for row in TABLE_1.split()]).T == "X"
        answers, used = [], 0
        for row, b in zip(sees, bias, strict=True):
            own = kernel[:, :, used : used + row.sum()].permute(2, 0, 1)[None]
            used += row.sum()
            answers.append(torch.nn.functional.conv2d(y[:, row], own, b[None]))
        assert used == kernel.shape[-1]
        return torch.cat(answers, 1)

    y = subsample(squash(functions.conv(x, "c1")), "s2")
    y = subsample(squash(c3(y)), "s4")
    y = squash(functions.conv(y, "c5")).flatten(1)
    y = squash(functions.dense(y, "f6"))
    (centers,) = functions.weights["rbf"]
    return -((y[:, None] - centers) ** 2).sum(-1)


def lenet(x, functions):
    pool = torch.nn.functional.max_pool2d
    y = pool(functions.conv(x, "conv1").relu(), 2)
    y = pool(functions.conv(y, "conv2").relu(), 2)
    return functions.classify(y, ("fc1", "predictions"))


@pytest.mark.parametrize(("name", "render", "side"), [("LeNet5", lenet5, 32), ("LeNet", lenet, 28)])
def test_lenets(name, render, side):
    model = getattr(kcc, name)(weights=None, classifier_activation=None)
    centers = [layer.get_weights() for layer in model.layers if layer.name == "rbf"]
    randomize(model)
    for values in centers:
        model.get_layer("rbf").set_weights(values)
    x = np.random.default_rng(0).uniform(-0.1, 1.175, (2, side, side, 1)).astype("float32")
    assert keras.ops.shape(model(x)) == (2, 10)
    near(model, render(channels_first(x), Functions(model)), x)
