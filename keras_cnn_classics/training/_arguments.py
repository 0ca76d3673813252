"""Checks of arguments."""

from __future__ import annotations

import math
import numbers
from typing import Any


def check_number(name: str, value: Any, least: float, *, whole: bool = False) -> None:
    """Refuses what is no finite number, at least `least`, and `whole` if asked."""
    kind = numbers.Integral if whole else numbers.Real
    right = isinstance(value, kind) and not isinstance(value, bool)
    if not right or not least <= float(value) < math.inf:
        wanted = "an integer" if whole else "a finite number"
        raise ValueError(f"`{name}` must be {wanted}, at least {least:g}. Received: {value!r}")
