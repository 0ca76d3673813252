"""The table of the methods: its rows, and the forms that it is shown in."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from keras_cnn_classics._files import written

OLD_NETWORK = "old_network"


@dataclass(frozen=True)
class Row:
    """What was measured of a method; means over the seeds where nothing else is said.

    Attributes:
        method: Its name, or `"old_network"` for the model as it was.
        old_accuracy: Share of right answers on the old task's test images, from 0 to 1; `None`
            without them.
        old_spread: Standard deviation of it over the seeds; `None` if there is one seed.
        new_accuracy: The same on the new task's.
        new_spread: The same of it.
        seconds_per_epoch: Of training with all layers that learn, the first such epoch left out.
        seconds: Of `fit` from its beginning to its end.
        prediction_ms: Milliseconds per image for the answers to both tasks, in batches; median.
        parameters: Weights of the network for both tasks.
        old_data: Whether the method learns from data of the old task.
        seeds: How many trainings it is the mean of.
    """

    method: str
    old_accuracy: float | None
    old_spread: float | None
    new_accuracy: float | None
    new_spread: float | None
    seconds_per_epoch: float | None
    seconds: float | None
    prediction_ms: float
    parameters: int
    old_data: bool
    seeds: int


_COLUMNS: dict[str, Callable[[Row], str]] = {
    "method": lambda row: row.method.replace("_", " "),
    "new task, %": lambda row: _percent(row.new_accuracy, row.new_spread),
    "old task, %": lambda row: _percent(row.old_accuracy, row.old_spread),
    "s per epoch": lambda row: _number(row.seconds_per_epoch, ".2f"),
    "s in all": lambda row: _number(row.seconds, ".1f"),
    "ms per image": lambda row: _number(row.prediction_ms, ".3f"),
    "parameters": lambda row: f"{row.parameters:,}",
    "old data": lambda row: "needed" if row.old_data else "-",
}


@dataclass(frozen=True)
class Comparison:
    """The table of the methods. `rich.print` shows it.

    Attributes:
        rows: A row for the old network and one for each method.
    """

    rows: tuple[Row, ...]

    def __getitem__(self, method: str) -> Row:
        """The row of a method."""
        return next(row for row in self.rows if row.method == method)

    def to_csv(self, path: str | os.PathLike[str]) -> None:
        """Writes the table with a column for each attribute of `Row`; unknown ones are empty."""
        rows = [asdict(row) for row in self.rows]
        text = io.StringIO()
        table = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
        table.writeheader()
        table.writerows(rows)
        with written(Path(path)) as scratch:
            scratch.write_text(text.getvalue())

    def to_markdown(self) -> str:
        """The table for a document: `mean ± standard deviation` over the seeds."""
        lines = [list(_COLUMNS), ["---"] + ["---:"] * (len(_COLUMNS) - 1)]
        lines += [[text(row) for text in _COLUMNS.values()] for row in self.rows]
        return "".join(f"| {' | '.join(line)} |\n" for line in lines)

    def __rich__(self) -> Any:
        from rich.table import Table

        # Narrow enough for 80 characters: the names of methods are what is broken.
        table = Table(box=None, header_style="bold", padding=(0, 1, 0, 0))
        table.add_column("method")
        for name in list(_COLUMNS)[1:]:
            table.add_column(name.replace(" ", "\n"), justify="right", no_wrap=True)
        for row in self.rows:
            table.add_row(*(text(row) for text in _COLUMNS.values()))
        return table

    def plot(self, path: str | os.PathLike[str] | None = None) -> Any:
        """Draws the new task's accuracy over the old one's, a point for each method.

        Args:
            path: Where to save the picture. Defaults to nowhere.

        Returns:
            A `matplotlib.figure.Figure`.

        Raises:
            ValueError: If there were no data of the old task.
        """
        from matplotlib.figure import Figure

        before = self[OLD_NETWORK].old_accuracy
        if before is None:
            raise ValueError("Without `old_data` there is no old task's accuracy to draw.")
        figure = Figure(figsize=(7, 5), layout="constrained")
        axes = figure.add_subplot(xlabel="old task, accuracy", ylabel="new task, accuracy")
        axes.axvline(before, color="grey", linestyle=":", label="old network")
        for row in self.rows:
            if row.old_accuracy is not None and row.new_accuracy is not None:
                axes.errorbar(
                    row.old_accuracy,
                    row.new_accuracy,
                    xerr=row.old_spread,
                    yerr=row.new_spread,
                    fmt="o",
                    capsize=3,
                    label=row.method.replace("_", " "),
                )
        axes.legend()
        if path is not None:
            figure.savefig(path, dpi=150)
        return figure


def _percent(value: float | None, spread: float | None) -> str:
    if value is None:
        return "-"
    return f"{100 * value:.2f}" + ("" if spread is None else f" ± {100 * spread:.2f}")


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)
