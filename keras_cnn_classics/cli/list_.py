"""`list`: the networks."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from keras_cnn_classics import registry
from keras_cnn_classics.cli import _common, _index


def list_models(
    pattern: Annotated[
        str,
        typer.Argument(help="Shell-style pattern, such as 'VGG*'.", autocompletion=_index.complete),
    ] = "*",
    family: Annotated[str | None, typer.Option(help="Only this family, such as vgg.")] = None,
    year: Annotated[int | None, typer.Option(help="Only networks of this year.")] = None,
    pretrained: Annotated[
        bool, typer.Option("--pretrained", help="Only networks with published weights.")
    ] = False,
    as_json: _common.Json = False,
) -> None:
    """List the networks, oldest first."""
    specs = registry.matching(
        _index.read(), pattern, family=family, year=year, pretrained=pretrained
    )
    if as_json:
        keys: tuple[str, ...] = ("name", "family", "year", "params", "macs")
        keys += ("input_size", "frames", "channels", "classes")
        rows = [{key: getattr(spec, key) for key in keys} for spec in specs]
        print(
            json.dumps([{**r, "weights": [*s.weights]} for r, s in zip(rows, specs, strict=True)])
        )
        return
    if not specs:
        raise ValueError("No network is like that: `keras-cnn-classics list` shows them all.")

    # Rich, which `show` has, takes a quarter of a second for so many rows.
    lines: list[tuple[str, ...]] = [("name", "year", "parameters", "MACs (M)", "input", "weights")]
    for spec in specs:
        lines.append(
            (
                *(spec.name, str(spec.year), f"{spec.params:,}", f"{spec.macs / 1e6:,.1f}"),
                *("x".join(map(str, spec.input_shape)), ", ".join(spec.weights) or "-"),
            )
        )
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        left = [cell.ljust(width) for cell, width in zip(line[:2], widths[:2], strict=True)]
        right = [cell.rjust(width) for cell, width in zip(line[2:-1], widths[2:-1], strict=True)]
        print("  ".join([*left, *right, line[-1]]))
