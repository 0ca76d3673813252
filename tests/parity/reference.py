"""What the parity tests with PyTorch share: rough weights, checkpoints, and the comparison."""

import gc
import math

import keras
import numpy as np
import pytest
import torch
from rough import assert_near
from safetensors.torch import save_file

import keras_cnn_classics as kcc

X = np.random.default_rng(0).normal(size=(2, 224, 224, 3)).astype("float32")


def pytorchcv(file):
    """A file of pytorchcv's models; without that package the test is skipped."""
    return pytest.importorskip(f"pytorchcv.models.{file}", reason="compares with pytorchcv")


def randomize(module, gain=1.0):
    """Rough weights; batch-norm statistics far from 0 and 1.

    Very deep networks of such weights are chaotic, so that rounding changes all; a smaller gain of
    their normalizations tames them.
    """
    generator = torch.Generator().manual_seed(1)
    for part in module.modules():
        if isinstance(part, (torch.nn.BatchNorm1d, torch.nn.BatchNorm2d)):
            part.running_mean.normal_(0, 0.5, generator=generator)
            part.running_var.uniform_(0.5, 2.0, generator=generator)
            part.weight.data.uniform_(0.5 * gain, 1.5 * gain, generator=generator)
            part.bias.data.normal_(0, 0.3, generator=generator)
        elif isinstance(part, (torch.nn.Conv2d, torch.nn.Conv3d, torch.nn.Linear)):
            fan_in = part.weight[0].numel()
            part.weight.data.normal_(0, (2 / fan_in) ** 0.5, generator=generator)
            if part.bias is not None:
                part.bias.data.normal_(0, 0.2, generator=generator)
    return module.eval()


def near(ours, theirs, x):
    """Asserts that the model gives these answers, one tensor or several by name."""
    got = keras.tree.map_structure(keras.ops.convert_to_numpy, ours(x, training=False))
    got = got if isinstance(got, dict) else {"predictions": got}
    theirs = theirs if isinstance(theirs, dict) else {"predictions": theirs}
    assert set(got) == set(theirs)
    for name, expected in theirs.items():
        assert_near(got[name], expected.numpy(), name)


def channels_first(x):
    """Images for PyTorch."""
    return torch.from_numpy(np.moveaxis(x, -1, 1).copy())


def answers(module, x):
    """What a module gives for images, channels last; by our names if it has auxiliary answers."""
    with torch.no_grad():
        y = module(channels_first(x))
    if not isinstance(y, tuple):
        return y
    names = ["predictions", *(f"aux{i}" for i in range(1, len(y)))]
    return dict(zip(names, y, strict=True))


def compare(module, name, folder, x=X, *, state=None, **options):
    """Compares our model, with the module's checkpoint, with the module.

    Args:
        module: A PyTorch module with rough weights.
        name: Name of our model.
        folder: Where the checkpoint is written, in both formats.
        x: Images, channels last.
        state: The checkpoint, if it is not the module's own.
        **options: Options of our builder.
    """
    build = getattr(kcc, name)
    theirs = answers(module, x)
    options["aux"] = isinstance(theirs, dict)
    state = state or module.state_dict()
    torch.save(state, folder / "theirs.pth")
    save_file(state, folder / "theirs.safetensors")
    paths = folder / "theirs.safetensors", folder / "theirs.pth"
    ours, again = (build(weights=path, classifier_activation=None, **options) for path in paths)
    for path in paths:
        path.unlink()
    for a, b in zip(ours.weights, again.weights, strict=True):
        np.testing.assert_array_equal(*map(keras.ops.convert_to_numpy, (a, b)))
    del again
    near(ours, theirs, x)
    trainable = sum(p.numel() for p in module.parameters())
    assert trainable == sum(math.prod(w.shape) for w in ours.trainable_weights)
    if options == {"aux": False}:
        assert trainable == build.spec.params
    del ours
    gc.collect()


class Functions:
    """PyTorch's functions with the weights of our layers, to render a paper's table in."""

    def __init__(self, model):
        self.weights = {
            layer.name: [torch.from_numpy(w) for w in layer.get_weights()] for layer in model.layers
        }

    def conv(self, x, name, **kwargs):
        kernel, *bias = self.weights[name]
        return torch.nn.functional.conv2d(x, kernel.permute(3, 2, 0, 1), *bias, **kwargs)

    def norm(self, x, name, eps):
        gamma, beta, mean, variance = self.weights[name]
        return torch.nn.functional.batch_norm(x, mean, variance, gamma, beta, eps=eps)

    def dense(self, x, name):
        kernel, bias = self.weights[name]
        return x @ kernel + bias

    def classify(self, x, names):
        """Flattens, channels last, then dense layers with ReLU between them."""
        x = x.permute(0, 2, 3, 1).flatten(1)
        *hidden, last = names
        for name in hidden:
            x = self.dense(x, name).relu()
        return self.dense(x, last)


def lrn(x):
    """AlexNet's normalization. The paper's alpha, 1e-4, is for the sum, PyTorch's for the mean."""
    return torch.nn.functional.local_response_norm(x, 5, alpha=5e-4, beta=0.75, k=2.0)
