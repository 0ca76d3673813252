"""ResNeXt: ResNet with the 3x3 convolutions split into groups.

A third way to make a network larger, beside depth and width: the number of parallel paths of a
block, its cardinality. Written as a grouped convolution, a block of 32 paths of width 4 costs as
much as ResNet's and is better. The step of a stage is in the 3x3 convolution.

References:
    - [Aggregated residual transformations for deep neural networks](https://arxiv.org/abs/1611.05431),
      Xie, Girshick, Dollar, Tu and He, CVPR 2017
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from keras_cnn_classics.applications._architecture import architecture
from keras_cnn_classics.blocks.core import exactly
from keras_cnn_classics.blocks.heads import gap_dense
from keras_cnn_classics.blocks.residual import stages, stem, torch_names


@architecture(
    protocol="one crop",
    year=2016,
    paper="Aggregated residual transformations for deep neural networks",
    url="https://arxiv.org/abs/1611.05431",
    head=gap_dense(),
    torch_names=lambda depths, **_: torch_names(bottleneck=True, depths=depths),
    features=2048,
    stride=32,
    tiny={"depths": (1, 2, 1, 1), "groups": 4, "width": 4, "out": 32},
)
def resnext(x: Any, *, depths: Sequence[int], groups: int, width: int, out: int = 256) -> Any:
    """ResNeXt, the runner-up of ILSVRC 2016.

    Args:
        x: Image batch.
        depths: Number of blocks in each of the four stages.
        groups: Cardinality: parallel paths of a block, and groups of its 3x3 convolution.
        width: Filters of each path in the first stage; each stage doubles them.
        out: Filters of the first stage's blocks; each stage doubles them.

    Returns:
        Feature map of stride 32: 7x7 for an image of 224x224.
    """
    return stages(
        stem(x, out // 4),
        exactly(4, depths, "depths"),
        groups * width,
        out,
        bottleneck=True,
        stride_in="3x3",
        groups=groups,
    )


D50, D101 = (3, 4, 6, 3), (3, 4, 23, 3)

ResNeXt50_32x4d = resnext.variant(
    "ResNeXt50_32x4d",
    top1_error=22.2,
    depths=D50,
    groups=32,
    width=4,
    params=25_028_904,
    macs=4_230_479_872,
)
ResNeXt101_32x4d = resnext.variant(
    "ResNeXt101_32x4d",
    top1_error=21.2,
    top5_error=5.6,
    depths=D101,
    groups=32,
    width=4,
    params=44_177_704,
    macs=7_969_996_800,
)
ResNeXt101_32x8d = resnext.variant(
    "ResNeXt101_32x8d", depths=D101, groups=32, width=8, params=88_791_336, macs=16_414_015_488
)
ResNeXt101_64x4d = resnext.variant(
    "ResNeXt101_64x4d",
    top1_error=20.4,
    top5_error=5.3,
    depths=D101,
    groups=64,
    width=4,
    params=83_455_272,
    macs=15_460_270_080,
)
