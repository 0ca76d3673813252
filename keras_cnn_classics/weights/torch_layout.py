"""From PyTorch's layout of tensors to Keras's."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import keras
import numpy as np

from keras_cnn_classics.weights.errors import MismatchError

# A module of a checkpoint, or two that make one layer: a depthwise convolution and a 1x1, the
# dense layers of CBAM's attention to channels, the convolution of that to positions and its norm.
TorchName = str | tuple[str, str]

# From the options of a variant to each layer's names in the checkpoints of PyTorch packages, in
# the order of the network. A layer has several names where packages differ.
TorchNames = Callable[..., Mapping[str, Sequence[TorchName]]]

_BATCH_NORM = ("weight", "bias", "running_mean", "running_var")


def convert(
    tensors: Mapping[str, np.ndarray],
    names: Mapping[str, Sequence[TorchName]],
    layers: Iterable[Any],
) -> tuple[dict[str, list[np.ndarray]], list[str]]:
    """Converts a state dict.

    Args:
        tensors: The checkpoint's tensors.
        names: Names in the checkpoint for each layer.
        layers: The layers of the model, in its order.

    Returns:
        Arrays in the order of the layer's weights, by layer, and the names of the tensors that
        `names` does not account for. Layers of the checkpoint that the model lacks, a classifier,
        are there with unconverted arrays.

    Raises:
        MismatchError: If the checkpoint has scales of batch normalizations that the model does not
            have.
    """
    # What was a feature map until a `Flatten`, by the identity of the tensor.
    flattened: dict[int, tuple[int, ...]] = {}
    kinds: dict[str, tuple[Any, tuple[int, ...] | None]] = {}
    for layer in layers:
        before = flattened.get(id(layer.input))
        kinds[layer.name] = (layer, before)
        if isinstance(layer, keras.layers.Flatten):
            flattened[id(layer.output)] = tuple(layer.input.shape[1:])
        elif before and not isinstance(layer, keras.layers.Dense):
            flattened[id(layer.output)] = before

    converted = {}
    rest = {key for key in tensors if not key.endswith("num_batches_tracked")}
    for name, candidates in names.items():
        options = [(p,) if isinstance(p, str) else p for p in candidates]
        modules = next((p for p in options if f"{p[0]}.weight" in tensors), ())
        parts = [f"{module}.{part}" for module in modules for part in _BATCH_NORM]
        parts = [part for part in parts if part in tensors]
        if not parts:
            continue
        rest.difference_update(parts)
        arrays = [tensors[part] for part in parts]
        layer, shape = kinds.get(name, (None, None))
        if layer is not None:
            arrays = _arrays(arrays, layer, shape)
        converted[name] = arrays
    return converted, sorted(rest)


def _arrays(
    arrays: list[np.ndarray], layer: Any, flattened: tuple[int, ...] | None
) -> list[np.ndarray]:
    """One layer's tensors in Keras's layout."""
    first, *others = arrays
    if isinstance(layer, keras.layers.BatchNormalization):
        if layer.scale:
            return arrays
        if not np.all(first == 1):
            raise MismatchError(
                f"it has scales of batch normalizations, which `{layer.name}` of this model lacks; "
                "build the model with scale=True"
            )
        return others
    if isinstance(layer, keras.layers.DepthwiseConv2D):
        return [_depthwise(first, layer), *others]
    if isinstance(layer, keras.layers.SeparableConv2D):
        return [_depthwise(first, layer), others[0].transpose(2, 3, 1, 0), *others[1:]]
    return [_kernel(one, layer, flattened) if one.ndim > 1 else one for one in arrays]


def _depthwise(kernel: np.ndarray, layer: Any) -> np.ndarray:
    """From (maps, 1, height, width) to (height, width, channels, maps of each channel)."""
    height, width = kernel.shape[2:]
    kernel = kernel.reshape(-1, layer.depth_multiplier, height, width)
    return kernel.transpose(2, 3, 0, 1)


def _kernel(kernel: np.ndarray, layer: Any, flattened: tuple[int, ...] | None) -> np.ndarray:
    """Output channels go last; the inputs of a dense layer after a flatten are reordered.

    PyTorch flattens channels first. Keras's `Flatten` puts them last in both data formats.
    """
    if kernel.ndim > 2:
        kernel = np.moveaxis(kernel, (1, 0), (-2, -1))
        dense = isinstance(layer, keras.layers.Dense)
        return kernel.reshape(-1, kernel.shape[-1]) if dense else kernel
    if flattened is not None:
        last = keras.config.image_data_format() == "channels_last"
        *area, channels = flattened if last else (*flattened[1:], flattened[0])
        if kernel.shape[1] == math.prod(flattened):
            kernel = kernel.reshape(-1, channels, *area)
            kernel = np.moveaxis(kernel, (1, 0), (-2, -1))
            return kernel.reshape(-1, kernel.shape[-1])
    # A dense layer there may be a 1x1 convolution here.
    ones = (1, 1) if isinstance(layer, keras.layers.Conv2D) else ()
    return kernel.T.reshape(*ones, *kernel.T.shape)
