"""Checks of arguments."""

from __future__ import annotations

import math
import numbers
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
    right = isinstance(value, kind) and not isinstance(value, bool) and math.isfinite(value)
    bounds = {"at least": least, "above": above, "below": below}
    if right:
        right = (
            (least is None or value >= least)
            and (above is None or value > above)
            and (below is None or value < below)
        )
    if not right:
        wanted = ["an integer" if whole else "a finite number"]
        wanted += [f"{word} {bound:g}" for word, bound in bounds.items() if bound is not None]
        raise ValueError(f"`{name}` must be {', '.join(wanted)}. Received: {value!r}")
