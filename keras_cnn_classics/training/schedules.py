"""Schedules of the papers that Keras lacks, or has a step late.

Keras's own do for the others: `keras.optimizers.schedules.CosineDecay`, `PolynomialDecay`, and
`ExponentialDecay` for one that falls at every step.

All of them take the number of steps that were taken before; `to_steps` makes steps of epochs. Made
for epochs and called with the number of an epoch, they are schedules of any other number as well.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import keras
from keras import ops
from keras.optimizers.schedules import LearningRateSchedule

from keras_cnn_classics.training._arguments import check_number


def to_steps(epochs: float, steps_per_epoch: int) -> int:
    """The number of steps in so many epochs, which need not be whole.

    Raises:
        ValueError: If one of them is negative, or there are no steps in an epoch.
    """
    check_number("epochs", epochs, 0)
    check_number("steps_per_epoch", steps_per_epoch, 1, whole=True)
    return round(epochs * steps_per_epoch)


def _number(value: Any) -> Any:
    return ops.cast(value, "float32")


@keras.saving.register_keras_serializable(package="keras_cnn_classics")
class StepDecay(LearningRateSchedule):
    """Divides the learning rate by a factor at given steps.

    Step number `boundaries[0]` is the first that takes the lower rate. With Keras's
    `PiecewiseConstantDecay` it is the one after it.

    Args:
        initial_learning_rate: Rate up to the first boundary.
        boundaries: Numbers of steps, rising, after which the rate is divided.
        factor: What it is divided by. Defaults to `10`.

    Raises:
        ValueError: If the boundaries do not rise, or the factor is not positive.

    References:
        - [He et al., 2015](https://arxiv.org/abs/1512.03385), section 4.2: boundaries 32,000 and
          48,000
    """

    def __init__(
        self, initial_learning_rate: float, boundaries: Sequence[int], factor: float = 10.0
    ) -> None:
        super().__init__()
        check_number("initial_learning_rate", initial_learning_rate, 0)
        check_number("factor", factor, above=0)
        self.initial_learning_rate, self.factor = initial_learning_rate, factor
        self.boundaries = list(boundaries) if isinstance(boundaries, Iterable) else []
        for i, boundary in enumerate(self.boundaries):
            check_number(f"boundaries[{i}]", boundary, 0)
        if not self.boundaries or self.boundaries != sorted(set(self.boundaries)):
            raise ValueError(f"`boundaries` must be numbers that rise. Received: {boundaries!r}")

    def __call__(self, step: Any) -> Any:
        passed = ops.sum(_number(_number(step) >= _number(self.boundaries)))
        return self.initial_learning_rate * ops.power(_number(1 / self.factor), passed)

    def get_config(self) -> dict[str, Any]:
        return {
            "initial_learning_rate": self.initial_learning_rate,
            "boundaries": self.boundaries,
            "factor": self.factor,
        }


@keras.saving.register_keras_serializable(package="keras_cnn_classics")
class StaircaseDecay(LearningRateSchedule):
    """Multiplies the learning rate by a factor each time that a number of steps has passed.

    GoogLeNet's "4 % every 8 epochs" is a factor of 0.96, Inception v3 has 0.94 every 2 epochs,
    EfficientNet 0.97 every 2.4.

    Keras's `ExponentialDecay(staircase=True)` may be a step late in compiled code: XLA multiplies
    by the reciprocal instead of dividing, and 41 * (1 / 41) is less than 1. Here half a step is
    added, so that the rate falls at the step nearest to each multiple of `decay_steps`.

    Args:
        initial_learning_rate: Rate of the first steps.
        decay_steps: Steps between two falls; it need not be whole.
        decay_rate: Factor at each fall.

    Raises:
        ValueError: If `decay_steps` is less than 1, or `decay_rate` is not positive.

    References:
        - [Szegedy et al., 2014](https://arxiv.org/abs/1409.4842), section 6
        - [Szegedy et al., 2015](https://arxiv.org/abs/1512.00567), section 8
        - [Tan and Le, 2019](https://arxiv.org/abs/1905.11946), section 5.2
    """

    def __init__(self, initial_learning_rate: float, decay_steps: float, decay_rate: float) -> None:
        super().__init__()
        check_number("initial_learning_rate", initial_learning_rate, 0)
        check_number("decay_steps", decay_steps, 1)
        check_number("decay_rate", decay_rate, above=0)
        self.initial_learning_rate = initial_learning_rate
        self.decay_steps, self.decay_rate = decay_steps, decay_rate

    def __call__(self, step: Any) -> Any:
        falls = ops.floor((_number(step) + 0.5) / self.decay_steps)
        return self.initial_learning_rate * ops.power(_number(self.decay_rate), falls)

    def get_config(self) -> dict[str, Any]:
        return {
            "initial_learning_rate": self.initial_learning_rate,
            "decay_steps": self.decay_steps,
            "decay_rate": self.decay_rate,
        }


@keras.saving.register_keras_serializable(package="keras_cnn_classics")
class WarmUp(LearningRateSchedule):
    """Raises the learning rate along a line over the first steps, whatever schedule follows.

    The schedule counts from the first step of the training, as the papers do: warming up takes no
    time from it, it is multiplied by a factor that rises from `start` to 1.

    Args:
        schedule: A schedule, or a number for a rate that stays.
        warmup_steps: Steps until the factor is 1.
        start: The factor at the first step. Defaults to `0`.

    Raises:
        ValueError: If there are no steps, or `start` is not at least 0 and below 1.

    References:
        - [Goyal et al., 2017](https://arxiv.org/abs/1706.02677), section 2.2
    """

    def __init__(self, schedule: Any, warmup_steps: float, start: float = 0.0) -> None:
        super().__init__()
        if not callable(schedule):
            check_number("schedule", schedule, 0)
        check_number("warmup_steps", warmup_steps, above=0)
        check_number("start", start, 0, below=1)
        self.schedule, self.warmup_steps, self.start = schedule, warmup_steps, start

    def __call__(self, step: Any) -> Any:
        factor = self.start + (1 - self.start) * _number(step) / self.warmup_steps
        rate = self.schedule(step) if callable(self.schedule) else self.schedule
        return rate * ops.minimum(factor, 1.0)

    def get_config(self) -> dict[str, Any]:
        return {
            "schedule": _serialize(self.schedule),
            "warmup_steps": self.warmup_steps,
            "start": self.start,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> WarmUp:
        return cls(**{**config, "schedule": _deserialize(config["schedule"])})


@keras.saving.register_keras_serializable(package="keras_cnn_classics")
class OneCycle(LearningRateSchedule):
    """One rise and one fall of the learning rate, both along half a cosine.

    Smith's policy in fastai's form: from `peak / div` to `peak` in the first part of the steps,
    and down to `peak / div_final` at the last. The momentum goes the other way about in
    `MomentumScheduleSGD`: `OneCycle(0.85, steps, div=0.85 / 0.95, div_final=0.85 / 0.95)` falls
    from 0.95 to 0.85 and rises again.

    Args:
        peak: The greatest learning rate.
        steps: Steps of the whole training.
        pct_start: Share of the steps that the rise takes. Defaults to `0.25`.
        div: What the peak is divided by at the start. Defaults to `25`.
        div_final: What it is divided by at the end. Defaults to `1e5`.

    Raises:
        ValueError: If a number is not positive, or `pct_start` not below 1.

    References:
        - [Smith, 2018](https://arxiv.org/abs/1803.09820), section 4
    """

    def __init__(
        self,
        peak: float,
        steps: int,
        pct_start: float = 0.25,
        div: float = 25.0,
        div_final: float = 1e5,
    ) -> None:
        super().__init__()
        given = {"peak": peak, "steps": steps, "div": div, "div_final": div_final}
        for name, value in given.items():
            check_number(name, value, above=0)
        check_number("pct_start", pct_start, above=0, below=1)
        self.peak, self.steps, self.pct_start = peak, steps, pct_start
        self.div, self.div_final = div, div_final

    def __call__(self, step: Any) -> Any:
        done = ops.minimum(_number(step) / self.steps, 1.0)
        rising = done < self.pct_start
        way = ops.where(rising, done / self.pct_start, (1 - done) / (1 - self.pct_start))
        foot = ops.where(rising, self.peak / self.div, self.peak / self.div_final)
        return foot + (self.peak - foot) * (1 - ops.cos(math.pi * way)) / 2

    def get_config(self) -> dict[str, Any]:
        return {
            "peak": self.peak,
            "steps": self.steps,
            "pct_start": self.pct_start,
            "div": self.div,
            "div_final": self.div_final,
        }


@keras.saving.register_keras_serializable(package="keras_cnn_classics")
class ScaledSchedule(LearningRateSchedule):
    """A schedule times a factor, for a group of layers that shall learn more slowly.

    Args:
        schedule: A schedule.
        factor: What its values are multiplied by.

    Raises:
        ValueError: If `schedule` is none, or `factor` is not a number, at least 0.
    """

    def __init__(self, schedule: Any, factor: float) -> None:
        super().__init__()
        if not callable(schedule):
            raise ValueError(f"`schedule` must be a schedule. Received: {schedule!r}")
        check_number("factor", factor, 0)
        self.schedule, self.factor = schedule, factor

    def __call__(self, step: Any) -> Any:
        return self.schedule(step) * self.factor

    def get_config(self) -> dict[str, Any]:
        return {"schedule": _serialize(self.schedule), "factor": self.factor}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> ScaledSchedule:
        return cls(**{**config, "schedule": _deserialize(config["schedule"])})


def _serialize(schedule: Any) -> Any:
    return keras.saving.serialize_keras_object(schedule) if callable(schedule) else schedule


def _deserialize(config: Any) -> Any:
    return keras.saving.deserialize_keras_object(config) if isinstance(config, dict) else config
