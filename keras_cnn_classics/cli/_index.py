"""The facts of the networks that `list` and the shell's completion show, without Keras."""

from __future__ import annotations

import dataclasses
import json
from importlib import resources
from typing import Any

from keras_cnn_classics.registry import ModelSpec

_NAME = "models.json"
_LEFT_OUT = ("config", "tiny", "torch_options", "aux_taps", "notes")


def dump(specs: list[ModelSpec]) -> str:
    """The text of the index, which `docs/generate.py` writes from the registry."""
    fields = [one for one in dataclasses.fields(ModelSpec) if one.name not in _LEFT_OUT]
    rows = []
    for spec in specs:
        row: dict[str, Any] = {one.name: getattr(spec, one.name) for one in fields}
        row["weights"] = dict.fromkeys(spec.weights)
        rows.append({one.name: row[one.name] for one in fields if row[one.name] != one.default})
    return "[\n" + ",\n".join(json.dumps(row) for row in rows) + "\n]\n"


def read() -> list[ModelSpec]:
    """The networks, oldest first; of their weights only the tags are known."""
    text = (resources.files("keras_cnn_classics") / _NAME).read_text(encoding="utf-8")
    return [ModelSpec(**row) for row in json.loads(text)]


def complete(incomplete: str) -> list[str]:
    """The names that begin so, for shells."""
    return [spec.name for spec in read() if spec.name.startswith(incomplete)]
