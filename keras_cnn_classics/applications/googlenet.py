"""GoogLeNet, also called Inception v1.

Twenty-two layers without batch normalization, and the two ideas that lasted: convolutions of
several sizes side by side, each behind a 1x1 bottleneck, and a global average pool where VGG has
a hundred million weights. Two auxiliary classifiers push gradient into the middle during
training and are dropped at inference; `GoogLeNet(aux=True)` has them.

References:
    - [Going deeper with convolutions](https://arxiv.org/abs/1409.4842), Szegedy et al., CVPR 2015
"""

from __future__ import annotations

from typing import Any

from keras import layers

from keras_cnn_classics.applications._architecture import architecture
from keras_cnn_classics.blocks.core import concat, conv, max_pool
from keras_cnn_classics.blocks.heads import gap_dense, predictions
from keras_cnn_classics.layers import LocalResponseNormalization

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

    Returns:
        A feature map of the same size with `n1 + n3 + n5 + n_pool` channels.
    """
    one = conv(x, n1, 1, name=f"{name}_1x1")
    three = conv(x, n3_reduce, 1, name=f"{name}_3x3_reduce")
    three = conv(three, n3, 3, name=f"{name}_3x3")
    five = conv(x, n5_reduce, 1, name=f"{name}_5x5_reduce")
    five = conv(five, n5, 5, name=f"{name}_5x5")
    pool = max_pool(x, 3, 1, name=f"{name}_pool", padding="same")
    pool = conv(pool, n_pool, 1, name=f"{name}_pool_proj")
    return concat([one, three, five, pool], name=f"{name}_output")


def aux_classifier(x: Any, classes: int, classifier_activation: Any, *, name: str) -> Any:
    """The auxiliary classifier of section 5: pool, 1x1 bottleneck, two dense layers."""
    x = layers.AveragePooling2D(5, 3, name=f"{name}_pool")(x)
    x = conv(x, 128, 1, name=f"{name}_conv")
    x = layers.Flatten(name=f"{name}_flatten")(x)
    x = layers.Dense(1024, activation="relu", name=f"{name}_fc")(x)
    x = layers.Dropout(0.7, name=f"{name}_dropout")(x)
    return predictions(x, classes, classifier_activation, name=name)


@architecture(
    year=2014,
    paper="Going deeper with convolutions",
    url="https://arxiv.org/abs/1409.4842",
    head=gap_dense(dropout=0.4),
    aux_head=aux_classifier,
    aux_taps=("inception_4a_output", "inception_4d_output"),
    features=1024,
    stride=32,
    min_size=32,
    aux_min_size=65,
    preprocessing="caffe",
    tiny={"width": 0.25},
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


GoogLeNet = googlenet.variant(
    "GoogLeNet", protocol="one crop", top5_error=10.07, params=6_998_552, macs=1_582_671_872
)
