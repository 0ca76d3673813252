"""Loads weights into a model that has just been built."""

from __future__ import annotations

import logging
import tempfile
import zipfile
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from keras_cnn_classics.registry import WeightsSource
from keras_cnn_classics.weights import _download, _files, torch_layout

logger = logging.getLogger("keras_cnn_classics")

_TORCH_SUFFIXES = (".pth", ".pt", ".th")


def load(
    model: Any,
    source: WeightsSource | Path,
    *,
    layers: Sequence[Any],
    name: str,
    include_top: bool = True,
    classes: int | None = None,
    torch_names: Mapping[str, Sequence[str]] | None = None,
) -> None:
    """Loads published weights or a file, or says what does not fit.

    Args:
        model: The model.
        source: Published weights, or the path of a file: `.weights.h5`, `.keras`, Keras's old
            `.h5`, `.safetensors`, `.pth`, `.pt` or `.th`.
        layers: The layers to load into, in the model's order.
        name: Name of the architecture, for messages.
        include_top: Whether the model has its classifier.
        classes: Number of the model's classes.
        torch_names: Names of the layers in PyTorch checkpoints.

    Raises:
        ValueError: If the file is damaged, of an unknown format, or of another model.
        OSError: If the file cannot be read or downloaded.
    """
    fresh: tuple[str, ...] = ()
    if isinstance(source, WeightsSource):
        if include_top and classes != source.classes:
            fresh = ("predictions",)
            logger.warning(
                "%s: the published classifier has %d classes, this model %d: `predictions` starts "
                "from random weights, all other layers are loaded.",
                name,
                source.classes,
                classes,
            )
        file = source.top if include_top or source.no_top is None else source.no_top
        path = _download.fetch(file)  # type: ignore[arg-type]
    else:
        path = source

    try:
        if path.name.endswith((".weights.h5", ".keras")):
            _load_keras(model, path)
        else:
            arrays = _read(path, layers, torch_names)
            _assign(arrays, layers, include_top=include_top, fresh=fresh)
    except (FileNotFoundError, PermissionError, ImportError):
        raise
    except Exception as error:  # readers of foreign formats have errors of their own
        reason = " ".join(str(error).split())
        raise ValueError(f"{path} does not hold the weights of this {name}: {reason}") from error


def _read(
    path: Path, layers: Iterable[Any], torch_names: Mapping[str, Sequence[str]] | None
) -> dict[str, list[np.ndarray]]:
    suffix = path.suffix.lower()
    if suffix in (".h5", ".hdf5"):
        return _files.read_legacy_h5(path)
    if suffix != ".safetensors" and suffix not in _TORCH_SUFFIXES:
        raise ValueError(
            "the file name must end in .weights.h5, .keras, .h5, .safetensors, .pth, .pt or .th"
        )
    if torch_names is None:
        raise ValueError("no PyTorch checkpoint of this architecture is known")
    reader = _files.read_torch if suffix in _TORCH_SUFFIXES else _files.read_safetensors
    return torch_layout.convert(reader(path), torch_names, layers)


def _load_keras(model: Any, path: Path) -> None:
    """Loads Keras's own format, alone or out of a whole saved model."""
    if path.suffix == ".keras":
        with tempfile.TemporaryDirectory() as folder, zipfile.ZipFile(path) as archive:
            _load_keras(model, Path(archive.extract("model.weights.h5", folder)))
        return
    # Keras matches layers by class and number: a file of another model can fit by accident.
    _compare_shapes(_files.shapes_of_weights_h5(path), [w.shape for w in model.weights])
    model.load_weights(path)


def _compare_shapes(found: Iterable[Any], wanted: Iterable[Any]) -> None:
    in_file, in_model = (Counter(map(tuple, shapes)) for shapes in (found, wanted))
    theirs, ours = (sorted(a - b) for a, b in ((in_file, in_model), (in_model, in_file)))
    if len(theirs) == len(ours) == 2 and {len(shape) for shape in (*theirs, *ours)} == {1, 2}:
        # Only a kernel and a bias differ: the most common mistake has a message of its own.
        _refuse_classes(theirs[0][-1], ours[0][-1])
    if in_file != in_model:
        raise ValueError(
            f"the model has weights of shapes {_few(in_model - in_file)} that the file lacks, and "
            f"the file has {_few(in_file - in_model)} that the model lacks"
        )


def _refuse_classes(found: int, wanted: int) -> NoReturn:
    raise ValueError(f"its classifier has {found} classes. Received: classes={wanted}")


def _assign(
    arrays: Mapping[str, list[np.ndarray]],
    layers: Iterable[Any],
    *,
    include_top: bool,
    fresh: Sequence[str],
) -> None:
    wanted = {layer.name: layer for layer in layers if layer.weights and layer.name not in fresh}
    missing = [name for name in wanted if name not in arrays]
    misshapen = []
    for name in wanted.keys() & arrays.keys():
        found = [a.shape for a in arrays[name]]
        shapes = [tuple(w.shape) for w in wanted[name].weights]
        if name == "predictions" and found[-1] != shapes[-1]:
            _refuse_classes(found[-1][-1], shapes[-1][-1])
        if found != shapes:
            misshapen.append(f"{name} {found} instead of {shapes}")
    order = list(arrays)
    leftover = [name for name in order if name not in wanted and name not in fresh]
    if not include_top:
        # A file with a classifier fits a model without one: what follows the trunk is left out.
        last = max((i for i, name in enumerate(order) if name in wanted), default=-1)
        leftover = [name for name in leftover if order.index(name) < last]
    problems = [
        f"{what} {_few(names)}"
        for what, names in (
            ("missing layers", missing),
            ("layers of another shape", sorted(misshapen)),
            ("unknown layers", leftover),
        )
        if names
    ]
    if problems:
        raise ValueError("; ".join(problems))
    for name, layer in wanted.items():
        layer.set_weights(arrays[name])


def _few(items: Iterable[Any], most: int = 4) -> str:
    """The first few of many items, and how many more there are."""
    items = [str(item) for item in items]
    more = f" and {len(items) - most} more" if len(items) > most else ""
    return (", ".join(items[:most]) or "none") + more
