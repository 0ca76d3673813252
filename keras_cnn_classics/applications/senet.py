"""Squeeze-and-excitation: a network that weighs its own channels.

Behind a block's last convolution the map is averaged to one number for each channel; two small
dense layers turn these into weights between 0 and 1, by which the channels are multiplied. That
costs next to nothing and improves every network it is put into: here ResNet, ResNeXt, VGG and
Inception, and SENet-154, which won ILSVRC 2017.

In residual blocks it comes before the addition. The dense layers are 1x1 convolutions with biases,
as in all published weights. The first pool of the residual networks is Caffe's, without padding
and with a window that may hang over the far edge.

References:
    - [Squeeze-and-excitation networks](https://arxiv.org/abs/1709.01507),
      Hu, Shen, Albanie, Sun and Wu, CVPR 2018
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from keras import layers

from keras_cnn_classics.applications import bn_inception, inception_resnet
from keras_cnn_classics.applications._architecture import architecture
from keras_cnn_classics.applications.inception_v3 import Units
from keras_cnn_classics.blocks.core import (
    channel_axis,
    exactly,
    max_pool,
    one_of,
    squeeze_excite,
)
from keras_cnn_classics.blocks.heads import gap_dense, mlp
from keras_cnn_classics.blocks.residual import first_pool, stages, stem, torch_names, unit

PAPER: dict[str, Any] = {
    "year": 2017,
    "paper": "Squeeze-and-excitation networks",
    "url": "https://arxiv.org/abs/1709.01507",
    "protocol": "one crop",
}


def _names_of_blocks(
    depths: Sequence[int], excite: str = "se_module"
) -> dict[str, tuple[str, ...]]:
    """The names of timm's older networks, which are for the authors' weights."""
    names = torch_names(bottleneck=True, depths=depths)
    for stage, depth in enumerate(depths, 1):
        for i in range(depth):
            ours, theirs = f"conv{stage + 1}_block{i + 1}", f"layer{stage}.{i}.{excite}"
            names |= {
                f"{ours}_se_reduce": (f"{theirs}.fc1",),
                f"{ours}_se_expand": (f"{theirs}.fc2",),
            }
    return names | {"predictions": ("last_linear",)}


def _resnet_names(
    *, depths: Sequence[int], groups: int, stride_in: str, ceil_mode: bool, **_: Any
) -> Mapping[str, Sequence[str]]:
    """Those names for the authors' form, the names of timm's own networks for theirs.

    The two differ in the first pool, and in where ResNet's blocks make their steps. With the names
    of both, the weights of one would load into the form of the other; a form that is neither's has
    no names.
    """
    if ceil_mode and stride_in == ("1x1" if groups == 1 else "3x3"):
        return {
            **_names_of_blocks(depths),
            "conv1_conv": ("layer0.conv1",),
            "conv1_bn": ("layer0.bn1",),
        }
    if ceil_mode or stride_in != "3x3":
        return {}
    first = torch_names(bottleneck=True, depths=depths)
    kept = {key: first[key] for key in ("conv1_conv", "conv1_bn", "predictions")}
    return _names_of_blocks(depths, excite="se") | kept


def _check_ratio(ratio: int, channels: int) -> None:
    if not 1 <= ratio <= channels:
        raise ValueError(
            f"`ratio` must be from 1 to {channels}, the fewest channels that are weighed. "
            f"Received: {ratio=}"
        )


@architecture(
    **PAPER,
    head=gap_dense(),
    torch_names=_resnet_names,
    torch_options={"stride_in": "3x3", "ceil_mode": False},
    notes=(
        "The options are for the checkpoints that timm trained; the authors' own, timm's `legacy_` "
        "ones, are for the network without options."
    ),
    features=2048,
    stride=32,
    tiny={"depths": (1, 2, 1, 1), "filters": 16, "ratio": 4},
)
def se_resnet(
    x: Any,
    *,
    depths: Sequence[int],
    filters: int = 64,
    groups: int = 1,
    stride_in: str = "1x1",
    ratio: int = 16,
    ceil_mode: bool = True,
) -> Any:
    """ResNet or ResNeXt with squeeze-and-excitation, figure 3 and table 1.

    Args:
        x: Image batch.
        depths: Number of blocks in each of the four stages.
        filters: Filters of the first stage's 3x3 convolutions; each stage doubles them.
        groups: Groups of the 3x3 convolutions: 1 for ResNet, 32 for ResNeXt. A block gives 4 times
            the filters of its 3x3 convolution; with groups, which have twice as many, 2 times.
        stride_in: Convolution that makes a block's steps, `"1x1"` or `"3x3"`.
        ratio: How many times fewer units than channels a squeeze-and-excitation has.
        ceil_mode: Whether the first pool is Caffe's, as the authors', or ResNet's, padded on all
            sides; weights that timm trained want `ceil_mode=False, stride_in="3x3"`.

    Returns:
        Feature map of stride 32: 7x7 for an image of 224x224.
    """
    one_of("stride_in", stride_in, ("1x1", "3x3"))
    out = filters * (4 if groups == 1 else 2)
    _check_ratio(ratio, out)
    return stages(
        stem(x, out // 4, ceil_mode=ceil_mode),
        exactly(4, depths, "depths"),
        filters,
        out,
        bottleneck=True,
        stride_in=stride_in,
        groups=groups,
        refine=lambda x, name: squeeze_excite(x, ratio, name=f"{name}_se"),
    )


def se_bottleneck(
    x: Any, filters: int, strides: int, *, kernel: int, groups: int, ratio: int, name: str
) -> Any:
    """SENet-154's block: its first convolution is halved, its 3x3 convolution has groups.

    Args:
        x: Feature map.
        filters: Filters of the 3x3 convolution and of the block.
        strides: Steps of the 3x3 convolution and of the shortcut.
        kernel: Height and width of the shortcut's convolution, where there is one.
        groups: Groups of the 3x3 convolution.
        ratio: Reduction of the squeeze-and-excitation.
        name: Prefix of the layers' names.

    Returns:
        A feature map with `filters` channels.
    """
    way = x
    if strides > 1 or x.shape[channel_axis()] != filters:
        way = unit(x, filters, kernel, strides, name=f"{name}_0", relu=False)
    x = unit(x, filters // 2, 1, name=f"{name}_1")
    x = unit(x, filters, 3, strides, name=f"{name}_2", groups=groups)
    x = unit(x, filters, 1, name=f"{name}_3", relu=False)
    x = squeeze_excite(x, ratio, name=f"{name}_se")
    x = layers.Add(name=f"{name}_add")([way, x])
    return layers.ReLU(name=f"{name}_out")(x)


def _senet_names(
    *, depths: Sequence[int], ceil_mode: bool, **_: Any
) -> Mapping[str, Sequence[str]]:
    """Those names for the authors' form, the names of timm's own network for its."""
    theirs = [f"layer0.{kind}{i}" for i in (1, 2, 3) for kind in ("conv", "bn")]
    if not ceil_mode:
        theirs = ["conv1.0", "conv1.1", "conv1.3", "conv1.4", "conv1.6", "bn1"]
    ours = [f"conv1_{i}_{kind}" for i in (1, 2, 3) for kind in ("conv", "bn")]
    first = {name: (other,) for name, other in zip(ours, theirs, strict=True)}
    blocks = _names_of_blocks(depths, excite="se_module" if ceil_mode else "se")
    for name in ("conv1_conv", "conv1_bn"):  # ResNet's
        del blocks[name]
    return blocks | first | ({} if ceil_mode else {"predictions": ("fc",)})


@architecture(
    **PAPER,
    head=gap_dense(dropout=0.2),
    torch_names=_senet_names,
    torch_options={"ceil_mode": False},
    notes="ceil_mode=False is for timm's `senet154.gluon_in1k`, the default for its `legacy_` one.",
    features=2048,
    stride=32,
    tiny={"depths": (1, 2, 1, 1), "width": 32, "groups": 4, "ratio": 4},
)
def senet(
    x: Any,
    *,
    depths: Sequence[int],
    groups: int = 64,
    width: int = 256,
    ratio: int = 16,
    ceil_mode: bool = True,
) -> Any:
    """SENet-154, the winner of ILSVRC 2017: appendix of the paper.

    Args:
        x: Image batch.
        depths: Number of blocks in each of the four stages.
        groups: Groups of the 3x3 convolutions.
        width: Filters of the first stage's blocks; each stage doubles them.
        ratio: How many times fewer units than channels a squeeze-and-excitation has.
        ceil_mode: Whether the first pool is Caffe's, as the authors', or padded on all sides.

    Returns:
        Feature map of stride 32: 7x7 for an image of 224x224.
    """
    _check_ratio(ratio, width)
    x = unit(x, width // 4, 3, 2, name="conv1_1")
    x = unit(x, width // 4, 3, name="conv1_2")
    x = unit(x, width // 2, 3, name="conv1_3")
    x = first_pool(x, ceil_mode=ceil_mode)
    for stage, depth in enumerate(exactly(4, depths, "depths")):
        for i in range(depth):
            x = se_bottleneck(
                x,
                width * 2**stage,
                2 if stage and not i else 1,
                kernel=3 if stage else 1,
                groups=groups,
                ratio=ratio,
                name=f"conv{stage + 2}_block{i + 1}",
            )
    return x


@architecture(
    **PAPER,
    head=mlp(),
    features=512,
    stride=32,
    fixed_top=True,
    tiny={"depths": (1, 2, 1, 1, 1), "width": 16, "units": (32, 24), "ratio": 2},
    notes=(
        "The authors' network is not published: here are VGG16 with batch normalization, without "
        "biases, and a squeeze-and-excitation behind each ReLU of its 13 convolutions."
    ),
)
def se_vgg(x: Any, *, depths: Sequence[int], width: int = 64, ratio: int = 16) -> Any:
    """VGG with batch normalization and squeeze-and-excitation, table 2.

    Args:
        x: Image batch.
        depths: Number of convolutions in each of the five blocks.
        width: Filters of the first block; each block doubles them, up to eightfold.
        ratio: How many times fewer units than channels a squeeze-and-excitation has.

    Returns:
        Feature map of stride 32: 7x7 for an image of 224x224.
    """
    _check_ratio(ratio, width)
    for block, depth in enumerate(exactly(5, depths, "depths"), 1):
        filters = width * min(8, 2 ** (block - 1))
        for i in range(1, depth + 1):
            name = f"block{block}_conv{i}"
            x = unit(x, filters, 3, name=name)
            x = squeeze_excite(x, ratio, name=f"{name}_se")
        x = max_pool(x, 2, name=f"block{block}_pool")
    return x


@architecture(
    **PAPER,
    head=gap_dense(),
    features=1024,
    stride=32,
    preprocessing="caffe",
    tiny={"width": 0.5, "ratio": 4},
)
def se_bn_inception(x: Any, *, ratio: int = 16, width: float = 1.0) -> Any:
    """BN-Inception with squeeze-and-excitation behind each module, figure 2.

    Args:
        x: Image batch.
        ratio: How many times fewer units than channels a squeeze-and-excitation has.
        width: Multiplier of every layer's filters; the paper has 1.

    Returns:
        Feature map of stride 32: 7x7 for an image of 224x224.
    """
    _check_ratio(ratio, int(256 * width))
    return bn_inception.body(x, bias=False, width=width, se=ratio)


@architecture(
    **PAPER,
    head=gap_dense(),
    features=1536,
    stride=32,
    input_size=299,
    min_size=75,
    preprocessing="tf",
    tiny={"width": 0.5, "repeats": (1, 1, 2), "ratio": 4},
    notes=(
        "The authors' network is not published: here each residual module of Keras's "
        "Inception-ResNet v2 has a squeeze-and-excitation before its factor, and batch "
        "normalizations have scales. There is no dropout, as in Keras's."
    ),
)
def se_inception_resnet(
    x: Any, *, repeats: Sequence[int] = (10, 20, 10), ratio: int = 16, width: float = 1.0
) -> Any:
    """Inception-ResNet v2 with squeeze-and-excitation, table 2.

    Args:
        x: Image batch.
        repeats: Number of residual modules of 35x35, of 17x17 and of 8x8.
        ratio: How many times fewer units than channels a squeeze-and-excitation has.
        width: Multiplier of every layer's filters; the paper has 1.

    Returns:
        Feature map of stride 32: 8x8 for an image of 299x299.
    """
    _check_ratio(ratio, int(320 * width))
    return inception_resnet.version_2(x, repeats, Units(scale=True, width=width), se=ratio)


D50, D101, D152 = (3, 4, 6, 3), (3, 4, 23, 3), (3, 8, 36, 3)
RESNEXT: dict[str, Any] = {
    "filters": 128,
    "groups": 32,
    "stride_in": "3x3",
    "torch_options": {"ceil_mode": False},
    "tiny": {"depths": (1, 2, 1, 1), "filters": 32, "groups": 4, "ratio": 4},
}

SEResNet50 = se_resnet.variant(
    "SEResNet50",
    depths=D50,
    params=28_088_024,
    macs=3_860_488_192,
    top1_error=23.29,
    top5_error=6.62,
)
SEResNet101 = se_resnet.variant(
    "SEResNet101",
    depths=D101,
    params=49_326_872,
    macs=7_574_937_600,
    top1_error=22.38,
    top5_error=6.07,
)
SEResNet152 = se_resnet.variant(
    "SEResNet152",
    depths=D152,
    params=66_821_848,
    macs=11_288_993_792,
    top1_error=21.57,
    top5_error=5.73,
)
SEResNeXt50_32x4d = se_resnet.variant(
    "SEResNeXt50_32x4d",
    depths=D50,
    params=27_559_896,
    macs=4_232_994_816,
    top1_error=21.1,
    top5_error=5.49,
    **RESNEXT,
)
SEResNeXt101_32x4d = se_resnet.variant(
    "SEResNeXt101_32x4d",
    depths=D101,
    params=48_955_416,
    macs=7_974_739_968,
    top1_error=20.7,
    top5_error=5.01,
    **RESNEXT,
)
SEVGG16 = se_vgg.variant(
    "SEVGG16",
    depths=(2, 2, 3, 3, 3),
    params=138_592_560,
    macs=15_470_490_624,
    top1_error=25.22,
    top5_error=7.7,
)
SEBNInception = se_bn_inception.variant(
    "SEBNInception",
    params=11_931_622,
    macs=2_033_239_424,
    top1_error=24.23,
    top5_error=7.14,
)
SEInceptionResNetV2 = se_inception_resnet.variant(
    "SEInceptionResNetV2",
    params=64_387_444,
    macs=13_164_289_376,
    top1_error=19.8,
    top5_error=4.79,
)
SENet154 = senet.variant(
    "SENet154",
    depths=(3, 8, 36, 3),
    params=115_088_984,
    macs=20_688_363_520,
    top1_error=18.68,
    top5_error=4.47,
)
