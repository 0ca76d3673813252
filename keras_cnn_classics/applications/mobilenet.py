"""MobileNet: convolutions taken apart, for telephones.

A depthwise convolution filters each map alone, a 1x1 convolution mixes them: nearly the same power
for an eighth of the multiplications. One number, alpha, makes all layers thinner.

References:
    - [MobileNets: efficient convolutional neural networks for mobile vision
      applications](https://arxiv.org/abs/1704.04861), Howard et al., 2017
"""

from __future__ import annotations

from typing import Any

from keras import layers

from keras_cnn_classics.applications._architecture import architecture
from keras_cnn_classics.blocks.core import channel_axis

# Table 1: filters of the 1x1 convolution and steps of the depthwise one.
BLOCKS = (
    *((64, 1), (128, 2), (128, 1), (256, 2), (256, 1)),
    *((512, 2), (512, 1), (512, 1), (512, 1), (512, 1), (512, 1)),
    *((1024, 2), (1024, 1)),
)


def _norm_relu6(x: Any, *, name: str) -> Any:
    x = layers.BatchNormalization(axis=channel_axis(), name=f"{name}_bn")(x)
    return layers.ReLU(6.0, name=f"{name}_relu")(x)


def separable(x: Any, filters: int, strides: int, *, number: int) -> Any:
    """A depthwise and a 1x1 convolution, each with batch normalization and ReLU6: figure 3.

    Steps of two pad the far sides alone, whatever the size of the map, as Keras's weights want.
    """
    padding = "same"
    if strides > 1:
        x = layers.ZeroPadding2D(((0, 1), (0, 1)), name=f"conv_pad_{number}")(x)
        padding = "valid"
    x = layers.DepthwiseConv2D(3, strides, padding, use_bias=False, name=f"conv_dw_{number}")(x)
    x = _norm_relu6(x, name=f"conv_dw_{number}")
    x = layers.Conv2D(filters, 1, use_bias=False, name=f"conv_pw_{number}")(x)
    return _norm_relu6(x, name=f"conv_pw_{number}")


def conv_head(x: Any, classes: int, classifier_activation: Any, *, dropout: float = 1e-3) -> Any:
    """Average, drop, and classify by a 1x1 convolution.

    Args:
        x: Feature map.
        classes: Number of classes.
        classifier_activation: Activation of the scores.
        dropout: Share of the averages that training drops.

    Returns:
        A tensor of shape `(batch, classes)`.
    """
    x = layers.GlobalAveragePooling2D(keepdims=True, name="avg_pool")(x)
    x = layers.Dropout(dropout, name="dropout")(x)
    x = layers.Conv2D(classes, 1, dtype="float32", name="conv_preds")(x)
    x = layers.Reshape((classes,), dtype="float32", name="reshape_2")(x)
    return layers.Activation(classifier_activation, dtype="float32", name="predictions")(x)


@architecture(
    year=2017,
    paper="MobileNets: efficient convolutional neural networks for mobile vision applications",
    url="https://arxiv.org/abs/1704.04861",
    head=conv_head,
    features=1024,
    classifier="conv_preds",
    stride=32,
    preprocessing="tf",
    tiny={"alpha": 0.5},
)
def mobilenet(x: Any, *, alpha: float = 1.0) -> Any:
    """MobileNet, for images of any size: the paper has 224, 192, 160 and 128.

    Args:
        x: Image batch.
        alpha: Width multiplier of every layer's filters; the paper has 1, 0.75, 0.5 and 0.25.

    Returns:
        Feature map of stride 32: 7x7 for an image of 224x224.
    """
    x = layers.Conv2D(int(32 * alpha), 3, 2, "same", use_bias=False, name="conv1")(x)
    x = _norm_relu6(x, name="conv1")
    for number, (filters, strides) in enumerate(BLOCKS, 1):
        x = separable(x, int(filters * alpha), strides, number=number)
    return x


MobileNet = mobilenet.variant("MobileNet", params=4_231_976, macs=568_740_352)
