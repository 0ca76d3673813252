"""`show`: one network, layer by layer."""

from __future__ import annotations

import dataclasses
import json
import sys
from typing import Any

from keras_cnn_classics.cli import _common

WIDE = 110  # characters that the table with all columns takes


def show(
    name: _common.Name,
    options: _common.Options = [],  # noqa: B006  Typer copies it
    size: _common.Size = None,
    backend: _common.BackendOption = None,
    as_json: _common.Json = False,
) -> None:
    """Show a network: shapes, parameters, multiply-adds, connections, memory, options."""
    builder = _common.find_builder(name)
    spec = builder.spec
    from keras_cnn_classics.blocks.core import image_shape
    from keras_cnn_classics.inspection import count
    from keras_cnn_classics.weights import deferred

    arguments = _common.parse_options(builder, options)
    shape = image_shape(_common.check_size(builder, size), spec.channels, spec.frames)
    counted = deferred.build_empty(
        lambda: count(builder(weights=None, input_shape=shape, **arguments))
    )
    if as_json:
        totals = {
            key: getattr(counted, key)
            for key in ("params", "state", "macs", "connections", "activations")
        }
        layers = [dataclasses.asdict(row) for row in counted.layers]
        print(json.dumps({"name": spec.name, **totals, "layers": layers}))
        return
    _print(builder, counted)


def _print(builder: Any, counted: Any) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from keras_cnn_classics import training

    spec = builder.spec
    # Not cut off when it goes to a file.
    console = Console() if sys.stdout.isatty() else Console(width=200)
    console.print(f"[bold]{spec.name}[/bold] ({spec.year}): {escape(spec.paper)}, {spec.url}")
    origins = [f"{tag} ({source.origin})" for tag, source in spec.weights.items()]
    console.print(
        f"Input: {'x'.join(map(str, spec.input_shape))}. "
        f"Preprocessing: {spec.preprocessing}. Weights: {'; '.join(origins) or '-'}."
    )
    if spec.results():
        console.print(f"The paper's top-1 / top-5 error in percent: {spec.results()}.")
    table = Table(
        box=None, padding=(0, 1, 0, 0), header_style="bold", show_footer=True, footer_style="bold"
    )
    table.add_column("layer", "total", no_wrap=True)
    wide = console.width >= WIDE
    if wide:
        table.add_column("kind", no_wrap=True)
    table.add_column("output", justify="right", no_wrap=True)
    footers = (
        ("parameters", f"{counted.params:,}"),
        ("MACs", f"{counted.macs:,}"),
        ("connections", f"{counted.connections:,}"),
        ("KiB", _kib(counted.activations)),
    )
    for title, footer in footers:
        table.add_column(title, footer, justify="right", no_wrap=True)
    for row in counted.layers:
        table.add_row(
            row.name,
            *([row.kind] if wide else []),
            "x".join(map(str, row.output_shape)),
            *(f"{n:,}" if n else "" for n in (row.params, row.macs, row.connections)),
            _kib(row.activations),
        )
    console.print(table)
    if counted.state:
        console.print(f"{counted.state:,} further numbers are not trained.")
    console.print(
        "Parameters are the trained ones; connections count each weighted input and bias of "
        "each unit; KiB is the memory of each output in float32 for one image."
    )
    own = [str(p.replace(annotation=p.empty)) for p in _common.options_of(builder)]
    console.print(escape(f"Options: {', '.join(own) or 'none'}."))
    _print_recipe(console, "Quick recipe", training.recipe(spec, "quick"))
    if training.has_paper_recipe(spec):
        _print_recipe(console, "The paper's recipe", training.recipe(spec))


def _print_recipe(console: Any, title: str, recipe: Any) -> None:
    from rich.markup import escape

    from keras_cnn_classics import training

    console.print(f"\n[bold]{title}[/bold], {escape(recipe.source)}")
    for name, value, section in training.describe(recipe):
        where = f" (section {section})" if section else ""
        console.print(escape(f"  {name}: {value}{where}"))


def _kib(activations: int) -> str:
    return f"{activations * _common.FLOAT32_BYTES / 1024:,.1f}"
