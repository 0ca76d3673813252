"""ResNet, version 2: everything inside the branch, nothing behind the addition.

Batch normalization and ReLU come before each convolution, so that a signal can pass from any block
to any other unchanged, and a thousand layers still train.

The networks here are Keras's, for its weights: the first convolution has a bias and no batch
normalization, the step of a stage is in its last block, whose shortcut is a pool, and the last
convolution of each block has a bias.

References:
    - [Identity mappings in deep residual networks](https://arxiv.org/abs/1603.05027),
      He, Zhang, Ren and Sun, ECCV 2016
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from keras import layers

from keras_cnn_classics.applications._architecture import architecture
from keras_cnn_classics.blocks.core import exactly, max_pool, norm_relu
from keras_cnn_classics.blocks.heads import gap_dense


def preactivation(x: Any, filters: int, strides: int, *, project: bool, name: str) -> Any:
    """The pre-activation bottleneck, figure 4(e).

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
    year=2016,
    paper="Identity mappings in deep residual networks",
    url="https://arxiv.org/abs/1603.05027",
    head=gap_dense(),
    features=2048,
    stride=32,
    preprocessing="tf",
    tiny={"depths": (1, 2, 2, 1), "width": 16},
    notes="Keras's form, which differs from the paper's as said above.",
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
            x = preactivation(
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
    "ResNet152V2", depths=(3, 8, 36, 3), params=60_236_904, macs=10_906_697_728
)
