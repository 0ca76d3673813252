"""One number that a callback watches from epoch to epoch."""

from __future__ import annotations

import math
import warnings
from typing import Any

from keras_cnn_classics.training._arguments import check_number

_MODES = ("auto", "min", "max")
# The end of a metric's name, or of what stands before Keras's counters, tells what is better.
_SMALLER = ("loss", "error", "entropy", "crossentropy", "mse", "mae", "divergence", "hinge")
_LARGER = ("acc", "accuracy", "auc", "precision", "recall", "score", "iou", "similarity")


class Monitor:
    """Remembers the best value of a metric, and when it was seen.

    Args:
        name: Name in the logs, such as `"val_loss"`.
        mode: `"min"`, `"max"`, or `"auto"`, which goes by the name.
        min_delta: What a value must be better by to count.
        relative: Whether `min_delta` is a share of the best value.
        baseline: Value that counts as seen before the first epoch, or `None`.

    Raises:
        ValueError: If an argument is wrong, or `"auto"` does not know the name.
    """

    def __init__(
        self,
        name: str,
        mode: str = "auto",
        min_delta: float = 0.0,
        relative: bool = False,
        baseline: float | None = None,
    ) -> None:
        if mode not in _MODES:
            raise ValueError(f"`mode` must be one of {_MODES}. Received: {mode!r}")
        check_number("min_delta", min_delta, 0)
        if not isinstance(name, str):
            raise ValueError(f"`monitor` must name an entry of the logs. Received: {name!r}")
        self.name = name
        self.sign = {"min": 1.0, "max": -1.0, "auto": 0.0}[mode] or _sign(name)
        self.min_delta, self.relative, self.baseline = min_delta, relative, baseline
        self.reset()

    def reset(self) -> None:
        """Forgets all values."""
        self.best: float | None = None
        self.best_epoch = 0
        self.values: list[float] = []

    @property
    def best_text(self) -> str:
        """The best value, for people."""
        return "a number" if self.best is None else f"{self.best:.6g}"

    def read(self, logs: dict[str, Any] | None) -> float | None:
        """The value in the logs; without one, `None` and a warning."""
        value = (logs or {}).get(self.name)
        if value is None:
            warnings.warn(
                f"The logs have no {self.name!r}, so it cannot be watched. They have: "
                f"{', '.join(logs or {}) or 'nothing'}.",
                stacklevel=3,
            )
            return None
        return float(value)

    def better(self, value: float, than: float | None) -> bool:
        """Whether a value is better than another one by the difference that counts."""
        if than is None:
            return not math.isnan(value)
        delta = self.min_delta * (abs(than) if self.relative else 1.0)
        return self.sign * value < self.sign * than - delta

    def see(self, epoch: int, value: float) -> bool:
        """Takes a value, and tells whether it is the best so far."""
        self.values.append(value)
        if not self.better(value, self.best):
            return False
        self.best, self.best_epoch = value, epoch
        return True

    def get_state(self) -> dict[str, Any]:
        return {"best": self.best, "best_epoch": self.best_epoch, "values": self.values}

    def set_state(self, state: dict[str, Any]) -> None:
        self.best, self.best_epoch = state["best"], state["best_epoch"]
        self.values = list(state["values"])


def _sign(name: str) -> float:
    last = name.rstrip("0123456789").rstrip("_").rpartition("_")[2]
    if last.endswith(_SMALLER):
        return 1.0
    if last.endswith(_LARGER):
        return -1.0
    raise ValueError(
        f"Nothing is known of {name!r}: say by mode='min' or mode='max' what is better."
    )
