"""Averages of the weights over a training, and batch normalization that fits them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from itertools import islice
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_cnn_classics.training._arguments import check_number
from keras_cnn_classics.training._callback import Callback
from keras_cnn_classics.training._layers import as_array, inputs_of, layers_of, preserved


class WeightAveraging(Callback):
    """Averages the weights that training passes through; the average often does better than any.

    Without `decay` it is Polyak's: the mean of all weights from a certain step on. With `decay` it
    is an exponential moving average, `average = decay * average + (1 - decay) * weights`, whose
    decay is at most `(1 + n) / (10 + n)` at its update number `n`, as TensorFlow 1 had it, so that
    the first weights are soon forgotten. Both begin with the weights at their first update. The
    moving statistics of batch normalization are averaged with the rest, as in Google's code;
    `reestimate_batch_norm` makes better ones for a mean over a long way.

    The model is trained on its own weights. It has the average while it is evaluated in `fit`, if
    asked, and when training has ended; `swap` exchanges the two then. In the list of callbacks it
    stands before `EarlyStopping`, which then keeps the average of the best epoch, and
    `Checkpoints`, which saves averages; Keras's own callbacks save the weights that are trained.

    Each update costs a reading of all weights, outside the compiled step; `every` makes them
    rarer. `use_ema=True` of Keras's optimizers, with `keras.callbacks.SwapEMAWeights`, averages
    inside the step, exponentially, with a decay that stays, and without batch normalization.

    Args:
        decay: Decay of an exponential average. Defaults to `None`: the mean.
        start_epoch: Number of epochs before the first update. Defaults to `0`.
        start_step: Number of steps before the first update. Defaults to `0`.
        every: Steps from one update to the next. Defaults to `1`.
        warm_up: Whether an exponential average's decay rises from 0.1. Defaults to `True`.
        validate: Whether validation in `fit` is that of the average, once there is one. Defaults
            to `True`.
        data: Batches by which `reestimate_batch_norm` makes the statistics of batch normalization
            fit the average when training has ended. By default they are averaged.
        batches: How many of them to take. Defaults to all.

    Raises:
        ValueError: If `decay` is not between 0 and 1, or a number of steps is negative.

    References:
        - [Polyak and Juditsky, 1992](https://doi.org/10.1137/0330046)
        - [Szegedy et al., 2014](https://arxiv.org/abs/1409.4842), section 6
        - [Szegedy et al., 2015](https://arxiv.org/abs/1512.00567), section 8
    """

    def __init__(
        self,
        decay: float | None = None,
        start_epoch: int = 0,
        start_step: int = 0,
        every: int = 1,
        warm_up: bool = True,
        validate: bool = True,
        data: Iterable[Any] | None = None,
        batches: int | None = None,
    ) -> None:
        super().__init__()
        if decay is not None:
            check_number("decay", decay, above=0, below=1)
        check_number("start_epoch", start_epoch, 0, whole=True)
        check_number("start_step", start_step, 0, whole=True)
        check_number("every", every, 1, whole=True)
        self.decay, self.every = decay, every
        self.start_epoch, self.start_step = start_epoch, start_step
        self.warm_up, self.validate = warm_up, validate
        self.data, self.batches = data, batches
        self._reset()

    def _reset(self) -> None:
        self.steps, self.updates = 0, 0
        self._epoch = 0
        self._averages: list[Any] = []
        self._trained: list[Any] | None = None
        self._validating = contextlib.ExitStack()

    def on_train_begin(self, logs: dict[str, float] | None = None) -> None:
        self._reset()

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        self._epoch = epoch

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        self.steps += 1
        late = self.steps - self.start_step - 1
        if self._epoch >= self.start_epoch and late >= 0 and late % self.every == 0:
            self._update()

    def _update(self) -> None:
        n = self.updates
        if self.decay is None:
            keep = n / (n + 1)
        elif n == 0:
            keep = 0.0
        else:
            keep = min(self.decay, (1 + n) / (10 + n)) if self.warm_up else self.decay
        weights = _read(self.model)
        averages = self._averages or weights
        self._averages = [a + (1 - keep) * (w - a) for a, w in zip(averages, weights, strict=True)]
        self.updates += 1

    def swap(self) -> None:
        """Exchanges the average and the weights that were trained; a second call undoes it.

        Raises:
            RuntimeError: If there is no average yet.
        """
        if not self.updates:
            raise RuntimeError("There is no average yet: no step was taken since its start.")
        if self._trained is None:
            self._trained = [ops.copy(w) for w in _read(self.model)]
            values = self._averages
        else:
            values, self._trained = self._trained, None
        for variable, value in zip(self.model.weights, values, strict=True):
            variable.assign(ops.copy(value))  # JAX's steps take the array itself

    def as_trained(self) -> contextlib.AbstractContextManager[None]:
        return _Swapped(self, False)

    def as_used(self) -> contextlib.AbstractContextManager[None]:
        return _Swapped(self, True)

    def on_test_begin(self, logs: dict[str, float] | None = None) -> None:
        if self.validate:
            self._validating.enter_context(self.as_used())

    def on_test_end(self, logs: dict[str, float] | None = None) -> None:
        self._validating.close()

    def on_train_end(self, logs: dict[str, float] | None = None) -> None:
        if self.updates:
            self.swap()
            if self.data is not None:
                reestimate_batch_norm(self.model, self.data, self.batches)

    def get_state(self) -> dict[str, Any]:
        averages = [np.array(as_array(a)) for a in self._averages]
        return {"steps": self.steps, "updates": self.updates, "averages": averages}

    def set_state(self, state: dict[str, Any]) -> None:
        self.steps, self.updates = int(state["steps"]), int(state["updates"])
        self._averages = [ops.convert_to_tensor(a) for a in state["averages"]]


class _Swapped(contextlib.AbstractContextManager[None]):
    """Within it the average is in the model, or what is trained, whatever is in it before.

    It is no generator: that of a validation which failed would be ended, and would swap, whenever
    Python collects it, be it in the middle of another model's step.
    """

    def __init__(self, averaging: WeightAveraging, swapped: bool) -> None:
        self.averaging, self.swapped, self.change = averaging, swapped, False

    def __enter__(self) -> None:
        one = self.averaging
        self.change = one.updates > 0 and (one._trained is not None) != self.swapped
        if self.change:
            one.swap()

    def __exit__(self, *error: object) -> None:
        if self.change:
            self.averaging.swap()


def _read(model: Any) -> list[Any]:
    # Without its gradient: PyTorch would keep the history of every average.
    return [ops.stop_gradient(ops.convert_to_tensor(v)) for v in model.weights]


def reestimate_batch_norm(model: Any, data: Iterable[Any], batches: int | None = None) -> None:
    """Puts the mean and variance over many images into a model's batch normalizations.

    While a network is trained these are moving averages, of weights that have changed since; after
    an average of weights they fit none. Here they are the mean and the variance of all numbers
    that reach each layer in one pass through the data, exactly, whatever the sizes of the batches.
    The pass is in training mode: what reaches a layer was normalized batch by batch by the layers
    before it, and dropout is on. Frozen layers keep theirs.

    Args:
        model: A built model. Nothing else of it changes, nor does the random state.
        data: Batches of images of one size, or of `(images, ...)`: a `tf.data.Dataset`, a list.
        batches: How many of them to take. Defaults to all.

    Raises:
        ValueError: If there are no batches, `data` is an array, or a layer renormalizes batches.

    References:
        - [Izmailov et al., 2018](https://arxiv.org/abs/1803.05407), section 3.2
    """
    if hasattr(data, "shape"):
        raise ValueError(
            "`data` must give batches: pass a list of them, or a data set. Received: an array of "
            f"the shape {tuple(data.shape)}"
        )
    layers = [
        layer
        for layer in layers_of(model)
        if isinstance(layer, keras.layers.BatchNormalization) and layer.trainable
    ]
    for layer in layers:
        if getattr(layer, "renorm", False):
            raise ValueError(
                f"Layer {layer.name!r} renormalizes batches: its averages cannot be estimated "
                "again batch by batch."
            )
    momenta = [layer.momentum for layer in layers]
    count, sums = 0, [np.zeros((2, 1))] * len(layers)  # of the means, and of the mean squares
    with preserved(model):
        try:
            for layer in layers:
                layer.momentum = 0.0  # the moving statistics are then those of the last batch
            for batch in islice(data, batches):
                images = inputs_of(batch)
                model(images, training=True)
                size = len(keras.tree.flatten(images)[0])
                count += size
                for i, layer in enumerate(layers):
                    mean, variance = (
                        np.array(as_array(v), "float64")
                        for v in (layer.moving_mean, layer.moving_variance)
                    )
                    sums[i] = sums[i] + size * np.array([mean, variance + mean**2])
        finally:
            for layer, momentum in zip(layers, momenta, strict=True):
                layer.momentum = momentum
    if not count:
        raise ValueError("`data` gives no batches: pass a list of them, or a data set.")
    for layer, total in zip(layers, sums, strict=True):
        mean, square = total / count
        layer.moving_mean.assign(mean)
        layer.moving_variance.assign(np.maximum(square - mean**2, 0))
