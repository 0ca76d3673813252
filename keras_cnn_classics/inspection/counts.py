"""Parameters, multiply-adds, connections and activations, counted on the Keras graph."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import singledispatch
from typing import Any

from keras import layers

from keras_cnn_classics.layers import (
    EuclideanRBF,
    HighwayGate,
    LocallyConnected2D,
    PartiallyConnectedConv2D,
    SelfAttention2D,
    SoftmaxAttention2D,
    SpatialAttention,
    SqueezeExcite,
    TrainableSubsampling,
    WeightNormalization,
)


@dataclass(frozen=True)
class LayerCount:
    """What one layer costs for one image, in all places of the model where it is used.

    Attributes:
        name: Name of the layer.
        kind: Name of its class.
        output_shape: Shape of its output in the first of them, without the batch.
        params: Trainable parameters.
        state: Parameters that are not trained: moving statistics, fixed centres, frozen layers.
        macs: Multiply-adds of a convolution, a dense or an RBF layer, or of attention; 0 for all
            others.
        connections: Connections in the sense of LeCun et al. 1998: each weighted input of each
            unit, its bias among them.
        activations: Numbers in its output.
    """

    name: str
    kind: str
    output_shape: tuple[int, ...]
    params: int
    state: int
    macs: int
    connections: int
    activations: int


@dataclass(frozen=True)
class ModelCount:
    """What a model costs for one image: its layers, and their sums.

    Attributes:
        layers: The layers in the model's order.
        uncounted: Names of layers that have weights, but whose multiply-adds are not known.
    """

    layers: tuple[LayerCount, ...]
    uncounted: tuple[str, ...]

    @property
    def params(self) -> int:
        """Trainable parameters."""
        return sum(layer.params for layer in self.layers)

    @property
    def state(self) -> int:
        """Parameters that are not trained."""
        return sum(layer.state for layer in self.layers)

    @property
    def macs(self) -> int:
        """Multiply-adds."""
        return sum(layer.macs for layer in self.layers)

    @property
    def connections(self) -> int:
        """Connections."""
        return sum(layer.connections for layer in self.layers)

    @property
    def activations(self) -> int:
        """Numbers in all outputs together, the input's not counted."""
        return sum(layer.activations for layer in self.layers if layer.kind != "InputLayer")


def count(model: Any) -> ModelCount:
    """Counts what a Functional model costs for one image, or one clip.

    Multiply-adds (MACs) are those of convolutions, dense and RBF layers, as papers count them,
    and of the products of attention; one MAC is one multiplication and one addition.
    Normalization, pooling and activations are left out.

    Args:
        model: A Functional model with a fixed input size.

    Returns:
        The counts of every layer.

    Raises:
        ValueError: If the size of the model's images is not fixed.
    """
    if any(None in tensor.shape[1:] for tensor in model.inputs):
        raise ValueError(
            "Counting needs images of a fixed size: build the model with `input_shape=`. "
            f"Received the input shape {model.input_shape}."
        )
    rows, uncounted, uses = [], [], _uses(model)
    for layer in model.layers:
        given = [outputs for _, outputs in sorted(uses[id(layer)].items())]
        costs = [_cost(layer, math.prod(outputs[0].shape[1:])) for outputs in given]
        if None in costs:
            uncounted.append(layer.name)
        known = [cost for cost in costs if cost is not None]
        rows.append(
            LayerCount(
                name=layer.name,
                kind=type(layer).__name__,
                output_shape=tuple(given[0][0].shape[1:]),
                params=_size(layer.trainable_weights),
                state=_size(layer.non_trainable_weights),
                macs=sum(macs for macs, _ in known),
                connections=sum(connections for _, connections in known),
                activations=sum(math.prod(y.shape[1:]) for outputs in given for y in outputs),
            )
        )
    return ModelCount(tuple(rows), tuple(uncounted))


def _uses(model: Any) -> dict[int, dict[int, Any]]:
    """What each layer gives wherever the model uses it, by its identity and then by the use."""
    found: dict[int, dict[int, Any]] = {}
    ahead = list(model.outputs)
    while ahead:
        operation, index, _ = ahead.pop()._keras_history
        node, known = operation._inbound_nodes[index], found.setdefault(id(operation), {})
        if index not in known:
            known[index] = node.output_tensors
            ahead += node.input_tensors
    return found


