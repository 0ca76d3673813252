"""Attention that is made of layers: CBAM, and the non-local block."""

from __future__ import annotations

from typing import Any

from keras import layers

from keras_cnn_classics.blocks.core import channel_axis, conv, max_pool, norm
from keras_cnn_classics.layers import ChannelAttention, SoftmaxAttention2D, SpatialAttention


def cbam(x: Any, ratio: int, *, name: str) -> Any:
    """The convolutional block attention module: what is of interest, then where it is.

    Args:
        x: Feature map.
        ratio: How many times fewer units than channels lie between the two dense layers.
        name: Prefix of the layers' names, `{name}_channels` and `{name}_positions`.

    Returns:
        A feature map of the same shape.

    References:
        - [CBAM: Convolutional block attention module](https://arxiv.org/abs/1807.06521), section 3
    """
    x = ChannelAttention(ratio, name=f"{name}_channels")(x)
    return SpatialAttention(name=f"{name}_positions")(x)


def non_local(
    x: Any, *, name: str, reduction: int = 2, subsample: int = 1, scaled: bool = False
) -> Any:
    """The non-local block, embedded Gaussian: adds to each position what it finds at all others.

    The scale of the last batch normalization starts at zero, so that the block starts as the
    identity and can be put into a trained network. The authors' code pools the map before it
    makes `phi` and `g` of it, and divides the inner products, `scaled=True`; here, as in the paper,
    the pools come behind and nothing is divided.

    Args:
        x: Feature map.
        name: Prefix of the layers' names.
        reduction: How many times fewer channels than `x` the three projections have.
        subsample: Side of the windows in which the largest of `phi` and of `g` is kept: the paper's
            trick to have fewer positions to look at, 2. With 1 all are kept.
        scaled: Whether inner products are divided by the root of the number of their terms.

    Returns:
        A feature map of the same shape.

    References:
        - [Non-local neural networks](https://arxiv.org/abs/1711.07971), section 3.3 and figure 2
    """
    channels = x.shape[channel_axis()]
    theta, phi, g = (
        conv(x, channels // reduction, 1, activation=None, name=f"{name}_{part}")
        for part in ("theta", "phi", "g")
    )
    if subsample > 1:
        phi = max_pool(phi, subsample, subsample, name=f"{name}_phi_pool")
        g = max_pool(g, subsample, subsample, name=f"{name}_g_pool")
    y = SoftmaxAttention2D(scaled, name=f"{name}_attention")([theta, phi, g])
    y = conv(y, channels, 1, activation=None, name=f"{name}_out")
    y = norm(y, momentum=0.9, epsilon=1e-5, gamma_initializer="zeros", name=f"{name}_bn")
    return layers.Add(name=f"{name}_add")([x, y])
