"""Checks of the arguments that several layers share."""

from __future__ import annotations

import numbers
import operator
from typing import Any

import keras


def data_format(value: str | None) -> str:
    """The layout to use: the caller's, or Keras's global one."""
    if value is None:
        return keras.config.image_data_format()
    if value not in ("channels_first", "channels_last"):
        raise ValueError(
            "`data_format` must be 'channels_first' or 'channels_last'. "
            f"Received: data_format={value!r}"
        )
    return value


def channel_axis(layout: str) -> int:
    """The axis of the channels in a 4D tensor of that layout."""
    return -1 if layout == "channels_last" else 1


def area(layout: str) -> tuple[int, int]:
    """The axes of height and width in a 4D tensor of that layout."""
    return (1, 2) if layout == "channels_last" else (2, 3)


def positive(value: Any) -> int:
    """An integer of any kind, NumPy's too, as Python's, which can be saved; 0 if it is none."""
    try:
        return 0 if isinstance(value, bool) else max(0, operator.index(value))
    except TypeError:
        return 0


def count(value: Any, name: str) -> int:
    """A positive integer of any kind, as Python's."""
    number = positive(value)
    if not number:
        raise ValueError(f"`{name}` must be a positive integer. Received: {name}={value!r}")
    return number


def both_sides(before: Any, after: Any) -> tuple[int, int]:
    """How much is put before and after something: integers that are not negative."""
    found = positive(before), positive(after)
    if found != (before, after):
        raise ValueError(
            "`before` and `after` must be integers that are not negative. "
            f"Received: {before=}, {after=}"
        )
    return found


def is_number(value: Any) -> bool:
    """Whether something is a real number, which a truth value is not."""
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def pair(value: Any, name: str) -> tuple[int, int]:
    """A height and a width, from one number or from two."""
    both = value if isinstance(value, (tuple, list)) else (value, value)
    sides = tuple(positive(n) for n in both)
    if len(sides) != 2 or 0 in sides:
        raise ValueError(
            f"`{name}` must be a positive integer or two of them. Received: {name}={value!r}"
        )
    return sides


def rate(value: Any) -> float:
    """The share of what is dropped: at least 0, and below 1."""
    if not is_number(value) or not 0 <= float(value) < 1:
        raise ValueError(f"`rate` must be a number, at least 0 and below 1. Received: {value!r}")
    return float(value)


def float_type(compute_dtype: str) -> str:
    """The type for sums of squares and the like: float32 at least, which half precision is not."""
    return "float64" if compute_dtype == "float64" else "float32"
