"""BN-Inception: GoogLeNet with batch normalization, from the paper that brought it.

Each convolution's outputs are shifted and scaled to mean 0 and variance 1 over the batch before the
ReLU. Training then needs a fraction of the steps, and neither local response normalization nor
dropout. Two 3x3 convolutions stand in for each 5x5, and convolutions in steps of two halve the map
beside the pool.

As in the Caffe network that all published weights come from, convolutions have biases, which the
normalization behind them makes void; `bias=False` leaves them out.

References:
    - [Batch normalization: accelerating deep network training by reducing internal covariate
      shift](https://arxiv.org/abs/1502.03167), Ioffe and Szegedy, ICML 2015
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from keras import layers

from keras_cnn_classics.applications._architecture import architecture
from keras_cnn_classics.blocks.core import (
    ceil_pool,
    concat,
    conv_bn,
    max_pool,
    near_pool,
    one_of,
    smooth,
    squeeze_excite,
)
from keras_cnn_classics.blocks.heads import gap_dense

# Figure 5 of the paper: filters of the 1x1 branch, of the reduction and the convolution of the 3x3
# branch, of the reduction and the two convolutions of the double 3x3 branch, and of the projection
# after the pool. The modules without a 1x1 branch halve the map.
INCEPTION = {
    #     1x1  3x3r  3x3  dblr  dbl  pool        output for an image of 224x224
    "3a": (64, 64, 64, 64, 96, 32),  #           28x28x256
    "3b": (64, 64, 96, 64, 96, 64),  #           28x28x320
    "3c": (0, 128, 160, 64, 96, 0),  #           14x14x576
    "4a": (224, 64, 96, 96, 128, 128),  #        14x14x576
    "4b": (192, 96, 128, 96, 128, 128),  #       14x14x576
    "4c": (160, 128, 160, 128, 160, 128),  #     14x14x608
    "4d": (96, 128, 192, 160, 192, 128),  #      14x14x608
    "4e": (0, 128, 192, 192, 256, 0),  #         7x7x1056
    "5a": (352, 192, 320, 160, 224, 128),  #     7x7x1024
    "5b": (352, 192, 320, 192, 224, 128),  #     7x7x1024, with a maximum for its pool
}


def inception(
    x: Any,
    n1: int,
    n3_reduce: int,
    n3: int,
    double_reduce: int,
    double: int,
    n_pool: int,
    *,
    name: str,
    bias: bool = True,
    maximum: bool = False,
    se: int = 0,
    form: str = "caffe",
) -> Any:
    """The module: as GoogLeNet's, with two 3x3 convolutions for the 5x5.

    Args:
        x: Feature map.
        n1: Filters of the 1x1 branch; with 0 the module halves the map, and has neither this
            branch nor a projection after the pool.
        n3_reduce: Filters of the 1x1 bottleneck of the 3x3 branch.
        n3: Filters of the 3x3 branch.
        double_reduce: Filters of the 1x1 bottleneck of the double 3x3 branch.
        double: Filters of each of its 3x3 convolutions.
        n_pool: Filters of the 1x1 projection after the pool.
        name: Prefix of the layers' names.
        bias: Whether convolutions have biases.
        maximum: Whether the pool is a maximum, not an average.
        se: Reduction of a squeeze-and-excitation at the end; 0 is none.
        form: As in the trunk.

    Returns:
        A feature map with `n1 + n3 + double + n_pool` channels, or with `n3 + double` and those
        of `x`, half as high and wide.
    """
    unit = partial(conv_bn, use_bias=bias)
    # The same zeros on all sides, as Caffe; "same" would pad the far sides more.
    last: dict[str, Any] = {} if n1 else {"strides": 2, "padding": 1}
    three = unit(x, n3_reduce, 1, name=f"{name}_3x3_reduce")
    three = unit(three, n3, 3, name=f"{name}_3x3", **last)
    twice = unit(x, double_reduce, 1, name=f"{name}_double_3x3_reduce")
    twice = unit(twice, double, 3, name=f"{name}_double_3x3_1")
    twice = unit(twice, double, 3, name=f"{name}_double_3x3_2", **last)
    if not n1:
        padding = "same"
        if form == "tf2cv":
            x, padding = layers.ZeroPadding2D(1, name=f"{name}_pool_pad")(x), "valid"
        branches = [three, twice, max_pool(x, name=f"{name}_pool", padding=padding)]
    else:
        one = unit(x, n1, 1, name=f"{name}_1x1")
        if maximum:
            pool = max_pool(x, 3, 1, name=f"{name}_pool", padding="same")
        else:
            pool = smooth(x, name=f"{name}_pool", count_padding=True)
        pool = unit(pool, n_pool, 1, name=f"{name}_pool_proj")
        branches = [one, three, twice, pool]
    x = concat(branches, name=f"{name}_output")
    return squeeze_excite(x, se, name=f"{name}_se") if se else x


def body(x: Any, *, bias: bool, width: float, se: int = 0, form: str = "caffe") -> Any:
    """The whole trunk: two convolutions and pools, then the modules.

    Args:
        x: Image batch.
        bias: Whether convolutions have biases.
        width: Multiplier of every layer's filters.
        se: Reduction of a squeeze-and-excitation behind each module; 0 is none.
        form: As in the trunk.

    Returns:
        A feature map of stride 32.
    """
    unit = partial(conv_bn, use_bias=bias)
    pool = near_pool if form == "tf2cv" else ceil_pool
    x = unit(x, int(64 * width), 7, 2, name="conv1_7x7_s2", padding=3)
    x = pool(x, name="pool1")
    x = unit(x, int(64 * width), 1, name="conv2_3x3_reduce")
    x = unit(x, int(192 * width), 3, name="conv2_3x3")
    x = pool(x, name="pool2")
    for row, filters in INCEPTION.items():
        widths = (int(n * width) for n in filters)
        name = f"inception_{row}"
        x = inception(x, *widths, name=name, bias=bias, maximum=row == "5b", se=se, form=form)
    return x


def torch_names(**_: Any) -> Mapping[str, Sequence[str]]:
    """The names of Cadene's checkpoint, which are Caffe's and ours, and those of pytorchcv.

    Returns:
        Names of each layer.
    """
    theirs = {
        "conv1_7x7_s2": "init_block.conv1",
        "conv2_3x3_reduce": "init_block.conv2.conv1",
        "conv2_3x3": "init_block.conv2.conv2",
    }
    stages = ((1, 2), (2, 5), (3, 3))
    units = [f"stage{i}.unit{n}" for i, depth in stages for n in range(1, depth + 1)]
    chains = (("3x3_reduce", "3x3"), ("double_3x3_reduce", "double_3x3_1", "double_3x3_2"))
    for (row, (n1, *_rest)), unit in zip(INCEPTION.items(), units, strict=True):
        if n1:
            theirs[f"inception_{row}_1x1"] = f"{unit}.branches.branch1"
            theirs[f"inception_{row}_pool_proj"] = f"{unit}.branches.branch4.conv"
        for branch, chain in enumerate(chains, 2 if n1 else 1):
            for i, layer in enumerate(chain, 1):
                theirs[f"inception_{row}_{layer}"] = f"{unit}.branches.branch{branch}.conv{i}"
    names: dict[str, Sequence[str]] = {}
    for ours, module in theirs.items():
        names[ours] = (ours, f"features.{module}.conv")
        names[f"{ours}_bn"] = (f"{ours}_bn", f"features.{module}.bn")
    return {**names, "predictions": ("last_linear", "output")}


@architecture(
    year=2015,
    paper=(
        "Batch normalization: accelerating deep network training by reducing internal covariate "
        "shift"
    ),
    url="https://arxiv.org/abs/1502.03167",
    head=gap_dense(),
    torch_names=torch_names,
    features=1024,
    stride=32,
    preprocessing="caffe",
    torch_preprocessing="caffe",
    tiny={"width": 0.5},
)
def bn_inception(x: Any, *, bias: bool = True, width: float = 1.0, form: str = "caffe") -> Any:
    """BN-Inception, for ImageNet.

    Args:
        x: Image batch.
        bias: Whether convolutions have biases, as in the published weights.
        width: Multiplier of every layer's filters; the paper has 1.
        form: `"caffe"`, or `"tf2cv"` for its weights, with which windows of pools that do not fit
            hang over the near edge of the map, not the far one.

    Returns:
        Feature map of stride 32: 7x7 for an image of 224x224.
    """
    one_of("form", form, ("caffe", "tf2cv"))
    return body(x, bias=bias, width=width, form=form)


BNInception = bn_inception.variant(
    "BNInception",
    params=11_295_240,
    macs=2_032_600_064,
    top1_error=25.2,
    top5_error=7.82,
    protocol="one crop",
    notes=(
        "With the biases of Caffe's network and weights, 10,016 of them; 11,285,224 parameters "
        "without: bias=False. The paper's text says 13.6 million, which its table does not give. "
        "The first convolution is Caffe's too, a plain 7x7; the paper's is separable, with a depth "
        "multiplier of 8. Average pools count the zeros beyond the edge, as Caffe's. A map of odd "
        "size, which Caffe's network cannot halve, is halved upwards. Of PyTorch's checkpoints, "
        "Cadene's wants images in mode 'caffe' (its mean of red is 128), pytorchcv's in mode "
        "'torch'. tf2cv has other windows at the edges of its pools: form='tf2cv'."
    ),
)
