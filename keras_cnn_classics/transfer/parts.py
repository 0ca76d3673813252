"""Which layers of a model learn."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Any

import keras

from keras_cnn_classics.training._layers import ROLES, layers_of, matches

_BLOCK = re.compile(r"(.*?\d+[a-z]?)(?=_|$)")


def weighted_layers(model: Any, without: Collection[Any] = ()) -> list[Any]:
    """The layers with weights of their own in a model and the models in it, in its order."""
    inner = layers_of(model)
    return [x for x in inner if x.weights and not layers_of(x) and x not in without]


def has_kernel(layer: Any) -> bool:
    """Whether a layer is a convolution, a dense layer or the like."""
    return any(hasattr(layer, f"{role}_regularizer") for role in ROLES)


def blocks(layers: list[Any]) -> list[list[Any]]:
    """Groups layers by the beginning of their names, up to a number: `block5_conv3`, `block5`.

    Layers without a number in their names are with those before them of the same kind. A group
    without a kernel, such as a last batch normalization, belongs to the one before it.
    """
    groups: dict[str, list[Any]] = {}
    loose = 0
    for layer in layers:
        found = _BLOCK.match(layer.name)
        if found is None:
            name = f"without a number, {loose}"
        else:
            name, loose = found[1], loose + 1
        groups.setdefault(name, []).append(layer)
    merged: list[list[Any]] = []
    for group in groups.values():
        if merged and not any(map(has_kernel, group)):
            merged[-1].extend(group)
        else:
            merged.append(group)
    return merged


def part_from(layers: list[Any], start: str | int) -> list[Any]:
    """The layers that learn when learning starts at a place.

    Args:
        layers: All layers with weights, in the order of the model.
        start: `"all"`; `"last_block"`; a number for the last layers with kernels; or the name of a
            layer, in which `*` stands for anything, for it and all after it.

    Raises:
        ValueError: For anything else.
    """
    if start == "all":
        return layers
    if start == "last_block":
        return blocks(layers)[-1] if layers else []
    kernels = [i for i, layer in enumerate(layers) if has_kernel(layer)]
    if isinstance(start, int) and not isinstance(start, bool):
        if not 0 < start <= len(kernels):
            raise ValueError(
                f"`train_from` must be a number of layers from 1 to {len(kernels)}, which the "
                f"model has with kernels before its head. Received: {start}"
            )
        return layers[kernels[-start] :]
    if isinstance(start, str):
        for i, layer in enumerate(layers):
            if matches(layer, start):
                return layers[i:]
    raise ValueError(
        "`train_from` must be 'all', 'last_block', a number of layers, or the name of one of: "
        f"{', '.join(layer.name for layer in layers)}. Received: {start!r}"
    )


def train_all(model: Any) -> None:
    """Lets all layers of a model learn."""
    for layer in (model, *layers_of(model)):  # TensorFlow passes over what is `True` already
        layer.trainable = True


def train_only(model: Any, layers: Collection[Any], *, batch_norm: bool) -> None:
    """Lets these layers of a model learn, and no other.

    Args:
        model: A model.
        layers: Layers with weights of their own.
        batch_norm: Whether batch normalization among them learns; else it uses what it has.
    """
    train_all(model)  # also the models in it, which would freeze what is in them
    chosen = {id(layer) for layer in layers}
    for layer in weighted_layers(model):
        frozen = not batch_norm and isinstance(layer, keras.layers.BatchNormalization)
        layer.trainable = id(layer) in chosen and not frozen
