"""MobileNet: convolutions taken apart, for telephones.

A depthwise convolution filters each map alone, a 1x1 convolution mixes them: nearly the same power
for an eighth of the multiplications. One number, alpha, makes all layers thinner.

Keras's weights want zeros on the far sides of a convolution in steps of two, and an epsilon of 1e-3
in batch normalization; those of PyTorch packages want `padding="symmetric", epsilon=1e-5`.

References:
    - [MobileNets: efficient convolutional neural networks for mobile vision
      applications](https://arxiv.org/abs/1704.04861), Howard et al., 2017
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from keras import layers

from keras_cnn_classics.applications._architecture import architecture
from keras_cnn_classics.applications._keras_modules import preprocessing_for
from keras_cnn_classics.blocks.core import PADDINGS, norm, one_of, pad_for_steps
from keras_cnn_classics.preprocessing import decode_predictions as decode_predictions

preprocess_input = preprocessing_for(__name__)

# Table 1: filters of the 1x1 convolution and steps of the depthwise one.
BLOCKS = (
    *((64, 1), (128, 2), (128, 1), (256, 2), (256, 1)),
    *((512, 2), (512, 1), (512, 1), (512, 1), (512, 1), (512, 1)),
    *((1024, 2), (1024, 1)),
)


def _norm_relu6(x: Any, epsilon: float, *, name: str) -> Any:
    x = norm(x, epsilon=epsilon, name=f"{name}_bn")
    return layers.ReLU(6.0, name=f"{name}_relu")(x)


def separable(
    x: Any,
    filters: int,
    strides: int,
    *,
    number: int,
    padding: str = "same",
    epsilon: float = 1e-3,
) -> Any:
    """A depthwise and a 1x1 convolution, each with batch normalization and ReLU6, after figure 3.

    Args:
        x: Feature map.
        filters: Filters of the 1x1 convolution.
        strides: Steps of the depthwise convolution.
        number: Which block it is, for the layers' names.
        padding: `"same"` or `"symmetric"`, as in the trunk.
        epsilon: Added to the variance in batch normalization.

    Returns:
        A feature map with `filters` channels.
    """
    name, rest = f"conv_pad_{number}", "valid"
    if strides > 1 and padding == "same":
        # On the far sides alone, for a map of odd size too, as Keras's weights want.
        x = layers.ZeroPadding2D(((0, 1), (0, 1)), name=name)(x)
    else:
        x, rest = pad_for_steps(x, 3, strides, padding, name=name)
    x = layers.DepthwiseConv2D(3, strides, rest, use_bias=False, name=f"conv_dw_{number}")(x)
    x = _norm_relu6(x, epsilon, name=f"conv_dw_{number}")
    x = layers.Conv2D(filters, 1, use_bias=False, name=f"conv_pw_{number}")(x)
    return _norm_relu6(x, epsilon, name=f"conv_pw_{number}")


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


def _torch_names(**_: Any) -> Mapping[str, Sequence[str]]:
    """The names of timm, which counts stages and blocks."""
    names = {"conv1": ("conv_stem",), "conv1_bn": ("bn1",)}
    stage, place = 0, -1
    for number, (_filters, strides) in enumerate(BLOCKS, 1):
        stage, place = (stage + 1, 0) if strides > 1 else (stage, place + 1)
        theirs = f"blocks.{stage}.{place}"
        names |= {
            f"conv_dw_{number}": (f"{theirs}.conv_dw",),
            f"conv_dw_{number}_bn": (f"{theirs}.bn1",),
            f"conv_pw_{number}": (f"{theirs}.conv_pw",),
            f"conv_pw_{number}_bn": (f"{theirs}.bn2",),
        }
    return names | {"conv_preds": ("classifier",)}


@architecture(
    year=2017,
    paper="MobileNets: efficient convolutional neural networks for mobile vision applications",
    url="https://arxiv.org/abs/1704.04861",
    head=conv_head,
    torch_names=_torch_names,
    features=1024,
    classifier="conv_preds",
    torch_options={"padding": "symmetric", "epsilon": 1e-5},
    stride=32,
    preprocessing="tf",
    torch_preprocessing="tf",
    tiny={"alpha": 0.5},
)
def mobilenet(x: Any, *, alpha: float = 1.0, padding: str = "same", epsilon: float = 1e-3) -> Any:
    """MobileNet, for images of any size: the paper has 224, 192, 160 and 128.

    Args:
        x: Image batch.
        alpha: Width multiplier of every layer's filters; the paper has 1, 0.75, 0.5 and 0.25.
        padding: Where a convolution in steps of two has its zeros: `"same"`, on the far sides, as
            Keras's weights want, or `"symmetric"`, on all sides, as PyTorch's want.
        epsilon: Added to the variance in batch normalization; PyTorch's weights want 1e-5.

    Returns:
        Feature map of stride 32: 7x7 for an image of 224x224.
    """
    one_of("padding", padding, PADDINGS)
    x, rest = pad_for_steps(x, 3, 2, padding, name="conv1_pad")
    x = layers.Conv2D(int(32 * alpha), 3, 2, rest, use_bias=False, name="conv1")(x)
    x = _norm_relu6(x, epsilon, name="conv1")
    for number, (filters, strides) in enumerate(BLOCKS, 1):
        width = int(filters * alpha)
        x = separable(x, width, strides, number=number, padding=padding, epsilon=epsilon)
    return x


MobileNet = mobilenet.variant(
    "MobileNet",
    params=4_231_976,
    macs=568_740_352,
    top1_error=29.4,
    protocol="one crop",
    notes=(
        "Keras's form: ReLU6 where the paper says ReLU, and a 1x1 convolution for the dense layer "
        "at the end."
    ),
)
