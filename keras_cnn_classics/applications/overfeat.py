"""OverFeat: one convolutional network slid over whole images, at several scales.

Its dense layers are convolutions in disguise: on a larger image they give a map of answers, one
for each window, at little more than the cost of one. It won the localization task of ILSVRC 2013.
The network is AlexNet's without normalization, with pools that do not overlap and more maps; the
accurate model has a finer first layer than the fast one. `evaluation.fully_convolutional` gives
the map of answers, of every window of the last pool, and `evaluation.vote` what the paper makes of
them.

References:
    - [OverFeat: integrated recognition, localization and detection using convolutional
      networks](https://arxiv.org/abs/1312.6229),
      Sermanet, Eigen, Zhang, Mathieu, Fergus and LeCun, ICLR 2014
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from keras_cnn_classics.applications._architecture import architecture
from keras_cnn_classics.blocks.core import conv, exactly, max_pool
from keras_cnn_classics.blocks.heads import mlp

PAPER: dict[str, Any] = {
    "protocol": "4 scales, fine stride",
    "year": 2013,
    "paper": "OverFeat: integrated recognition, localization and detection using convolutional "
    "networks",
    "url": "https://arxiv.org/abs/1312.6229",
    "features": 1024,
    "fixed_top": True,
    "preprocessing": "overfeat",
}


@architecture(
    **PAPER,
    head=mlp(first=6),
    stride=32,
    input_size=231,
    min_size=71,
    tiny={"widths": (16, 24, 32, 32, 32), "units": (32, 24)},
)
def overfeat_fast(x: Any, *, widths: Sequence[int] = (96, 256, 512, 1024, 1024)) -> Any:
    """The fast model of OverFeat, table 1.

    Args:
        x: Image batch.
        widths: Filters of the five convolutions.

    Returns:
        Feature map of stride 32: 6x6 for an image of 231x231.
    """
    n1, n2, *rest = exactly(5, widths, "widths")
    x = conv(x, n1, 11, 4, name="conv1", padding="valid")
    x = max_pool(x, 2, name="pool1")
    x = conv(x, n2, 5, name="conv2", padding="valid")
    x = max_pool(x, 2, name="pool2")
    for i, n in enumerate(rest, 3):
        x = conv(x, n, 3, name=f"conv{i}")
    return max_pool(x, 2, name="pool5")


@architecture(
    **PAPER,
    head=mlp(first=7),
    stride=36,
    input_size=221,
    min_size=77,
    tiny={"widths": (16, 24, 32, 32, 32, 32), "units": (32, 24)},
)
def overfeat_accurate(x: Any, *, widths: Sequence[int] = (96, 256, 512, 512, 1024, 1024)) -> Any:
    """The accurate model of OverFeat, table 3.

    Args:
        x: Image batch.
        widths: Filters of the six convolutions.

    Returns:
        Feature map of stride 36: 5x5 for an image of 221x221.
    """
    n1, n2, *rest = exactly(6, widths, "widths")
    x = conv(x, n1, 7, 2, name="conv1", padding="valid")
    x = max_pool(x, 3, 3, name="pool1")
    x = conv(x, n2, 7, name="conv2", padding="valid")
    x = max_pool(x, 2, name="pool2")
    for i, n in enumerate(rest, 3):
        x = conv(x, n, 3, name=f"conv{i}")
    return max_pool(x, 3, 3, name="pool6")


OverFeatFast = overfeat_fast.variant(
    "OverFeatFast",
    top1_error=38.57,
    top5_error=16.39,
    units=(3072, 4096),
    params=145_920_872,
    macs=2_801_403_904,
)
OverFeatAccurate = overfeat_accurate.variant(
    "OverFeatAccurate",
    top1_error=35.74,
    top5_error=14.18,
    params=144_656_488,
    macs=5_355_446_784,
)
