"""Checks of arguments."""

from __future__ import annotations

import math
import numbers
import operator
from typing import Any


def check_number(
    name: str,
    value: Any,
    least: float | None = None,
    *,
    above: float | None = None,
    below: float | None = None,
    whole: bool = False,
) -> None:
    """Refuses what is no finite number, not in the range, or not `whole` if asked."""
    kind = numbers.Integral if whole else numbers.Real
    bounds: tuple[tuple[str, float | None, Any], ...] = (
        ("at least", least, operator.ge),
        ("above", above, operator.gt),
        ("below", below, operator.lt),
    )
    given = [one for one in bounds if one[1] is not None]
    right = isinstance(value, kind) and not isinstance(value, bool) and math.isfinite(value)
    if not right or not all(fits(value, bound) for _, bound, fits in given):
        wanted = ["an integer" if whole else "a finite number"]
        wanted += [f"{word} {bound:g}" for word, bound, _ in given]
        raise ValueError(f"`{name}` must be {', '.join(wanted)}. Received: {value!r}")
