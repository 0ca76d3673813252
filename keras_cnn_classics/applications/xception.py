"""Xception: Inception modules taken to the extreme.

An inception module looks at space and at channels with a few towers; with one tower for each
channel, it is a depthwise separable convolution. Xception is a stack of these with residual
connections, of the size of Inception v3 and better. There is no ReLU between the depthwise and the
1x1 convolution: the paper found it to hurt.

Weights of PyTorch packages, ported from Keras's, are run there with `padding="symmetric",
epsilon=1e-5`; both change the results a little.

References:
    - [Xception: deep learning with depthwise separable
      convolutions](https://arxiv.org/abs/1610.02357), Chollet, CVPR 2017
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from keras import layers

from keras_cnn_classics.applications._architecture import architecture
from keras_cnn_classics.applications._keras_modules import preprocessing_for
from keras_cnn_classics.blocks.core import PADDINGS, max_pool, norm, one_of
from keras_cnn_classics.blocks.heads import gap_dense
from keras_cnn_classics.preprocessing import decode_predictions as decode_predictions

preprocess_input = preprocessing_for(__name__)

# Figure 5: filters of each block's separable convolutions. Blocks 2 to 4 and 13 halve the map and
# have a 1x1 convolution in the shortcut; blocks 5 to 12, the middle flow, add their input.
BLOCKS = {
    **{2: (128, 128), 3: (256, 256), 4: (728, 728)},
    **{number: (728, 728, 728) for number in range(5, 13)},
    13: (728, 1024),
}
# Figure 5, exit flow: behind the last block, each with a ReLU after it.
LAST = (1536, 2048)
HALVING = (2, 3, 4, 13)


def _relu(x: Any, *, name: str) -> Any:
    return layers.Activation("relu", name=name)(x)


def separable(x: Any, filters: int, epsilon: float, *, name: str) -> Any:
    """A depthwise 3x3 and a 1x1 convolution in one layer, and batch normalization.

    Args:
        x: Feature map.
        filters: Filters of the 1x1 convolution.
        epsilon: Added to the variance in batch normalization.
        name: Name of the convolution, and prefix of `_bn`.

    Returns:
        A feature map with `filters` channels.
    """
    x = layers.SeparableConv2D(filters, 3, padding="same", use_bias=False, name=name)(x)
    return norm(x, epsilon=epsilon, name=f"{name}_bn")


def halve(x: Any, padding: str, *, name: str) -> Any:
    """Maximum of 3x3 in steps of 2, with what is beyond the edge left out.

    Args:
        x: Feature map.
        padding: `"same"` or `"symmetric"`, as in the trunk.
        name: Name of the pool.

    Returns:
        A feature map of half the height and width, rounded up.
    """
    if padding == "same":
        return max_pool(x, name=name, padding="same")
    # Every second of the windows around each pixel.
    x = max_pool(x, 3, 1, name=f"{name}_windows", padding="same")
    return max_pool(x, 1, 2, name=name)


def counted(kind: str, index: int) -> str:
    """The name that Keras gives to a layer without one in a fresh process.

    Args:
        kind: Name of the first of its kind, such as `"conv2d"`.
        index: How many of its kind there are before it.

    Returns:
        A name.
    """
    return f"{kind}_{index}" if index else kind


def block(
    x: Any,
    filters: Sequence[int],
    *,
    number: int,
    padding: str = "same",
    epsilon: float = 1e-3,
) -> Any:
    """A block of figure 5: ReLU and separable convolution, two or three times, and a shortcut.

    Args:
        x: Feature map.
        filters: Filters of each separable convolution.
        number: Which block it is, for the layers' names; the first here, 2, has no first ReLU.
        padding: `"same"` or `"symmetric"`, as in the trunk.
        epsilon: Added to the variance in batch normalization.

    Returns:
        A feature map with as many channels as the last convolution has filters.
    """
    name, way = f"block{number}", x
    if number in HALVING:
        index = HALVING.index(number)
        way = layers.Conv2D(
            filters[-1], 1, 2, "same", use_bias=False, name=counted("conv2d", index)
        )(way)
        way = norm(way, epsilon=epsilon, name=counted("batch_normalization", index))
    for i, n in enumerate(filters, 1):
        if (number, i) != (2, 1):
            x = _relu(x, name=f"{name}_sepconv{i}_act")
        x = separable(x, n, epsilon, name=f"{name}_sepconv{i}")
    if number in HALVING:
        x = halve(x, padding, name=f"{name}_pool")
    return layers.Add(name=f"{name}_add")([x, way])


def _torch_names(**_: Any) -> Mapping[str, Sequence[Any]]:
    """The names of timm's `legacy_xception` and of its origin, which differ at the classifier."""
    names: dict[str, tuple[Any, ...]] = {}
    for i in (1, 2):
        names |= {f"block1_conv{i}": (f"conv{i}",), f"block1_conv{i}_bn": (f"bn{i}",)}
    for number, filters in BLOCKS.items():
        theirs = f"block{number - 1}"
        if number in HALVING:
            index = HALVING.index(number)
            names |= {
                counted("conv2d", index): (f"{theirs}.skip",),
                counted("batch_normalization", index): (f"{theirs}.skipbn",),
            }
        # ReLU, convolution, normalization, ReLU, ..., the first ReLU not in the first block.
        place = 1 if number > 2 else 0
        for i in range(1, len(filters) + 1):
            rep = f"{theirs}.rep.{place}"
            names |= {
                f"block{number}_sepconv{i}": ((f"{rep}.conv1", f"{rep}.pointwise"),),
                f"block{number}_sepconv{i}_bn": (f"{theirs}.rep.{place + 1}",),
            }
            place += 3
    for i in (1, 2):
        theirs = f"conv{i + 2}"
        names |= {
            f"block14_sepconv{i}": ((f"{theirs}.conv1", f"{theirs}.pointwise"),),
            f"block14_sepconv{i}_bn": (f"bn{i + 2}",),
        }
    return names | {"predictions": ("fc", "last_linear")}


