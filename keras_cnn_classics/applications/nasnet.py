"""NASNet-A: cells that a search found on CIFAR-10, stacked for ImageNet.

There are two cells, one that keeps the size of the map and one that halves it. Both look at the
last two feature maps and add five pairs of separable convolutions, pools and the maps themselves;
what the search decided is which. The networks differ in how many cells they stack, N, and in the
channels of the last map, and are called so: 4 @ 1056 and 6 @ 4032.

Keras puts zeros around the maps that a reduction cell pools, and the pools take them for values.
The authors' code leaves out what is beyond the edge; timm's does so for maxima, but counts zeros in
averages. `edge_zeros` says which.

References:
    - [Learning transferable architectures for scalable image
      recognition](https://arxiv.org/abs/1707.07012), Zoph, Vasudevan, Shlens and Le, CVPR 2018
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from keras import layers

from keras_cnn_classics.applications._architecture import architecture
from keras_cnn_classics.applications._keras_modules import preprocessing_for
from keras_cnn_classics.blocks.core import concat, max_pool, norm, one_of
from keras_cnn_classics.blocks.heads import gap_dense
from keras_cnn_classics.layers import SameAveragePooling2D, SamePadding2D
from keras_cnn_classics.preprocessing import decode_predictions as decode_predictions

preprocess_input = preprocessing_for(__name__)

EDGE_ZEROS = ("all", "average", "none")


def _relu(x: Any, *, name: str) -> Any:
    return layers.Activation("relu", name=name)(x)


def _norm(x: Any, *, name: str) -> Any:
    return norm(x, momentum=0.9997, epsilon=1e-3, name=name)


def _conv(x: Any, filters: int, *, name: str) -> Any:
    return layers.Conv2D(filters, 1, use_bias=False, kernel_initializer="he_normal", name=name)(x)


def _add(a: Any, b: Any, *, name: str) -> Any:
    return layers.Add(name=name)([a, b])


def _average(x: Any, *, name: str) -> Any:
    return layers.AveragePooling2D(3, 1, "same", name=name)(x)


def separable(x: Any, filters: int, kernel: int, strides: int = 1, *, name: str) -> Any:
    """ReLU, separable convolution and batch normalization, twice, as the search applied them.

    Args:
        x: Feature map.
        filters: Filters of both convolutions.
        kernel: Height and width of both kernels.
        strides: Steps of the first.
        name: End of the layers' names.

    Returns:
        A feature map with `filters` channels.
    """
    for i, steps in ((1, strides), (2, 1)):
        x = _relu(x, name=f"separable_conv_{i}_relu_{name}")
        x = layers.SeparableConv2D(
            filters, kernel, steps, "same", use_bias=False, name=f"separable_conv_{i}_{name}"
        )(x)
        x = _norm(x, name=f"separable_conv_{i}_bn_{name}")
    return x


def adjust(p: Any, filters: int, *, halve: bool, name: str) -> Any:
    """Gives the map before the last the channels and the size of a cell.

    It is halved without losing every second pixel: by two 1x1 convolutions, the second of which
    sees the pixels between those of the first.

    Args:
        p: Feature map.
        filters: Channels of the result.
        halve: Whether the map is twice as large as the last one.
        name: End of the layers' names.

    Returns:
        A feature map with `filters` channels.
    """
    p = _relu(p, name=f"adjust_relu_1_{name}")
    if not halve:
        p = _conv(p, filters, name=f"adjust_conv_projection_{name}")
        return _norm(p, name=f"adjust_bn_{name}")
    shifted = layers.ZeroPadding2D(((0, 1), (0, 1)), name=f"adjust_pad_{name}")(p)
    shifted = layers.Cropping2D(((1, 0), (1, 0)), name=f"adjust_crop_{name}")(shifted)
    halves = []
    for i, (x, n) in enumerate(((p, filters // 2), (shifted, filters - filters // 2)), 1):
        x = layers.AveragePooling2D(1, 2, name=f"adjust_avg_pool_{i}_{name}")(x)
        halves.append(_conv(x, n, name=f"adjust_conv_{i}_{name}"))
    return _norm(concat(halves, name=f"adjust_concat_{name}"), name=f"adjust_bn_{name}")


def normal_cell(x: Any, p: Any, filters: int, *, halve: bool, name: str) -> Any:
    """The normal cell of NASNet-A, figure 4, left.

    Args:
        x: The last feature map.
        p: The one before.
        filters: Filters of every convolution.
        halve: Whether `p` is twice as large as `x`.
        name: End of the layers' names.

    Returns:
        A feature map with `6 * filters` channels.
    """
    p = adjust(p, filters, halve=halve, name=name)
    h = _conv(_relu(x, name=f"normal_relu_1_{name}"), filters, name=f"normal_conv_1_{name}")
    h = _norm(h, name=f"normal_bn_1_{name}")
    pairs = (
        (
            separable(h, filters, 5, name=f"normal_left1_{name}"),
            separable(p, filters, 3, name=f"normal_right1_{name}"),
        ),
        (
            separable(p, filters, 5, name=f"normal_left2_{name}"),
            separable(p, filters, 3, name=f"normal_right2_{name}"),
        ),
        (_average(h, name=f"normal_left3_{name}"), p),
        (_average(p, name=f"normal_left4_{name}"), _average(p, name=f"normal_right4_{name}")),
        (separable(h, filters, 3, name=f"normal_left5_{name}"), h),
    )
    sums = [_add(a, b, name=f"normal_add_{i}_{name}") for i, (a, b) in enumerate(pairs, 1)]
    return concat([p, *sums], name=f"normal_concat_{name}")


def reduction_cell(
    x: Any,
    p: Any | None,
    filters: int,
    *,
    name: str,
    halve: bool = False,
    edge_zeros: str = "all",
) -> Any:
    """The reduction cell of NASNet-A, figure 4, right.

    Args:
        x: The last feature map.
        p: The one before; without it `x` is taken as it is.
        filters: Filters of every convolution.
        name: End of the layers' names.
        halve: Whether `p` is twice as large as `x`.
        edge_zeros: Which pools take zeros beyond the edge for values, as in the trunk.

    Returns:
        A feature map of half the height and width with `4 * filters` channels.
    """
    p = x if p is None else adjust(p, filters, halve=halve, name=name)
    h = _conv(_relu(x, name=f"reduction_relu_1_{name}"), filters, name=f"reduction_conv_1_{name}")
    h = _norm(h, name=f"reduction_bn_1_{name}")
    padded = h
    if edge_zeros != "none":
        padded = SamePadding2D(3, 2, name=f"reduction_pad_1_{name}")(h)

    def pooled_max(name: str) -> Any:
        if edge_zeros == "all":
            return max_pool(padded, name=name)
        return max_pool(h, name=name, padding="same")

    def pooled_average(name: str) -> Any:
        if edge_zeros == "none":
            return SameAveragePooling2D(3, 2, name=name)(h)
        return layers.AveragePooling2D(3, 2, name=name)(padded)

    one = _add(
        separable(h, filters, 5, 2, name=f"reduction_left1_{name}"),
        separable(p, filters, 7, 2, name=f"reduction_right1_{name}"),
        name=f"reduction_add_1_{name}",
    )
    two = _add(
        pooled_max(f"reduction_left2_{name}"),
        separable(p, filters, 7, 2, name=f"reduction_right2_{name}"),
        name=f"reduction_add_2_{name}",
    )
    three = _add(
        pooled_average(f"reduction_left3_{name}"),
        separable(p, filters, 5, 2, name=f"reduction_right3_{name}"),
        name=f"reduction_add3_{name}",
    )
    four = _add(
        two, _average(one, name=f"reduction_left4_{name}"), name=f"reduction_left4_add_{name}"
    )
    five = _add(
        separable(one, filters, 3, name=f"reduction_left4_{name}"),
        pooled_max(f"reduction_right5_{name}"),
        name=f"reduction_add4_{name}",
    )
    return concat([two, three, four, five], name=f"reduction_concat_{name}")


def _torch_names(*, num_blocks: int, **_: Any) -> Mapping[str, Sequence[Any]]:
    """The names of timm's `nasnetalarge`, which count normal cells without the reductions."""
    n = num_blocks
    normal = {
        f"{stack * n + i + (stack > 0)}": f"cell_{stack * n + i}"
        for stack in range(3)
        for i in range(n)
    }
    reduction = {
        **{"stem_1": "cell_stem_0", "stem_2": "cell_stem_1"},
        **{f"reduce_{n}": "reduction_cell_0", f"reduce_{2 * n}": "reduction_cell_1"},
    }
    names: dict[str, tuple[Any, ...]] = {"stem_conv1": ("conv0.conv",), "stem_bn1": ("conv0.bn",)}
    for kind, cells, parts in (
        ("normal", normal, ("left1", "right1", "left2", "right2", "left5")),
        ("reduction", reduction, ("left1", "right1", "right2", "right3", "left4")),
    ):
        for ours, theirs in cells.items():
            names |= {
                f"{kind}_conv_1_{ours}": (f"{theirs}.conv_1x1.conv",),
                f"{kind}_bn_1_{ours}": (f"{theirs}.conv_1x1.bn",),
                f"adjust_conv_projection_{ours}": (f"{theirs}.conv_prev_1x1.conv",),
                f"adjust_conv_1_{ours}": (f"{theirs}.path_1.conv",),
                f"adjust_conv_2_{ours}": (f"{theirs}.path_2.conv",),
                f"adjust_bn_{ours}": (f"{theirs}.conv_prev_1x1.bn", f"{theirs}.final_path_bn"),
            }
            for part in parts:
                side, pair = part[:-1], int(part[-1]) - 1
                # Keras calls the left of the last pair of a reduction cell by the fourth's name.
                pair += part == "left4"
                branch = f"{theirs}.comb_iter_{pair}_{side}"
                for i in (1, 2):
                    step = f"{branch}.separable_{i}"
                    names |= {
                        f"separable_conv_{i}_{kind}_{part}_{ours}": (
                            (f"{step}.depthwise_conv2d", f"{step}.pointwise_conv2d"),
                        ),
                        f"separable_conv_{i}_bn_{kind}_{part}_{ours}": (f"{branch}.bn_sep_{i}",),
                    }
    return names | {"predictions": ("last_linear",)}


