"""DeepFace: faces that are aligned first, and kernels that need not be everywhere the same.

A model of the face in three dimensions turns it to the front, so that eyes and mouth are always at
the same pixels. After two convolutions and a pool come three locally connected layers, with other
kernels at every place: they hold three fifths of the weights, and cost no more multiplications
than convolutions. The dense layer behind them describes the face, and the last one names it.

Alignment is no part of the network: it takes what is aligned.

References:
    - [DeepFace: closing the gap to human-level performance in face verification](https://doi.org/10.1109/CVPR.2014.220),
      Taigman, Yang, Ranzato and Wolf, CVPR 2014
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from keras_cnn_classics.applications._architecture import architecture
from keras_cnn_classics.blocks.core import conv, exactly, max_pool
from keras_cnn_classics.blocks.heads import mlp
from keras_cnn_classics.layers import LocallyConnected2D


@architecture(
    year=2014,
    paper="DeepFace: closing the gap to human-level performance in face verification",
    url="https://doi.org/10.1109/CVPR.2014.220",
    head=mlp(first=7),
    features=16,
    stride=4,
    input_size=152,
    min_size=71,
    classes=4030,
    fixed_top=True,
    fixed_trunk=True,
    preprocessing="unit",
    top1_error=8.74,
    protocol="the paper's own faces, SFC",
    notes="The paper measures verification, too, on pairs of faces: 2.65 % are wrong on LFW by all "
    "its networks together. Where the descriptions of two faces are compared, it scales each of "
    "the 4096 numbers by its largest in training and then the vector to length 1; that is left to "
    "the caller.",
)
def deepface(x: Any, *, widths: Sequence[int] = (32, 16, 16, 16, 16)) -> Any:
    """DeepFace, which told faces apart as people do.

    Args:
        x: Batch of aligned faces, from 0 to 1.
        widths: Filters of C1 and C3, and of the locally connected L4, L5 and L6.

    Returns:
        Feature map of stride 4: 21x21 for an image of 152x152.
    """
    n1, n3, n4, n5, n6 = exactly(5, widths, "widths")
    x = conv(x, n1, 11, name="c1", padding="valid")
    x = max_pool(x, name="m2", padding="same")
    x = conv(x, n3, 9, name="c3", padding="valid")
    for name, filters, kernel, strides in (("l4", n4, 9, 1), ("l5", n5, 7, 2), ("l6", n6, 5, 1)):
        x = LocallyConnected2D(filters, kernel, strides, activation="relu", name=name)(x)
    return x


DeepFace = deepface.variant(
    "DeepFace",
    params=118_923_774,
    macs=517_624_448,
    units=(4096,),
    tiny={"widths": (16, 16, 8, 8, 8), "units": (24,)},
)
