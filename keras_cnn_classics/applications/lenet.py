"""LeNet-5 of 1998, unit by unit, and LeNet as it is taught today.

LeNet-5 brought the pattern that every later network follows: convolutions with shared weights,
then subsampling, then again, then full connections, trained as one. What was lost on the way is
here: subsampling with trainable coefficients, a sparse table of connections in C3, a squashing
function that is not saturated at its targets, and an output of radial basis functions that
measure the distance to ten drawn digits.

The paper's output is a penalty: the squared distance from each drawn digit, in the layer `rbf`.
The model ends in its negative, so that the largest score wins as everywhere else, and a softmax
of it, which is the posterior of the paper's equation 9 without its rubbish class;
`classifier_activation=None` leaves the negative distances, which the paper's losses in
`training.losses` take.

References:
    - [Gradient-based learning applied to document recognition](https://doi.org/10.1109/5.726791),
      LeCun, Bottou, Bengio and Haffner, Proceedings of the IEEE 1998
"""

from __future__ import annotations

from typing import Any

import numpy as np
from keras import layers

from keras_cnn_classics.applications._architecture import architecture
from keras_cnn_classics.applications._arguments import check_activation
from keras_cnn_classics.blocks.core import conv, max_pool, one_of
from keras_cnn_classics.blocks.heads import mlp, predictions
from keras_cnn_classics.layers import (
    EuclideanRBF,
    FanInUniform,
    PartiallyConnectedConv2D,
    ScaledTanh,
    TrainableSubsampling,
)

PAPER: dict[str, Any] = {
    "year": 1998,
    "paper": "Gradient-based learning applied to document recognition",
    "url": "https://doi.org/10.1109/5.726791",
    "channels": 1,
    "classes": 10,
    "fixed_top": True,
}

# Table I: the maps of S2 that each of the sixteen maps of C3 sees.
C3_CONNECTIONS = (
    # three neighbours
    *((0, 1, 2), (1, 2, 3), (2, 3, 4), (3, 4, 5), (0, 4, 5), (0, 1, 5)),
    # four neighbours
    *((0, 1, 2, 3), (1, 2, 3, 4), (2, 3, 4, 5), (0, 3, 4, 5), (0, 1, 4, 5), (0, 1, 2, 5)),
    # two pairs
    *((0, 1, 3, 4), (1, 2, 4, 5), (0, 2, 3, 5)),
    # all
    (0, 1, 2, 3, 4, 5),
)

# Figure 3, the row of the digits: 7 x 12 pixels each. The bars tell 0, 2, 4 and 5 from the
# letters O, Z, y and S of the full alphabet.
BITMAPS = """
.#####. ...##.. .#####. ####### .#####. .#####. ..####. ####### .#####. .#####.
....... ..###.. ....... .....## ....... ....... .##.... .....## ##...## ##..###
..###.. .####.. .#####. ....##. ....... ####### ##..... .....## ##...## ##...##
.##.##. ...##.. ##...## ...##.. .##..## ##..... ##..... ....##. ##...## ##...##
##...## ...##.. #....## ..####. .##..## ##..... ######. ...##.. .#####. ##..###
##...## ...##.. ....##. .....## ###..## .####.. ###..## ...##.. ##...## .######
##...## ...##.. ..###.. .....## ##...## ..####. ##...## ..##... ##...## .....##
##...## ...##.. .##.... .....## ##...## .....## ##...## ..##... ##...## .....##
.##.##. ...##.. ##..... ##...## ##..### ##...## ###..## ..##... ##...## ....##.
..###.. .###### ####### .#####. .###### .#####. .#####. ..##... .#####. .####..
....... ....... ....... ....... .....## ....... ....... ....... ....... .......
....... ....... ....... ....... .....## ....... ....... ....... ....... .......
"""


def digit_codes() -> np.ndarray:
    """The ten drawn digits as vectors of -1 and +1, an array of shape `(10, 84)`."""
    rows = [line.split() for line in BITMAPS.split("\n") if line]
    pixels = np.array([[list(digit) for digit in row] for row in rows])  # (12, 10, 7)
    return np.where(pixels.transpose(1, 0, 2).reshape(10, 84) == "#", 1.0, -1.0)


def codes(classes: int) -> np.ndarray:
    """Target codes for any number of classes: the drawn digits for ten, random signs otherwise.

    The paper chose its drawings over random codes so that confusable characters are near.

    Args:
        classes: Number of classes.

    Returns:
        An array of -1 and +1 of shape `(classes, 84)`.
    """
    if classes == 10:
        return digit_codes()
    return np.random.Generator(np.random.PCG64(1998)).choice([-1.0, 1.0], size=(classes, 84))


def _activate(x: Any, activation: str, name: str) -> Any:
    if activation == "scaled_tanh":
        return ScaledTanh(name=name)(x)
    check_activation("activation", activation)
    return layers.Activation(activation, name=name)(x)


