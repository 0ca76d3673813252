"""What old versions of Keras called or stored otherwise: its published files still have it so."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from keras_cnn_classics.weights._files import Arrays

NAMES = {
    "probs": "predictions",  # ResNet, ResNeXt
    "fc1000": "predictions",  # DenseNet
    "conv1/conv": "conv1_conv",
    "conv1/bn": "conv1_bn",
    "Logits": "predictions",  # MobileNetV2
}


def with_grouped_kernels(arrays: Arrays, layers: Iterable[Any]) -> Arrays:
    """The arrays with kernels of grouped convolutions where ResNeXt had depthwise ones.

    A depthwise convolution made of each map as many as a group has. A sum added them up within the
    group, or a convolution with a fixed kernel, which is left out.

    Args:
        arrays: Arrays in the order of the layer's weights, by our names of the layers.
        layers: The layers of the model.

    Returns:
        All arrays, by the same names.
    """
    found = dict(arrays)
    for layer in layers:
        groups = getattr(layer, "groups", 1)
        if groups == 1 or layer.name not in found:
            continue
        kernel, *others = found[layer.name]
        width = layer.filters // groups
        if kernel.shape[2:] != (layer.filters, width):
            continue
        kernel = np.asarray(kernel)
        # From (..., group, map in the group, filter) to (..., map in the group, group, filter).
        area = kernel.shape[:2]
        kernel = kernel.reshape(*area, groups, width, width).swapaxes(2, 3)
        found[layer.name] = [kernel.reshape(*area, width, layer.filters), *others]
        found.pop(f"{layer.name.removesuffix('conv')}gconv", None)
    return found
