"""The PReLU networks: rectifiers that learn their slope, and weights that begin right for them.

The slope of a rectifier below zero is learned, one number for each channel, and the first weights
are drawn so that rectifiers keep the variance, which let nets of thirty layers converge. They were
the first to make fewer errors on ImageNet than a person. Model A is VGG-19 with its first
convolutions moved to smaller maps and pooled by a spatial pyramid, B is deeper, C wider.
`training.initialize(model, "he")` draws the paper's first weights.

References:
    - [Delving deep into rectifiers: surpassing human-level performance on ImageNet
      classification](https://arxiv.org/abs/1502.01852),
      He, Zhang, Ren and Sun, ICCV 2015
    - [Spatial pyramid pooling in deep convolutional networks for visual
      recognition](https://arxiv.org/abs/1406.4729), by the same, ECCV 2014
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
from keras import layers

from keras_cnn_classics.applications._architecture import architecture
from keras_cnn_classics.blocks.core import channel_axis, conv, exactly, max_pool
from keras_cnn_classics.blocks.heads import predictions
from keras_cnn_classics.layers import SpatialPyramidPooling


def prelu(x: Any, *, name: str) -> Any:
    """A rectifier with a learned slope below zero for each channel, section 2.1.

    Args:
        x: Feature map, or a vector for each image.
        name: Name of the layer.

    Returns:
        A tensor of the same shape.
    """
    is_map = len(x.shape) == 4
    # Keras's slopes have the axes of the map, so their order would depend on the data format, and
    # weights of one would not fit the other.
    turned = is_map and channel_axis() == 1
    if turned:
        x = layers.Permute((2, 3, 1), name=f"{name}_last")(x)
    x = layers.PReLU(
        keras.initializers.Constant(0.25), shared_axes=(1, 2) if is_map else None, name=name
    )(x)
    return layers.Permute((3, 1, 2), name=f"{name}_first")(x) if turned else x


def pyramid_mlp(
    x: Any,
    classes: int,
    classifier_activation: Any,
    *,
    bins: Sequence[int] = (7, 3, 2, 1),
    units: Sequence[int] = (4096, 4096),
    dropout: float = 0.5,
) -> Any:
    """Pool by a spatial pyramid, then dense layers.

    Args:
        x: Feature map.
        classes: Number of classes.
        classifier_activation: Activation of the last layer.
        bins: Bins in each direction of the grids of the pyramid.
        units: Sizes of the dense layers before the last.
        dropout: Share of the activations that training drops behind each of them.

    Returns:
        A tensor of shape `(batch, classes)`.
    """
    x = SpatialPyramidPooling(bins, name="spp")(x)
    for i, n in enumerate(units, 1):
        x = prelu(layers.Dense(n, name=f"fc{i}")(x), name=f"fc{i}_prelu")
        x = layers.Dropout(dropout, name=f"dropout{i}")(x)
    return predictions(x, classes, classifier_activation)


@architecture(
    protocol="several scales, dense",
    year=2015,
    paper="Delving deep into rectifiers: surpassing human-level performance on ImageNet "
    "classification",
    url="https://arxiv.org/abs/1502.01852",
    head=pyramid_mlp,
    features=512,
    stride=16,
    preprocessing="caffe",
    tiny={"depths": (1, 2, 1), "stem": 16, "widths": (16, 24, 32), "units": (32, 24)},
)
def prelu_net(
    x: Any, *, depths: Sequence[int], widths: Sequence[int] = (256, 512, 512), stem: int = 96
) -> Any:
    """A PReLU network, table 3.

    Args:
        x: Image batch.
        depths: Convolutions in each of the three stages.
        widths: Filters of each stage.
        stem: Filters of the first convolution.

    Returns:
        Feature map of stride 16: 14x14 for an image of 224x224.
    """
    exactly(3, widths, "widths")
    x = conv(x, stem, 7, 2, name="conv1", padding=3, activation=None)
    x = prelu(x, name="conv1_prelu")
    for stage, depth in enumerate(exactly(3, depths, "depths"), 1):
        x = max_pool(x, 2, name=f"pool{stage}")
        for i in range(1, depth + 1):
            name = f"block{stage}_conv{i}"
            x = conv(x, widths[stage - 1], 3, name=name, activation=None)
            x = prelu(x, name=f"{name}_prelu")
    return x


PReLUNetA = prelu_net.variant(
    "PReLUNetA",
    top1_error=22.97,
    top5_error=6.28,
    depths=(5, 5, 5),
    params=178_032_072,
    macs=19_058_106_368,
)
PReLUNetB = prelu_net.variant(
    "PReLUNetB",
    top1_error=22.85,
    top5_error=6.27,
    depths=(6, 6, 6),
    params=183_343_048,
    macs=23_219_904_512,
)
PReLUNetC = prelu_net.variant(
    "PReLUNetC",
    top1_error=21.59,
    top5_error=5.71,
    depths=(6, 6, 6),
    widths=(384, 768, 896),
    features=896,
    params=330_623_944,
    macs=53_463_130_112,
    notes="The paper has 53.0 billion operations; the layers of its table 3 give 53.5.",
)
