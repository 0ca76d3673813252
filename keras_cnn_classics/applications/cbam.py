"""CBAM: a network that weighs its channels, then its positions.

Squeeze-and-excitation asks what is of interest; this module goes on to ask where. Channels are
weighed by their averages and maxima, which go through the same two dense layers; positions by the
average and the maximum of their channels, through one convolution of 7x7. In residual networks
both come before the addition, as here.

The networks are those of the authors' code: steps in the 3x3 convolution, biases in the dense
layers, batch normalization behind the convolution of 7x7. pytorchcv's are the same.

References:
    - [CBAM: Convolutional block attention module](https://arxiv.org/abs/1807.06521),
      Woo, Park, Lee and Kweon, ECCV 2018
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from keras_cnn_classics.applications._architecture import architecture
from keras_cnn_classics.blocks.attention import cbam
from keras_cnn_classics.blocks.core import exactly
from keras_cnn_classics.blocks.heads import gap_dense
from keras_cnn_classics.blocks.residual import pytorchcv_names, stages, stem
from keras_cnn_classics.weights.torch_layout import TorchName


def _torch_names(
    *, bottleneck: bool, depths: Sequence[int], **_: Any
) -> Mapping[str, Sequence[TorchName]]:
    """The names of the authors' checkpoints, and those of pytorchcv."""
    names: dict[str, tuple[TorchName, ...]] = {
        **pytorchcv_names(bottleneck=bottleneck, depths=depths),
        "conv1_conv": ("conv1", "features.init_block.conv.conv"),
        "conv1_bn": ("bn1", "features.init_block.conv.bn"),
        "predictions": ("fc", "output"),
    }
    for stage, depth in enumerate(depths, 1):
        for i in range(depth):
            ours, theirs = f"conv{stage + 1}_block{i + 1}", f"layer{stage}.{i}.cbam"
            other = f"features.stage{stage}.unit{i + 1}.cbam"
            names |= {
                f"{ours}_channels": (
                    (f"{theirs}.ChannelGate.mlp.1", f"{theirs}.ChannelGate.mlp.3"),
                    (f"{other}.ch_gate.mlp.fc1", f"{other}.ch_gate.mlp.fc2"),
                ),
                f"{ours}_positions": (
                    (f"{theirs}.SpatialGate.spatial.conv", f"{theirs}.SpatialGate.spatial.bn"),
                    (f"{other}.sp_gate.conv.conv", f"{other}.sp_gate.conv.bn"),
                ),
            }
    return names


@architecture(
    year=2018,
    paper="CBAM: Convolutional block attention module",
    url="https://arxiv.org/abs/1807.06521",
    protocol="one crop",
    head=gap_dense(),
    torch_names=_torch_names,
    stride=32,
    tiny={"depths": (1, 2, 1, 1), "width": 16, "ratio": 4},
    notes=(
        "With the biases and the batch normalization of the authors' code, which the paper's "
        "equations do not have. Scales of these normalizations start at zero, as there, so that "
        "at first each position counts a half."
    ),
)
def cbam_resnet(
    x: Any, *, bottleneck: bool, depths: Sequence[int], width: int = 64, ratio: int = 16
) -> Any:
    """ResNet with convolutional block attention modules, figure 3.

    Args:
        x: Image batch.
        bottleneck: Whether blocks have three convolutions (1x1, 3x3, 1x1), not two (3x3, 3x3).
        depths: Number of blocks in each of the four stages.
        width: Filters of the first stage; each stage doubles them.
        ratio: How many times fewer units than channels the attention to channels has.

    Returns:
        Feature map of stride 32: 7x7 for an image of 224x224.
    """
    return stages(
        stem(x, width),
        exactly(4, depths, "depths"),
        width,
        4 * width if bottleneck else width,
        bottleneck=bottleneck,
        stride_in="3x3",
        refine=lambda x, name: cbam(x, ratio, name=name),
    )


BASIC: dict[str, Any] = {"bottleneck": False, "features": 512}
BOTTLENECK: dict[str, Any] = {"bottleneck": True, "features": 2048}

CBAMResNet18 = cbam_resnet.variant(
    "CBAMResNet18",
    depths=(2, 2, 2, 2),
    params=11_779_392,
    macs=1_815_063_764,
    top1_error=29.27,
    top5_error=10.09,
    **BASIC,
)
CBAMResNet34 = cbam_resnet.variant(
    "CBAMResNet34",
    depths=(3, 4, 6, 3),
    params=21_960_468,
    macs=3_665_434_742,
    top1_error=25.99,
    top5_error=8.24,
    **BASIC,
)
CBAMResNet50 = cbam_resnet.variant(
    "CBAMResNet50",
    depths=(3, 4, 6, 3),
    params=28_089_624,
    macs=4_095_573_110,
    top1_error=22.66,
    top5_error=6.31,
    **BOTTLENECK,
)
CBAMResNet101 = cbam_resnet.variant(
    "CBAMResNet101",
    depths=(3, 4, 23, 3),
    params=49_330_172,
    macs=7_812_577_278,
    top1_error=21.51,
    top5_error=5.69,
    **BOTTLENECK,
)
