"""Files that are whole or not there."""

from __future__ import annotations

import contextlib
import json
import os
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

SCRATCH = ".writing-"  # the beginning of the names of files that are not whole


@contextlib.contextmanager
def written(path: Path) -> Iterator[Path]:
    """Gives a path beside `path` to write to, and moves the file to its place in one step.

    The scratch file has the same ending, which Keras goes by. It is gone if anything fails.

    Raises:
        OSError: If it cannot be written; the file that was there stays.
    """
    scratch = path.with_name(f"{SCRATCH}{os.getpid()}-{path.name}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield scratch
        with scratch.open("rb") as file:
            os.fsync(file.fileno())  # else a power failure could leave an empty file of this name
        os.replace(scratch, path)
    except OSError as error:
        reason = error.strerror or str(error)
        raise OSError(
            error.errno, f"{path} could not be written ({reason}). What was saved before stays"
        ) from error
    finally:
        scratch.unlink(missing_ok=True)


@contextlib.contextmanager
def reading(path: Path, remedy: str) -> Iterator[None]:
    """Says of a file that cannot be read, whatever the library says, what to do.

    Raises:
        ValueError: If it is damaged, or not what was expected.
    """
    try:
        yield
    except FileNotFoundError:
        raise
    except (OSError, ValueError, TypeError, LookupError, zipfile.BadZipFile) as error:
        reason = str(error).strip().split("\n")[0]
        raise ValueError(f"{path} is damaged ({reason}): {remedy}") from error


def write_json(path: Path, content: Any) -> None:
    """Writes JSON that a person can read."""
    with written(path) as scratch:
        scratch.write_text(json.dumps(content, indent=2) + "\n")