def _kernel_initializer(activation: str) -> Any:
    return FanInUniform() if activation == "scaled_tanh" else "glorot_uniform"


def _subsample(x: Any, kind: str, activation: str, *, name: str) -> Any:
    if kind == "trainable":
        x = TrainableSubsampling(name=name)(x)
        return _activate(x, activation, f"{name}_act")
    if kind == "average":
        return layers.AveragePooling2D(2, name=name)(x)
    if kind == "max":
        return max_pool(x, 2, name=name)
    return max_pool(x, 3, name=name, padding="same")


def lenet5_head(
    x: Any,
    classes: int,
    classifier_activation: Any,
    *,
    output: str = "rbf",
    activation: str = "scaled_tanh",
    dropout: float = 0.0,
) -> Any:
    """F6 and the output.

    Args:
        x: The maps of C5.
        classes: Number of classes.
        classifier_activation: Activation of the scores.
        output: `"rbf"`, the distance from fixed codes, or `"dense"`, a dense layer.
        activation: That of the trunk, which F6 shares.
        dropout: Share of the activations of C5 and F6 that training drops; none in the paper.

    Returns:
        A tensor of shape `(batch, classes)`.
    """
    one_of("output", output, ("rbf", "dense"))
    x = layers.Flatten(name="flatten")(x)
    if dropout:
        x = layers.Dropout(dropout, name="c5_dropout")(x)
    x = layers.Dense(84, kernel_initializer=_kernel_initializer(activation), name="f6")(x)
    x = _activate(x, activation, "f6_act")
    if dropout:
        x = layers.Dropout(dropout, name="f6_dropout")(x)
    if output == "dense":
        return predictions(x, classes, classifier_activation)
    x = EuclideanRBF(codes(classes), dtype="float32", name="rbf")(x)
    x = layers.Rescaling(-1.0, dtype="float32", name="negative")(x)
    return layers.Activation(classifier_activation, dtype="float32", name="predictions")(x)


@architecture(
    **PAPER,
    head=lenet5_head,
    features=120,
    stride=4,
    input_size=32,
    min_size=32,
    preprocessing="lenet",
)
def lenet5(
    x: Any,
    *,
    connections: str = "sparse",
    subsampling: str = "trainable",
    activation: str = "scaled_tanh",
) -> Any:
    """LeNet-5, which read the digits on cheques.

    Args:
        x: Image batch, the background at -0.1 and the ink at 1.175.
        connections: `"sparse"`, table I of the paper, or `"dense"`, every map of C3 sees all.
        subsampling: `"trainable"`, the paper's; `"average"` or `"max"` of 2x2; or
            `"overlapping"`, the maximum of 3x3 in steps of 2.
        activation: `"scaled_tanh"`, or the name of a Keras activation such as `"relu"`.

    Returns:
        The maps of C5: 1x1 for an image of 32x32.
    """
    one_of("connections", connections, ("sparse", "dense"))
    one_of("subsampling", subsampling, ("trainable", "average", "max", "overlapping"))
    plain = {
        "padding": "valid",
        "activation": None,
        "kernel_initializer": _kernel_initializer(activation),
    }
    x = conv(x, 6, 5, name="c1", **plain)
    x = _activate(x, activation, "c1_act")
    x = _subsample(x, subsampling, activation, name="s2")
    if connections == "sparse":
        x = PartiallyConnectedConv2D(C3_CONNECTIONS, 5, name="c3")(x)
    else:
        x = conv(x, 16, 5, name="c3", **plain)
    x = _activate(x, activation, "c3_act")
    x = _subsample(x, subsampling, activation, name="s4")
    x = conv(x, 120, 5, name="c5", **plain)
    return _activate(x, activation, "c5_act")


@architecture(
    **PAPER,
    head=mlp(),
    features=50,
    stride=4,
    input_size=28,
    min_size=16,
    preprocessing="unit",
)
def lenet(x: Any) -> Any:
    """LeNet as it is taught today: ReLU, max pooling, softmax.

    Args:
        x: Image batch, from 0 to 1.

    Returns:
        Feature map of stride 4: 4x4 for an image of 28x28.
    """
    x = conv(x, 20, 5, name="conv1", padding="valid")
    x = max_pool(x, 2, name="pool1")
    x = conv(x, 50, 5, name="conv2", padding="valid")
    return max_pool(x, 2, name="pool2")


LeNet5 = lenet5.variant(
    "LeNet5",
    protocol="MNIST, test",
    top1_error=0.95,
    params=60_000,
    macs=326_520,
    notes="The output is the negative of the paper's, so that the largest wins.",
)
LeNet = lenet.variant(
    "LeNet",
    params=431_080,
    macs=2_293_000,
    units=(500,),
    dropout=0.0,
    notes="The widths are those of Caffe's MNIST example, whose convolutions have no ReLU.",
)
