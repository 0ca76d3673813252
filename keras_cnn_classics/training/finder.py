"""The learning rate range test: a short training at rising rates, which leaves no trace."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from keras_cnn_classics.training._layers import arrays, preserved


@dataclass(frozen=True)
class LearningRates:
    """What a range test measured.

    Attributes:
        rates: The learning rates that were tried, rising.
        losses: The loss at each of them, smoothed over those before.
        valley: Rate in the middle of the longest way down.
        steepest: Rate at which the loss fell the fastest.
        minimum: A tenth of the rate at which the loss was least.
    """

    rates: np.ndarray
    losses: np.ndarray
    valley: float
    steepest: float
    minimum: float

    @property
    def suggestion(self) -> float:
        """The rate to train at: that of the valley."""
        return self.valley

    def plot(self, path: str | os.PathLike[str] | None = None) -> Any:
        """Draws the loss over the learning rate, with the suggestions.

        Args:
            path: Where to save the picture. Defaults to nowhere.

        Returns:
            A `matplotlib.figure.Figure`.
        """
        from matplotlib.figure import Figure

        figure = Figure(layout="constrained")
        axes = figure.add_subplot(xscale="log", xlabel="learning rate", ylabel="smoothed loss")
        axes.plot(self.rates, self.losses)
        for name in ("valley", "steepest", "minimum"):
            rate = getattr(self, name)
            loss = np.interp(rate, self.rates, self.losses)
            axes.plot(rate, loss, "o", label=f"{name} {rate:.2g}")
        axes.legend()
        if path is not None:
            figure.savefig(path)
        return figure


def find_learning_rate(
    model: Any,
    data: Iterable[Any],
    *,
    start: float = 1e-7,
    end: float = 10.0,
    steps: int = 100,
    smoothing: float = 0.98,
    stop: float = 4.0,
) -> LearningRates:
    """Tries rising learning rates on a few batches, and suggests one.

    The rate rises exponentially from step to step until the smoothed loss is `stop` times its
    least. The suggestions are fastai's; the first tenth of the steps and the last five do not
    count for them. What steps are taken with is a new copy of the model's optimizer, of which a
    schedule is set aside. In the end, whatever happens, the model has its weights, its optimizer
    and its random state again, and so have Keras, NumPy's old generator and Python.

    Args:
        model: A compiled model.
        data: Batches `(inputs, targets)`, or with sample weights as well: a `tf.data.Dataset`, a
            list. It is begun again when it ends.
        start: The first rate.
        end: The last rate.
        steps: Number of rates.
        smoothing: Weight of the past in the smoothed loss, from 0 to below 1.
        stop: At which multiple of the least smoothed loss to stop.

    Returns:
        The rates, the losses, the suggestions, and their plot.

    Raises:
        ValueError: If the model is not compiled, its optimizer has groups, an argument is out of
            range, the data gives no batches of that form, or the loss is not finite at the start.

    References:
        - [Smith, 2015](https://arxiv.org/abs/1506.01186), section 3.3
    """
    if not getattr(model, "compiled", False):
        raise ValueError(f"Compile the model {model.name!r} with its optimizer and loss first.")
    if not 0 < start < end or steps < 20 or not 0 <= smoothing < 1 or stop <= 1:
        raise ValueError(
            "It must be that 0 < `start` < `end`, `steps` >= 20, 0 <= `smoothing` < 1 and "
            f"`stop` > 1. Received: {start=}, {end=}, {steps=}, {smoothing=}, {stop=}"
        )
    kept = {name: getattr(model, name) for name in ("optimizer", "train_function")}
    rates, losses = [], []
    average, least = 0.0, math.inf
    batches = _endless(data)
    with preserved(model):
        try:
            model.optimizer, inner = _copy(model.optimizer, start)
            model.train_function = None  # the one that is there uses the other optimizer
            for i, rate in enumerate(np.geomspace(start, end, steps).tolist()):
                inner.learning_rate = rate
                batch = arrays(next(batches))
                model.reset_metrics()
                loss = float(model.train_on_batch(*batch, return_dict=True)["loss"])
                average = smoothing * average + (1 - smoothing) * loss
                smooth = average / (1 - smoothing ** (i + 1))
                if not math.isfinite(smooth) or smooth > stop * least:
                    break
                least = min(least, smooth)
                rates.append(rate)
                losses.append(smooth)
        finally:
            for name, value in kept.items():
                setattr(model, name, value)
    model.reset_metrics()
    counted = slice(steps // 10, len(rates) - 5)
    if len(rates[counted]) < 2:
        raise ValueError(
            f"The loss left all bounds after {len(rates)} steps, at a rate of "
            f"{rates[-1] if rates else start:.3g}: lower `start`. Received: {start=}"
        )
    return _suggest(np.array(rates), np.array(losses), counted)


def _suggest(rates: np.ndarray, losses: np.ndarray, counted: slice) -> LearningRates:
    x, y = rates[counted], losses[counted]
    # The longest chain of falling losses that ends at each place, whatever lies between.
    chains: list[int] = []
    for i in range(len(y)):
        chains.append(1 + max((chains[j] for j in range(i) if y[j] > y[i]), default=0))
    longest = max(chains)
    # fastai takes the chain for as many steps in a row, and adds a third of it and half of that.
    place = chains.index(longest) - longest + int(longest / 3) + int(longest / 6)
    slopes = np.diff(y) / np.diff(np.log(x))
    return LearningRates(
        rates,
        losses,
        valley=float(x[max(place, 0)]),
        steepest=float(x[slopes.argmin()]),
        minimum=float(x[y.argmin()] / 10),
    )


def _copy(optimizer: Any, rate: float) -> tuple[Any, Any]:
    """A copy with a number for its learning rate, and the part of it that has that."""
    if hasattr(optimizer, "optimizers"):
        raise ValueError(
            "A model whose layers have different learning rates has no one rate to find: compile "
            f"it with a plain optimizer. Received: {type(optimizer).__name__}"
        )
    if hasattr(optimizer, "inner_optimizer"):
        inner, _ = _copy(optimizer.inner_optimizer, rate)
        settings = {**optimizer.get_config(), "inner_optimizer": inner}
        return type(optimizer)(**settings), inner
    copy = type(optimizer).from_config({**optimizer.get_config(), "learning_rate": rate})
    return copy, copy


def _endless(data: Iterable[Any]) -> Iterator[Any]:
    while True:
        empty = True
        for batch in data:
            if not isinstance(batch, (tuple, list)) or len(batch) not in (2, 3):
                raise ValueError(
                    "`data` must give batches (inputs, targets), or (inputs, targets, weights). "
                    f"Received: {type(batch).__name__}"
                )
            empty = False
            yield batch
        if empty:
            raise ValueError("`data` gives no batches, or no more: pass a list or a data set.")
