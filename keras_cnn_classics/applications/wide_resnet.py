"""Wide residual networks: fewer blocks, more filters.

Sixteen wide layers do as well as a thousand thin ones and train several times as fast. The paper's
CIFAR networks have pre-activation blocks; its ImageNet network is ResNet-50 with twice the filters
in the 3x3 convolutions of the bottlenecks.

References:
    - [Wide residual networks](https://arxiv.org/abs/1605.07146),
      Zagoruyko and Komodakis, BMVC 2016
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from keras_cnn_classics.applications._architecture import architecture
from keras_cnn_classics.applications.resnet import stages, stem, torch_names
from keras_cnn_classics.blocks.core import exactly
from keras_cnn_classics.blocks.heads import gap_dense


@architecture(
    year=2016,
    paper="Wide residual networks",
    url="https://arxiv.org/abs/1605.07146",
    head=gap_dense(),
    torch_names=lambda depths, **_: torch_names(bottleneck=True, depths=depths),
    features=2048,
    stride=32,
    tiny={"depths": (1, 2, 1, 1), "width": 16},
)
def wide_resnet(x: Any, *, depths: Sequence[int], widen: int, width: int = 64) -> Any:
    """Wide ResNet with bottlenecks, for ImageNet.

    Args:
        x: Image batch.
        depths: Number of blocks in each of the four stages.
        widen: Multiplier of the filters of the 3x3 convolutions.
        width: Filters of the first convolution, and of ResNet's first stage.

    Returns:
        Feature map of stride 32: 7x7 for an image of 224x224.
    """
    return stages(
        stem(x, width),
        exactly(4, depths, "depths"),
        width * widen,
        4 * width,
        bottleneck=True,
        stride_in="3x3",
    )


WideResNet50_2 = wide_resnet.variant(
    "WideResNet50_2", depths=(3, 4, 6, 3), widen=2, params=68_883_240, macs=11_398_021_120
)
