"""MobileNetV2: residual blocks turned inside out.

The narrow ends of a block are joined by the shortcut, and what is wide lies between: a 1x1
convolution makes six times as many maps, a depthwise one filters them, another 1x1 makes them few
again, without a ReLU, which would lose too much of so few.

Weights of PyTorch packages want `padding="symmetric", epsilon=1e-5`.

References:
    - [MobileNetV2: inverted residuals and linear bottlenecks](https://arxiv.org/abs/1801.04381),
      Sandler, Howard, Zhu, Zhmoginov and Chen, CVPR 2018
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from keras import layers

from keras_cnn_classics.applications._architecture import architecture
from keras_cnn_classics.applications._keras_modules import preprocessing_for
from keras_cnn_classics.blocks.core import (
    PADDINGS,
    channel_axis,
    make_divisible,
    norm,
    one_of,
    pad_for_steps,
)
from keras_cnn_classics.blocks.heads import gap_dense
from keras_cnn_classics.preprocessing import decode_predictions as decode_predictions

preprocess_input = preprocessing_for(__name__)

# Table 2: expansion, filters, blocks, steps of the first.
STAGES = (
    *((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2)),
    *((6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)),
)


def _norm(x: Any, epsilon: float, *, name: str) -> Any:
    return norm(x, momentum=0.999, epsilon=epsilon, name=name)


def _conv(x: Any, filters: int, *, name: str) -> Any:
    return layers.Conv2D(filters, 1, use_bias=False, name=name)(x)


def inverted_residual(
    x: Any,
    expansion: int,
    filters: int,
    strides: int,
    *,
    name: str,
    padding: str = "same",
    epsilon: float = 1e-3,
) -> Any:
    """The inverted residual block with a linear bottleneck: table 1 and figure 4(d).

    Args:
        x: Feature map.
        expansion: How many times as many maps the block has inside; with 1 it does not expand.
        filters: Filters of its end.
        strides: Steps of its depthwise convolution.
        name: Prefix of the layers' names.
        padding: `"same"` or `"symmetric"`, as in the trunk.
        epsilon: Added to the variance in batch normalization.

    Returns:
        A feature map with `filters` channels.
    """
    channels = x.shape[channel_axis()]
    y = x
    if expansion > 1:
        y = _conv(y, expansion * channels, name=f"{name}_expand")
        y = _norm(y, epsilon, name=f"{name}_expand_BN")
        y = layers.ReLU(6.0, name=f"{name}_expand_relu")(y)
    y, rest = pad_for_steps(y, 3, strides, padding, name=f"{name}_pad")
    y = layers.DepthwiseConv2D(3, strides, rest, use_bias=False, name=f"{name}_depthwise")(y)
    y = _norm(y, epsilon, name=f"{name}_depthwise_BN")
    y = layers.ReLU(6.0, name=f"{name}_depthwise_relu")(y)
    y = _conv(y, filters, name=f"{name}_project")
    y = _norm(y, epsilon, name=f"{name}_project_BN")
    if strides > 1 or channels != filters:
        return y
    return layers.Add(name=f"{name}_add")([x, y])


def _blocks() -> list[tuple[str, int, int]]:
    """Name, stage and number within it of each block."""
    places = [(stage, i) for stage, row in enumerate(STAGES) for i in range(row[2])]
    return [
        (f"block_{number}" if number else "expanded_conv", *place)
        for number, place in enumerate(places)
    ]


def _torch_names(**_: Any) -> Mapping[str, Sequence[str]]:
    """The names of timm and of torchvision."""
    names = {"Conv1": ("conv_stem", "features.0.0"), "bn_Conv1": ("bn1", "features.0.1")}
    for number, (ours, stage, i) in enumerate(_blocks(), 1):
        timm, vision = f"blocks.{stage}.{i}", f"features.{number}.conv"
        expands = STAGES[stage][0] > 1
        # Without an expansion timm counts batch normalizations from the depthwise one, and calls
        # the last convolution by another name; torchvision counts its parts.
        n, projection = (2, "conv_pwl") if expands else (1, "conv_pw")
        if expands:
            names |= {
                f"{ours}_expand": (f"{timm}.conv_pw", f"{vision}.0.0"),
                f"{ours}_expand_BN": (f"{timm}.bn1", f"{vision}.0.1"),
            }
        names |= {
            f"{ours}_depthwise": (f"{timm}.conv_dw", f"{vision}.{n - 1}.0"),
            f"{ours}_depthwise_BN": (f"{timm}.bn{n}", f"{vision}.{n - 1}.1"),
            f"{ours}_project": (f"{timm}.{projection}", f"{vision}.{n}"),
            f"{ours}_project_BN": (f"{timm}.bn{n + 1}", f"{vision}.{n + 1}"),
        }
    return names | {
        "Conv_1": ("conv_head", "features.18.0"),
        "Conv_1_bn": ("bn2", "features.18.1"),
        "predictions": ("classifier", "classifier.1"),
    }


@architecture(
    year=2018,
    paper="MobileNetV2: inverted residuals and linear bottlenecks",
    url="https://arxiv.org/abs/1801.04381",
    head=gap_dense(),
    torch_names=_torch_names,
    features=1280,
    torch_options={"padding": "symmetric", "epsilon": 1e-5},
    stride=32,
    preprocessing="tf",
    tiny={"alpha": 0.35},
)
def mobilenet_v2(
    x: Any, *, alpha: float = 1.0, padding: str = "same", epsilon: float = 1e-3
) -> Any:
    """MobileNetV2, for images of any size.

    Args:
        x: Image batch.
        alpha: Width multiplier of every layer's filters; the last convolution grows with it, but
            does not shrink.
        padding: `"same"` as in TensorFlow and Keras, or `"symmetric"` for PyTorch's weights: zeros
            of a convolution in steps of two.
        epsilon: Added to the variance in batch normalization; PyTorch's weights want 1e-5.

    Returns:
        Feature map of stride 32: 7x7 for an image of 224x224.
    """
    one_of("padding", padding, PADDINGS)
    x, rest = pad_for_steps(x, 3, 2, padding, name="Conv1_pad")
    x = layers.Conv2D(make_divisible(32 * alpha), 3, 2, rest, use_bias=False, name="Conv1")(x)
    x = layers.ReLU(6.0, name="Conv1_relu")(_norm(x, epsilon, name="bn_Conv1"))
    for name, stage, i in _blocks():
        expansion, filters, _, strides = STAGES[stage]
        x = inverted_residual(
            x,
            expansion,
            make_divisible(int(filters * alpha)),
            1 if i else strides,
            name=name,
            padding=padding,
            epsilon=epsilon,
        )
    last = make_divisible(1280 * alpha) if alpha > 1 else 1280
    x = _norm(_conv(x, last, name="Conv_1"), epsilon, name="Conv_1_bn")
    return layers.ReLU(6.0, name="out_relu")(x)


MobileNetV2 = mobilenet_v2.variant(
    "MobileNetV2",
    params=3_504_872,
    macs=300_774_272,
    notes=(
        "The paper says 3.4 million parameters; its table gives 3,504,872. Without the dropout of "
        "0.2 before the classifier that the authors' code has, as in Keras."
    ),
    top1_error=28.0,
    protocol="one crop",
)
