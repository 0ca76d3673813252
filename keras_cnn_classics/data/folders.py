"""A folder of images: one folder per class, with or without `train/` and `test/` above them."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from keras_cnn_classics.data.images import fault
from keras_cnn_classics.data.sources import Files, Source

_LOGGER = logging.getLogger("keras_cnn_classics")
_SPLITS = {"train": "train", "validation": "validation", "val": "validation", "test": "test"}
_NAMED = 5  # bad files named in a message


def load_folder(folder: Path, on_bad_image: str = "skip") -> Source:
    """Finds the images of a folder, and decodes each one once to find the bad ones.

    Args:
        folder: Folder of class folders, or of `train/` and perhaps `validation/` (or `val/`) and
            `test/` with class folders. Classes are the sorted names of the training folders.
            Hidden files are ignored.
        on_bad_image: `"skip"` leaves bad files out with a warning, `"error"` refuses them.

    Raises:
        FileNotFoundError: If there is no such folder.
        ValueError: If its layout is not one of the above, or images are bad.
    """
    if not folder.is_dir():
        raise FileNotFoundError(
            f"There is no folder {str(folder)!r}. Give the path of a folder with one folder of "
            "images per class."
        )
    parts = _parts(folder)
    names = _class_names(parts["train"])
    if len(names) < 2:
        raise ValueError(
            f"Expected at least two classes in {str(parts['train'])!r}. Received one class "
            f"folder, {names[0]!r}. Add a folder per class."
        )
    splits, bad = {}, []
    for split, part in parts.items():
        splits[split], faults = _files(part, names)
        bad += faults
    if bad:
        _report(bad, on_bad_image)
    return Source(
        name=folder.resolve().name,
        class_names=names,
        shape=(None, None, None),
        train=splits["train"],
        validation=splits.get("validation"),
        test=splits.get("test"),
        skipped=tuple(path for path, _ in bad),
    )


def _parts(folder: Path) -> dict[str, Path]:
    """The folder of each split. Without split folders, the whole is the training split.

    A class may be called "train" too: the layout has splits only if it has nothing else.
    """
    names = [path.name for path in _visible_folders(folder)]
    if "train" not in names or not set(names) <= set(_SPLITS):
        return {"train": folder}
    if {"validation", "val"} <= set(names):
        raise ValueError(
            f"Expected one validation folder in {str(folder)!r}. Received both 'validation' and "
            "'val'. Remove or merge one."
        )
    return {_SPLITS[name]: folder / name for name in sorted(names)}


def _visible_folders(folder: Path) -> list[Path]:
    paths = (path for path in folder.iterdir() if not path.name.startswith("."))
    return sorted(path for path in paths if path.is_dir())


def _class_names(folder: Path) -> tuple[str, ...]:
    names = tuple(path.name for path in _visible_folders(folder))
    if not names:
        raise ValueError(
            f"Expected one folder of images per class in {str(folder)!r}. Received a folder "
            "without folders. Sort the images into class folders."
        )
    return names


def _files(folder: Path, names: Sequence[str]) -> tuple[Files, list[tuple[str, str]]]:
    """The good files of one split in a fixed order, and the bad ones with their faults."""
    paths: list[str] = []
    labels: list[int] = []
    for name in _class_names(folder):
        if name not in names:
            raise ValueError(
                f"Expected only the classes of the training folder in {str(folder)!r}. Received "
                f"{name!r} too. Rename or remove that folder."
            )
        found = _visible_files(folder / name)
        if not found:
            raise ValueError(
                f"The class folder {str(folder / name)!r} is empty. Put images into it or remove "
                "it."
            )
        paths += found
        labels += [names.index(name)] * len(found)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        faults = list(pool.map(fault, paths))
    good = np.array([found is None for found in faults])
    marks = np.array(labels, np.int32)
    for label in np.unique(marks):
        if not good[marks == label].any():
            first = next(f for f, at in zip(faults, labels, strict=True) if at == label)
            raise ValueError(
                f"No file of the class folder {str(folder / names[label])!r} can be read. Replace "
                f"them or remove the folder. The first: {first}"
            )
    bad = [(path, found) for path, found in zip(paths, faults, strict=True) if found]
    return Files(np.array(paths, object)[good], marks[good]), bad


def _visible_files(folder: Path) -> list[str]:
    """All files below a class folder, sorted, but for hidden ones."""
    found = []
    for parent, folders, files in os.walk(folder, followlinks=True):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [os.path.join(parent, name) for name in files if not name.startswith(".")]
    return sorted(found)


def _report(bad: Sequence[tuple[str, str]], on_bad_image: str) -> None:
    first = "; ".join(found for _, found in bad[:_NAMED])
    more = f"; and {len(bad) - _NAMED} more" if len(bad) > _NAMED else ""
    if on_bad_image == "error":
        raise ValueError(
            f"{len(bad)} bad image file(s): {first}{more}. Remove them, or set "
            "`on_bad_image='skip'` to leave them out."
        )
    _LOGGER.warning("%d bad image file(s) left out: %s%s", len(bad), first, more)
