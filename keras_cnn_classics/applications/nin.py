"""Network in Network: a small network in place of each linear filter, and no dense layers.

A convolution looks at a patch by a linear filter. An mlpconv layer looks at it by a perceptron of
several layers, which is the convolution followed by 1x1 convolutions. The last ones give a map for
each class, whose average is the class's score: global average pooling has no weights that could
overfit. 1x1 convolutions and average pooling have been in most networks since.

References:
    - [Network in network](https://arxiv.org/abs/1312.4400),
      Lin, Chen and Yan, ICLR 2014
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from keras import layers

from keras_cnn_classics.applications._architecture import architecture
from keras_cnn_classics.blocks.core import ceil_pool, conv, exactly, one_of
from keras_cnn_classics.blocks.heads import cells
from keras_cnn_classics.layers import CeilAveragePooling2D

PAPER: dict[str, Any] = {
    "year": 2013,
    "paper": "Network in network",
    "url": "https://arxiv.org/abs/1312.4400",
}


def mlpconv(
    x: Any,
    filters: Sequence[int],
    kernel: int,
    strides: int = 1,
    *,
    number: int,
    padding: str = "same",
) -> Any:
    """The mlpconv layer: a perceptron that slides over the map, section 3.1.

    Args:
        x: Feature map.
        filters: Units of each of the perceptron's layers, the convolution's first.
        kernel: Height and width of the patch that the perceptron sees.
        strides: Its steps.
        number: Number of the mlpconv layer, from 1. Its layers have the names that the authors
            gave them: `conv1`, `cccp1` and `cccp2`, `conv2`, `cccp3` and so on, for "cascaded
            cross-channel parametric pooling".
        padding: `"same"` or `"valid"`.

    Returns:
        A feature map with as many channels as the last layer has units.
    """
    first, *others = filters
    x = conv(x, first, kernel, strides, name=f"conv{number}", padding=padding)
    for i, n in enumerate(others, 2 * number - 1):
        x = conv(x, n, 1, name=f"cccp{i}")
    return x


def _torch_names(**_: Any) -> Mapping[str, Sequence[str]]:
    """Names of the converted Caffe model: places in one `nn.Sequential`."""
    names, place = {}, 0
    for number in range(1, 5):
        for layer in (f"conv{number}", f"cccp{2 * number - 1}", f"cccp{2 * number}"):
            names[layer] = (f"features.{place}",)
            place += 2  # a ReLU is between them
        place += 1 + (number == 3)  # a pool, and before the last convolutions dropout
    return names


@architecture(
    **PAPER,
    head=cells(conv="cccp8", pool="pool4"),
    torch_names=_torch_names,
    features=1024,
    stride=32,
    min_size=39,
    classifier="cccp8",
    preprocessing="caffe",
    torch_preprocessing="caffe",
    tiny={"widths": (16, 24, 32, 48)},
    notes="The paper has no network for ImageNet: this is the authors' one in Caffe's model zoo.",
)
def nin(x: Any, *, widths: Sequence[int] = (96, 256, 384, 1024), dropout: float = 0.5) -> Any:
    """Network in Network for ImageNet.

    Args:
        x: Image batch.
        widths: Units in each layer of the four mlpconv layers.
        dropout: Share of the activations before the last mlpconv layer that training drops.

    Returns:
        Feature map of stride 32: 6x6 for an image of 224x224.
    """
    n1, n2, n3, n4 = exactly(4, widths, "widths")
    x = mlpconv(x, (n1, n1, n1), 11, 4, number=1, padding="valid")
    x = ceil_pool(x, name="pool1")
    x = mlpconv(x, (n2, n2, n2), 5, number=2)
    x = ceil_pool(x, name="pool2")
    x = mlpconv(x, (n3, n3, n3), 3, number=3)
    x = ceil_pool(x, name="pool3")
    x = layers.Dropout(dropout, name="drop3")(x)
    return mlpconv(x, (n4, n4), 3, number=4)


def _cifar_torch_names(**_: Any) -> Mapping[str, Sequence[str]]:
    """Names of pytorchcv."""
    units = [f"features.stage{s}.unit{u}" for s in (1, 2, 3) for u in (1, 2, 3)][:-1]
    ours = [n for i in (1, 2, 3) for n in (f"conv{i}", f"cccp{2 * i - 1}", f"cccp{2 * i}")]
    theirs = [*units, "output.final_conv"]
    return {name: (f"{unit}.conv",) for name, unit in zip(ours, theirs, strict=True)}


def _halve(x: Any, kind: Any, form: str, dropout: float, number: int) -> Any:
    """A pool of 3x3 in steps of 2, the maximum or the average, and dropout."""
    name = f"pool{number}"
    if form == "pytorchcv":
        x = layers.ZeroPadding2D(1, name=f"{name}_pad")(x)
        x = kind(3, 2, name=name)(x)
    elif kind is layers.MaxPooling2D:
        x = ceil_pool(x, name=name)
    else:
        x = CeilAveragePooling2D(3, 2, name=name)(x)
    return layers.Dropout(dropout, name=f"drop{number}")(x)


@architecture(
    **PAPER,
    head=cells(conv="cccp6", pool="pool3"),
    torch_names=_cifar_torch_names,
    torch_options={"form": "pytorchcv"},
    torch_preprocessing="cifar10",
    features=192,
    stride=4,
    input_size=32,
    min_size=8,
    classes=10,
    classifier="cccp6",
    preprocessing="cifar10",
    protocol="CIFAR-10, test",
    tiny={"widths": (24, 20, 16, 24, 24, 24, 24, 24)},
    notes="The second pool is an average, as in the authors' Caffe model; the paper's text has "
    "maxima. The paper normalizes the contrast of the images and whitens them.",
)
def nin_cifar(
    x: Any,
    *,
    widths: Sequence[int] = (192, 160, 96, 192, 192, 192, 192, 192),
    dropout: float = 0.5,
    form: str = "caffe",
) -> Any:
    """Network in Network for images of 32x32.

    Args:
        x: Image batch.
        widths: Units in the layers of the three mlpconv layers, but for the classifier.
        dropout: Share of the activations behind each of the two pools that training drops.
        form: `"caffe"`, whose pools reach over the far edge and leave out what is beyond it, or
            `"pytorchcv"` for its weights, whose pools reach over the near edge too and count
            zeros there, also in the average.

    Returns:
        Feature map of stride 4: 8x8 for an image of 32x32.
    """
    one_of("form", form, ("caffe", "pytorchcv"))
    widths = exactly(8, widths, "widths")
    x = mlpconv(x, widths[:3], 5, number=1)
    x = _halve(x, layers.MaxPooling2D, form, dropout, 1)
    x = mlpconv(x, widths[3:6], 5, number=2)
    x = _halve(x, layers.AveragePooling2D, form, dropout, 2)
    return mlpconv(x, widths[6:], 3, number=3)


NIN = nin.variant("NIN", params=7_595_176, macs=1_100_188_800)
NINCIFAR = nin_cifar.variant("NINCIFAR", top1_error=8.81, params=966_986, macs=222_486_528)
