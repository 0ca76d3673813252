"""Numbers that training reads at each step, and callbacks that change them by the epoch."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import keras
import numpy as np

from keras_cnn_classics.training._callback import Callback


@keras.saving.register_keras_serializable(package="keras_cnn_classics")
class Scalar:
    """A number that a compiled step reads each time it runs, for losses and `loss_weights`.

    A Python float is baked into the step when that is compiled: what is written to it later has
    no effect. A `keras.Variable` is read at each step, but cannot be saved among `loss_weights`:
    Keras 3.15 loads it as a constant on TensorFlow, and saves nothing on JAX and PyTorch. This
    holds a variable, goes wherever Keras takes a number, and is saved with its present value.

    On JAX, a step reads only variables that belong to the model: see `keep_live`.

    Attributes:
        initial: The value it was made with.
        variable: The `keras.Variable`, without dimensions, float32.

    Args:
        value: Float.
        name: Name of the variable.
    """

    shape = ()
    dtype = "float32"

    def __init__(self, value: float, name: str = "scalar") -> None:
        self.initial, self.name = float(value), name
        self.variable = keras.Variable(
            self.initial, dtype=self.dtype, trainable=False, autocast=False, name=name
        )

    def assign(self, value: float) -> None:
        """Changes the number, from the next epoch on or, on TensorFlow and PyTorch, step."""
        self.variable.assign(float(value))

    def __float__(self) -> float:
        return float(keras.ops.convert_to_numpy(self.variable))

    def __repr__(self) -> str:
        return f"<Scalar {self.name}: {float(self):g}>"

    def get_config(self) -> dict[str, Any]:
        return {"value": float(self), "name": self.name}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Scalar:
        return cls(**config)

    # How each backend turns an object into a tensor; PyTorch goes by NumPy.

    def __tf_tensor__(self, dtype: Any = None, name: str | None = None) -> Any:
        return self.variable.__tf_tensor__(dtype, name)

    def __jax_array__(self) -> Any:
        return self.variable.value

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.array(keras.ops.convert_to_numpy(self.variable), dtype)


class LiveScalars(keras.metrics.Metric):
    """A metric that measures nothing: it makes scalars part of the state of a model."""

    def __init__(self, name: str = "live_scalars") -> None:
        super().__init__(name=name)
        self.scalars: list[Scalar] = []

    @property
    def variables(self) -> list[keras.Variable]:
        return [scalar.variable for scalar in self.scalars]

    def update_state(self, *args: Any, **kwargs: Any) -> None:
        pass

    def reset_state(self) -> None:
        pass

    def result(self) -> dict[str, Any]:
        return {}


def keep_live(model: keras.Model, scalars: Iterable[Scalar]) -> None:
    """Makes a model's steps read scalars anew on JAX; elsewhere they do so anyway.

    A step on JAX is a function of the model's state, and takes any other variable for a constant.
    Metrics are state, so the model is given one that holds the scalars, as its attribute
    `live_scalars`, for good: then a call of `evaluate` after the training reads them, too. It adds
    nothing to logs and files.

    Args:
        model: A model, before its next `fit`.
        scalars: Scalars that its loss reads.

    Raises:
        ValueError: If the model is of a class of its own, and built: Keras then takes no more
            state. Such a class sets `self.live_scalars = LiveScalars()` in `__init__`.
    """
    if keras.backend.backend() != "jax":
        return
    metric = next((one for one in model.metrics if isinstance(one, LiveScalars)), None)
    if metric is None:
        metric = LiveScalars()
        try:
            model.live_scalars = metric
        except ValueError as error:
            raise ValueError(
                "On JAX the model must hold the numbers that callbacks change: set "
                "`self.live_scalars = keras_cnn_classics.training.LiveScalars()` in `__init__` of "
                f"its class. Received: {type(model).__name__}"
            ) from error
    if new := [one for one in scalars if one not in metric.scalars]:
        metric.scalars += new
        # These were made for the state that there was.
        model.train_function = model.test_function = None


# The share of the way from the first value to the last, for the share of the epochs.
CURVES: dict[str, Callable[[float], float]] = {
    "constant": lambda t: 0.0,
    "linear": lambda t: t,
    "cosine": lambda t: (1 - math.cos(math.pi * t)) / 2,
}


class ScalarSchedule(Callback):
    """Sets scalars at the start of each epoch, and shows them in the logs at its end.

    Only callbacks that come later in the list, and the history, see them in the logs.

    The values depend on nothing but the epoch and the first values, so that a run which goes on
    in the middle has those of a run that was never interrupted.

    Args:
        schedule: A key of `CURVES`, or a callable that takes the epoch, counted from 0.
    """

    def __init__(self, schedule: str | Callable[[int], Any]) -> None:
        super().__init__()
        if not (callable(schedule) or schedule in CURVES):
            raise ValueError(
                f"`schedule` must be one of {sorted(CURVES)} or a callable that takes the epoch. "
                f"Received: {schedule!r}"
            )
        self.schedule = schedule

    def scalars(self) -> dict[str, Any]:
        """The scalars of the compiled model, by their names in the logs."""
        raise NotImplementedError

    def value(self, name: str, scalar: Scalar, epoch: int) -> float:
        """The value of one of them in an epoch."""
        raise NotImplementedError

    def curve(self, epoch: int, epochs: int, first: float, last: float) -> float:
        """The value in an epoch by the schedule, which has `last` in the last of `epochs`."""
        if callable(self.schedule):
            value = self.schedule(epoch)
            if value is None:
                raise ValueError(f"`schedule` gave no number for epoch {epoch}. Received: None")
            return float(keras.ops.convert_to_numpy(value))
        share = CURVES[self.schedule](epoch / max(1, epochs - 1))
        return first + (last - first) * share

    def set_model(self, model: Any) -> None:
        super().set_model(model)
        keep_live(model, self.scalars().values())

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        for name, scalar in self.scalars().items():
            scalar.assign(self.value(name, scalar, epoch))

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        if logs is not None:
            logs.update({name: float(scalar) for name, scalar in self.scalars().items()})
