"""Networks with attention against pytorchcv, and against PyTorch renderings of authors' files."""

import functools

import pytest

import keras_cnn_classics as kcc

pytestmark = pytest.mark.parity

timm = pytest.importorskip("timm", reason="the parity tests compare with timm")
torch = pytest.importorskip("torch", reason="the parity tests compare with PyTorch")
safetensors = pytest.importorskip("safetensors.torch")

from reference import (  # noqa: E402
    X,
    answers,
    compare,
    near,
    pytorchcv,
    randomize,
)

from tests.marks import slow  # noqa: E402

functional = torch.nn.functional
GAIN = 0.8  # with 1, residual networks of rough weights are chaotic


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        slow("cbam_resnet18", "CBAMResNet18"),
        slow("cbam_resnet34", "CBAMResNet34"),
        ("cbam_resnet50", "CBAMResNet50"),
        slow("cbam_resnet101", "CBAMResNet101"),
    ],
)
def test_cbam(theirs, ours, tmp_path):
    module = randomize(getattr(pytorchcv("cbamresnet"), theirs)(), GAIN)
    compare(module, ours, tmp_path)


# From pytorchcv's parts of a block to those of the authors' code.
CBAM = {
    "identity_conv.conv": "downsample.0",
    "identity_conv.bn": "downsample.1",
    "cbam.ch_gate.mlp.fc1": "cbam.ChannelGate.mlp.1",
    "cbam.ch_gate.mlp.fc2": "cbam.ChannelGate.mlp.3",
    "cbam.sp_gate.conv.conv": "cbam.SpatialGate.spatial.conv",
    "cbam.sp_gate.conv.bn": "cbam.SpatialGate.spatial.bn",
    **{f"body.conv{n}.{part}": f"{part}{n}" for n in (1, 2) for part in ("conv", "bn")},
}
CBAM_ENDS = {
    "features.init_block.conv.conv": "conv1",
    "features.init_block.conv.bn": "bn1",
    "output": "fc",
}


def test_the_checkpoints_of_cbams_authors(tmp_path):
    """Their names, which begin with `module.`: the networks were trained on several GPUs."""
    module = randomize(pytorchcv("cbamresnet").cbam_resnet18(), GAIN)
    state = {}
    for key, value in module.state_dict().items():
        part, leaf = key.rsplit(".", 1)
        other = CBAM_ENDS.get(part)
        if other is None:
            _, stage, unit, rest = part.split(".", 3)
            other = f"layer{stage[-1]}.{int(unit.removeprefix('unit')) - 1}.{CBAM[rest]}"
        state[f"module.{other}.{leaf}"] = value
    compare(module, "CBAMResNet18", tmp_path, state=state)


@pytest.mark.parametrize(
    ("theirs", "ours"), [("resattnet56", "Attention56"), slow("resattnet92", "Attention92")]
)
def test_pytorchcvs_residual_attention(theirs, ours, tmp_path):
    module = randomize(getattr(pytorchcv("resattnet"), theirs)(), GAIN)
    compare(module, ours, tmp_path, form="pytorchcv")


def mask(hourglass, x, level=0):
    """The mask branch as the authors' files for Caffe connect pytorchcv's layers."""
    y = hourglass.down_seq[level](x)
    if level + 1 < hourglass.depth:
        y = hourglass.skip_seq[level + 1].skip1(y) + mask(hourglass, y, level + 1)
    y = hourglass.up_seq[level].res_blocks(y)
    return functional.interpolate(y, x.shape[2:], mode="bilinear", align_corners=True)


def mask_and_trunk(hourglass, x):
    return mask(hourglass, x), hourglass.skip_seq.skip1(x)


def as_the_authors(network):
    """pytorchcv's network with the authors' pools and mask branches."""
    for part in network.modules():
        if isinstance(part, torch.nn.MaxPool2d):
            part.padding, part.ceil_mode = 0, True
        elif type(part).__name__ == "Hourglass":
            part.forward = functools.partial(mask_and_trunk, part)
    network.features.final_pool = torch.nn.AdaptiveAvgPool2d(1)
    return network


@pytest.mark.parametrize(
    ("theirs", "ours", "side"),
    [
        ("resattnet56", "Attention56", 131),  # makes every map odd somewhere
        slow("resattnet56", "Attention56", 224),
        slow("resattnet92", "Attention92", 131),
    ],
)
def test_the_authors_residual_attention(theirs, ours, side, tmp_path):
    network = as_the_authors(getattr(pytorchcv("resattnet"), theirs)())
    module = randomize(network, GAIN)
    compare(module, ours, tmp_path, X[:, :side, :side], input_shape=(side, side, 3))


def attention(x, weights, pool_size):
    """Section 3 of the SAGAN paper, in PyTorch's functions."""
    gamma, *kernels = weights
    f, g, h, v = (kernel.permute(3, 2, 0, 1) for kernel in kernels)
    keys, values = (
        functional.max_pool2d(functional.conv2d(x, kernel), pool_size) for kernel in (f, h)
    )
    rows = (y.flatten(2).transpose(1, 2) for y in (functional.conv2d(x, g), keys, values))
    found = functional.scaled_dot_product_attention(*rows, scale=1.0)
    found = found.transpose(1, 2).reshape(len(x), -1, *x.shape[2:])
    return x + gamma * functional.conv2d(found, v)


@pytest.mark.parametrize("pool_size", [1, slow(2)])
def test_self_attention_in_timms_resnet50(pool_size, tmp_path):
    """Of the weights of a ResNet-50 the network makes that ResNet-50, until it has learnt more."""
    module = randomize(timm.create_model("resnet50"), GAIN)
    safetensors.save_file(module.state_dict(), tmp_path / "theirs.safetensors")
    model = kcc.SelfAttentionResNet50(
        weights=tmp_path / "theirs.safetensors",
        skip_mismatch=True,
        classifier_activation=None,
        pool_size=pool_size,
    )
    before = answers(module, X)
    near(model, before, X)
    layer = model.get_layer("conv4_attention")
    generator = torch.Generator().manual_seed(2)
    shapes = [tuple(w.shape) for w in layer.weights[1:]]  # the first is gamma
    kernels = [torch.randn(shape, generator=generator) / shape[2] ** 0.5 for shape in shapes]
    weights = [torch.tensor(0.5), *kernels]
    layer.set_weights([w.numpy() for w in weights])
    module.layer3[5].register_forward_pre_hook(
        lambda block, given: attention(given[0], weights, pool_size)
    )
    after = answers(module, X)
    near(model, after, X)
    assert (after - before).abs().max() > 1e-2 * before.abs().max()