@architecture(
    year=2017,
    paper="Learning transferable architectures for scalable image recognition",
    url="https://arxiv.org/abs/1707.07012",
    head=gap_dense(),
    stride=32,
    preprocessing="tf",
    torch_preprocessing="tf",
    protocol="one crop",
    notes=(
        "The auxiliary classifier, the dropped paths and the dropout of 0.5 before the classifier "
        "of the authors' training are left out, as in Keras."
    ),
    tiny={
        "penultimate_filters": 384,
        "num_blocks": 1,
        "stem_block_filters": 16,
        "filter_multiplier": 1,
    },
)
def nasnet(
    x: Any,
    *,
    penultimate_filters: int,
    num_blocks: int,
    stem_block_filters: int,
    skip_reduction: bool,
    filter_multiplier: int = 2,
    edge_zeros: str = "all",
) -> Any:
    """{name}, for images of any size.

    Args:
        x: Image batch.
        penultimate_filters: Channels of the last feature map, where the multiplier is 2.
        num_blocks: Normal cells in each of the three stacks: the paper's N.
        stem_block_filters: Filters of the first convolution.
        skip_reduction: Whether the cell after a reduction cell sees the map before that cell's
            input, not its input.
        filter_multiplier: How many times as many filters a stack has as the one before.
        edge_zeros: Which pools of a reduction cell take zeros beyond the edge for values: `"all"`
            as in Keras, `"average"` as in timm, or `"none"` as in the authors' code.

    Returns:
        Feature map of stride 32: 7x7 for an image of 224x224, 11x11 for one of 331x331.
    """
    one_of("edge_zeros", edge_zeros, EDGE_ZEROS)
    if penultimate_filters % (24 * filter_multiplier**2):
        raise ValueError(
            "`penultimate_filters` must be a multiple of 24 * filter_multiplier^2. "
            f"Received: {penultimate_filters=}, {filter_multiplier=}"
        )
    filters = penultimate_filters // 24
    x = layers.Conv2D(
        stem_block_filters,
        3,
        2,
        use_bias=False,
        kernel_initializer="he_normal",
        name="stem_conv1",
    )(x)
    x = _norm(x, name="stem_bn1")
    # `p` is the map before `x`; where it is the larger of the two, a cell halves it.
    p, x = (
        x,
        reduction_cell(
            x, None, filters // filter_multiplier**2, name="stem_1", edge_zeros=edge_zeros
        ),
    )
    p, x = (
        x,
        reduction_cell(
            x, p, filters // filter_multiplier, name="stem_2", halve=True, edge_zeros=edge_zeros
        ),
    )
    for stack in range(3):
        width, first = filters * filter_multiplier**stack, stack * num_blocks
        if stack:
            y = reduction_cell(x, p, width, name=f"reduce_{first}", edge_zeros=edge_zeros)
            p, x = p if skip_reduction else x, y
            first += 1  # Keras counts the reduction cell, if there is one
        for i in range(num_blocks):
            p, x = x, normal_cell(x, p, width, halve=i == 0, name=f"{first + i}")
    return _relu(x, name="relu")


NASNetMobile = nasnet.variant(
    "NASNetMobile",
    penultimate_filters=1056,
    num_blocks=4,
    stem_block_filters=32,
    skip_reduction=False,
    features=1056,
    params=5_289_978,
    macs=563_638_816,
    top1_error=26.0,
    top5_error=8.4,
)
NASNetLarge = nasnet.variant(
    "NASNetLarge",
    torch_names=_torch_names,
    torch_options={"edge_zeros": "average"},
    penultimate_filters=4032,
    num_blocks=6,
    stem_block_filters=96,
    skip_reduction=True,
    input_size=331,
    features=4032,
    params=88_753_150,
    macs=23_783_414_658,
    top1_error=17.3,
    top5_error=3.8,
)
