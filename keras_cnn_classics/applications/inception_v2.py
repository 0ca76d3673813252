"""Inception v2: the table of the paper that factorized kernels, before v3.

Three modules of 35x35 in which two 3x3 convolutions stand for a 5x5, five of 17x17 with 7x7 kernels
in rows and columns, two of 8x8 that split into a row and a column for width. Inception v3 is this
network trained better, with a batch-normalized auxiliary classifier.

This is a reconstruction. The paper gives the size and the depth of the map before each part, which
hold here, and the modules' figures, but no filters inside of them. They are those of Inception v3
as its authors released it; its modules of 35x35 have one 5x5 left, which is a 3x3 here, as in
figure 5. The last of the three and the last of the five modules halve the map, figure 10, as in
BN-Inception: so the table's depths come out, with the four modules of 17x17 that v3 has. The
longest way then has 46 weighted layers, where the paper speaks of 42.

References:
    - [Rethinking the Inception architecture for computer vision](https://arxiv.org/abs/1512.00567),
      Szegedy, Vanhoucke, Ioffe, Shlens and Wojna, CVPR 2016, table 1
"""

from __future__ import annotations

from typing import Any

from keras_cnn_classics.applications._architecture import architecture
from keras_cnn_classics.applications.inception_v3 import (
    PAPER,
    SEVENS,
    Units,
    module_8,
    module_17,
    reduction_17,
    reduction_35,
)
from keras_cnn_classics.blocks.core import concat, max_pool, smooth
from keras_cnn_classics.blocks.heads import gap_dense


def module_35(x: Any, unit: Units, *, name: str) -> Any:
    """The module for the map of 35x35, figure 5: two 3x3 convolutions for a 5x5.

    Args:
        x: Feature map.
        unit: Maker of the convolutions.
        name: Name of the concatenation.

    Returns:
        A feature map of the same size with 288 channels.
    """
    one = unit(x, 64, 1)
    three = unit.chain(x, (48, 1), (64, 3))
    threes = unit.chain(x, (64, 1), (96, 3), (96, 3))
    pool = unit(smooth(x, name=f"{name}_pool"), 64, 1)
    return concat([one, three, threes, pool], name=name)


@architecture(
    **PAPER,
    head=gap_dense(),
    features=2048,
    stride=32,
    input_size=299,
    min_size=75,
    preprocessing="tf",
    tiny={"width": 0.5},
)
def inception_v2(x: Any, *, width: float = 1.0) -> Any:
    """Inception v2, reconstructed from table 1.

    Args:
        x: Image batch.
        width: Multiplier of every layer's filters; the paper has 1.

    Returns:
        Feature map of stride 32: 8x8 for an image of 299x299.
    """
    unit = Units(scale=True, width=width)
    x = unit.chain(x, (32, 3, 2), (32, 3, 1, "valid"), (64, 3))
    x = max_pool(x, name="pool1")
    x = unit.chain(x, (80, 3, 1, "valid"), (192, 3, 2), (288, 3))
    for i in range(2):
        x = module_35(x, unit, name=f"mixed{i}")
    x = reduction_35(x, unit, name="mixed2")
    for i, filters in enumerate(SEVENS, 3):
        x = module_17(x, filters, unit, name=f"mixed{i}")
    x = reduction_17(x, unit, name="mixed7")
    for i in (8, 9):
        x = module_8(x, unit, name=f"mixed{i}", split=f"mixed{i}_split")
    return x


InceptionV2 = inception_v2.variant(
    "InceptionV2",
    params=24_027_240,
    macs=5_576_975_456,
    top1_error=23.4,
    protocol="one crop, the paper's own form",
    notes=(
        "A reconstruction: the paper does not give the filters inside its modules; here they are "
        "those of Inception v3. The sizes and depths of the paper's table 1 hold. The error is "
        "table 3's first; with RMSProp, label smoothing and the first 7x7 convolution factorized, "
        "as in table 1, it is 21.6 / 5.8."
    ),
)