def _size(weights: Any) -> int:
    return sum(math.prod(w.shape) for w in weights)


@singledispatch
def _cost(layer: Any, cells: int) -> tuple[int, int] | None:
    """MACs and connections of a layer with `cells` output units; `None` if they are not known."""
    free = isinstance(layer, (layers.BatchNormalization, layers.PReLU)) or not layer.weights
    return (0, 0) if free else None


@_cost.register(layers.Conv1D)
@_cost.register(layers.Conv2D)
@_cost.register(layers.Conv3D)
@_cost.register(layers.Dense)
def _(layer: Any, cells: int) -> tuple[int, int]:
    units = layer.kernel.shape[-1]
    macs = cells // units * math.prod(layer.kernel.shape)
    return macs, macs + (cells if layer.use_bias else 0)


@_cost.register(layers.DepthwiseConv2D)
def _(layer: Any, cells: int) -> tuple[int, int]:
    macs = cells * math.prod(layer.kernel.shape[:2])
    return macs, macs + (cells if layer.use_bias else 0)


@_cost.register(layers.SeparableConv2D)
def _(layer: Any, cells: int) -> tuple[int, int]:
    kernels = math.prod(layer.depthwise_kernel.shape) + math.prod(layer.pointwise_kernel.shape)
    macs = cells // layer.filters * kernels
    return macs, macs + (cells if layer.use_bias else 0)


@_cost.register(PartiallyConnectedConv2D)
def _(layer: Any, cells: int) -> tuple[int, int]:
    macs = cells // layer.filters * math.prod(layer.kernel.shape)
    return macs, macs + (cells if layer.use_bias else 0)


@_cost.register(LocallyConnected2D)
def _(layer: Any, cells: int) -> tuple[int, int]:
    macs = math.prod(layer.kernel.shape)
    return macs, macs + (cells if layer.use_bias else 0)


@_cost.register(TrainableSubsampling)
def _(layer: Any, cells: int) -> tuple[int, int]:
    return 0, cells * (math.prod(layer.pool_size) + 1)


@_cost.register(WeightNormalization)
def _(layer: Any, cells: int) -> tuple[int, int] | None:
    return _cost(layer.layer, cells)


@_cost.register(HighwayGate)
def _(layer: Any, cells: int) -> tuple[int, int]:
    return 0, cells


@_cost.register(EuclideanRBF)
def _(layer: Any, cells: int) -> tuple[int, int]:
    macs = math.prod(layer.centers.shape)
    return macs, macs


@_cost.register(SqueezeExcite)
def _(layer: Any, cells: int) -> tuple[int, int]:
    parts = [_cost(part, part.units) for part in (layer.fc1, layer.fc2)]
    return _sum(parts * len(layer.pools))


@_cost.register(SpatialAttention)
def _(layer: Any, cells: int) -> tuple[int, int]:
    return _sum([_cost(layer.conv, _positions(layer.output, layer.data_format))])


@_cost.register(SoftmaxAttention2D)
def _(layer: Any, cells: int) -> tuple[int, int]:
    queries, keys, values = layer.input
    axis = -1 if layer.data_format == "channels_last" else 1
    pairs = math.prod(_positions(x, layer.data_format) for x in (queries, keys))
    products = pairs * (keys.shape[axis] + values.shape[axis])
    return products, products


@_cost.register(SelfAttention2D)
def _(layer: Any, cells: int) -> tuple[int, int]:
    positions = _positions(layer.output, layer.data_format)
    keys = _positions(layer.output, layer.data_format, layer.pool_size)
    convolutions = [layer.f, layer.g, layer.h, *([layer.v] if layer.project else [])]
    products = positions * keys * (layer.f.filters + layer.h.filters)
    costs = [_cost(conv, positions * conv.filters) for conv in convolutions]
    return _sum([*costs, (products, products)])


def _positions(x: Any, layout: str, window: int = 1) -> int:
    """Cells of a map, or of what is left where one of each whole window is kept."""
    height, width = x.shape[1:3] if layout == "channels_last" else x.shape[2:]
    return (height // window) * (width // window)


def _sum(costs: Iterable[Any]) -> tuple[int, int]:
    macs, connections = zip(*costs, strict=True)
    return sum(macs), sum(connections)
