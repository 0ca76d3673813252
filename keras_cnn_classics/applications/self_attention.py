"""Self-attention in a ResNet: what is far away in the image is one layer away.

A convolution sees its neighbourhood; here, once, each position looks at all others, weighs them by
likeness and adds what it finds to itself, times a learned scale that starts at zero. The layer is
SAGAN's, whose networks generate images. In this classifier there is one, before the last block of
conv4, on a map of 14x14 with 1,024 channels: where Wang et al. put a non-local block into a
ResNet-50. All else is ResNet-50 with steps in the 3x3 convolutions, as torchvision has it, under
the same names.

As the scale starts at zero, the network starts as the ResNet-50 whose weights it is given:
`SelfAttentionResNet50(weights=path, skip_mismatch=True)` takes files of
`ResNet50(bias=False, stride_in="3x3")` and torchvision's.

References:
    - [Self-attention generative adversarial networks](https://arxiv.org/abs/1805.08318),
      Zhang, Goodfellow, Metaxas and Odena, ICML 2019
    - [Non-local neural networks](https://arxiv.org/abs/1711.07971),
      Wang, Girshick, Gupta and He, CVPR 2018
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from keras_cnn_classics.applications._architecture import architecture
from keras_cnn_classics.blocks.core import exactly
from keras_cnn_classics.blocks.heads import gap_dense
from keras_cnn_classics.blocks.residual import stages, stem, torch_names
from keras_cnn_classics.layers import SelfAttention2D


@architecture(
    year=2018,
    paper="Self-attention generative adversarial networks",
    url="https://arxiv.org/abs/1805.08318",
    head=gap_dense(),
    torch_names=torch_names,
    features=2048,
    stride=32,
    tiny={"depths": (1, 2, 2, 1), "width": 16},
    notes=(
        "No paper has this classifier: the layer is that of the paper, whose networks generate "
        "images, with the channels of its authors' code and without spectral normalization; the "
        "place is that of the non-local blocks of Wang et al. Its 1,310,721 parameters, 1.25 times "
        "the square of 1,024 and the scale, come to the 25,557,032 of ResNet-50 without biases."
    ),
)
def self_attention_resnet(
    x: Any,
    *,
    bottleneck: bool,
    depths: Sequence[int],
    width: int = 64,
    reduction: int = 8,
    value_reduction: int = 2,
    pool_size: int = 1,
) -> Any:
    """ResNet with self-attention before the last block of conv4.

    Args:
        x: Image batch.
        bottleneck: Whether blocks have three convolutions (1x1, 3x3, 1x1), not two (3x3, 3x3).
        depths: Number of blocks in each of the four stages.
        width: Filters of the first stage; each stage doubles them.
        reduction: How many times fewer channels the layer's keys and queries have.
        value_reduction: How many times fewer its values have; the paper's text has 8.
        pool_size: Side of the windows of which one position is kept to look at; the authors' code
            has 2.

    Returns:
        Feature map of stride 32: 7x7 for an image of 224x224.
    """
    last = f"conv4_block{exactly(4, depths, 'depths')[2]}"

    def attend(x: Any, name: str) -> Any:
        if name != last:
            return x
        return SelfAttention2D(
            reduction, value_reduction, pool_size=pool_size, name="conv4_attention"
        )(x)

    return stages(
        stem(x, width),
        depths,
        width,
        4 * width if bottleneck else width,
        bottleneck=bottleneck,
        stride_in="3x3",
        before=attend,
    )


SelfAttentionResNet50 = self_attention_resnet.variant(
    "SelfAttentionResNet50",
    bottleneck=True,
    depths=(3, 4, 6, 3),
    params=26_867_753,
    macs=4_370_671_616,
)
