"""Converted copies of foreign files, kept in Keras's cache.

A copy is called `<file>.<Model>.<version>-<digits>.weights.h5`. The digits begin its own SHA-256,
so that a damaged one is found out; the version is that of the package that has converted it, so
that no later one reads what another table of names has made.
"""

from __future__ import annotations

import glob
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from keras_cnn_classics._version import __version__
from keras_cnn_classics.registry import WeightsFile
from keras_cnn_classics.weights import _download, _faults, _files

_SUFFIX = ".weights.h5"
_DIGITS = 8


def find(file: WeightsFile, model: str) -> Path | None:
    """The copy of a file for a model, if there is one; its hash is not looked at."""
    found = [path for path in _all(file, model) if path.name.startswith(_stem(file, model))]
    return found[0] if found else None


def verified(file: WeightsFile, model: str) -> Path | None:
    """The copy, if there is one and it is whole."""
    path = find(file, model)
    return path if path and not _faults.of_file(path, digest(path)) else None


def digest(path: Path) -> str:
    """The hash that a copy must have, from its name."""
    return f"sha256:{path.name.removesuffix(_SUFFIX)[-_DIGITS:]}"


def write(
    file: WeightsFile, name: str, model: Any, arrays: _files.Arrays, about: Mapping[str, Any]
) -> Path:
    """Writes a copy, in place of others of the file for the same model.

    Args:
        file: The file that was converted.
        name: Name of the model.
        model: The model, whose layers give the order.
        arrays: Arrays in the order of the layer's weights, by the names of layers.
        about: What later readers are told of the network, such as its options.

    Returns:
        The path of the copy, which has its name only when it is whole.
    """
    folder = _download.cache_dir()
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".") as scratch:
        made = Path(scratch) / "copy"
        _files.write_weights_h5(made, model.layers, arrays, about)
        digits = _files.digest_of(made, "sha256")[:_DIGITS]
        for other in _all(file, name):
            other.unlink()
        target = folder / f"{_stem(file, name)}{digits}{_SUFFIX}"
        os.replace(made, target)
    return target


def _stem(file: WeightsFile, model: str) -> str:
    return f"{file.name}.{model}.{__version__}-"


def _all(file: WeightsFile, model: str) -> list[Path]:
    """The copies of all versions."""
    pattern = f"{glob.escape(f'{file.name}.{model}.')}*-{'?' * _DIGITS}{_SUFFIX}"
    return sorted(_download.cache_dir().glob(pattern))
