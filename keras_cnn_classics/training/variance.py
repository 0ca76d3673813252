"""The variance of activations and gradients along the depth of a network."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_cnn_classics.training._layers import as_array, kernels, outputs_through, preserved


@dataclass(frozen=True)
class Variances:
    """Variances along the depth of a network.

    Attributes:
        layers: Names of the layers with kernels, in the order in which the network computes them.
        forward: Variance of what each layer gives, before its activation.
        backward: Variance of the loss's gradient with respect to that.
    """

    layers: tuple[str, ...]
    forward: np.ndarray
    backward: np.ndarray

    def plot(self, path: str | os.PathLike[str] | None = None) -> Any:
        """Draws both over the depth, on logarithmic scales.

        Args:
            path: Where to save the picture. Defaults to nowhere.

        Returns:
            A `matplotlib.figure.Figure`.
        """
        from matplotlib.figure import Figure

        figure = Figure(figsize=(max(6.0, 0.25 * len(self.layers)), 6), layout="constrained")
        for place, name in enumerate(("forward", "backward"), 1):
            axes = figure.add_subplot(2, 1, place, ylabel=f"{name} variance")
            axes.plot(getattr(self, name), "o-")
            if (getattr(self, name) > 0).any():
                axes.set_yscale("log")
            names = self.layers if place == 2 else [""] * len(self.layers)
            axes.set_xticks(range(len(self.layers)), names, rotation=90)
        if path is not None:
            figure.savefig(path)
        return figure


class _Probed(keras.Model):
    """A model in which a zero that is trained is added to what each of some layers gives.

    One step of plain gradient descent at the rate 1 makes each zero minus its gradient: that is
    the same on every backend.
    """

    def __init__(self, model: Any, shapes: dict[Any, tuple[int, ...]]) -> None:
        super().__init__(name="probed")
        self.probed = model
        self.probes = [
            self.add_weight(shape=shape, initializer="zeros", dtype="float32")
            for shape in shapes.values()
        ]
        self._of = {id(layer): probe for layer, probe in zip(shapes, self.probes, strict=True)}

    def build(self, input_shape: Any) -> None:
        """Everything is built."""

    def call(self, inputs: Any) -> Any:
        left = dict(self._of)

        def add(layer: Any, compute: Any) -> Any:
            outputs = compute()
            probe = left.pop(id(layer), None)  # a layer that is used again is probed once
            return outputs if probe is None else outputs + ops.cast(probe, outputs.dtype)

        layers = [k.layer for k in kernels(self.probed)]
        with outputs_through(list(dict.fromkeys(layers)), add):
            return self.probed(inputs, training=True)


def variance_by_depth(
    model: Any, batch: Any, labels: Any = None, loss: Any = None, *, seed: int = 0
) -> Variances:
    """Measures how far a signal goes forward through a network, and its gradient back.

    Both are taken before the activation of each layer with kernels, of which they are the `y` and
    its gradient in the derivation of `initialization.he`, in training mode. A good start keeps
    them about the same from layer to layer; where they fall by a factor at each layer, a deep
    network does not learn. The model, its optimizer and all random state stay as they are.

    Args:
        model: A built model, compiled or not.
        batch: Inputs of the model.
        labels: Targets for the loss.
        loss: A Keras loss or its name, for `labels`; the gradient is that of the mean over the
            batch. Without labels the gradient at the output is drawn from a standard normal: how it
            changes on its way hardly depends on where it came from.
        seed: Seed of that gradient.

    Returns:
        The variances, with a plot.

    Raises:
        ValueError: If only one of `labels` and `loss` is given.

    References:
        - [Glorot and Bengio, 2010](https://proceedings.mlr.press/v9/glorot10a.html), figures 6, 7
        - [He et al., 2015](https://arxiv.org/abs/1502.01852), section 2.2
    """
    if (labels is None) != (loss is None):
        raise ValueError("`labels` and `loss` go together: give both, or neither.")
    found: dict[Any, np.ndarray] = {}

    def keep(layer: Any, compute: Any) -> Any:
        outputs = compute()
        found.setdefault(layer, np.array(as_array(outputs)))
        return outputs

    layers = list(dict.fromkeys(k.layer for k in kernels(model)))
    with preserved(model):
        with outputs_through(layers, keep):
            outputs = model(batch, training=True)
        probed = _Probed(model, {layer: y.shape for layer, y in found.items()})
        if labels is None:
            rng = np.random.default_rng(seed)
            labels = keras.tree.map_structure(
                lambda y: rng.normal(size=y.shape).astype("float32"), outputs
            )
            loss = keras.tree.map_structure(lambda y: _along, outputs)
        probed.compile(keras.optimizers.SGD(1.0), loss, jit_compile=False)
        probed.train_on_batch(batch, labels)
        backward = [np.var(as_array(p), dtype="float64") for p in probed.probes]
    forward = [np.var(y, dtype="float64") for y in found.values()]
    return Variances(tuple(layer.name for layer in found), np.array(forward), np.array(backward))


def _along(direction: Any, outputs: Any) -> Any:
    """A loss whose gradient at the output is the direction."""
    return ops.sum(direction * ops.cast(outputs, direction.dtype))
