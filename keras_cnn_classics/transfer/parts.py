"""Which layers of a model learn."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Any

import keras

from keras_cnn_classics.training._layers import ROLES, layers_of, matches

_BLOCK = re.compile(r"(.*?\d+[a-z]?)(?=_|$)")


def weighted_layers(model: Any) -> list[Any]:
    """The layers with weights in a model and the models in it, in its order.

    A layer that is made of others is one; a model in the model is one only for weights that none
    of its layers has.
    """
    found: dict[Any, None] = {}
    for layer in model.layers:
        if not isinstance(layer, keras.Model):
            found |= {layer: None} if layer.weights else {}
            continue
        inner = {id(one) for part in layer.layers for one in part.weights}
        if any(id(one) not in inner for one in layer.weights):
            found[layer] = None
        found |= dict.fromkeys(weighted_layers(layer))
    return list(found)


def has_kernel(layer: Any) -> bool:
    """Whether a layer is, or has in it, a convolution, a dense layer or the like."""
    parts = (layer, *layers_of(layer))
    return any(hasattr(part, f"{role}_regularizer") for part in parts for role in ROLES)


def blocks(layers: list[Any]) -> list[list[Any]]:
    """Groups neighbours by the beginning of their names, up to a number: `block5_conv3`, `block5`.

    Neighbours without a number in their names are together. A layer that Keras has named is alone,
    for `conv2d_3` says nothing of a block. A group without a kernel, such as a last batch
    normalization, belongs to the one before it.
    """
    groups: list[tuple[str, list[Any]]] = []
    for layer in layers:
        name = _block_of(layer)
        if groups and groups[-1][0] == name:
            groups[-1][1].append(layer)
        else:
            groups.append((name, [layer]))
    merged: list[list[Any]] = []
    for _, group in groups:
        if merged and not any(map(has_kernel, group)):
            merged[-1].extend(group)
        else:
            merged.append(group)
    return merged


def _block_of(layer: Any) -> str:
    """What the names of a layer's block begin with; the whole name, if Keras has made it."""
    plain = re.sub(r"_\d+$", "", layer.name).replace("_", "")
    before = plain.removesuffix(type(layer).__name__.lower())  # a task's name, for a copy
    if before != plain and not re.search(r"\d", before):
        return layer.name
    found = _BLOCK.match(layer.name)
    return found[1] if found else ""


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
        layer.trainable = id(layer) in chosen
        for part in (layer, *layers_of(layer)):
            if not batch_norm and isinstance(part, keras.layers.BatchNormalization):
                part.trainable = False
