"""Inception-ResNet: Inception modules that learn what to add to their input.

With shortcuts past its modules, an Inception network trains much faster. What a module adds is
made small first, by a factor of 0.1 to 0.2, without which so wide networks become unstable. Version
1 costs about as much as Inception v3, version 2 as much as v4.

Version 2 carries Keras's names, for its weights, whose batch normalizations have no scales.
PyTorch's have: `scale=True`. It follows the authors' released code, which differs from the paper's
figures in its stem and widths.

References:
    - [Inception-v4, Inception-ResNet and the impact of residual connections on
      learning](https://arxiv.org/abs/1602.07261), Szegedy, Ioffe, Vanhoucke and Alemi, AAAI 2017
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from keras import layers

from keras_cnn_classics.applications._architecture import architecture
from keras_cnn_classics.applications.inception_v3 import Units, numbered
from keras_cnn_classics.applications.inception_v3 import stem as stem_v3
from keras_cnn_classics.applications.inception_v4 import (
    COLUMN,
    PAPER,
    ROW,
    module,
    reduction,
    torch_branches,
)
from keras_cnn_classics.blocks.core import channel_axis, concat, exactly, max_pool, squeeze_excite
from keras_cnn_classics.blocks.heads import gap_dense, predictions

# Filters and kernels of each branch, of version 1 (figures 10 to 13, 7 with its row of table 1) ...
V1: dict[str, Any] = {
    "block35": (((32, 1),), ((32, 1), (32, 3)), ((32, 1), (32, 3), (32, 3))),
    "mixed_6a": (((384, 3, 2),), ((192, 1), (192, 3), (256, 3, 2))),
    "block17": (((128, 1),), ((128, 1), (128, ROW), (128, COLUMN))),
    "mixed_7a": (
        ((256, 1), (384, 3, 2)),
        ((256, 1), (256, 3, 2)),
        ((256, 1), (256, 3), (256, 3, 2)),
    ),
    "block8": (((192, 1),), ((192, 1), (192, (1, 3)), (192, (3, 1)))),
}
# ... and of version 2, which begins its modules with one that adds nothing.
V2: dict[str, Any] = {
    "mixed_5b": (((96, 1),), ((48, 1), (64, 5)), ((64, 1), (96, 3), (96, 3)), ((64, 1),)),
    "block35": (((32, 1),), ((32, 1), (32, 3)), ((32, 1), (48, 3), (64, 3))),
    "mixed_6a": (((384, 3, 2),), ((256, 1), (256, 3), (384, 3, 2))),
    "block17": (((192, 1),), ((128, 1), (160, ROW), (192, COLUMN))),
    "mixed_7a": (
        ((256, 1), (384, 3, 2)),
        ((256, 1), (288, 3, 2)),
        ((256, 1), (288, 3), (320, 3, 2)),
    ),
    "block8": (((192, 1),), ((192, 1), (224, (1, 3)), (256, (3, 1)))),
}

# What the residuals of each kind of block are multiplied with, in the authors' code; section 3.3
# says between 0.1 and 0.3.
FACTORS = {"block35": 0.17, "block17": 0.1, "block8": 0.2}


def residual(
    x: Any,
    branches: Sequence[Any],
    factor: float,
    unit: Units,
    *,
    name: str,
    relu: bool = True,
    se: int = 0,
) -> Any:
    """A residual Inception module, figures 10, 11, 13 and 16 to 19, scaled as in figure 20.

    Args:
        x: Feature map.
        branches: Steps of each branch.
        factor: What the module's output is multiplied with before it is added to `x`.
        unit: Maker of the convolutions.
        name: Prefix of the layers' names.
        relu: Whether a ReLU follows the addition.
        se: Reduction of a squeeze-and-excitation before the scaling; 0 is none.

    Returns:
        A feature map of the shape of `x`.
    """
    y = concat([unit.chain(x, *steps) for steps in branches], name=f"{name}_mixed")
    y = layers.Conv2D(x.shape[channel_axis()], 1, name=f"{name}_conv")(y)
    if se:
        y = squeeze_excite(y, se, name=f"{name}_se")
    y = layers.Rescaling(factor, name=f"{name}_scale")(y)
    x = layers.Add(name=f"{name}_add")([x, y])
    return layers.Activation("relu", name=f"{name}_ac")(x) if relu else x


def body(
    x: Any, table: Mapping[str, Any], repeats: Sequence[int], unit: Units, *, se: int = 0
) -> Any:
    """Residual modules of three sizes, and reductions between; the last adds all of its output.

    Args:
        x: Feature map of the stem.
        table: Branches of each kind of module, as in `V1`.
        repeats: Number of residual modules of each size.
        unit: Maker of the convolutions.
        se: Reduction of a squeeze-and-excitation in each residual module; 0 is none.

    Returns:
        A feature map of a quarter of the height and width.
    """
    exactly(3, repeats, "repeats")
    for (kind, factor), repeat, after in zip(
        FACTORS.items(), repeats, ("mixed_6a", "mixed_7a", None), strict=True
    ):
        for i in range(1, repeat + 1):
            last = kind == "block8" and i == repeat
            x = residual(
                x,
                table[kind],
                1.0 if last else factor,
                unit,
                name=f"{kind}_{i}",
                relu=not last,
                se=se,
            )
        if after:
            x = reduction(x, table[after], unit, name=after)
    return x


def version_2(x: Any, repeats: Sequence[int], unit: Units, *, se: int = 0) -> Any:
    """The whole trunk of version 2.

    Args:
        x: Image batch.
        repeats: Number of residual modules of 35x35, of 17x17 and of 8x8.
        unit: Maker of the convolutions.
        se: Reduction of a squeeze-and-excitation in each residual module; 0 is none.

    Returns:
        A feature map of stride 32 with 1536 channels.
    """
    x = stem_v3(x, unit)
    x = module(x, V2["mixed_5b"], unit, name="mixed_5b")
    x = body(x, V2, repeats, unit, se=se)
    return unit(x, 1536, 1, name="conv_7b")


def embedding(
    x: Any, classes: int, classifier_activation: Any, *, units: int = 512, dropout: float = 0.2
) -> Any:
    """Average, drop, a linear layer with batch normalization for FaceNet's sake, then classify.

    Args:
        x: Feature map.
        classes: Number of classes.
        classifier_activation: Activation of the last layer.
        units: Size of the linear layer before the classifier, which embeds faces in FaceNet; 0
            leaves it out, as in the paper.
        dropout: Share of the averages that training drops.

    Returns:
        A tensor of shape `(batch, classes)`.
    """
    x = layers.GlobalAveragePooling2D(name="avg_pool")(x)
    x = layers.Dropout(dropout, name="dropout")(x)
    if units:
        x = layers.Dense(units, use_bias=False, name="embedding")(x)
        x = layers.BatchNormalization(name="embedding_bn")(x)
    return predictions(x, classes, classifier_activation)


def _body_names(
    table: Mapping[str, Any], repeats: Sequence[int], places: Sequence[str]
) -> tuple[list[str], dict[str, Sequence[str]]]:
    """Modules of `body` in timm and facenet-pytorch: of its `Units` in order, and of the others."""
    units: list[str] = []
    names: dict[str, Sequence[str]] = {}
    for kind, place, repeat, after in zip(
        FACTORS, places, repeats, ("mixed_6a", "mixed_7a", None), strict=True
    ):
        modules = [f"{place}.{i}" for i in range(repeat)]
        if kind == "block8":
            modules[-1] = "block8"
        for i, module_ in enumerate(modules, 1):
            units += [f"{module_}.{b}" for b in torch_branches(table[kind], pooled=False)]
            names[f"{kind}_{i}_conv"] = (f"{module_}.conv2d",)
        if after:
            units += [f"{after}.{b}" for b in torch_branches(table[after], pooled=False)]
    return units, names


def _torch_names_v1(*, repeats: Sequence[int], **_: Any) -> Mapping[str, Sequence[str]]:
    """The names of pytorchcv and of facenet-pytorch."""
    units = [f"init_block.conv{i}" for i in range(1, 7)]
    names: dict[str, str] = {}
    for stage, (kind, repeat, before) in enumerate(
        zip(FACTORS, repeats, (None, "mixed_6a", "mixed_7a"), strict=True), 1
    ):
        parts = [] if before is None else [before]
        parts += [f"{kind}_{i}" for i in range(1, repeat + 1)]
        for number, part in enumerate(parts, 1):
            place = f"stage{stage}.unit{number}"
            for branch, steps in enumerate(V1[before if part == before else kind], 1):
                alone = len(steps) == 1 and part != before
                ends = ["conv"] if alone else [f"conv_list.conv{i + 1}" for i in range(len(steps))]
                units += [f"{place}.branches.branch{branch}.{end}" for end in ends]
            if part != before:
                names[f"{part}_conv"] = f"features.{place}.conv"
    pytorchcv = {
        **{key: one for key, (one,) in numbered(f"features.{unit}" for unit in units).items()},
        **names,
        **{"embedding": "output.fc1", "embedding_bn": "output.bn", "predictions": "output.fc2"},
    }
    units, facenet = _body_names(V1, repeats, ("repeat_1", "repeat_2", "repeat_3"))
    first = [f"conv2d_{part}" for part in ("1a", "2a", "2b", "3b", "4a", "4b")]
    facenet |= numbered([*first, *units])
    facenet |= {"embedding": ("last_linear",), "embedding_bn": ("last_bn",)}
    facenet["predictions"] = ("logits",)
    return {key: (name, *facenet[key]) for key, name in pytorchcv.items()}


def torch_names_v2(*, repeats: Sequence[int], **_: Any) -> Mapping[str, Sequence[str]]:
    """The names of timm and of Cadene, which agree but for the classifier's.

    Args:
        repeats: Number of residual modules of each size.

    Returns:
        Names of each layer.
    """
    first = [f"conv2d_{part}" for part in ("1a", "2a", "2b", "3b", "4a")]
    first += [f"mixed_5b.{branch}" for branch in torch_branches(V2["mixed_5b"], pooled=True)]
    units, names = _body_names(V2, repeats, ("repeat", "repeat_1", "repeat_2"))
    return {
        **numbered([*first, *units]),
        **names,
        "conv_7b": ("conv2d_7b.conv",),
        "conv_7b_bn": ("conv2d_7b.bn",),
        "predictions": ("classif", "last_linear"),
    }


SHARED: dict[str, Any] = {
    **PAPER,
    "stride": 32,
    "input_size": 299,
    "min_size": 75,
    "preprocessing": "tf",
    "tiny": {"width": 0.5, "repeats": (1, 1, 2)},
}


@architecture(**SHARED, head=embedding, torch_names=_torch_names_v1, features=1792)
def inception_resnet_v1(x: Any, *, repeats: Sequence[int] = (5, 10, 6), width: float = 1.0) -> Any:
    """Inception-ResNet v1, as expensive as Inception v3.

    Args:
        x: Image batch.
        repeats: Number of residual modules of 35x35, of 17x17 and of 8x8; the last one has no
            ReLU.
        width: Multiplier of every layer's filters; the paper has 1.

    Returns:
        Feature map of stride 32: 8x8 for an image of 299x299.
    """
    unit = Units(scale=True, width=width)
    x = unit.chain(x, (32, 3, 2), (32, 3, 1, "valid"), (64, 3))
    x = max_pool(x, name="pool1")
    x = unit.chain(x, (80, 1), (192, 3, 1, "valid"), (256, 3, 2))
    return body(x, V1, repeats, unit)


@architecture(**SHARED, head=gap_dense(), torch_names=torch_names_v2, features=1536)
def inception_resnet_v2(
    x: Any, *, repeats: Sequence[int] = (10, 20, 10), scale: bool = False, width: float = 1.0
) -> Any:
    """Inception-ResNet v2, as expensive as Inception v4.

    Args:
        x: Image batch.
        repeats: Number of residual modules of 35x35, of 17x17 and of 8x8; the last one has no
            ReLU.
        scale: Whether batch normalizations have scales (gamma), as PyTorch's weights have and
            Keras's have not.
        width: Multiplier of every layer's filters; the paper has 1.

    Returns:
        Feature map of stride 32: 8x8 for an image of 299x299.
    """
    return version_2(x, repeats, Units(scale=scale, width=width))


InceptionResNetV1 = inception_resnet_v1.variant(
    "InceptionResNetV1",
    params=23_995_624,
    macs=6_308_235_360,
    top1_error=21.3,
    top5_error=5.5,
    protocol="one crop, the paper's own form",
    notes=(
        "The form that is in use, FaceNet's: six modules of 8x8, where the paper has five, the "
        "last of them without factor and ReLU; and a linear layer of 512 before the classifier, "
        "which units=0 leaves out. No options give exactly the paper's network: with "
        "repeats=(5, 10, 5) there are five modules, but still the last is without factor and "
        "ReLU. facenet-pytorch's checkpoints want images as (x - 127.5) / 128, pytorchcv's in "
        "mode 'torch'."
    ),
)
InceptionResNetV2 = inception_resnet_v2.variant(
    "InceptionResNetV2",
    params=55_813_192,
    macs=13_155_794_016,
    torch_preprocessing="tf",
    top1_error=19.9,
    top5_error=4.9,
    protocol="one crop",
    notes=(
        "The authors' code and Keras's form, not the paper's figures: the stem of Inception v3 "
        "and a module without shortcut instead of the stem of v4, other widths, twice as many "
        "modules, the last of them without factor and ReLU. Without scales in the batch "
        "normalizations (with them, scale=True, 55,843,464 parameters), and without the paper's "
        "dropout of 0.2 before the classifier."
    ),
)
