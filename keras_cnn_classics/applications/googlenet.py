"""GoogLeNet, also called Inception v1.

Twenty-two layers without batch normalization, and the two ideas that lasted: convolutions of
several sizes side by side, each behind a 1x1 bottleneck, and a global average pool where VGG has
a hundred million weights. Two auxiliary classifiers push gradient into the middle during
training and are dropped at inference; `GoogLeNet(aux=True)` has them.

`GoogLeNetBN` is the network that torchvision calls GoogLeNet: with batch normalization, without
local response normalization, and with 3x3 kernels where the paper has 5x5.

References:
    - [Going deeper with convolutions](https://arxiv.org/abs/1409.4842), Szegedy et al., CVPR 2015
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from keras import layers

from keras_cnn_classics.applications._architecture import architecture
from keras_cnn_classics.blocks.core import ceil_pool, concat, conv, conv_bn, max_pool
from keras_cnn_classics.blocks.heads import gap_dense, predictions
from keras_cnn_classics.layers import AdaptiveAveragePooling, LocalResponseNormalization

PAPER: dict[str, Any] = {
    "year": 2014,
    "paper": "Going deeper with convolutions",
    "url": "https://arxiv.org/abs/1409.4842",
    "aux_taps": ("inception_4a_output", "inception_4d_output"),
    "features": 1024,
    "stride": 32,
    "min_size": 32,
    "tiny": {"width": 0.25},
}

# Table 1 of the paper: filters of the 1x1 branch, of the reduction and the convolution of the 3x3
# and of the 5x5 branch, and of the projection after the pool.
INCEPTION = {
    #     1x1  3x3r  3x3  5x5r  5x5 pool        output for an image of 224x224
    "3a": (64, 96, 128, 16, 32, 32),  #         28x28x256
    "3b": (128, 128, 192, 32, 96, 64),  #       28x28x480
    "pool3": None,
    "4a": (192, 96, 208, 16, 48, 64),  #        14x14x512    aux1
    "4b": (160, 112, 224, 24, 64, 64),  #       14x14x512
    "4c": (128, 128, 256, 24, 64, 64),  #       14x14x512
    "4d": (112, 144, 288, 32, 64, 64),  #       14x14x528    aux2
    "4e": (256, 160, 320, 32, 128, 128),  #     14x14x832
    "pool4": None,
    "5a": (256, 160, 320, 32, 128, 128),  #     7x7x832
    "5b": (384, 192, 384, 48, 128, 128),  #     7x7x1024
}


# Convolution, batch normalization and ReLU as in torchvision.
unit_bn = partial(conv_bn, use_bias=False, epsilon=1e-3)


def naive_inception(x: Any, n1: int, n3: int, n5: int, *, name: str) -> Any:
    """The naive inception module, figure 2(a): without bottlenecks, too dear to stack.

    Args:
        x: Feature map.
        n1: Filters of the 1x1 branch.
        n3: Filters of the 3x3 branch.
        n5: Filters of the 5x5 branch.
        name: Prefix of the layers' names.

    Returns:
        A feature map of the same size with `n1 + n3 + n5` channels and those of `x`.
    """
    one = conv(x, n1, 1, name=f"{name}_1x1")
    three = conv(x, n3, 3, name=f"{name}_3x3")
    five = conv(x, n5, 5, name=f"{name}_5x5")
    pool = max_pool(x, 3, 1, name=f"{name}_pool", padding="same")
    return concat([one, three, five, pool], name=f"{name}_output")


def inception(
    x: Any,
    n1: int,
    n3_reduce: int,
    n3: int,
    n5_reduce: int,
    n5: int,
    n_pool: int,
    *,
    name: str,
    unit: Callable[..., Any] = conv,
    size: int = 5,
) -> Any:
    """The inception module, figure 2(b): four branches, concatenated.

    Args:
        x: Feature map.
        n1: Filters of the 1x1 branch.
        n3_reduce: Filters of the 1x1 bottleneck of the 3x3 branch.
        n3: Filters of the 3x3 branch.
        n5_reduce: Filters of the 1x1 bottleneck of the 5x5 branch.
        n5: Filters of the 5x5 branch.
        n_pool: Filters of the 1x1 projection after the pool.
        name: Prefix of the layers' names.
        unit: Makes a convolution with ReLU.
        size: Height and width of the kernel of the 5x5 branch.

    Returns:
        A feature map of the same size with `n1 + n3 + n5 + n_pool` channels.
    """
    one = unit(x, n1, 1, name=f"{name}_1x1")
    three = unit(x, n3_reduce, 1, name=f"{name}_3x3_reduce")
    three = unit(three, n3, 3, name=f"{name}_3x3")
    five = unit(x, n5_reduce, 1, name=f"{name}_5x5_reduce")
    five = unit(five, n5, size, name=f"{name}_5x5")
    pool = max_pool(x, 3, 1, name=f"{name}_pool", padding="same")
    pool = unit(pool, n_pool, 1, name=f"{name}_pool_proj")
    return concat([one, three, five, pool], name=f"{name}_output")


def aux_classifier(x: Any, classes: int, classifier_activation: Any, *, name: str) -> Any:
    """The auxiliary classifier of section 5: pool, 1x1 bottleneck, two dense layers.

    Args:
        x: Feature map of 14x14.
        classes: Number of classes.
        classifier_activation: Activation of the last layer.
        name: Prefix of the layers' names, and the name of the last.

    Returns:
        A tensor of shape `(batch, classes)`.
    """
    x = layers.AveragePooling2D(5, 3, name=f"{name}_pool")(x)
    x = conv(x, 128, 1, name=f"{name}_conv")
    return _aux_end(x, classes, classifier_activation, name=name)


def aux_classifier_bn(x: Any, classes: int, classifier_activation: Any, *, name: str) -> Any:
    """The auxiliary classifier of torchvision: its pool gives 4x4 cells for images of any size.

    Args:
        x: Feature map.
        classes: Number of classes.
        classifier_activation: Activation of the last layer.
        name: Prefix of the layers' names, and the name of the last.

    Returns:
        A tensor of shape `(batch, classes)`.
    """
    x = AdaptiveAveragePooling(4, name=f"{name}_pool")(x)
    x = unit_bn(x, 128, 1, name=f"{name}_conv")
    return _aux_end(x, classes, classifier_activation, name=name)


def _aux_end(x: Any, classes: int, classifier_activation: Any, *, name: str) -> Any:
    x = layers.Flatten(name=f"{name}_flatten")(x)
    x = layers.Dense(1024, activation="relu", name=f"{name}_fc")(x)
    x = layers.Dropout(0.7, name=f"{name}_dropout")(x)
    return predictions(x, classes, classifier_activation, name=name)


@architecture(
    **PAPER,
    head=gap_dense(dropout=0.4),
    aux_head=aux_classifier,
    aux_min_size=65,
    preprocessing="caffe",
)
def googlenet(x: Any, *, width: float = 1.0) -> Any:
    """GoogLeNet (Inception v1), the winner of ILSVRC 2014.

    Args:
        x: Image batch.
        width: Multiplier of every layer's filters; the paper has 1.

    Returns:
        Feature map of stride 32: 7x7 for an image of 224x224.
    """
    x = conv(x, int(64 * width), 7, 2, name="conv1")
    x = max_pool(x, name="pool1", padding="same")
    x = LocalResponseNormalization(name="norm1")(x)
    x = conv(x, int(64 * width), 1, name="conv2_reduce")
    x = conv(x, int(192 * width), 3, name="conv2")
    x = LocalResponseNormalization(name="norm2")(x)
    x = max_pool(x, name="pool2", padding="same")
    for row, filters in INCEPTION.items():
        if filters is None:
            x = max_pool(x, name=row, padding="same")
        else:
            x = inception(x, *(int(n * width) for n in filters), name=f"inception_{row}")
    return x


def _torch_names(**_: Any) -> Mapping[str, Sequence[str]]:
    """The names of torchvision."""
    modules = {"conv1": "conv1", "conv2_reduce": "conv2", "conv2": "conv3"}
    branches = {
        "1x1": "branch1",
        **{"3x3_reduce": "branch2.0", "3x3": "branch2.1"},
        **{"5x5_reduce": "branch3.0", "5x5": "branch3.1"},
        "pool_proj": "branch4.1",
    }
    for row, filters in INCEPTION.items():
        if filters is not None:
            modules |= {
                f"inception_{row}_{ours}": f"inception{row}.{theirs}"
                for ours, theirs in branches.items()
            }
    modules |= {f"aux{i}_conv": f"aux{i}.conv" for i in (1, 2)}
    names: dict[str, Sequence[str]] = {}
    for ours, theirs in modules.items():
        names |= {ours: (f"{theirs}.conv",), f"{ours}_bn": (f"{theirs}.bn",)}
    for i in (1, 2):
        names |= {f"aux{i}_fc": (f"aux{i}.fc1",), f"aux{i}": (f"aux{i}.fc2",)}
    return names | {"predictions": ("fc",)}


@architecture(
    **PAPER,
    head=gap_dense(dropout=0.2),
    aux_head=aux_classifier_bn,
    torch_names=_torch_names,
    preprocessing="tf",
    torch_preprocessing="tf",
)
def googlenet_bn(x: Any, *, width: float = 1.0) -> Any:
    """GoogLeNet in torchvision's form, with batch normalization.

    Args:
        x: Image batch.
        width: Multiplier of every layer's filters; the paper has 1.

    Returns:
        Feature map of stride 32: 7x7 for an image of 224x224.
    """
    x = unit_bn(x, int(64 * width), 7, 2, name="conv1", padding=3)
    x = ceil_pool(x, name="pool1")
    x = unit_bn(x, int(64 * width), 1, name="conv2_reduce")
    x = unit_bn(x, int(192 * width), 3, name="conv2")
    x = ceil_pool(x, name="pool2")
    for row, filters in INCEPTION.items():
        if row == "pool3":
            x = ceil_pool(x, name=row)
        elif filters is None:
            x = max_pool(x, 2, name=row, padding="same")
        else:
            widths = (int(n * width) for n in filters)
            x = inception(x, *widths, name=f"inception_{row}", unit=unit_bn, size=3)
    return x


GoogLeNet = googlenet.variant(
    "GoogLeNet",
    protocol="one crop",
    top5_error=10.07,
    params=6_998_552,
    macs=1_582_671_872,
    notes=(
        "The paper's table 1 states parameters that add up to 6.8 million; its filters and their "
        "biases are 6,998,552. What it leaves open is AlexNet's or TensorFlow's here, not Caffe's: "
        "local response normalization has k=2 and an undivided alpha (Caffe: k=1, alpha/5), and "
        "the first convolution pads the far sides more (Caffe: 3 on all sides)."
    ),
)
GoogLeNetBN = googlenet_bn.variant(
    "GoogLeNetBN",
    params=6_624_904,
    macs=1_498_376_192,
    notes=(
        "torchvision's network, not the paper's: with batch normalization, without local response "
        "normalization, 3x3 kernels for 5x5, a last pool of 2x2, less dropout. The auxiliary "
        "classifiers of torchvision's checkpoint are untrained."
    ),
)
