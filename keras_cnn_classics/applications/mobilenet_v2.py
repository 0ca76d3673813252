"""MobileNetV2: residual blocks turned inside out.

The narrow ends of a block are joined by the shortcut, and what is wide lies between: a 1x1
convolution makes six times as many maps, a depthwise one filters them, another 1x1 makes them few
again, without a ReLU, which would lose too much of so few.

References:
    - [MobileNetV2: inverted residuals and linear bottlenecks](https://arxiv.org/abs/1801.04381),
      Sandler, Howard, Zhu, Zhmoginov and Chen, CVPR 2018
"""

from __future__ import annotations

from typing import Any

from keras import layers

from keras_cnn_classics.applications._architecture import architecture
from keras_cnn_classics.blocks.core import channel_axis, make_divisible
from keras_cnn_classics.blocks.heads import gap_dense

# Table 2: expansion, filters, blocks, steps of the first.
STAGES = (
    *((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2)),
    *((6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)),
)


def _norm(x: Any, *, name: str) -> Any:
    return layers.BatchNormalization(axis=channel_axis(), momentum=0.999, name=name)(x)


def _conv(x: Any, filters: int, *, name: str) -> Any:
    return layers.Conv2D(filters, 1, use_bias=False, name=name)(x)


def inverted_residual(x: Any, expansion: int, filters: int, strides: int, *, name: str) -> Any:
    """The inverted residual block with a linear bottleneck: table 1 and figure 4(d).

    Args:
        x: Feature map.
        expansion: How many times as many maps the block has inside; with 1 it does not expand.
        filters: Filters of its end.
        strides: Steps of its depthwise convolution.
        name: Prefix of the layers' names.

    Returns:
        A feature map with `filters` channels.
    """
    channels = x.shape[channel_axis()]
    y = x
    if expansion > 1:
        y = _norm(_conv(y, expansion * channels, name=f"{name}_expand"), name=f"{name}_expand_BN")
        y = layers.ReLU(6.0, name=f"{name}_expand_relu")(y)
    y = layers.DepthwiseConv2D(3, strides, "same", use_bias=False, name=f"{name}_depthwise")(y)
    y = layers.ReLU(6.0, name=f"{name}_depthwise_relu")(_norm(y, name=f"{name}_depthwise_BN"))
    y = _norm(_conv(y, filters, name=f"{name}_project"), name=f"{name}_project_BN")
    if strides > 1 or channels != filters:
        return y
    return layers.Add(name=f"{name}_add")([x, y])


@architecture(
    year=2018,
    paper="MobileNetV2: inverted residuals and linear bottlenecks",
    url="https://arxiv.org/abs/1801.04381",
    head=gap_dense(),
    features=1280,
    stride=32,
    preprocessing="tf",
    tiny={"alpha": 0.35},
)
def mobilenet_v2(x: Any, *, alpha: float = 1.0) -> Any:
    """MobileNetV2, for images of any size.

    Args:
        x: Image batch.
        alpha: Width multiplier of every layer's filters; the last convolution grows with it, but
            does not shrink.

    Returns:
        Feature map of stride 32: 7x7 for an image of 224x224.
    """
    x = layers.Conv2D(make_divisible(32 * alpha), 3, 2, "same", use_bias=False, name="Conv1")(x)
    x = layers.ReLU(6.0, name="Conv1_relu")(_norm(x, name="bn_Conv1"))
    number = 0
    for expansion, filters, blocks, strides in STAGES:
        for i in range(blocks):
            name = f"block_{number}" if number else "expanded_conv"
            width = make_divisible(int(filters * alpha))
            x = inverted_residual(x, expansion, width, 1 if i else strides, name=name)
            number += 1
    last = make_divisible(1280 * alpha) if alpha > 1 else 1280
    x = _norm(_conv(x, last, name="Conv_1"), name="Conv_1_bn")
    return layers.ReLU(6.0, name="out_relu")(x)


MobileNetV2 = mobilenet_v2.variant("MobileNetV2", params=3_504_872, macs=300_774_272)
