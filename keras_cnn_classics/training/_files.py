"""Files that are whole or not there."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any


@contextlib.contextmanager
def written(path: Path) -> Iterator[Path]:
    """Gives a path beside `path` to write to, and moves the file to its place in one step.

    The scratch file has the same ending, which Keras goes by. It is gone if anything fails.
    """
    scratch = path.with_name(f".writing-{os.getpid()}-{path.name}")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        yield scratch
        with scratch.open("rb") as file:
            os.fsync(file.fileno())  # else a power failure could leave an empty file of this name
        os.replace(scratch, path)
    finally:
        scratch.unlink(missing_ok=True)


def write_json(path: Path, content: Any) -> None:
    """Writes JSON that a person can read."""
    with written(path) as scratch:
        scratch.write_text(json.dumps(content, indent=2) + "\n")
