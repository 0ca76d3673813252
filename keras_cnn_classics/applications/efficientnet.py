"""EfficientNet: one small network, and a rule by which it grows.

The small one, B0, was found by a search: MobileNetV2's blocks with squeeze and excitation. To spend
more on it, all three sides grow together, depth by alpha^phi, width by beta^phi and resolution by
gamma^phi, so that multiply-adds grow by about two for each step of phi (`compound_scaling`).

B0 to B3 are the rule at 0, 0.5, 1 and 2, rounded. The authors released B4 to B7 larger than the
rule at 3 to 6: by 5 to 13 % in width, 4 to 6 % in depth and 12 to 17 % in resolution.

The images are normalized inside, as in Keras, so the networks take pixels from 0 to 255. Without
that, `include_preprocessing=False`, they take what `preprocess_input` makes in mode `"torch"`.

References:
    - [EfficientNet: rethinking model scaling for convolutional neural
      networks](https://arxiv.org/abs/1905.11946), Tan and Le, ICML 2019
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import keras
from keras import layers

from keras_cnn_classics.applications._architecture import architecture
from keras_cnn_classics.applications._keras_modules import preprocessing_for
from keras_cnn_classics.blocks.core import (
    PADDINGS,
    channel_axis,
    make_divisible,
    norm,
    one_of,
    pad_for_steps,
    squeeze_excite,
)
from keras_cnn_classics.blocks.heads import gap_dense
from keras_cnn_classics.preprocessing import MODES
from keras_cnn_classics.preprocessing import decode_predictions as decode_predictions

preprocess_input = preprocessing_for(__name__)

# Table 1: kernel, expansion, filters, blocks, steps of the first.
STAGES = (
    *((3, 1, 16, 1, 1), (3, 6, 24, 2, 2), (5, 6, 40, 2, 2), (3, 6, 80, 3, 2)),
    *((5, 6, 112, 3, 1), (5, 6, 192, 4, 2), (3, 6, 320, 1, 1)),
)


class Scaling(NamedTuple):
    """How much larger than B0 a network is.

    Attributes:
        width: Multiplier of the filters.
        depth: Multiplier of the number of blocks.
        resolution: Multiplier of the height and width of the images.
    """

    width: float
    depth: float
    resolution: float


def compound_scaling(
    phi: float, *, alpha: float = 1.2, beta: float = 1.1, gamma: float = 1.15
) -> Scaling:
    """The rule of section 3.3: depth alpha^phi, width beta^phi, resolution gamma^phi.

    Multiply-adds grow by (alpha * beta^2 * gamma^2)^phi, where the paper wants about 2^phi; its
    own constants make it 1.92^phi. A network costs more than that, since it rounds the number of
    blocks up (and filters to multiples of 8): B2, where phi is 1, 2.6 times as much as B0.

    Args:
        phi: How much more may be spent: 0 is B0.
        alpha: Growth of the depth.
        beta: Growth of the width.
        gamma: Growth of the resolution.

    Returns:
        The three multipliers, exactly. `EfficientNetB0` takes `width` and `depth` as they are;
        `resolution` times 224, rounded, is the side of the images for its `input_shape`.

    Raises:
        ValueError: If `phi` is no finite number of at least 0, a growth is below 1, or all
            together are far from doubling the cost.
    """
    if not isinstance(phi, (int, float)) or not 0 <= phi < math.inf:
        raise ValueError(f"`phi` must be a finite number of at least 0. Received: {phi=}")
    cost = alpha * beta**2 * gamma**2
    if min(alpha, beta, gamma) < 1 or not 1.8 <= cost <= 2.2:
        raise ValueError(
            "`alpha`, `beta` and `gamma` must be at least 1, and alpha * beta^2 * gamma^2 about 2. "
            f"Received: {alpha=}, {beta=}, {gamma=}, together {cost:.3g}"
        )
    return Scaling(width=beta**phi, depth=alpha**phi, resolution=gamma**phi)


def released(phi: float) -> dict[str, Any]:
    """The rule as the authors rounded it for B0 to B3: to tenths, and to 20 pixels but for B0.

    Args:
        phi: How much more may be spent: 0, 0.5, 1 and 2 are B0 to B3.

    Returns:
        `width` and `depth` for the trunk, and `input_size`, in pixels.
    """
    exact = compound_scaling(phi)
    return {
        "width": round(exact.width, 1),
        "depth": round(exact.depth, 1),
        "input_size": 20 * round(224 * exact.resolution / 20) if phi else 224,
    }


def _norm_swish(x: Any, epsilon: float, *, name: str, activation: str) -> Any:
    x = norm(x, epsilon=epsilon, name=name)
    return layers.Activation("swish", name=activation)(x)


def _conv(x: Any, filters: int, kernel: int = 1, strides: int = 1, **kwargs: Any) -> Any:
    kwargs = {"padding": "same", "use_bias": False, **kwargs}
    return layers.Conv2D(filters, kernel, strides, kernel_initializer=_initializer(), **kwargs)(x)


def _initializer() -> Any:
    return keras.initializers.VarianceScaling(2.0, "fan_out", "truncated_normal")


def block(
    x: Any,
    kernel: int,
    expansion: int,
    filters: int,
    strides: int,
    *,
    name: str,
    drop: float = 0.0,
    epsilon: float = 1e-3,
    padding: str = "same",
) -> Any:
    """MBConv: the inverted residual block of MobileNetV2 with squeeze and excitation.

    Args:
        x: Feature map.
        kernel: Height and width of its depthwise convolution.
        expansion: How many times as many maps the block has inside; with 1 it does not expand.
        filters: Filters of its end.
        strides: Steps of its depthwise convolution.
        name: Prefix of the layers' names.
        drop: Share of the images for which training leaves the block out.
        epsilon: Added to the variance in batch normalization.
        padding: `"same"` or `"symmetric"`, as in the trunk.

    Returns:
        A feature map with `filters` channels.
    """
    channels = x.shape[channel_axis()]
    y = x
    if expansion > 1:
        y = _conv(y, expansion * channels, name=f"{name}_expand_conv")
        y = _norm_swish(
            y, epsilon, name=f"{name}_expand_bn", activation=f"{name}_expand_activation"
        )
    y, rest = pad_for_steps(y, kernel, strides, padding, name=f"{name}_dwconv_pad")
    y = layers.DepthwiseConv2D(
        kernel,
        strides,
        rest,
        use_bias=False,
        depthwise_initializer=_initializer(),
        name=f"{name}_dwconv",
    )(y)
    y = _norm_swish(y, epsilon, name=f"{name}_bn", activation=f"{name}_activation")
    y = squeeze_excite(
        y,
        4 * expansion,  # a quarter of the channels before the expansion
        name=f"{name}_se",
        activation="swish",
        kernel_initializer=_initializer(),
    )
    y = _conv(y, filters, name=f"{name}_project_conv")
    y = norm(y, epsilon=epsilon, name=f"{name}_project_bn")
    if strides > 1 or channels != filters:
        return y
    if drop:
        y = layers.Dropout(drop, noise_shape=(None, 1, 1, 1), name=f"{name}_drop")(y)
    return layers.Add(name=f"{name}_add")([x, y])


def normalize(x: Any) -> Any:
    """From pixels, 0 to 255, to ImageNet's mean 0 and variance 1, channel by channel.

    Channels beyond the first three are normalized by the averages of these, and so are all of
    images of one or two channels.

    Args:
        x: Image batch, from 0 to 255.

    Returns:
        An image batch of the same shape.
    """
    mode = MODES["torch"].for_channels(x.shape[channel_axis()])
    x = layers.Rescaling(mode.scale, name="rescaling")(x)
    return layers.Normalization(
        axis=channel_axis(),
        mean=mode.mean,
        variance=[one**2 for one in mode.std],
        name="normalization",
    )(x)


def _blocks(depth: float) -> list[tuple[str, int, int]]:
    """Name, stage and number within it of each block."""
    return [
        (f"block{stage + 1}{chr(ord('a') + i)}", stage, i)
        for stage, (*_, repeats, _) in enumerate(STAGES)
        for i in range(math.ceil(repeats * depth))
    ]


def _torch_names(*, depth: float, **_: Any) -> Mapping[str, Sequence[str]]:
    """The names of timm and of torchvision."""
    names = {"stem_conv": ("conv_stem", "features.0.0"), "stem_bn": ("bn1", "features.0.1")}
    for ours, stage, i in _blocks(depth):
        timm, vision = f"blocks.{stage}.{i}", f"features.{stage + 1}.{i}.block"
        expands = STAGES[stage][1] > 1
        # Without an expansion timm counts batch normalizations from the depthwise one, and calls
        # the last convolution by another name; torchvision counts its parts.
        n, projection = (2, "conv_pwl") if expands else (1, "conv_pw")
        if expands:
            names |= {
                f"{ours}_expand_conv": (f"{timm}.conv_pw", f"{vision}.0.0"),
                f"{ours}_expand_bn": (f"{timm}.bn1", f"{vision}.0.1"),
            }
        names |= {
            f"{ours}_dwconv": (f"{timm}.conv_dw", f"{vision}.{n - 1}.0"),
            f"{ours}_bn": (f"{timm}.bn{n}", f"{vision}.{n - 1}.1"),
            f"{ours}_se_reduce": (f"{timm}.se.conv_reduce", f"{vision}.{n}.fc1"),
            f"{ours}_se_expand": (f"{timm}.se.conv_expand", f"{vision}.{n}.fc2"),
            f"{ours}_project_conv": (f"{timm}.{projection}", f"{vision}.{n + 1}.0"),
            f"{ours}_project_bn": (f"{timm}.bn{n + 1}", f"{vision}.{n + 1}.1"),
        }
    return names | {
        "top_conv": ("conv_head", "features.8.0"),
        "top_bn": ("bn2", "features.8.1"),
        "predictions": ("classifier", "classifier.1"),
    }


ERRORS = "The errors are those of the paper's last version, with AutoAugment."


@architecture(
    year=2019,
    paper="EfficientNet: rethinking model scaling for convolutional neural networks",
    url="https://arxiv.org/abs/1905.11946",
    head=gap_dense(dropout=0.2, name="top_dropout"),
    torch_names=_torch_names,
    torch_options={"padding": "symmetric", "epsilon": 1e-5},
    stride=32,
    preprocessing="none",
    torch_preprocessing="none",
    protocol="one crop",
    notes=ERRORS,
    tiny={"width": 1.0, "depth": 0.4},
)
def efficientnet(
    x: Any,
    *,
    width: float,
    depth: float,
    drop_connect: float = 0.2,
    include_preprocessing: bool = True,
    padding: str = "same",
    epsilon: float = 1e-3,
) -> Any:
    """{name}, for images of any size.

    Args:
        x: Image batch.
        width: Multiplier of every layer's filters, which are rounded to multiples of 8.
        depth: Multiplier of the number of blocks of each stage, which is rounded up.
        drop_connect: Share of the images for which training leaves out the last block; it grows
            from 0 at the first.
        include_preprocessing: Whether the network normalizes images itself and takes pixels from
            0 to 255; else they must have been prepared, by mode `"torch"`.
        padding: Zeros of a convolution in steps of two: `"same"` as in TensorFlow and Keras, which
            timm's `tf_` weights want too, or `"symmetric"` for torchvision's and timm's others.
        epsilon: Added to the variance in batch normalization: 1e-3 for Keras's weights, timm's
            `tf_` and torchvision's B5 to B7, 1e-5 for torchvision's B0 to B4 and timm's others.

    Returns:
        Feature map of stride 32: 7x7 for an image of 224x224.
    """
    one_of("padding", padding, PADDINGS)
    if include_preprocessing:
        x = normalize(x)
    x, rest = pad_for_steps(x, 3, 2, padding, name="stem_conv_pad")
    x = _conv(x, make_divisible(32 * width), 3, 2, padding=rest, name="stem_conv")
    x = _norm_swish(x, epsilon, name="stem_bn", activation="stem_activation")
    blocks = _blocks(depth)
    for number, (name, stage, i) in enumerate(blocks):
        kernel, expansion, filters, _, strides = STAGES[stage]
        x = block(
            x,
            kernel,
            expansion,
            make_divisible(filters * width),
            1 if i else strides,
            name=name,
            drop=drop_connect * number / len(blocks),
            epsilon=epsilon,
            padding=padding,
        )
    x = _conv(x, make_divisible(1280 * width), name="top_conv")
    return _norm_swish(x, epsilon, name="top_bn", activation="top_activation")


# torchvision's B5 to B7 have the authors' epsilon.
LARGE: dict[str, Any] = {
    "torch_options": {"padding": "symmetric"},
    "notes": (
        f"{ERRORS} torchvision's checkpoints want `padding='symmetric'`; timm's, unless called "
        "`tf_`, `epsilon=1e-5` too."
    ),
}

EfficientNetB0 = efficientnet.variant(
    "EfficientNetB0",
    **released(0),
    dropout=0.2,
    features=1280,
    params=5_288_548,
    macs=385_814_752,
    top1_error=22.9,
    top5_error=6.7,
)
EfficientNetB1 = efficientnet.variant(
    "EfficientNetB1",
    **released(0.5),
    dropout=0.2,
    features=1280,
    params=7_794_184,
    macs=686_802_832,
    top1_error=20.9,
    top5_error=5.6,
)
EfficientNetB2 = efficientnet.variant(
    "EfficientNetB2",
    **released(1),
    dropout=0.3,
    features=1408,
    params=9_109_994,
    macs=993_561_872,
    top1_error=19.9,
    top5_error=5.1,
)
EfficientNetB3 = efficientnet.variant(
    "EfficientNetB3",
    **released(2),
    dropout=0.3,
    features=1536,
    params=12_233_232,
    macs=1_827_141_392,
    top1_error=18.4,
    top5_error=4.3,
)
EfficientNetB4 = efficientnet.variant(
    "EfficientNetB4",
    width=1.4,
    depth=1.8,
    input_size=380,
    dropout=0.4,
    features=1792,
    params=19_341_616,
    macs=4_393_771_024,
    top1_error=17.1,
    top5_error=3.6,
)
EfficientNetB5 = efficientnet.variant(
    "EfficientNetB5",
    width=1.6,
    depth=2.2,
    input_size=456,
    dropout=0.4,
    features=2048,
    params=30_389_784,
    macs=10_266_384_752,
    top1_error=16.4,
    top5_error=3.3,
    **LARGE,
)
EfficientNetB6 = efficientnet.variant(
    "EfficientNetB6",
    width=1.8,
    depth=2.6,
    input_size=528,
    dropout=0.5,
    features=2304,
    params=43_040_704,
    macs=19_067_593_536,
    top1_error=16.0,
    top5_error=3.2,
    **LARGE,
)
EfficientNetB7 = efficientnet.variant(
    "EfficientNetB7",
    width=2.0,
    depth=3.1,
    input_size=600,
    dropout=0.5,
    features=2560,
    params=66_347_960,
    macs=37_745_884_192,
    top1_error=15.7,
    top5_error=3.0,
    **LARGE,
)
