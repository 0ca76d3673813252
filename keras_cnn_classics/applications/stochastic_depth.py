"""Stochastic depth: a very deep ResNet that is short in training.

Each batch skips blocks at random, early ones seldom and late ones often, so that gradients have a
short way, an epoch is cheaper, and what is left at the end is an ensemble of networks of many
depths. The probability that block l of L survives falls linearly: p_l = 1 - (l / L) (1 - p_L). At
inference every block is there, times its probability.

References:
    - [Deep networks with stochastic depth](https://arxiv.org/abs/1603.09382),
      Huang, Sun, Liu, Sedra and Weinberger, ECCV 2016
"""

from __future__ import annotations

from typing import Any

from keras_cnn_classics.applications._architecture import architecture
from keras_cnn_classics.applications.resnet import cifar_torch_names
from keras_cnn_classics.blocks.core import cifar_depths
from keras_cnn_classics.blocks.heads import gap_dense
from keras_cnn_classics.blocks.residual import stages, unit


@architecture(
    year=2016,
    paper="Deep networks with stochastic depth",
    url="https://arxiv.org/abs/1603.09382",
    head=gap_dense(),
    torch_names=cifar_torch_names,
    features=64,
    stride=4,
    input_size=32,
    min_size=8,
    classes=10,
    protocol="CIFAR-10, test",
    tiny={"depth": 8, "survival": 0.9},
    notes=(
        "A skipped block is still computed, so that training it saves no time. The shortcuts are "
        "ResNet's, with every second pixel and zeros on both sides of the channels; the authors' "
        "code averages 2x2 pixels and puts all zeros behind."
    ),
)
def stochastic_depth(x: Any, *, depth: int, survival: float = 0.5, width: int = 16) -> Any:
    """ResNet for images of 32x32 with stochastic depth, section 3.

    Args:
        x: Image batch.
        depth: Weighted layers, 6n + 2.
        survival: Probability that the last block is kept in training, above 0 and at most 1.
        width: Filters of the first stage; each of the two others doubles them.

    Returns:
        Feature map of stride 4: 8x8 for an image of 32x32.
    """
    if not 0 < survival <= 1:
        raise ValueError(f"`survival` must be above 0 and at most 1. Received: {survival=}")
    depths = cifar_depths(depth, 6, 2)
    x = unit(x, width, 3, name="conv1")
    return stages(x, depths, width, width, bottleneck=False, shortcut="A", survival=survival)


StochasticDepthResNet110 = stochastic_depth.variant(
    "StochasticDepthResNet110", depth=110, top1_error=5.25, params=1_727_962, macs=252_887_680
)
