"""Inception v3: large kernels factorized, batch normalization throughout.

Two 3x3 convolutions do the work of a 5x5, a 1x7 and a 7x1 that of a 7x7, both for less. Where the
map shrinks, convolutions in steps of two and a pool stand side by side, so that nothing is lost at
once. An auxiliary classifier on the last map of 17x17, with batch normalization too, regularizes;
`InceptionV3(aux=True)` has it.

The layers carry Keras's names, for its weights, whose batch normalizations have no scales. Those
of PyTorch have them: `scale=True`. Its average pools also count the zeros beyond the edge:
`count_padding=True`, for networks that were trained there.

References:
    - [Rethinking the Inception architecture for computer vision](https://arxiv.org/abs/1512.00567),
      Szegedy, Vanhoucke, Ioffe, Shlens and Wojna, CVPR 2016
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from keras import layers

from keras_cnn_classics.applications._architecture import architecture
from keras_cnn_classics.applications._keras_modules import preprocessing_for
from keras_cnn_classics.blocks.core import concat, max_pool, norm, smooth
from keras_cnn_classics.blocks.heads import gap_dense, predictions
from keras_cnn_classics.preprocessing import decode_predictions as decode_predictions

preprocess_input = preprocessing_for(__name__)

PAPER: dict[str, Any] = {
    "year": 2015,
    "paper": "Rethinking the Inception architecture for computer vision",
    "url": "https://arxiv.org/abs/1512.00567",
}

# Filters of the projection after the pool, in the modules of 35x35 ...
POOLED = (32, 64, 64)
# ... and of the convolutions inside the 7x7 branches, in the modules of 17x17.
SEVENS = (128, 160, 160, 192)


class Units:
    """Makes convolutions with batch normalization and ReLU, and counts them.

    Keras gives layers without a name the next number of the process: `conv2d`, `conv2d_1` and so
    on. The numbers here are those of a fresh process, whatever was built before.

    Args:
        scale: Whether batch normalizations have scales (gamma).
        width: Multiplier of the filters.
    """

    def __init__(self, *, scale: bool = False, width: float = 1.0) -> None:
        self.scale = scale
        self.width = width
        self._made = 0

    def __call__(
        self,
        x: Any,
        filters: int,
        kernel: int | tuple[int, int],
        strides: int = 1,
        padding: str = "same",
        *,
        name: str | None = None,
    ) -> Any:
        """Makes the next one; in steps of two it takes whole windows only.

        Args:
            x: Feature map.
            filters: Filters, before the width multiplier.
            kernel: Height and width of the kernel.
            strides: Steps of the kernel.
            padding: `"same"` or `"valid"`.
            name: Name of the convolution, and prefix of `_bn` and `_ac`, instead of numbers.

        Returns:
            A feature map.
        """
        if name is not None:
            names = [name, f"{name}_bn", f"{name}_ac"]
        else:
            names = [
                f"{kind}_{self._made}" if self._made else kind
                for kind in ("conv2d", "batch_normalization", "activation")
            ]
            self._made += 1
        padding = "valid" if strides > 1 else padding
        filters = int(filters * self.width)
        x = layers.Conv2D(filters, kernel, strides, padding, use_bias=False, name=names[0])(x)
        x = norm(x, scale=self.scale, name=names[1])
        return layers.Activation("relu", name=names[2])(x)

    def chain(self, x: Any, *steps: tuple[Any, ...]) -> Any:
        """One after the other.

        Args:
            x: Feature map.
            *steps: What follows `x` in the call that makes each, such as `(64, 3)`.

        Returns:
            A feature map.
        """
        for step in steps:
            x = self(x, *step)
        return x


def stem(x: Any, unit: Units) -> Any:
    """The beginning.

    Args:
        x: Image batch.
        unit: Maker of the convolutions.

    Returns:
        A feature map of 35x35x192 for an image of 299x299.
    """
    x = unit.chain(x, (32, 3, 2), (32, 3, 1, "valid"), (64, 3))
    x = max_pool(x, name="pool1")
    x = unit.chain(x, (80, 1), (192, 3, 1, "valid"))
    return max_pool(x, name="pool2")


def module_35(x: Any, pooled: int, unit: Units, *, name: str, count_padding: bool = False) -> Any:
    """A module for the map of 35x35, after figure 5; one branch has kept its 5x5 convolution.

    Args:
        x: Feature map.
        pooled: Filters of the projection after the pool.
        unit: Maker of the convolutions.
        name: Name of the concatenation.
        count_padding: Whether the average pool counts the zeros beyond the edge.

    Returns:
        A feature map of the same size with `224 + pooled` channels.
    """
    one = unit(x, 64, 1)
    five = unit.chain(x, (48, 1), (64, 5))
    threes = unit.chain(x, (64, 1), (96, 3), (96, 3))
    pool = smooth(x, name=f"{name}_pool", count_padding=count_padding)
    pool = unit(pool, pooled, 1)
    return concat([one, five, threes, pool], name=name)


def reduction_35(x: Any, unit: Units, *, name: str) -> Any:
    """From 35x35x288 to 17x17x768, after figure 10.

    Args:
        x: Feature map.
        unit: Maker of the convolutions.
        name: Name of the concatenation, and prefix of the pool's.

    Returns:
        A feature map with 480 more channels.
    """
    three = unit(x, 384, 3, 2)
    threes = unit.chain(x, (64, 1), (96, 3), (96, 3, 2))
    return concat([three, threes, max_pool(x, name=f"{name}_pool")], name=name)


def module_17(x: Any, filters: int, unit: Units, *, name: str, count_padding: bool = False) -> Any:
    """The module for the map of 17x17, figure 6 with n = 7: 7x7 kernels in rows and columns.

    Args:
        x: Feature map.
        filters: Filters of the convolutions inside the 7x7 branches.
        unit: Maker of the convolutions.
        name: Name of the concatenation.
        count_padding: Whether the average pool counts the zeros beyond the edge.

    Returns:
        A feature map of the same size with 768 channels.
    """
    row, column = (1, 7), (7, 1)
    one = unit(x, 192, 1)
    seven = unit.chain(x, (filters, 1), (filters, row), (192, column))
    sevens = unit.chain(
        x, (filters, 1), (filters, column), (filters, row), (filters, column), (192, row)
    )
    pool = smooth(x, name=f"{name}_pool", count_padding=count_padding)
    pool = unit(pool, 192, 1)
    return concat([one, seven, sevens, pool], name=name)


def reduction_17(x: Any, unit: Units, *, name: str) -> Any:
    """From 17x17x768 to 8x8x1280.

    Args:
        x: Feature map.
        unit: Maker of the convolutions.
        name: Name of the concatenation, and prefix of the pool's.

    Returns:
        A feature map with 512 more channels.
    """
    three = unit.chain(x, (192, 1), (320, 3, 2))
    seven = unit.chain(x, (192, 1), (192, (1, 7)), (192, (7, 1)), (192, 3, 2))
    return concat([three, seven, max_pool(x, name=f"{name}_pool")], name=name)


def module_8(x: Any, unit: Units, *, name: str, split: str, count_padding: bool = False) -> Any:
    """The module for the map of 8x8, figure 7: rows and columns side by side, for width.

    Args:
        x: Feature map.
        unit: Maker of the convolutions.
        name: Name of the concatenation.
        split: Name of the first of the two concatenations inside; the other has `_dbl` behind.
        count_padding: Whether the average pool counts the zeros beyond the edge.

    Returns:
        A feature map of the same size with 2048 channels.
    """
    one = unit(x, 320, 1)
    three = unit(x, 384, 1)
    three = concat([unit(three, 384, (1, 3)), unit(three, 384, (3, 1))], name=split)
    threes = unit.chain(x, (448, 1), (384, 3))
    threes = concat([unit(threes, 384, (1, 3)), unit(threes, 384, (3, 1))], name=f"{split}_dbl")
    pool = smooth(x, name=f"{name}_pool", count_padding=count_padding)
    pool = unit(pool, 192, 1)
    return concat([one, three, threes, pool], name=name)


def aux_classifier(
    x: Any,
    classes: int,
    classifier_activation: Any,
    *,
    name: str,
    scale: bool = False,
    width: float = 1.0,
) -> Any:
    """The auxiliary classifier of figure 8, with batch normalization as in section 4.

    Args:
        x: Feature map of 17x17.
        classes: Number of classes.
        classifier_activation: Activation of the last layer.
        name: Prefix of the layers' names, and the name of the last.
        scale: Whether batch normalizations have scales (gamma).
        width: Multiplier of the filters.

    Returns:
        A tensor of shape `(batch, classes)`.
    """
    unit = Units(scale=scale, width=width)
    x = layers.AveragePooling2D(5, 3, name=f"{name}_pool")(x)
    x = unit(x, 128, 1, name=f"{name}_conv0")
    x = unit(x, 768, 5, padding="valid", name=f"{name}_conv1")
    x = layers.GlobalAveragePooling2D(name=f"{name}_avg_pool")(x)
    return predictions(x, classes, classifier_activation, name=name)


def numbered(modules: Iterable[str]) -> dict[str, Sequence[str]]:
    """The names of a network's `Units` in PyTorch checkpoints.

    Args:
        modules: Module of each, in the order in which they are made.

    Returns:
        Names of each layer.
    """
    names: dict[str, Sequence[str]] = {}
    for i, module in enumerate(modules):
        number = f"_{i}" if i else ""
        names[f"conv2d{number}"] = (f"{module}.conv",)
        names[f"batch_normalization{number}"] = (f"{module}.bn",)
    return names


# Modules of torchvision and of timm, by the kind of block, in the order of `Units`.
_THREES = tuple(f"branch3x3dbl_{i}" for i in (1, 2, 3))
_SEVENS = tuple(f"branch7x7_{i}" for i in (1, 2, 3))
_DOUBLE = tuple(f"branch7x7dbl_{i}" for i in (1, 2, 3, 4, 5))
_SPLIT = ("1", "2a", "2b")
_TORCH = {
    "A": ("branch1x1", "branch5x5_1", "branch5x5_2", *_THREES, "branch_pool"),
    "B": ("branch3x3", *_THREES),
    "C": ("branch1x1", *_SEVENS, *_DOUBLE, "branch_pool"),
    "D": ("branch3x3_1", "branch3x3_2", *(f"branch7x7x3_{i}" for i in (1, 2, 3, 4))),
    "E": (
        *("branch1x1", "branch3x3_1", "branch3x3_2a", "branch3x3_2b"),
        *("branch3x3dbl_1", "branch3x3dbl_2", "branch3x3dbl_3a", "branch3x3dbl_3b"),
        "branch_pool",
    ),
}
_STEM = ("1a_3x3", "2a_3x3", "2b_3x3", "3b_1x1", "4a_3x3")
_BLOCKS = dict(
    zip(
        ("5b", "5c", "5d", "6a", "6b", "6c", "6d", "6e", "7a", "7b", "7c"),
        "AAABCCCCDEE",
        strict=True,
    )
)


def _torch_names(**_: Any) -> Mapping[str, Sequence[str]]:
    """The names of torchvision and of timm, which agree."""
    modules = [f"Conv2d_{part}" for part in _STEM]
    for block, kind in _BLOCKS.items():
        modules += [f"Mixed_{block}.{branch}" for branch in _TORCH[kind]]
    names = numbered(modules)
    for part in ("conv0", "conv1"):
        names[f"aux1_{part}"] = (f"AuxLogits.{part}.conv",)
        names[f"aux1_{part}_bn"] = (f"AuxLogits.{part}.bn",)
    return {**names, "aux1": ("AuxLogits.fc",), "predictions": ("fc",)}


@architecture(
    **PAPER,
    head=gap_dense(),
    aux_head=aux_classifier,
    aux_taps=("mixed7",),
    torch_names=_torch_names,
    features=2048,
    stride=32,
    input_size=299,
    min_size=75,
    aux_min_size=299,
    preprocessing="tf",
    torch_preprocessing="tf",
    torch_options={"count_padding": True},
    tiny={"width": 0.5},
)
def inception_v3(
    x: Any, *, scale: bool = False, count_padding: bool = False, width: float = 1.0
) -> Any:
    """Inception v3, for ImageNet.

    Args:
        x: Image batch.
        scale: Whether batch normalizations have scales (gamma), as PyTorch's weights have and
            Keras's have not.
        count_padding: Whether the average pools count the zeros beyond the edge, as PyTorch's
            do and Keras's do not.
        width: Multiplier of every layer's filters; the paper has 1.

    Returns:
        Feature map of stride 32: 8x8 for an image of 299x299.
    """
    unit = Units(scale=scale, width=width)
    x = stem(x, unit)
    for i, pooled in enumerate(POOLED):
        x = module_35(x, pooled, unit, name=f"mixed{i}", count_padding=count_padding)
    x = reduction_35(x, unit, name="mixed3")
    for i, filters in enumerate(SEVENS, 4):
        x = module_17(x, filters, unit, name=f"mixed{i}", count_padding=count_padding)
    x = reduction_17(x, unit, name="mixed8")
    for i in range(2):
        x = module_8(
            x, unit, name=f"mixed{9 + i}", split=f"mixed9_{i}", count_padding=count_padding
        )
    return x


InceptionV3 = inception_v3.variant(
    "InceptionV3",
    params=23_817_352,
    macs=5_713_216_096,
    top1_error=21.2,
    top5_error=5.6,
    protocol="one crop",
    notes=(
        "Keras's form, without scales in the batch normalizations and without dropout. Its first "
        "module of 35x35 has 256 channels, where the paper's table has 288. torchvision's form "
        "has 27,161,264 parameters: scale=True, aux=True."
    ),
)
