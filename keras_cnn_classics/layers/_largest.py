"""A maximum that can be learned through."""

from __future__ import annotations

from typing import Any

from keras import ops


def largest(x: Any, axis: int | tuple[int, ...], keepdims: bool = False) -> Any:
    """The maximum, whose gradient goes to the first place that has it, as in PyTorch.

    That of `ops.max` goes to all places that are equal to it. JAX's compiler may compute them anew,
    with another rounding, when none is, and divides by their number.
    """
    axes = (axis,) if isinstance(axis, int) else axis
    for one in axes:
        x = ops.take_along_axis(x, ops.argmax(x, axis=one, keepdims=True), axis=one)
    return x if keepdims else ops.squeeze(x, axes)
