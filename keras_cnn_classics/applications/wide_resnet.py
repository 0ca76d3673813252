"""Wide residual networks: fewer blocks, more filters.

Sixteen wide layers do as well as a thousand thin ones and train several times as fast. The paper's
CIFAR networks have pre-activation blocks; its ImageNet network is ResNet-50 with twice the filters
in the 3x3 convolutions of the bottlenecks.

References:
    - [Wide residual networks](https://arxiv.org/abs/1605.07146),
      Zagoruyko and Komodakis, BMVC 2016
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from keras_cnn_classics.applications import resnet_v2
from keras_cnn_classics.applications._architecture import architecture
from keras_cnn_classics.blocks.core import cifar_depths, exactly, plain_conv
from keras_cnn_classics.blocks.heads import gap_dense
from keras_cnn_classics.blocks.residual import stages, stem, torch_names

PAPER: dict[str, Any] = {
    "year": 2016,
    "paper": "Wide residual networks",
    "url": "https://arxiv.org/abs/1605.07146",
    "head": gap_dense(),
}


@architecture(
    **PAPER,
    protocol="one crop",
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


def _cifar_torch_names(*, depth: int, **_: Any) -> Mapping[str, Sequence[str]]:
    return resnet_v2.torch_names(bottleneck=False, depths=cifar_depths(depth, 6, 4))


@architecture(
    **PAPER,
    torch_names=_cifar_torch_names,
    features=640,
    stride=4,
    input_size=32,
    min_size=8,
    classes=10,
    protocol="CIFAR-10, test",
    tiny={"depth": 10, "widen": 1},
)
def wide_resnet_cifar(x: Any, *, depth: int, widen: int, dropout: float = 0.0) -> Any:
    """Wide ResNet for images of 32x32, table 1.

    Args:
        x: Image batch.
        depth: Weighted layers, 6n + 4.
        widen: Multiplier of the filters of all blocks, which begin with 16.
        dropout: Share of the values between a block's convolutions that training drops; the
            paper has 0.3 where it drops any.

    Returns:
        Feature map of stride 4: 8x8 for an image of 32x32.
    """
    depths = cifar_depths(depth, 6, 4)
    x = plain_conv(x, 16, 3, name="conv1")
    return resnet_v2.stages(x, depths, 16 * widen, bottleneck=False, dropout=dropout)


WideResNet50_2 = wide_resnet.variant(
    "WideResNet50_2",
    top1_error=21.9,
    top5_error=6.03,
    depths=(3, 4, 6, 3),
    widen=2,
    params=68_883_240,
    macs=11_398_021_120,
)
WideResNet101_2 = wide_resnet.variant(
    "WideResNet101_2",
    depths=(3, 4, 23, 3),
    widen=2,
    params=126_886_696,
    macs=22_753_050_624,
    notes="Not the paper's, but torchvision's: its ResNet-101 in the form of WideResNet50_2.",
)
WideResNet16_10 = wide_resnet_cifar.variant(
    "WideResNet16_10", depth=16, widen=10, params=17_116_634, macs=2_412_173_568
)
WideResNet28_10 = wide_resnet_cifar.variant(
    "WideResNet28_10", depth=28, widen=10, top1_error=4.0, params=36_479_194, macs=5_243_328_768
)
WideResNet40_8 = wide_resnet_cifar.variant(
    "WideResNet40_8", depth=40, widen=8, features=512, params=35_748_314, macs=5_172_024_320
)
