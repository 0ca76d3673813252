"""ResNet, version 2: everything inside the branch, nothing behind the addition.

Batch normalization and ReLU come before each convolution, so that a signal can pass from any block
to any other unchanged, and a thousand layers still train. The first block starts, both ways, from
what is activated once behind the first convolution.

`ResNet200V2` and the CIFAR networks are the paper's, with a bottleneck's steps in its first
convolution, as in the authors' code. pytorchcv's, for its weights, step in the 3x3 convolution,
`stride_in="3x3"`, and their first block takes its shortcut before the activation,
`first_inside=True`. `ResNet50V2`, `101V2` and `152V2` are Keras's, for its weights.

References:
    - [Identity mappings in deep residual networks](https://arxiv.org/abs/1603.05027),
      He, Zhang, Ren and Sun, ECCV 2016
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
    exactly,
    max_pool,
    norm_relu,
    one_of,
    plain_conv,
)
from keras_cnn_classics.blocks.heads import gap_dense
from keras_cnn_classics.preprocessing import decode_predictions as decode_predictions

preprocess_input = preprocessing_for(__name__)

PAPER: dict[str, Any] = {
    "year": 2016,
    "paper": "Identity mappings in deep residual networks",
    "url": "https://arxiv.org/abs/1603.05027",
    "head": gap_dense(),
}


def preactivation(
    x: Any,
    filters: int,
    strides: int,
    *,
    name: str,
    bottleneck: bool,
    stride_in: str = "1x1",
    dropout: float = 0.0,
    activated: bool = False,
) -> Any:
    """The pre-activation block, figure 4(e).

    Where the shape changes, the shortcut is a projection of what the first batch normalization and
    ReLU give; elsewhere it is the input itself.

    Args:
        x: Feature map.
        filters: Filters of the 3x3 convolutions.
        strides: Steps of the block.
        name: Prefix of the layers' names.
        bottleneck: Whether there are three convolutions, the last with four times the filters.
        stride_in: `"1x1"` or `"3x3"`: where a bottleneck makes its steps.
        dropout: Share of the maps' values that training drops between two 3x3 convolutions.
        activated: Whether `x` comes from a ReLU, so that the block begins without one.

    Returns:
        A feature map with `filters` channels, or with `4 * filters` for a bottleneck.
    """
    out = 4 * filters if bottleneck else filters
    y = x if activated else norm_relu(x, name=f"{name}_preact", epsilon=1e-5)
    if strides > 1 or x.shape[channel_axis()] != out:
        x = plain_conv(y, out, 1, strides, name=f"{name}_0")
    if bottleneck:
        first, second = (strides, 1) if stride_in == "1x1" else (1, strides)
        y = plain_conv(y, filters, 1, first, name=f"{name}_1")
        y = norm_relu(y, name=f"{name}_1", epsilon=1e-5)
        y = plain_conv(y, filters, 3, second, name=f"{name}_2")
        y = norm_relu(y, name=f"{name}_2", epsilon=1e-5)
        y = plain_conv(y, out, 1, name=f"{name}_3")
    else:
        y = plain_conv(y, filters, 3, strides, name=f"{name}_1")
        y = norm_relu(y, name=f"{name}_1", epsilon=1e-5)
        if dropout:
            y = layers.Dropout(dropout, name=f"{name}_dropout")(y)
        y = plain_conv(y, out, 3, name=f"{name}_2")
    return layers.Add(name=f"{name}_out")([x, y])


def stages(
    x: Any, depths: Sequence[int], filters: int, *, activated: bool = False, **kind: Any
) -> Any:
    """Stages of blocks, each but the first in half the size with twice the filters; then ReLU.

    Args:
        x: Feature map.
        depths: Number of blocks in each stage.
        filters: Filters of the first stage's 3x3 convolutions.
        activated: Whether `x` comes from a ReLU, so that the first block begins without one.
        **kind: Further arguments of `preactivation`.

    Returns:
        A feature map.
    """
    for stage, depth in enumerate(depths):
        for i in range(depth):
            strides = 2 if stage and not i else 1
            name = f"conv{stage + 2}_block{i + 1}"
            x = preactivation(
                x, filters * 2**stage, strides, name=name, activated=activated, **kind
            )
            activated = False
    return norm_relu(x, name="post", epsilon=1e-5)


def names_of_block(ours: str, theirs: str, *, bottleneck: bool) -> dict[str, tuple[str, ...]]:
    """The names of pytorchcv for the layers of one block.

    Args:
        ours: Prefix of our layers' names.
        theirs: Name of the block in pytorchcv.
        bottleneck: Whether the block has three convolutions.

    Returns:
        Names of each layer.
    """
    names: dict[str, tuple[str, ...]] = {
        f"{ours}_preact_bn": (f"{theirs}.body.conv1.bn",),
        f"{ours}_0_conv": (f"{theirs}.identity_conv",),
    }
    for n in range(1, 4 if bottleneck else 3):
        names[f"{ours}_{n}_conv"] = (f"{theirs}.body.conv{n}.conv",)
        names[f"{ours}_{n}_bn"] = (f"{theirs}.body.conv{n + 1}.bn",)
    return names


def torch_names(*, bottleneck: bool, depths: Sequence[int]) -> Mapping[str, Sequence[str]]:
    """The names of pytorchcv.

    Args:
        bottleneck: Whether blocks have three convolutions.
        depths: Number of blocks in each stage.

    Returns:
        Names of each layer.
    """
    names: dict[str, tuple[str, ...]] = {
        "conv1_conv": ("features.init_block.conv", "features.init_block"),
        "conv1_bn": ("features.init_block.bn",),
    }
    for stage, depth in enumerate(depths, 1):
        for i in range(1, depth + 1):
            ours, theirs = f"conv{stage + 1}_block{i}", f"features.stage{stage}.unit{i}"
            names |= names_of_block(ours, theirs, bottleneck=bottleneck)
    return names | {"post_bn": ("features.post_activ.bn",), "predictions": ("output",)}


def _imagenet_torch_names(
    *, depths: Sequence[int], first_inside: bool, **_: Any
) -> Mapping[str, Sequence[str]]:
    names = torch_names(bottleneck=True, depths=depths)
    if first_inside:
        return names
    # The form without this layer has no name for it, which tells the checkpoints of both apart.
    return {key: theirs for key, theirs in names.items() if key != "conv2_block1_preact_bn"}


@architecture(
    **PAPER,
    protocol="one crop of 320",
    torch_names=_imagenet_torch_names,
    torch_options={"stride_in": "3x3", "first_inside": True},
    features=2048,
    stride=32,
    tiny={"depths": (1, 2, 1, 1), "width": 16},
    notes=(
        "pytorchcv's form has 64,666,280 parameters: first_inside=True. Its published weights are "
        "for steps in the 3x3 convolutions: stride_in='3x3'."
    ),
)
def preact_resnet(
    x: Any,
    *,
    depths: Sequence[int],
    width: int = 64,
    stride_in: str = "1x1",
    first_inside: bool = False,
) -> Any:
    """ResNet with identity mappings, as the paper has it.

    Args:
        x: Image batch.
        depths: Number of blocks in each of the four stages.
        width: Filters of the first stage; each stage doubles them.
        stride_in: Convolution that makes a block's steps, `"1x1"` or `"3x3"`.
        first_inside: Whether the first block begins with a batch normalization and ReLU of its
            own, as in pytorchcv, although there is one before the pool.

    Returns:
        Feature map of stride 32: 7x7 for an image of 224x224.
    """
    one_of("stride_in", stride_in, ("1x1", "3x3"))
    x = plain_conv(x, width, 7, 2, name="conv1")
    x = norm_relu(x, name="conv1", epsilon=1e-5)
    x = layers.ZeroPadding2D(1, name="pool1_pad")(x)
    x = max_pool(x, name="pool1_pool")
    return stages(
        x,
        exactly(4, depths, "depths"),
        width,
        activated=not first_inside,
        bottleneck=True,
        stride_in=stride_in,
    )


PROJECTIONS = "Shortcuts are projections where the shape changes."


def _cifar_depths(depth: int, bottleneck: bool) -> tuple[int, ...]:
    return cifar_depths(depth, 9 if bottleneck else 6, 2, detail=f" with {bottleneck=}")


def _cifar_torch_names(*, depth: int, bottleneck: bool, **_: Any) -> Mapping[str, Sequence[str]]:
    return torch_names(bottleneck=bottleneck, depths=_cifar_depths(depth, bottleneck))


@architecture(
    **PAPER,
    torch_names=_cifar_torch_names,
    stride=4,
    input_size=32,
    min_size=8,
    classes=10,
    protocol="CIFAR-10, test",
    notes=PROJECTIONS,
)
def preact_resnet_cifar(
    x: Any,
    *,
    depth: int,
    bottleneck: bool,
    width: int = 16,
    stride_in: str = "1x1",
    first_inside: bool = False,
) -> Any:
    """ResNet with identity mappings for images of 32x32.

    Args:
        x: Image batch.
        depth: Weighted layers: 9n + 2, or 6n + 2 without bottlenecks.
        bottleneck: Whether blocks have three convolutions (1x1, 3x3, 1x1), not two (3x3, 3x3).
        width: Filters of the first stage's 3x3 convolutions; each of the two others doubles them.
        stride_in: Convolution that makes a bottleneck's steps, `"1x1"` or `"3x3"`.
        first_inside: Whether the first block activates its input inside its branch, as the others
            and as in pytorchcv; with bottlenecks its shortcut is a projection of what is activated
            in any case.

    Returns:
        Feature map of stride 4: 8x8 for an image of 32x32.
    """
    one_of("stride_in", stride_in, ("1x1", "3x3"))
    depths = _cifar_depths(depth, bottleneck)
    x = plain_conv(x, width, 3, name="conv1")
    if not first_inside:
        x = norm_relu(x, name="conv2_block1_preact", epsilon=1e-5)
    return stages(
        x,
        depths,
        width,
        activated=not first_inside,
        bottleneck=bottleneck,
        stride_in=stride_in,
    )


KERAS_FORM = (
    "Keras's form, not the paper's: the first convolution has a bias and no batch normalization, "
    "the step of a stage is in the 3x3 convolution of its last block, whose shortcut is a pool, "
    "and the last convolution of each block has a bias."
)


def keras_block(x: Any, filters: int, strides: int, *, project: bool, name: str) -> Any:
    """The pre-activation bottleneck in Keras's form.

    Args:
        x: Feature map.
        filters: Filters of the first two convolutions; the last has four times as many.
        strides: Steps of the 3x3 convolution.
        project: Whether the shortcut is a 1x1 convolution.
        name: Prefix of the layers' names.

    Returns:
        A feature map with `4 * filters` channels.
    """
    y = norm_relu(x, name=f"{name}_preact")
    if project:
        x = layers.Conv2D(4 * filters, 1, strides, name=f"{name}_0_conv")(y)
    elif strides > 1:
        x = max_pool(x, 1, strides, name=f"{name}_0_pool")
    y = layers.Conv2D(filters, 1, use_bias=False, name=f"{name}_1_conv")(y)
    y = norm_relu(y, name=f"{name}_1")
    y = layers.ZeroPadding2D(1, name=f"{name}_2_pad")(y)
    y = layers.Conv2D(filters, 3, strides, use_bias=False, name=f"{name}_2_conv")(y)
    y = norm_relu(y, name=f"{name}_2")
    y = layers.Conv2D(4 * filters, 1, name=f"{name}_3_conv")(y)
    return layers.Add(name=f"{name}_out")([x, y])


@architecture(
    **PAPER,
    features=2048,
    stride=32,
    preprocessing="tf",
    tiny={"depths": (1, 2, 2, 1), "width": 16},
    notes=KERAS_FORM,
)
def resnet_v2(x: Any, *, depths: Sequence[int], width: int = 64) -> Any:
    """ResNet with identity mappings, as Keras builds it.

    Args:
        x: Image batch.
        depths: Number of blocks in each of the four stages.
        width: Filters of the first stage; each stage doubles them.

    Returns:
        Feature map of stride 32: 7x7 for an image of 224x224.
    """
    x = layers.ZeroPadding2D(3, name="conv1_pad")(x)
    x = layers.Conv2D(width, 7, 2, name="conv1_conv")(x)
    # Keras pads by zeros here, in front of any ReLU: a maximum of negative numbers sees them.
    x = layers.ZeroPadding2D(1, name="pool1_pad")(x)
    x = max_pool(x, name="pool1_pool")
    for stage, depth in enumerate(exactly(4, depths, "depths"), 2):
        for i in range(1, depth + 1):
            x = keras_block(
                x,
                width * 2 ** (stage - 2),
                2 if i == depth and stage < 5 else 1,
                project=i == 1,
                name=f"conv{stage}_block{i}",
            )
    return norm_relu(x, name="post")


ResNet50V2 = resnet_v2.variant(
    "ResNet50V2", depths=(3, 4, 6, 3), params=25_568_360, macs=3_482_255_360
)
ResNet101V2 = resnet_v2.variant(
    "ResNet101V2", depths=(3, 4, 23, 3), params=44_577_896, macs=7_194_476_544
)
ResNet152V2 = resnet_v2.variant(
    "ResNet152V2",
    top1_error=21.1,
    top5_error=5.5,
    protocol="one crop of 320, the paper's own form",
    notes=f"{KERAS_FORM} The error is that of the paper's own form.",
    depths=(3, 8, 36, 3),
    params=60_236_904,
    macs=10_906_697_728,
)
ResNet200V2 = preact_resnet.variant(
    "ResNet200V2",
    top1_error=20.7,
    top5_error=5.3,
    depths=(3, 24, 36, 3),
    params=64_666_152,
    macs=14_776_270_848,
)


def _steps(macs: int) -> str:
    return (
        f"{PROJECTIONS} Steps are in the first 1x1 convolutions, as in the authors' code. In "
        f"pytorchcv's form they are in the 3x3: stride_in='3x3', with {macs:,} multiply-adds."
    )


ResNet110V2 = preact_resnet_cifar.variant(
    "ResNet110V2",
    top1_error=6.37,
    depth=110,
    bottleneck=False,
    features=64,
    torch_options={"first_inside": True},
    tiny={"depth": 8},
    params=1_730_522,
    macs=253_149_824,
)
ResNet164V2 = preact_resnet_cifar.variant(
    "ResNet164V2",
    top1_error=5.46,
    depth=164,
    bottleneck=True,
    features=256,
    torch_options={"stride_in": "3x3"},
    tiny={"depth": 11},
    notes=_steps(247_646_720),
    params=1_703_258,
    macs=244_500_992,
)
ResNet1001V2 = preact_resnet_cifar.variant(
    "ResNet1001V2",
    top1_error=4.92,
    depth=1001,
    bottleneck=True,
    features=256,
    torch_options={"stride_in": "3x3"},
    tiny={"depth": 11},
    notes=(
        f"{_steps(1_490_995_712)} The paper says 10.2 million parameters; without the 149,216 of "
        "the batch normalizations there are 10,178,490."
    ),
    params=10_327_706,
    macs=1_487_849_984,
)