@architecture(
    year=2016,
    paper="Xception: deep learning with depthwise separable convolutions",
    url="https://arxiv.org/abs/1610.02357",
    head=gap_dense(),
    torch_names=_torch_names,
    features=2048,
    torch_options={"padding": "symmetric", "epsilon": 1e-5},
    stride=32,
    input_size=299,
    min_size=71,
    preprocessing="tf",
    torch_preprocessing="tf",
    protocol="one crop",
    notes="The paper's training had a dropout of 0.5 before the classifier, which Keras's lacks.",
    tiny={"width": 0.5},
)
def xception(x: Any, *, width: float = 1.0, padding: str = "same", epsilon: float = 1e-3) -> Any:
    """Xception, for images of any size.

    Args:
        x: Image batch.
        width: Multiplier of every layer's filters; the paper has 1.
        padding: `"same"` as in TensorFlow and Keras, or `"symmetric"` as in PyTorch packages: what
            the pools in steps of two see beyond the edge.
        epsilon: Added to the variance in batch normalization; PyTorch packages have 1e-5.

    Returns:
        Feature map of stride 32: 10x10 for an image of 299x299.
    """
    one_of("padding", padding, PADDINGS)
    for i, (filters, strides) in enumerate(((32, 2), (64, 1)), 1):
        name = f"block1_conv{i}"
        x = layers.Conv2D(int(filters * width), 3, strides, use_bias=False, name=name)(x)
        x = _relu(norm(x, epsilon=epsilon, name=f"{name}_bn"), name=f"{name}_act")
    for number, row in BLOCKS.items():
        row = tuple(int(filters * width) for filters in row)
        x = block(x, row, number=number, padding=padding, epsilon=epsilon)
    for i, filters in enumerate(LAST, 1):
        x = separable(x, int(filters * width), epsilon, name=f"block14_sepconv{i}")
        x = _relu(x, name=f"block14_sepconv{i}_act")
    return x


Xception = xception.variant(
    "Xception", params=22_855_952, macs=8_357_403_496, top1_error=21.0, top5_error=5.5
)
