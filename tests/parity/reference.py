"""What the parity tests with PyTorch share: rough weights, checkpoints, and the comparison."""

import gc
import math

import keras
import numpy as np
import torch
from safetensors.torch import save_file

import keras_cnn_classics as kcc

X = np.random.default_rng(0).normal(size=(2, 224, 224, 3)).astype("float32")


def randomize(module, gain=1.0):
    """Rough weights; batch-norm statistics far from 0 and 1.

    Very deep networks of such weights are chaotic, so that rounding changes all; a smaller gain of
    their normalizations tames them.
    """
    generator = torch.Generator().manual_seed(1)
    for part in module.modules():
        if isinstance(part, torch.nn.BatchNorm2d):
            part.running_mean.normal_(0, 0.5, generator=generator)
            part.running_var.uniform_(0.5, 2.0, generator=generator)
            part.weight.data.uniform_(0.5 * gain, 1.5 * gain, generator=generator)
            part.bias.data.normal_(0, 0.3, generator=generator)
        elif isinstance(part, (torch.nn.Conv2d, torch.nn.Linear)):
            fan_in = part.weight[0].numel()
            part.weight.data.normal_(0, (2 / fan_in) ** 0.5, generator=generator)
            if part.bias is not None:
                part.bias.data.normal_(0, 0.2, generator=generator)
    return module.eval()


def save(module, path):
    """Writes the module's checkpoint in the format that the path's ending names."""
    if path.suffix == ".safetensors":
        save_file(module.state_dict(), path)
    else:
        torch.save(module.state_dict(), path)
    return path


def compare(module, name, path, x=X, **options):
    """Our model with the module's checkpoint against the module."""
    ours = getattr(kcc, name)(weights=path, classifier_activation=None, **options)
    path.unlink()
    with torch.no_grad():
        theirs = module(torch.from_numpy(np.moveaxis(x, -1, 1).copy())).numpy()
    got = keras.ops.convert_to_numpy(ours(x, training=False))
    np.testing.assert_allclose(got, theirs, rtol=0, atol=1e-4 * np.abs(theirs).max())
    trainable = sum(p.numel() for p in module.parameters())
    assert trainable == sum(math.prod(w.shape) for w in ours.trainable_weights)
    if not options:
        assert trainable == getattr(kcc, name).spec.params
    del ours
    gc.collect()


def fill(model, seed=1):
    """Gives a Keras model rough weights; batch-norm statistics far from 0 and 1."""
    rng = np.random.default_rng(seed)
    for layer in model.layers:
        values = []
        for w in layer.weights:
            if w.name == "moving_variance":
                values.append(rng.uniform(0.5, 2.0, w.shape))
            elif len(w.shape) > 1:
                scale = np.sqrt(2 / np.prod(w.shape[:-1]))
                values.append(rng.standard_normal(w.shape, "float32") * scale)
            else:
                values.append(rng.normal(float(w.name == "gamma"), 0.2, w.shape))
        if values:
            layer.set_weights(values)
