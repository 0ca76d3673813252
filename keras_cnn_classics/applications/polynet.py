"""PolyNet: residual modules that are polynomials of Inception blocks.

A residual module gives x + F(x), (I + F) applied to x. Here it has terms of higher order, or more
of them: "poly-3" is I + F + F^2 + F^3 with one block F, used three times, so that there is more to
compute, but hardly more to store; "2-way" is I + F + G with two blocks side by side. Very Deep
PolyNet has both, by turns: diversity, the authors find, gives more than depth or width.

The blocks are those of Inception-ResNet v2. In training each term is dropped at random, early ones
seldom and late ones often, and at inference each has the probability that it is kept for a factor.
What is shared in a poly-3 module are the convolutions of the branches: batch normalizations, and
the convolution behind the branches, are each order's own.

References:
    - [PolyNet: a pursuit of structural diversity in very deep
      networks](https://arxiv.org/abs/1611.05725), Zhang, Li, Loy and Lin, CVPR 2017
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from keras import layers

from keras_cnn_classics.applications._architecture import architecture
from keras_cnn_classics.applications.inception_v4 import COLUMN, ROW
from keras_cnn_classics.blocks.core import channel_axis, concat, exactly, max_pool, norm_relu
from keras_cnn_classics.blocks.heads import gap_dense
from keras_cnn_classics.blocks.residual import unit
from keras_cnn_classics.layers import StochasticDepth

# Filters, kernels and steps of each branch: of the blocks of the three stages ...
BLOCKS: dict[str, Any] = {
    "a": (((32, 1), (48, 3), (64, 3)), ((32, 1), (32, 3)), ((32, 1),)),
    "b": (((128, 1), (160, ROW), (192, COLUMN)), ((192, 1),)),
    "c": (((192, 1), (224, (1, 3)), (256, (3, 1))), ((192, 1),)),
}
# ... of what halves the map behind the first two, beside a pool ...
REDUCTIONS: dict[str, Any] = {
    "a": (((256, 1), (256, 3), (384, 3, 2)), ((384, 3, 2),)),
    "b": (((256, 1), (256, 3), (256, 3, 2)), ((256, 1), (256, 3, 2)), ((256, 1), (384, 3, 2))),
}
# ... and of the stem, which has a pool before the second and before the last of these.
STEM: tuple[Any, ...] = (
    (((32, 3, 2), (32, 3, 1, "valid"), (64, 3)),),
    (((96, 3, 2),),),
    (((64, 1), (96, 3, 1, "valid")), ((64, 1), (64, COLUMN), (64, ROW), (96, 3, 1, "valid"))),
    (((192, 3, 2),),),
)

Branches = Sequence[Sequence[Any]]


def convolutions(branches: Branches, width: float, *, name: str) -> list[list[Any]]:
    """Makes the convolutions of branches, for one use or for several.

    Args:
        branches: Filters, kernel, and perhaps steps and padding of each convolution. In steps of
            two they take whole windows only.
        width: Multiplier of the filters.
        name: Prefix of the layers' names.

    Returns:
        The layers, branch by branch.
    """

    def one(name: str, filters: int, kernel: Any, strides: int = 1, padding: str = "same") -> Any:
        padding = "valid" if strides > 1 else padding
        return layers.Conv2D(
            int(filters * width), kernel, strides, padding, use_bias=False, name=name
        )

    return [
        [one(f"{name}_{i}_{j}_conv", *step) for j, step in enumerate(steps, 1)]
        for i, steps in enumerate(branches, 1)
    ]


def apply(x: Any, made: list[list[Any]], *, name: str) -> list[Any]:
    """Goes through branches, with a batch normalization and a ReLU behind each convolution.

    Args:
        x: Feature map.
        made: The convolutions, branch by branch.
        name: Prefix of the names of the layers that are new.

    Returns:
        A feature map for each branch.
    """
    ends = []
    for i, branch in enumerate(made, 1):
        y = x
        for j, convolution in enumerate(branch, 1):
            y = norm_relu(convolution(y), name=f"{name}_{i}_{j}", epsilon=1e-5)
        ends.append(y)
    return ends


def module(
    x: Any, branches: Branches, width: float, survival: float, *, name: str, poly: int = 0
) -> Any:
    """A PolyInception module, figure 3: "poly-3", or "2-way" of two blocks.

    Args:
        x: Feature map.
        branches: Filters and kernels of a block.
        width: Multiplier of the filters.
        survival: Probability that training keeps each term.
        name: Prefix of the layers' names.
        poly: Highest order of the polynomial of one block; 0 makes the module 2-way.

    Returns:
        A feature map of the shape of `x`.
    """
    channels = x.shape[channel_axis()]
    made = convolutions(branches, width, name=name) if poly else []
    terms, given = [x], x
    for i in range(1, (poly or 2) + 1):
        term = f"{name}_term{i}"
        here = made or convolutions(branches, width, name=term)
        y = concat(apply(given, here, name=term), name=f"{term}_mixed")
        y = unit(y, channels, 1, name=f"{term}_end", relu=False)
        if poly > i:
            given = layers.ReLU(name=f"{term}_relu")(y)
        if survival < 1:
            y = StochasticDepth(survival, name=f"{term}_survival")(y)
        terms.append(y)
    x = layers.Add(name=f"{name}_add")(terms)
    return layers.ReLU(name=f"{name}_out")(x)


def is_poly(letter: str, i: int) -> bool:
    """Whether a module is poly-3: in the second and third stage the first is, then every other one.

    Args:
        letter: Letter of the stage.
        i: Number of the module in its stage, from 1.

    Returns:
        `True` for poly-3, `False` for 2-way.
    """
    return letter != "a" and i % 2 == 1


def stem(x: Any, width: float) -> Any:
    """The beginning, nearly that of Inception v4.

    Args:
        x: Image batch.
        width: Multiplier of the filters.

    Returns:
        A feature map of 39x39x384 for an image of 331x331.
    """
    for i, branches in enumerate(STEM, 1):
        name = f"stem{i}"
        ends = apply(x, convolutions(branches, width, name=name), name=name)
        if i in (2, 4):
            ends = [max_pool(x, name=f"{name}_pool"), *ends]
        x = concat(ends, name=f"{name}_out") if len(ends) > 1 else ends[0]
    return x


def reduction(x: Any, branches: Branches, width: float, *, name: str) -> Any:
    """A module that halves the map: branches, and a maximum pool.

    Args:
        x: Feature map.
        branches: Filters and kernels of each branch, the last of which has steps of two.
        width: Multiplier of the filters.
        name: Prefix of the layers' names.

    Returns:
        A feature map of half the height and width.
    """
    ends = apply(x, convolutions(branches, width, name=name), name=name)
    return concat([*ends, max_pool(x, name=f"{name}_pool")], name=f"{name}_out")


def _add_names(
    names: dict[str, tuple[str, ...]],
    ours: str,
    branches: Branches,
    cadene: str | Sequence[str],
    pytorchcv: str,
    *,
    sequences: bool = False,
) -> None:
    """The names of convolutions that are used once: Cadene's package, then pytorchcv's.

    A branch of only one has no places there; but with `sequences` pytorchcv's have.
    """
    for i, steps in enumerate(branches, 1):
        path = f"{cadene}.path{i - 1}" if isinstance(cadene, str) else cadene[i - 1]
        for j in range(1, len(steps) + 1):
            alone = len(steps) == 1
            first = path if alone else f"{path}.{j - 1}"
            place = "conv" if alone and not sequences else f"conv_list.conv{j}"
            second = f"{pytorchcv}.branches.branch{i}.{place}"
            for part in ("conv", "bn"):
                names[f"{ours}_{i}_{j}_{part}"] = (f"{first}.{part}", f"{second}.{part}")


def torch_names(*, repeats: Sequence[int], **_: Any) -> Mapping[str, Sequence[str]]:
    """The names of Cadene's package and of pytorchcv.

    Args:
        repeats: Number of modules of each stage.

    Returns:
        Two names of each layer.
    """
    names: dict[str, tuple[str, ...]] = {"predictions": ("last_linear", "output.fc")}
    block = "features.init_block.block"
    for i in (1, 2, 3):
        for part in ("conv", "bn"):
            theirs = f"stem.conv1.{i - 1}.{part}", f"features.init_block.conv{i}.{part}"
            names[f"stem1_1_{i}_{part}"] = theirs
            for n, branch in ((2, "stem.conv1_branch"), (4, "stem.conv2_branch")):
                theirs = f"{branch}.{part}", f"{block}{n - 1}.branches.branch2.conv.{part}"
                names[f"stem{n}_1_1_{part}"] = theirs
    _add_names(names, "stem3", STEM[2], ("stem.conv2_short", "stem.conv2_long"), f"{block}2")
    for stage, (letter, branches) in enumerate(REDUCTIONS.items(), 2):
        name = f"reduction_{letter}"
        _add_names(names, name, branches, name, f"features.stage{stage}.unit1", sequences=True)
    for stage, (letter, repeat) in enumerate(zip(BLOCKS, repeats, strict=True), 1):
        for i in range(1, repeat + 1):
            ours, branches, cadene = f"{letter}{i}", BLOCKS[letter], f"stage_{letter}.{i - 1}"
            # The first unit of a later stage is its reduction, the others are pairs of modules.
            pytorchcv = f"features.stage{stage}.unit{i if stage == 1 else (i + 3) // 2}"
            if is_poly(letter, i):
                _add_shared_names(names, ours, branches, cadene, f"{pytorchcv}.poly")
                continue
            for n in (1, 2):
                first, second = f"{cadene}.blocks.{n - 1}", f"{pytorchcv}.twoway.res_blocks.{n - 1}"
                _add_names(names, f"{ours}_term{n}", branches, first, second)
                for part in ("conv", "bn"):
                    theirs = f"{first}.conv2d.{part}", f"{second}.conv.{part}"
                    names[f"{ours}_term{n}_end_{part}"] = theirs
    return names


def _add_shared_names(
    names: dict[str, tuple[str, ...]], ours: str, branches: Branches, cadene: str, pytorchcv: str
) -> None:
    """The names of a block that is used three times."""
    orders = range(3)
    for n in orders:
        for part in ("conv", "bn"):
            theirs = f"{cadene}.conv2d_blocks.{n}.{part}", f"{pytorchcv}.res_blocks.{n}.{part}"
            names[f"{ours}_term{n + 1}_end_{part}"] = theirs
    for i, steps in enumerate(branches, 1):
        for j, (_, kernel) in enumerate(steps, 1):
            height, width = kernel if isinstance(kernel, tuple) else (kernel, kernel)
            first, second = f"{cadene}.path{i - 1}", f"{pytorchcv}.pre_block.branches.branch{i}"
            if len(steps) > 1:
                first, second = f"{first}_{height}x{width}", f"{second}.conv_list.conv{j}"
            names[f"{ours}_{i}_{j}_conv"] = (f"{first}.conv", f"{second}.conv")
            for n in orders:
                theirs = f"{first}.bn_blocks.{n}", f"{second}.bns.{n}"
                names[f"{ours}_term{n + 1}_{i}_{j}_bn"] = theirs


@architecture(
    year=2016,
    paper="PolyNet: a pursuit of structural diversity in very deep networks",
    url="https://arxiv.org/abs/1611.05725",
    head=gap_dense(dropout=0.2),
    torch_names=torch_names,
    protocol="one crop",
    features=2048,
    stride=32,
    input_size=331,
    min_size=75,
    tiny={"repeats": (1, 2, 1), "survival": 1.0, "width": 0.5},
)
def polynet(
    x: Any,
    *,
    repeats: Sequence[int] = (10, 20, 10),
    survival: float = 0.7,
    width: float = 1.0,
) -> Any:
    """Very Deep PolyNet, for ImageNet.

    Args:
        x: Image batch.
        repeats: Number of modules of each stage; of the second and third, every other one, from
            the first on, is poly-3, and all others are 2-way.
        survival: Probability that training keeps each term of the last module, above 0 and at
            most 1; it falls linearly from 1.
        width: Multiplier of every layer's filters; the paper has 1.

    Returns:
        Feature map of stride 32: 9x9 for an image of 331x331.
    """
    if not 0 < survival <= 1:
        raise ValueError(f"`survival` must be above 0 and at most 1. Received: {survival=}")
    exactly(3, repeats, "repeats")
    # The probability for each module, in their order.
    kept = iter(np.linspace(1, survival, sum(repeats)).tolist())
    x = stem(x, width)
    for letter, repeat in zip(BLOCKS, repeats, strict=True):
        for i in range(1, repeat + 1):
            poly = 3 if is_poly(letter, i) else 0
            x = module(x, BLOCKS[letter], width, next(kept), name=f"{letter}{i}", poly=poly)
        if letter in REDUCTIONS:
            x = reduction(x, REDUCTIONS[letter], width, name=f"reduction_{letter}")
    return x


PolyNet = polynet.variant(
    "PolyNet",
    params=95_366_600,
    macs=34_699_493_472,
    top1_error=18.71,
    top5_error=4.25,
    notes=(
        "In the form of the authors' published weights, whose terms are multiplied by 1 in the "
        "first module, falling to 0.7 in the last: the probabilities with which training keeps "
        "them. Training here drops them from the start, the authors' only once it overfits; "
        "survival=1.0 drops none, but multiplies none either."
    ),
)
