"""The learning rates of an optimizer, whatever wraps it."""

from __future__ import annotations

from typing import Any

import keras


def optimizers_of(optimizer: Any) -> list[Any]:
    """The optimizers that change weights and have a learning rate, without those that wrap them."""
    if hasattr(optimizer, "inner_optimizer"):  # a LossScaleOptimizer
        return optimizers_of(optimizer.inner_optimizer)
    if hasattr(optimizer, "optimizers"):  # a MultiOptimizer
        return [inner for one in optimizer.optimizers for inner in optimizers_of(one)]
    return [optimizer]


def rate_of(optimizer: Any) -> float:
    """The learning rate at this moment, of a schedule too."""
    return float(keras.ops.convert_to_numpy(optimizer.learning_rate))


def rates_by_name(optimizer: Any) -> dict[str, float]:
    """The learning rates under their names in the logs."""
    found = optimizers_of(optimizer)
    if len(found) == 1:
        return {"learning_rate": rate_of(found[0])}
    return {f"learning_rate_{one.name}": rate_of(one) for one in found}


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
