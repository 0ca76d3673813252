"""Residual attention: modules whose one branch says how much of the other's map counts.

The trunk branch is a few residual blocks. The mask branch shrinks the same map by pools, so that it
sees more of the image, enlarges it again, and ends in a sigmoid: M, between 0 and 1. The module
gives (1 + M) T, not M T, of the trunk's map T, so that modules can be stacked without fading what
goes through them.

The networks are those of the authors' files for Caffe: pre-activation blocks with steps in the 3x3
convolutions, pools of whole windows that may hang over the far edge, and bilinear interpolation
that puts corners on corners. `form="pytorchcv"` is pytorchcv's, for its checkpoints, which differs
in the pools and twice in what is added up; it has the same parameters.

References:
    - [Residual attention network for image classification](https://arxiv.org/abs/1704.06904),
      Wang, Jiang, Qian, Yang, Li, Zhang, Wang and Tang, CVPR 2017
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from keras import layers

from keras_cnn_classics.applications._architecture import architecture
from keras_cnn_classics.applications.resnet_v2 import names_of_block, preactivation
from keras_cnn_classics.blocks.core import exactly, max_pool, norm_relu, one_of, plain_conv
from keras_cnn_classics.blocks.heads import gap_dense
from keras_cnn_classics.blocks.residual import stem
from keras_cnn_classics.layers import EdgePadding2D, ResizeLike

FORMS = ("paper", "pytorchcv")
# Section 3.3: p blocks before the branches part and after they join, t in the trunk, r between two
# pools of the mask. The mask of stage i has as many pools as bring its map to 7x7.
P, T, R = 1, 2, 1
POOLS = (3, 2, 1)


def _block(x: Any, out: int, strides: int = 1, *, name: str) -> Any:
    return preactivation(x, out // 4, strides, name=name, bottleneck=True, stride_in="3x3")


def _blocks(x: Any, out: int, count: int, *, name: str) -> Any:
    for i in range(1, count + 1):
        x = _block(x, out, name=f"{name}{i}")
    return x


def _mask(x: Any, out: int, pools: int, *, name: str, form: str, level: int = 1) -> Any:
    """The mask branch from one pool to the interpolation that undoes it, figure 2."""
    like = x
    around = {"paper": (0, 1), "pytorchcv": (1, 1)}[form]
    x = EdgePadding2D(*around, name=f"{name}_down{level}_pad")(x)
    x = max_pool(x, name=f"{name}_down{level}_pool")
    x = _blocks(x, out, R, name=f"{name}_down{level}_block")
    if level < pools:
        skip = _block(x, out, name=f"{name}_skip{level + 1}")
        if form == "pytorchcv":  # whose skip is a block around a block
            skip = layers.Add(name=f"{name}_skip{level + 1}_twice")([x, skip])
        x = _mask(x, out, pools, name=name, form=form, level=level + 1)
        x = layers.Add(name=f"{name}_up{level}_add")([skip, x])
    x = _blocks(x, out, R, name=f"{name}_up{level}_block")
    return ResizeLike(name=f"{name}_up{level}_resize")([x, like])


def attention_module(x: Any, pools: int, *, name: str, out: int, form: str = "paper") -> Any:
    """The attention module, figures 2 and 3, with the sigmoid of each number, f1.

    Args:
        x: Feature map.
        pools: Pools of the mask branch.
        name: Prefix of the layers' names.
        out: Channels of `x` and of the result.
        form: One of `FORMS`: the paper's, or pytorchcv's.

    Returns:
        A feature map of the same shape.
    """
    x = _blocks(x, out, P, name=f"{name}_first")
    trunk = _blocks(x, out, T, name=f"{name}_trunk")
    mask = _mask(x, out, pools, name=name, form=form)
    if form == "pytorchcv":
        mask = layers.Add(name=f"{name}_with_trunk")([trunk, mask])
    for i in (1, 2):
        mask = norm_relu(mask, name=f"{name}_mask{i}", epsilon=1e-5)
        mask = plain_conv(mask, out, 1, name=f"{name}_mask{i}")
    mask = layers.Activation("sigmoid", name=f"{name}_mask")(mask)
    weighed = layers.Multiply(name=f"{name}_weigh")([trunk, mask])
    x = layers.Add(name=f"{name}_add")([trunk, weighed])
    return _blocks(x, out, P, name=f"{name}_last")


def _torch_names(*, modules: Sequence[int], **_: Any) -> Mapping[str, Sequence[str]]:
    """The names of pytorchcv."""
    names: dict[str, tuple[str, ...]] = {
        "conv1_conv": ("features.init_block.conv.conv",),
        "conv1_bn": ("features.init_block.conv.bn",),
        "post_bn": ("features.post_activ.bn",),
        "predictions": ("output",),
    }
    blocks = {f"conv5_block{i}": f"features.stage4.unit{i}" for i in (1, 2, 3)}
    for stage, (count, pools) in enumerate(zip(modules, POOLS, strict=True), 1):
        blocks[f"conv{stage + 1}_block1"] = f"features.stage{stage}.unit1"
        for i in range(1, count + 1):
            ours, theirs = f"conv{stage + 1}_attention{i}", f"features.stage{stage}.unit{i + 1}"
            parts = {"first": "init_blocks", "trunk": "hg.skip_seq.skip1"}
            for level in range(1, pools + 1):
                for way in ("down", "up"):
                    part = f"hg.{way}_seq.{way}{level}.res_blocks"
                    parts[f"{way}{level}_block"] = part
                skip = f"{theirs}.hg.skip_seq.skip{level + 1}.skip1"
                blocks[f"{ours}_skip{level + 1}"] = skip
            for part, other in parts.items():
                for n in (1, 2):
                    blocks[f"{ours}_{part}{n}"] = f"{theirs}.{other}.blocks.block{n}"
            blocks[f"{ours}_last1"] = f"{theirs}.final_block"
            for n in (1, 2):
                for part in ("conv", "bn"):
                    names[f"{ours}_mask{n}_{part}"] = (f"{theirs}.middle_block.conv{n}.{part}",)
    for ours, theirs in blocks.items():
        names |= names_of_block(ours, theirs, bottleneck=True)
    return names


@architecture(
    year=2017,
    paper="Residual attention network for image classification",
    url="https://arxiv.org/abs/1704.06904",
    head=gap_dense(),
    torch_names=_torch_names,
    torch_options={"form": "pytorchcv"},
    features=2048,
    stride=32,
    tiny={"modules": (1, 1, 1), "width": 16},
    notes=(
        "The authors' files for Caffe, not their weights, are published, and this is their "
        "network; they trained with images in BGR. pytorchcv's network, form='pytorchcv', pads "
        "pools on all sides, counts each skip's input twice, and adds the trunk's map to the mask "
        "before the mask's last two convolutions."
    ),
)
def residual_attention(
    x: Any, *, modules: Sequence[int], width: int = 64, form: str = "paper"
) -> Any:
    """Residual attention network, table 1.

    Args:
        x: Image batch.
        modules: Number of attention modules in each of the first three stages.
        width: Filters of the first convolution; the stages have 4, 8, 16 and 32 times as many.
        form: `"paper"`, or `"pytorchcv"` for its checkpoints.

    Returns:
        Feature map of stride 32: 7x7 for an image of 224x224.
    """
    one_of("form", form, FORMS)
    x = stem(x, width, ceil_mode=form == "paper")
    for stage, (count, pools) in enumerate(zip(exactly(3, modules, "modules"), POOLS, strict=True)):
        out = 4 * width * 2**stage
        x = _block(x, out, 2 if stage else 1, name=f"conv{stage + 2}_block1")
        for i in range(1, count + 1):
            name = f"conv{stage + 2}_attention{i}"
            x = attention_module(x, pools, name=name, out=out, form=form)
    for i in (1, 2, 3):
        x = _block(x, 32 * width, 2 if i == 1 else 1, name=f"conv5_block{i}")
    return norm_relu(x, name="post", epsilon=1e-5)


Attention56 = residual_attention.variant(
    "Attention56",
    modules=(1, 1, 1),
    params=31_810_728,
    macs=6_270_836_736,
    top1_error=21.76,
    top5_error=5.9,
    protocol="one crop",
)
Attention92 = residual_attention.variant(
    "Attention92",
    modules=(1, 2, 3),
    params=52_466_344,
    macs=10_533_789_696,
    top1_error=19.5,
    top5_error=4.8,
    protocol="one crop of 320",
)
