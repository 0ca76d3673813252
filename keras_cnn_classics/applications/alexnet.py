"""AlexNet: the network that won ILSVRC 2012 and started it all.

Five convolutions with ReLU, local response normalization, overlapping pools, two dense layers
with dropout. It was split over two GPUs, which met only in conv3 and in the dense layers: the
same as convolutions in two groups. `AlexNetSingle` has the lectures' one tower, `AlexNetOWT`
the narrower one of "One weird trick", without normalization, that torchvision calls AlexNet.

References:
    - [ImageNet classification with deep convolutional neural networks](https://papers.nips.cc/paper/4824),
      Krizhevsky, Sutskever and Hinton, NIPS 2012
    - [One weird trick for parallelizing convolutional neural networks](https://arxiv.org/abs/1404.5997),
      Krizhevsky, 2014
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from keras_cnn_classics.applications._architecture import architecture
from keras_cnn_classics.blocks.core import (
    ceil_pool,
    conv,
    exactly,
    max_pool,
    near_pool,
    one_of,
)
from keras_cnn_classics.blocks.heads import mlp
from keras_cnn_classics.layers import LocalResponseNormalization

# Arguments of the normalization, and the pool, of the paper and of published weights. Theirs are
# for images of 224x224, whose maps the windows of pools do not fit.
FORMS: dict[str, tuple[dict[str, Any], Callable[..., Any]]] = {
    "paper": ({}, max_pool),
    "tf2cv": ({"size": 11}, near_pool),
    "pytorchcv": ({"convention": "caffe"}, ceil_pool),
}


def torch_names(**_: Any) -> Mapping[str, Sequence[str]]:
    """The names of pytorchcv.

    Returns:
        Names of each layer.
    """
    units = ("stage1.unit1", "stage2.unit1", *(f"stage3.unit{i}" for i in (1, 2, 3)))
    convolutions = {f"conv{i}": (f"features.{unit}.conv",) for i, unit in enumerate(units, 1)}
    dense = {"fc6": "fc1.fc", "fc7": "fc2.fc", "predictions": "fc3"}
    return convolutions | {name: (f"output.{theirs}",) for name, theirs in dense.items()}


@architecture(
    year=2012,
    paper="ImageNet classification with deep convolutional neural networks",
    url="https://papers.nips.cc/paper/4824",
    head=mlp(first=6),
    features=256,
    stride=32,
    input_size=227,
    min_size=67,
    fixed_top=True,
    preprocessing="caffe",
    tiny={"widths": (16, 48, 64, 64, 32), "units": (32, 24)},
    notes="The paper says 224 pixels, but its 55x55 maps need 227.",
)
def alexnet(
    x: Any,
    *,
    groups: int = 2,
    widths: Sequence[int] = (96, 256, 384, 384, 256),
    form: str = "paper",
) -> Any:
    """AlexNet, the winner of ILSVRC 2012.

    Args:
        x: Image batch.
        groups: Towers that conv2, conv4 and conv5 are split into.
        widths: Filters of the five convolutions.
        form: `"paper"`, or `"tf2cv"` or `"pytorchcv"` for their weights. Both have pools that halve
            upwards, whose windows hang over the near edge in tf2cv, the far one in pytorchcv; the
            normalization sees 11 channels in tf2cv, and divides alpha by 5 in pytorchcv.

    Returns:
        Feature map of stride 32: 6x6 for an image of 227x227.
    """
    one_of("form", form, tuple(FORMS))
    normalization, pool = FORMS[form]
    n1, n2, n3, n4, n5 = exactly(5, widths, "widths")
    x = conv(x, n1, 11, 4, name="conv1", padding="valid")
    x = LocalResponseNormalization(name="norm1", **normalization)(x)
    x = pool(x, name="pool1")
    x = conv(x, n2, 5, name="conv2", groups=groups)
    x = LocalResponseNormalization(name="norm2", **normalization)(x)
    x = pool(x, name="pool2")
    x = conv(x, n3, 3, name="conv3")
    x = conv(x, n4, 3, name="conv4", groups=groups)
    x = conv(x, n5, 3, name="conv5", groups=groups)
    return pool(x, name="pool5")


def _owt_names(**_: Any) -> Mapping[str, Sequence[str]]:
    """Names of torchvision: places in two `nn.Sequential`s."""
    convolutions = {f"conv{i}": (f"features.{n}",) for i, n in enumerate((0, 3, 6, 8, 10), 1)}
    dense = zip(("fc6", "fc7", "predictions"), (1, 4, 6), strict=True)
    return convolutions | {name: (f"classifier.{n}",) for name, n in dense}


@architecture(
    year=2014,
    paper="One weird trick for parallelizing convolutional neural networks",
    url="https://arxiv.org/abs/1404.5997",
    head=mlp(first=6, dropout_before=True),
    torch_names=_owt_names,
    features=256,
    stride=32,
    min_size=63,
    fixed_top=True,
    tiny={"widths": (16, 48, 64, 64, 32), "units": (32, 24)},
)
def alexnet_owt(x: Any, *, widths: Sequence[int] = (64, 192, 384, 256, 256)) -> Any:
    """AlexNet of "one weird trick", as torchvision builds it.

    Args:
        x: Image batch.
        widths: Filters of the five convolutions.

    Returns:
        Feature map of stride 32: 6x6 for an image of 224x224.
    """
    n1, n2, n3, n4, n5 = exactly(5, widths, "widths")
    x = conv(x, n1, 11, 4, name="conv1", padding=2)
    x = max_pool(x, name="pool1")
    x = conv(x, n2, 5, name="conv2")
    x = max_pool(x, name="pool2")
    x = conv(x, n3, 3, name="conv3")
    x = conv(x, n4, 3, name="conv4")
    x = conv(x, n5, 3, name="conv5")
    return max_pool(x, name="pool5")


AlexNet = alexnet.variant(
    "AlexNet",
    protocol="ten crops",
    top1_error=40.7,
    top5_error=18.2,
    params=60_965_224,
    macs=724_406_816,
)
AlexNetSingle = alexnet.variant(
    "AlexNetSingle",
    params=62_378_344,
    macs=1_135_256_096,
    groups=1,
    torch_names=torch_names,
    torch_options={"form": "pytorchcv"},
)
AlexNetOWT = alexnet_owt.variant(
    "AlexNetOWT",
    params=61_100_840,
    macs=714_188_480,
    notes="torchvision's conv4 has 256 maps, as the configuration published with the paper.",
)
