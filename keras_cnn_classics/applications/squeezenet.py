"""SqueezeNet: the accuracy of AlexNet with a fiftieth of its weights.

A fire module squeezes its input by a 1x1 convolution to a few maps, then expands them by 1x1 and
3x3 convolutions side by side. There is no dense layer: the classifier is a 1x1 convolution and an
average. Version 1.1, the authors' later one, pools earlier and costs less than half.

References:
    - [SqueezeNet: AlexNet-level accuracy with 50x fewer parameters and <0.5MB model
      size](https://arxiv.org/abs/1602.07360),
      Iandola, Han, Moskewicz, Ashraf, Dally and Keutzer, 2016
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from keras import layers

from keras_cnn_classics.applications._architecture import architecture
from keras_cnn_classics.blocks.core import ceil_pool, concat, conv
from keras_cnn_classics.blocks.heads import cells

# Squeeze and expand filters of the fire modules fire2 to fire9, table 1.
FIRE = ((16, 64), (16, 64), (32, 128), (32, 128), (48, 192), (48, 192), (64, 256), (64, 256))


def fire(x: Any, squeeze: int, expand: int, *, name: str) -> Any:
    """The fire module, figure 1.

    Args:
        x: Feature map.
        squeeze: Filters of the 1x1 convolution that squeezes.
        expand: Filters of each of the two that expand.
        name: Prefix of the layers' names.

    Returns:
        A feature map with `2 * expand` channels.
    """
    x = conv(x, squeeze, 1, name=f"{name}_squeeze1x1")
    one = conv(x, expand, 1, name=f"{name}_expand1x1")
    three = conv(x, expand, 3, name=f"{name}_expand3x3")
    return concat([one, three], name=f"{name}_concat")


def conv_gap(x: Any, classes: int, classifier_activation: Any, *, dropout: float = 0.5) -> Any:
    """Drop, classify each cell by a 1x1 convolution with ReLU, and average.

    Args:
        x: Feature map.
        classes: Number of classes.
        classifier_activation: Activation of the scores.
        dropout: Share of the activations that training drops.

    Returns:
        A tensor of shape `(batch, classes)`.
    """
    x = layers.Dropout(dropout, name="dropout9")(x)
    return cells(conv="conv10", pool="pool10")(x, classes, classifier_activation)


def _torch_names(*, pools: Sequence[int], **_: Any) -> Mapping[str, Sequence[str]]:
    """Names of torchvision: places in an `nn.Sequential` of modules and pools."""
    names = {"conv1": ("features.0",), "conv10": ("classifier.1",)}
    place = 2  # behind the first convolution and its ReLU
    for i in range(1, 10):
        if i > 1:
            for ours, theirs in (
                ("squeeze1x1", "squeeze"),
                ("expand1x1", "expand1x1"),
                ("expand3x3", "expand3x3"),
            ):
                names[f"fire{i}_{ours}"] = (f"features.{place}.{theirs}",)
            place += 1
        place += i in pools
    return names


@architecture(
    protocol="one crop",
    year=2016,
    paper="SqueezeNet: AlexNet-level accuracy with 50x fewer parameters and <0.5MB model size",
    url="https://arxiv.org/abs/1602.07360",
    head=conv_gap,
    torch_names=_torch_names,
    features=512,
    classifier="conv10",
    stride=16,
    tiny={"width": 0.5},
)
def squeezenet(
    x: Any, *, filters: int, kernel: int, pools: Sequence[int], width: float = 1.0
) -> Any:
    """SqueezeNet.

    Args:
        x: Image batch.
        filters: Filters of the first convolution.
        kernel: Height and width of its kernel.
        pools: Numbers of the layers behind which there is a pool: 1 is the first convolution,
            2 to 9 are the fire modules.
        width: Multiplier of every layer's filters; the paper has 1.

    Returns:
        Feature map of stride 16: 13x13 for an image of 224x224.
    """
    x = conv(x, int(filters * width), kernel, 2, name="conv1", padding="valid")
    for i, (squeeze, expand) in enumerate([(0, 0), *FIRE], 1):
        if i > 1:
            x = fire(x, int(squeeze * width), int(expand * width), name=f"fire{i}")
        if i in pools:
            x = ceil_pool(x, name=f"pool{i}")
    return x


SqueezeNet1_0 = squeezenet.variant(
    "SqueezeNet1_0",
    top1_error=42.5,
    top5_error=19.7,
    filters=96,
    kernel=7,
    pools=(1, 4, 8),
    params=1_248_424,
    macs=818_924_576,
)
SqueezeNet1_1 = squeezenet.variant(
    "SqueezeNet1_1", filters=64, kernel=3, pools=(1, 3, 5), params=1_235_496, macs=349_151_936
)
