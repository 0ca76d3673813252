"""DenseNet: every layer sees the maps of all layers before it.

Maps are concatenated, not added, so each layer needs to contribute only a few (the growth rate) and
what was once found is found no more. Bottlenecks of 1x1 convolutions and transitions that halve
the maps between blocks ("BC") keep the concatenations small.

References:
    - [Densely connected convolutional networks](https://arxiv.org/abs/1608.06993),
      Huang, Liu, van der Maaten and Weinberger, CVPR 2017
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from keras import layers

from keras_cnn_classics.applications._architecture import architecture
from keras_cnn_classics.applications._keras_modules import preprocessing_for
from keras_cnn_classics.blocks.core import (
    channel_axis,
    cifar_depths,
    concat,
    exactly,
    max_pool,
    norm,
    norm_relu,
    plain_conv,
)
from keras_cnn_classics.blocks.heads import gap_dense
from keras_cnn_classics.preprocessing import decode_predictions as decode_predictions

preprocess_input = preprocessing_for(__name__)

PAPER: dict[str, Any] = {
    "year": 2016,
    "paper": "Densely connected convolutional networks",
    "url": "https://arxiv.org/abs/1608.06993",
    "head": gap_dense(),
}


def dense_layer(x: Any, growth: int, *, name: str, bottleneck: bool = True) -> Any:
    """One layer of a dense block: its maps are put behind its input's.

    Args:
        x: Feature map.
        growth: Number of maps that the layer adds.
        name: Prefix of the layers' names.
        bottleneck: Whether a 1x1 convolution to `4 * growth` maps comes first.

    Returns:
        A feature map with `growth` more channels.
    """
    y = norm_relu(x, name=f"{name}_0")
    if bottleneck:
        y = plain_conv(y, 4 * growth, 1, name=f"{name}_1")
        y = norm_relu(y, name=f"{name}_1")
    y = plain_conv(y, growth, 3, name=f"{name}_2")
    return concat([x, y], name=f"{name}_concat")


def transition(x: Any, compression: float, *, name: str) -> Any:
    """Between two blocks: a 1x1 convolution to a share of the maps, and a pool of 2x2.

    Args:
        x: Feature map.
        compression: Share of the maps that is kept.
        name: Prefix of the layers' names.

    Returns:
        A feature map of half the height and width.
    """
    x = norm_relu(x, name=name)
    x = plain_conv(x, int(x.shape[channel_axis()] * compression), 1, name=name)
    return layers.AveragePooling2D(2, name=f"{name}_pool")(x)


def _blocks(
    x: Any, depths: Sequence[int], growth: int, *, bottleneck: bool, compression: float
) -> Any:
    for block, depth in enumerate(depths, 2):
        for i in range(1, depth + 1):
            x = dense_layer(x, growth, name=f"conv{block}_block{i}", bottleneck=bottleneck)
        if block < len(depths) + 1:
            x = transition(x, compression, name=f"pool{block}")
    x = norm(x, momentum=0.9, epsilon=1.001e-5, name="bn")
    return layers.ReLU(name="relu")(x)


def _torch_names(*, depths: Sequence[int], **_: Any) -> Mapping[str, Sequence[str]]:
    """The names of torchvision and of timm, and the older ones of the files that they publish."""
    names: dict[str, tuple[str, ...]] = {
        "conv1_conv": ("features.conv0",),
        "conv1_bn": ("features.norm0",),
    }
    for block, depth in enumerate(depths, 1):
        for i in range(1, depth + 1):
            ours = f"conv{block + 1}_block{i}"
            theirs = f"features.denseblock{block}.denselayer{i}"
            names |= {
                f"{ours}_0_bn": (f"{theirs}.norm1", f"{theirs}.norm.1"),
                f"{ours}_1_conv": (f"{theirs}.conv1", f"{theirs}.conv.1"),
                f"{ours}_1_bn": (f"{theirs}.norm2", f"{theirs}.norm.2"),
                f"{ours}_2_conv": (f"{theirs}.conv2", f"{theirs}.conv.2"),
            }
        names |= {
            f"pool{block + 1}_bn": (f"features.transition{block}.norm",),
            f"pool{block + 1}_conv": (f"features.transition{block}.conv",),
        }
    return names | {"bn": ("features.norm5",), "predictions": ("classifier",)}


@architecture(
    **PAPER,
    protocol="one crop",
    torch_names=_torch_names,
    stride=32,
    tiny={"depths": (1, 2, 2, 1), "growth": 16},
)
def densenet(x: Any, *, depths: Sequence[int], growth: int = 32) -> Any:
    """DenseNet-BC for ImageNet.

    Args:
        x: Image batch.
        depths: Number of layers in each of the four dense blocks, table 1.
        growth: Growth rate: maps that each layer adds.

    Returns:
        Feature map of stride 32: 7x7 for an image of 224x224.
    """
    x = plain_conv(x, 2 * growth, 7, 2, name="conv1")
    x = norm_relu(x, name="conv1")
    x = layers.ZeroPadding2D(1, name="pool1_pad")(x)
    x = max_pool(x, name="pool1")
    depths = exactly(4, depths, "depths")
    return _blocks(x, depths, growth, bottleneck=True, compression=0.5)


def _cifar_depths(depth: int, bc: bool) -> tuple[int, ...]:
    return cifar_depths(depth, 6 if bc else 3, 4, detail=f" with {bc=}")


def _cifar_torch_names(*, depth: int, bc: bool, **_: Any) -> Mapping[str, Sequence[str]]:
    """The names of pytorchcv."""
    names = {"conv1_conv": ("features.init_block",)}
    for block, layers_of_block in enumerate(_cifar_depths(depth, bc), 1):
        for i in range(1, layers_of_block + 1):
            ours, theirs = f"conv{block + 1}_block{i}", f"features.stage{block}.unit{i}.conv"
            if bc:
                names |= {
                    f"{ours}_1_conv": (f"{theirs}1.conv",),
                    f"{ours}_1_bn": (f"{theirs}2.bn",),
                }
            names |= {
                f"{ours}_0_bn": (f"{theirs}{'1' if bc else ''}.bn",),
                f"{ours}_2_conv": (f"{theirs}{'2' if bc else ''}.conv",),
            }
        for part in ("bn", "conv"):
            theirs = f"features.stage{block + 1}.trans{block + 1}.conv.{part}"
            names[f"pool{block + 1}_{part}"] = (theirs,)
    return names | {"bn": ("features.post_activ.bn",), "predictions": ("output",)}


@architecture(
    **PAPER,
    protocol="CIFAR-10, test",
    torch_names=_cifar_torch_names,
    stride=4,
    input_size=32,
    min_size=8,
    classes=10,
    tiny={"depth": 10},
    notes=(
        "Without the dropout of 0.2 that the paper's training has where it does not augment the "
        "images."
    ),
)
def densenet_cifar(x: Any, *, depth: int, growth: int = 12, bc: bool = False) -> Any:
    """DenseNet for images of 32x32, section 3.

    Args:
        x: Image batch.
        depth: Weighted layers: 3n + 4, or 6n + 4 with `bc`.
        growth: Growth rate: maps that each layer adds.
        bc: Whether layers have bottlenecks, and transitions halve the maps.

    Returns:
        Feature map of stride 4: 8x8 for an image of 32x32.
    """
    depths = _cifar_depths(depth, bc)
    x = plain_conv(x, 2 * growth if bc else 16, 3, name="conv1")
    return _blocks(x, depths, growth, bottleneck=bc, compression=0.5 if bc else 1.0)


DenseNet121 = densenet.variant(
    "DenseNet121",
    top1_error=25.02,
    top5_error=7.71,
    depths=(6, 12, 24, 16),
    features=1024,
    params=7_978_856,
    macs=2_834_161_664,
)
DenseNet161 = densenet.variant(
    "DenseNet161",
    depths=(6, 12, 36, 24),
    growth=48,
    features=2208,
    params=28_681_000,
    macs=7_727_907_072,
    notes="From the authors' code, with a growth rate of 48.",
)
DenseNet169 = densenet.variant(
    "DenseNet169",
    top1_error=23.8,
    top5_error=6.85,
    depths=(6, 12, 32, 32),
    features=1664,
    params=14_149_480,
    macs=3_359_843_328,
)
DenseNet201 = densenet.variant(
    "DenseNet201",
    top1_error=22.58,
    top5_error=6.34,
    depths=(6, 12, 48, 32),
    features=1920,
    params=20_013_928,
    macs=4_291_365_888,
)
DenseNet264 = densenet.variant(
    "DenseNet264",
    top1_error=22.15,
    top5_error=6.12,
    depths=(6, 12, 64, 48),
    features=2688,
    params=33_337_704,
    macs=5_751_653_376,
)
DenseNet40_12 = densenet_cifar.variant(
    "DenseNet40_12", top1_error=5.24, depth=40, features=448, params=1_019_722, macs=264_812_928
)
DenseNetBC100_12 = densenet_cifar.variant(
    "DenseNetBC100_12",
    top1_error=4.51,
    depth=100,
    bc=True,
    features=342,
    params=769_162,
    macs=287_929_692,
)
