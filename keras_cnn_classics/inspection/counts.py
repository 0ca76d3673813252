"""Parameters, multiply-adds, connections and activations, counted on the Keras graph."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import singledispatch
from typing import Any

from keras import layers

from keras_cnn_classics.layers import (
    EuclideanRBF,
    LocallyConnected2D,
    PartiallyConnectedConv2D,
    TrainableSubsampling,
)


@dataclass(frozen=True)
class LayerCount:
    """What one layer costs for one image.

    Attributes:
        name: Name of the layer.
        kind: Name of its class.
        output_shape: Shape of its output, without the batch.
        params: Trainable parameters.
        state: Parameters that are not trained: moving statistics, fixed centres, frozen layers.
        macs: Multiply-adds of a convolution, a dense or an RBF layer; 0 for all others.
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

    Multiply-adds (MACs) are those of convolutions, dense and RBF layers, as papers count them;
    one MAC is one multiplication and one addition. Normalization, pooling and activations are
    left out.

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
    rows, uncounted = [], []
    for layer in model.layers:
        outputs = layer.output if isinstance(layer.output, list) else [layer.output]
        shape = tuple(outputs[0].shape[1:])
        cells = math.prod(shape)
        cost = _cost(layer, cells)
        if cost is None:
            cost = (0, 0)
            uncounted.append(layer.name)
        rows.append(
            LayerCount(
                name=layer.name,
                kind=type(layer).__name__,
                output_shape=shape,
                params=_size(layer.trainable_weights),
                state=_size(layer.non_trainable_weights),
                macs=cost[0],
                connections=cost[1],
                activations=sum(math.prod(y.shape[1:]) for y in outputs),
            )
        )
    return ModelCount(tuple(rows), tuple(uncounted))


def _size(weights: Any) -> int:
    return sum(math.prod(w.shape) for w in weights)


@singledispatch
def _cost(layer: Any, cells: int) -> tuple[int, int] | None:
    """MACs and connections of a layer with `cells` output units; `None` if they are not known."""
    free = isinstance(layer, layers.BatchNormalization) or not layer.weights
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


@_cost.register(EuclideanRBF)
def _(layer: Any, cells: int) -> tuple[int, int]:
    macs = math.prod(layer.centers.shape)
    return macs, macs
