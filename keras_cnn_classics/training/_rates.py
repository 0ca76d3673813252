"""The learning rates of an optimizer, whatever wraps it."""

from __future__ import annotations

from typing import Any

import keras


def optimizers_of(optimizer: Any) -> list[Any]:
    """The optimizers that have a learning rate: one, or those of a `MultiOptimizer`."""
    inner = getattr(optimizer, "inner_optimizer", optimizer)  # that of a LossScaleOptimizer
    return list(getattr(inner, "optimizers", (inner,)))


def rate_of(optimizer: Any) -> float:
    """The learning rate at this moment, of a schedule too."""
    return float(keras.ops.convert_to_numpy(optimizer.learning_rate))


def has_schedule(optimizer: Any) -> bool:
    """Whether the rate follows a schedule, so that nothing else can set it."""
    return isinstance(optimizer.get_config()["learning_rate"], dict)


def refuse_schedules(optimizer: Any, callback: str) -> None:
    """Refuses an optimizer whose rate a callback could not set."""
    for one in optimizers_of(optimizer):
        if has_schedule(one):
            name = one.get_config()["learning_rate"]["class_name"]
            raise ValueError(
                f"{callback} sets the learning rate, which needs an optimizer with a rate of its "
                f"own. Received: {type(one).__name__} with the schedule {name}. Compile it with a "
                f"number, learning_rate={rate_of(one):g}, or leave {callback} out."
            )
