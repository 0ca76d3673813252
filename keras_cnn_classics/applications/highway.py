"""Highway networks: gates that carry a signal through many layers, the first very deep networks.

Beyond some twenty layers, plain networks train badly or not at all. Here each layer has a gate,
learned like the layer itself, that mixes what the layer makes of its input with the input. With
biases below zero the gates carry nearly all at first, and a hundred layers train as ten do. Where
the size or the number of maps changes there is a plain layer. The residual networks that came half
a year later do without the gates.

References:
    - [Training very deep networks](https://arxiv.org/abs/1507.06228),
      Srivastava, Greff and Schmidhuber, NIPS 2015
    - [Highway networks](https://arxiv.org/abs/1505.00387), by the same, 2015
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from keras import layers

from keras_cnn_classics.applications._architecture import architecture
from keras_cnn_classics.blocks.core import ceil_pool, channel_axis, conv, exactly, max_pool
from keras_cnn_classics.blocks.heads import flat_dense, gap_dense
from keras_cnn_classics.layers import HighwayGate

PAPER: dict[str, Any] = {
    "year": 2015,
    "paper": "Training very deep networks",
    "url": "https://arxiv.org/abs/1507.06228",
    "classes": 10,
}
MNIST: dict[str, Any] = {
    **PAPER,
    "head": flat_dense,
    "input_size": 28,
    "channels": 1,
    "preprocessing": "unit",
    "fixed_top": True,
}


def highway(x: Any, kernel: int, transform_bias: float, *, name: str, gated: bool = True) -> Any:
    """A highway layer of convolutions, equation 3.

    Args:
        x: Feature map.
        kernel: Height and width of the kernels.
        transform_bias: Initial bias of the transform gate.
        name: Name of the layer's output. With a gate that is the gate's name, and the two
            convolutions are `{name}_transform` and `{name}_gate`.
        gated: Whether there is a gate; without, it is a plain convolution with ReLU.

    Returns:
        A feature map of the same shape.
    """
    maps = x.shape[channel_axis()]
    if not gated:
        return conv(x, maps, kernel, name=name)
    h = conv(x, maps, kernel, name=f"{name}_transform")
    g = conv(x, maps, kernel, name=f"{name}_gate", activation=None, use_bias=False)
    return HighwayGate(transform_bias, name=name)([x, h, g])


@architecture(
    **MNIST,
    features=50,
    stride=1,
    min_size=28,
    tiny={"depth": 3, "width": 24},
    notes="The dense layers are convolutions, of 28x28 and 1x1, which compute the same. The paper "
    "looks for the gates' first bias between -1 and -10, by network; -2 is that of its figure 2.",
)
def dense_highway(
    x: Any, *, depth: int, width: int = 50, transform_bias: float = -2.0, gated: bool = True
) -> Any:
    """A highway network of thin dense layers for MNIST, section 3.1 and figure 1.

    Args:
        x: Image batch, from 0 to 1.
        depth: Dense layers before the classifier, the first of them plain.
        width: Units of each. The paper's plain networks have 71, and as many weights.
        transform_bias: Initial bias of the transform gates.
        gated: Whether there are gates; without, the network is a plain one.

    Returns:
        Feature map of stride 1: 1x1 for an image of 28x28.
    """
    x = conv(x, width, 28, name="fc1", padding="valid")
    for i in range(2, depth + 1):
        x = highway(x, 1, transform_bias, name=f"fc{i}", gated=gated)
    return x


@architecture(
    **MNIST,
    protocol="MNIST, test",
    stride=8,
    min_size=12,
    tiny={"width": 24},
)
def mnist_highway(
    x: Any,
    *,
    width: int,
    dropout: float = 0.2,
    transform_bias: float = -1.0,
    gated: bool = True,
) -> Any:
    """The convolutional highway network for MNIST, section 3.2, in the authors' code.

    Args:
        x: Image batch, from 0 to 1.
        width: Filters of each convolution.
        dropout: Share of the pixels that training drops; behind the three pools it is 0.1, 0.2 and
            0.3 more. With 0 none is dropped anywhere.
        transform_bias: Initial bias of the transform gates.
        gated: Whether there are gates; without, the network is a plain one.

    Returns:
        Feature map of stride 8: 3x3 for an image of 28x28.
    """

    def drop(x: Any, number: int) -> Any:
        rate = min(dropout + 0.1 * (number - 1), 0.99) if dropout else 0.0
        return layers.Dropout(rate, name=f"drop{number}")(x)

    x = conv(drop(x, 1), width, 5, name="conv1", padding="valid")
    for i in range(2, 10):
        x = highway(x, 3, transform_bias, name=f"conv{i}", gated=gated)
        if i in (3, 6):
            x = drop(ceil_pool(x, name=f"pool{i // 3}"), i // 3 + 1)
    return drop(max_pool(x, 2, name="pool3"), 4)


@architecture(
    **PAPER,
    head=gap_dense(dropout=0.2, name="drop4"),
    protocol="CIFAR-10, test",
    features=100,
    stride=4,
    input_size=32,
    min_size=8,
    preprocessing="cifar10",
    tiny={"depths": (2, 3, 2), "widths": (16, 24, 32), "maps": 16},
)
def cifar_highway(
    x: Any,
    *,
    depths: Sequence[int],
    widths: Sequence[int],
    kernels: Sequence[int] = (3,),
    maps: int = 100,
    dropout: float = 0.2,
    transform_bias: float = -2.0,
    gated: bool = True,
) -> Any:
    """A convolutional highway network for images of 32x32, section 3.3.

    Args:
        x: Image batch.
        depths: Convolutions in each of the three stages, the first of them plain.
        widths: Filters of each stage.
        kernels: Height and width of the kernels in a stage, in turn.
        maps: Filters of the last convolution, of 1x1.
        dropout: Share that training drops of the pixels, behind each pool and before the
            classifier.
        transform_bias: Initial bias of the transform gates.
        gated: Whether there are gates; without, the network is a plain one.

    Returns:
        Feature map of stride 4: 8x8 for an image of 32x32.
    """
    number = 0
    exactly(3, widths, "widths")
    for stage, depth in enumerate(exactly(3, depths, "depths")):
        if stage:
            x = max_pool(x, 2, name=f"pool{stage}")
        x = layers.Dropout(dropout, name=f"drop{stage + 1}")(x)
        for i in range(depth):
            number += 1
            kernel, name = kernels[i % len(kernels)], f"conv{number}"
            if i:
                x = highway(x, kernel, transform_bias, name=name, gated=gated)
            else:
                x = conv(x, widths[stage], kernel, name=name)
    return conv(x, maps, 1, name=f"conv{number + 1}")


# From table 2, whose networks end in a dense layer of a size that is not given. Table 3 puts a 1x1
# convolution and an average in its place, as here and in the authors' code.
FITNETS = (
    "The paper has the number of layers{}, and about {} weights; {}, and the end is that of its "
    "later network with 19 layers."
)
HighwayFC10 = dense_highway.variant("HighwayFC10", depth=10, params=85_660, macs=84_700)
HighwayFC20 = dense_highway.variant("HighwayFC20", depth=20, params=136_660, macs=134_700)
HighwayFC50 = dense_highway.variant("HighwayFC50", depth=50, params=289_660, macs=284_700)
HighwayFC100 = dense_highway.variant("HighwayFC100", depth=100, params=544_660, macs=534_700)
Highway10_16 = mnist_highway.variant(
    "Highway10_16", width=16, features=16, top1_error=0.57, params=38_986, macs=8_028_576
)
Highway10_32 = mnist_highway.variant(
    "Highway10_32", width=32, features=32, top1_error=0.45, params=151_690, macs=31_650_624
)
Highway11 = cifar_highway.variant(
    "Highway11",
    top1_error=10.82,
    depths=(3, 3, 3),
    widths=(16, 32, 64),
    maps=250,
    features=250,
    params=236_328,
    macs=32_139_716,
    notes=FITNETS.format("", "236,000", "the widths here are near those of the Fitnet it names"),
)
Highway19 = cifar_highway.variant(
    "Highway19",
    top1_error=7.6,
    depths=(5, 6, 6),
    widths=(32, 80, 128),
    params=2_256_838,
    macs=330_826_728,
    notes="The authors' code for table 3. The paper normalizes the contrast of the images.",
)
Highway32 = cifar_highway.variant(
    "Highway32",
    top1_error=8.8,
    depths=(10, 10, 10),
    widths=(32, 64, 96),
    kernels=(3, 1),
    params=1_264_502,
    macs=230_089_704,
    notes=FITNETS.format(
        ", that kernels of 3x3 and 1x1 alternate", "1.25 million", "stages and widths are ours"
    ),
)
