"""From PyTorch's layout of tensors to Keras's."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import keras
import numpy as np

# From the options of a variant to each layer's names in the checkpoints of PyTorch packages, in
# the order of the network. A layer has several names where packages differ.
TorchNames = Callable[..., Mapping[str, Sequence[str]]]

_BATCH_NORM = ("weight", "bias", "running_mean", "running_var")


def convert(
    tensors: Mapping[str, np.ndarray], names: Mapping[str, Sequence[str]], layers: Iterable[Any]
) -> dict[str, list[np.ndarray]]:
    """Converts a state dict.

    Args:
        tensors: The checkpoint's tensors.
        names: Names in the checkpoint for each layer.
        layers: The layers of the model, in its order.

    Returns:
        Arrays in the order of the layer's weights, by layer. Layers of the checkpoint that the
        model lacks, a classifier, are there with unconverted arrays.

    Raises:
        ValueError: If the checkpoint has tensors that `names` does not account for.
    """
    flattened: tuple[int, ...] | None = None
    kinds: dict[str, tuple[Any, tuple[int, ...] | None]] = {}
    for layer in layers:
        kinds[layer.name] = (layer, flattened)
        if isinstance(layer, keras.layers.Flatten):
            flattened = tuple(layer.input.shape[1:])
        elif isinstance(layer, keras.layers.Dense):
            flattened = None

    converted = {}
    rest = {key for key in tensors if not key.endswith("num_batches_tracked")}
    for name, candidates in names.items():
        prefix = next((p for p in candidates if f"{p}.weight" in tensors), None)
        if prefix is None:
            continue
        parts = [f"{prefix}.{part}" for part in _BATCH_NORM if f"{prefix}.{part}" in tensors]
        rest.difference_update(parts)
        arrays = [tensors[part] for part in parts]
        layer, shape = kinds.get(name, (None, None))
        if layer is not None and not isinstance(layer, keras.layers.BatchNormalization):
            arrays[0] = _kernel(arrays[0], layer, shape)
        converted[name] = arrays
    if rest:
        raise ValueError(f"it has tensors that belong to no layer: {', '.join(sorted(rest)[:8])}")
    return converted


def _kernel(kernel: np.ndarray, layer: Any, flattened: tuple[int, ...] | None) -> np.ndarray:
    """Output channels go last; the inputs of a dense layer after a flatten are reordered.

    PyTorch flattens channels first. Keras's `Flatten` puts them last in both data formats.
    """
    if kernel.ndim == 4:
        kernel = kernel.transpose(2, 3, 1, 0)
        dense = isinstance(layer, keras.layers.Dense)
        return kernel.reshape(-1, kernel.shape[-1]) if dense else kernel
    if flattened is not None:
        last = keras.config.image_data_format() == "channels_last"
        height, width, channels = flattened if last else (*flattened[1:], flattened[0])
        if kernel.shape[1] == height * width * channels:
            kernel = kernel.reshape(-1, channels, height, width).transpose(2, 3, 1, 0)
            return kernel.reshape(-1, kernel.shape[-1])
    return kernel.T
