"""A nested state of numbers, strings and arrays in one file that shows any damage."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from keras_cnn_classics._files import written

_ARRAY = "__array__"
_FACTS = "facts"


class DamagedError(Exception):
    """A file is not what `write` has left."""


def write(path: Path, state: Any) -> None:
    """Writes a state; every array is read back bit by bit, every float too."""
    arrays: list[np.ndarray] = []
    facts = json.dumps(_flat(state, arrays))
    names: dict[str, Any] = {str(at): array for at, array in enumerate(arrays)}
    names[_FACTS] = np.frombuffer(facts.encode(), np.uint8)
    with written(path) as scratch, scratch.open("wb") as file:
        np.savez(file, allow_pickle=False, **names)


def read(path: Path) -> Any:
    """Reads a state.

    Raises:
        DamagedError: If the file is cut off or altered: the archive has a checksum of each array.
        OSError: If it cannot be read.
    """
    with path.open("rb") as opened:
        try:
            with np.load(opened, allow_pickle=False) as file:
                return _nested(json.loads(file[_FACTS].tobytes()), file)
        except Exception as error:  # a flipped bit can make of an archive whatever it likes
            raise DamagedError(f"{path} is damaged ({error})") from error


def _flat(value: Any, arrays: list[np.ndarray]) -> Any:
    """The value with a reference in place of each array."""
    if isinstance(value, dict):
        return {key: _flat(item, arrays) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_flat(item, arrays) for item in value]
    if isinstance(value, np.generic):
        return value.item()
    if not isinstance(value, np.ndarray):
        return value
    dtype = value.dtype
    arrays.append(value.view(f"u{dtype.itemsize}") if dtype.kind == "V" else value)
    return {_ARRAY: len(arrays) - 1, "dtype": value.dtype.name}


def _nested(value: Any, file: Any) -> Any:
    if isinstance(value, list):
        return [_nested(item, file) for item in value]
    if not isinstance(value, dict):
        return value
    if _ARRAY not in value:
        return {key: _nested(item, file) for key, item in value.items()}
    array = file[str(value[_ARRAY])]
    if array.dtype.name == value["dtype"]:
        return array
    import ml_dtypes  # of bfloat16, which NumPy does not know

    return array.view(getattr(ml_dtypes, value["dtype"]))
