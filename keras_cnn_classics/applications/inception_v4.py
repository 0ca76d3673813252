"""Inception v4: one plan for all modules, and more of them.

Freed from the limits of training on several machines, which had shaped its predecessors, the fourth
version has one kind of module for each size of the map, and a stem of branches in front. The
Inception-ResNets of the same paper, which train faster, are in a file of their own.

References:
    - [Inception-v4, Inception-ResNet and the impact of residual connections on
      learning](https://arxiv.org/abs/1602.07261), Szegedy, Ioffe, Vanhoucke and Alemi, AAAI 2017
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from keras_cnn_classics.applications._architecture import architecture
from keras_cnn_classics.applications.inception_v3 import Units, numbered
from keras_cnn_classics.blocks.core import concat, exactly, max_pool, smooth
from keras_cnn_classics.blocks.heads import gap_dense

PAPER: dict[str, Any] = {
    "year": 2016,
    "paper": "Inception-v4, Inception-ResNet and the impact of residual connections on learning",
    "url": "https://arxiv.org/abs/1602.07261",
}

ROW, COLUMN = (1, 7), (7, 1)

# Figures 4 to 6: filters and kernels of each branch; the last branch follows the average pool.
MODULE_35 = (
    ((96, 1),),
    ((64, 1), (96, 3)),
    ((64, 1), (96, 3), (96, 3)),
    ((96, 1),),
)
MODULE_17 = (
    ((384, 1),),
    ((192, 1), (224, ROW), (256, COLUMN)),
    ((192, 1), (192, COLUMN), (224, ROW), (224, COLUMN), (256, ROW)),
    ((128, 1),),
)
# The branches in the middle end in a row and a column of 3, side by side, with 256 filters each.
MODULE_8 = (
    ((256, 1),),
    ((384, 1),),
    ((384, 1), (448, (3, 1)), (512, (1, 3))),
    ((256, 1),),
)
# Figures 7 and 8: the branches beside a maximum pool, with steps of two at their ends.
REDUCTION_35 = (
    ((384, 3, 2),),
    ((192, 1), (224, 3), (256, 3, 2)),
)
REDUCTION_17 = (
    ((192, 1), (192, 3, 2)),
    ((256, 1), (256, ROW), (320, COLUMN), (320, 3, 2)),
)


def stem(x: Any, unit: Units) -> Any:
    """The beginning, figure 3.

    Args:
        x: Image batch.
        unit: Maker of the convolutions.

    Returns:
        A feature map of 35x35x384 for an image of 299x299.
    """
    x = unit.chain(x, (32, 3, 2), (32, 3, 1, "valid"), (64, 3))
    x = concat([max_pool(x, name="mixed_3a_pool"), unit(x, 96, 3, 2)], name="mixed_3a")
    short = unit.chain(x, (64, 1), (96, 3, 1, "valid"))
    long = unit.chain(x, (64, 1), (64, ROW), (64, COLUMN), (96, 3, 1, "valid"))
    x = concat([short, long], name="mixed_4a")
    return concat([unit(x, 192, 3, 2), max_pool(x, name="mixed_5a_pool")], name="mixed_5a")


def module(x: Any, branches: Sequence[Any], unit: Units, *, name: str, split: int = 0) -> Any:
    """A module that keeps the size of the map.

    Args:
        x: Feature map.
        branches: Steps of each branch; the last branch follows an average pool.
        unit: Maker of the convolutions.
        name: Name of the concatenation.
        split: Filters of the row and of the column that end the branches in the middle, if any.

    Returns:
        A feature map of the same size.
    """
    ends = []
    for i, steps in enumerate(branches, 1):
        pooled = i == len(branches)
        y = unit.chain(smooth(x, name=f"{name}_pool") if pooled else x, *steps)
        if split and i > 1 and not pooled:
            y = concat([unit(y, split, (1, 3)), unit(y, split, (3, 1))], name=f"{name}_split{i}")
        ends.append(y)
    return concat(ends, name=name)


def reduction(x: Any, branches: Sequence[Any], unit: Units, *, name: str) -> Any:
    """A module that halves the map: branches, and a maximum pool.

    Args:
        x: Feature map.
        branches: Steps of each branch, the last of which halves the map.
        unit: Maker of the convolutions.
        name: Name of the concatenation, and prefix of the pool's.

    Returns:
        A feature map of half the height and width.
    """
    ends = [unit.chain(x, *steps) for steps in branches]
    return concat([*ends, max_pool(x, name=f"{name}_pool")], name=name)


def torch_branches(branches: Sequence[Any], *, pooled: bool) -> list[str]:
    """Names of a module's convolutions in timm, where a branch of only one has no places.

    Args:
        branches: Steps of each branch.
        pooled: Whether the last branch follows a pool, which takes the first place in it.

    Returns:
        A name for each convolution.
    """
    names = []
    for i, steps in enumerate(branches):
        first = int(pooled and i == len(branches) - 1)  # behind the pool
        places = range(first, first + len(steps))
        alone = len(steps) == 1 and not first
        names += [f"branch{i}" if alone else f"branch{i}.{place}" for place in places]
    return names


def _torch_names(*, repeats: Sequence[int], **_: Any) -> Mapping[str, Sequence[str]]:
    """The names of timm and of Cadene, which agree: places in an `nn.Sequential`."""
    splits = ("0", "1_0", "1_1a", "1_1b", "2_0", "2_1", "2_2", "2_3a", "2_3b", "3.1")
    modules = [
        *([""],) * 3,
        ["conv"],
        [*(f"branch0.{i}" for i in range(2)), *(f"branch1.{i}" for i in range(4))],
        ["conv"],
        *(torch_branches(MODULE_35, pooled=True),) * repeats[0],
        torch_branches(REDUCTION_35, pooled=False),
        *(torch_branches(MODULE_17, pooled=True),) * repeats[1],
        torch_branches(REDUCTION_17, pooled=False),
        *([f"branch{split}" for split in splits],) * repeats[2],
    ]
    parts = [f"features.{i}.{part}" for i, parts in enumerate(modules) for part in parts]
    return {**numbered(part.rstrip(".") for part in parts), "predictions": ("last_linear",)}


@architecture(
    **PAPER,
    head=gap_dense(dropout=0.2),
    torch_names=_torch_names,
    features=1536,
    stride=32,
    input_size=299,
    min_size=75,
    preprocessing="tf",
    torch_preprocessing="tf",
    tiny={"width": 0.5, "repeats": (1, 1, 1)},
)
def inception_v4(x: Any, *, repeats: Sequence[int] = (4, 7, 3), width: float = 1.0) -> Any:
    """Inception v4, for ImageNet.

    Args:
        x: Image batch.
        repeats: Number of modules of 35x35, of 17x17 and of 8x8.
        width: Multiplier of every layer's filters; the paper has 1.

    Returns:
        Feature map of stride 32: 8x8 for an image of 299x299.
    """
    exactly(3, repeats, "repeats")
    unit = Units(scale=True, width=width)
    x = stem(x, unit)
    for i in range(repeats[0]):
        x = module(x, MODULE_35, unit, name=f"module35_{i + 1}")
    x = reduction(x, REDUCTION_35, unit, name="reduction35")
    for i in range(repeats[1]):
        x = module(x, MODULE_17, unit, name=f"module17_{i + 1}")
    x = reduction(x, REDUCTION_17, unit, name="reduction17")
    for i in range(repeats[2]):
        x = module(x, MODULE_8, unit, name=f"module8_{i + 1}", split=256)
    return x


InceptionV4 = inception_v4.variant(
    "InceptionV4",
    params=42_679_816,
    macs=12_253_974_624,
    top1_error=20.0,
    top5_error=5.0,
    protocol="one crop",
)
