"""ZFNet: AlexNet looked into with a deconvnet, and mended.

Pictures of what the first layers had learned showed dead filters and aliasing, so the first
convolution became smaller and denser, 7x7 in steps of 2, and the second got a step of 2.

References:
    - [Visualizing and understanding convolutional networks](https://arxiv.org/abs/1311.2901),
      Zeiler and Fergus, ECCV 2014
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from keras_cnn_classics.applications import alexnet
from keras_cnn_classics.applications._architecture import architecture
from keras_cnn_classics.blocks.core import conv, exactly, max_pool, one_of
from keras_cnn_classics.blocks.heads import mlp
from keras_cnn_classics.layers import LocalResponseNormalization

FORMS = dict(alexnet.FORMS)
FORMS["paper"] = {}, partial(max_pool, padding="same")


def _halve(x: Any, number: int, form: str) -> Any:
    normalization, pool = FORMS[form]
    normalize = LocalResponseNormalization(name=f"norm{number}", **normalization)
    if form == "paper":
        return normalize(pool(x, name=f"pool{number}"))
    return pool(normalize(x), name=f"pool{number}")


@architecture(
    protocol="ten crops",
    year=2013,
    paper="Visualizing and understanding convolutional networks",
    url="https://arxiv.org/abs/1311.2901",
    head=mlp(first=6),
    torch_names=alexnet.torch_names,
    torch_options={"form": "pytorchcv"},
    features=256,
    stride=32,
    min_size=53,
    fixed_top=True,
    preprocessing="caffe",
    tiny={"widths": (16, 32, 32, 32, 24), "units": (32, 24)},
    notes="The contrast normalization is AlexNet's, after each pool as in figure 3.",
)
def zfnet(x: Any, *, widths: Sequence[int] = (96, 256, 384, 384, 256), form: str = "paper") -> Any:
    """ZFNet: AlexNet with a finer first layer.

    Args:
        x: Image batch.
        widths: Filters of the five convolutions.
        form: `"paper"`, or `"tf2cv"` or `"pytorchcv"` for their weights, as in `AlexNetSingle`;
            both also normalize before each pool.

    Returns:
        Feature map of stride 32: 6x6 for an image of 224x224.
    """
    one_of("form", form, tuple(FORMS))
    n1, n2, *rest = exactly(5, widths, "widths")
    x = conv(x, n1, 7, 2, name="conv1", padding=1)
    x = _halve(x, 1, form)
    x = conv(x, n2, 5, 2, name="conv2", padding="valid")
    x = _halve(x, 2, form)
    for i, n in enumerate(rest, 3):
        x = conv(x, n, 3, name=f"conv{i}")
    last = max_pool if form == "paper" else FORMS[form][1]
    return last(x, name="pool5")


ZFNet = zfnet.variant(
    "ZFNet", top1_error=38.4, top5_error=16.5, params=62_357_608, macs=1_168_032_896
)
ZFNetWide = zfnet.variant(
    "ZFNetWide",
    top1_error=37.5,
    top5_error=16.0,
    params=107_627_624,
    macs=2_476_704_896,
    widths=(96, 256, 512, 1024, 512),
    features=512,
)
