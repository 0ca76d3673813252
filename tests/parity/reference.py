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
        if isinstance(part, (torch.nn.BatchNorm1d, torch.nn.BatchNorm2d)):
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


def near(ours, theirs, x):
    """Asserts that the model gives these answers, one tensor or several by name."""
    got = keras.tree.map_structure(keras.ops.convert_to_numpy, ours(x, training=False))
    got = got if isinstance(got, dict) else {"predictions": got}
    theirs = theirs if isinstance(theirs, dict) else {"predictions": theirs}
    assert set(got) == set(theirs)
    for name, expected in theirs.items():
        atol = 1e-4 * expected.abs().max().item()
        np.testing.assert_allclose(got[name], expected.numpy(), rtol=0, atol=atol, err_msg=name)


def answers(module, x):
    """What a module gives for images, channels last; by our names if it has auxiliary answers."""
    with torch.no_grad():
        y = module(torch.from_numpy(np.moveaxis(x, -1, 1).copy()))
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
