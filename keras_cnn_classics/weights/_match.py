"""Compares the names and shapes of a file's arrays with those of a model."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from keras_cnn_classics.weights.errors import MismatchError

Arrays = dict[str, list[np.ndarray]]


def our_names(theirs: Iterable[str], ours: Iterable[str], prefix: str) -> dict[str, str]:
    """Our name for each layer of a file that has weights, if only `prefix` or numbers are others.

    The first convolution of a process that has no name is `conv2d`, its second `conv2d_1`: a
    network that was built later starts higher, and old versions of Keras started at 1.
    """
    names = {name: name.removeprefix(prefix) for name in theirs}
    mine, found = _counted(ours), _counted(names.values())
    numbered: dict[str, str] = {}
    for kind in mine.keys() & found.keys():
        numbered |= dict(zip(found[kind], mine[kind], strict=False))
    return {name: numbered.get(plain, plain) for name, plain in names.items()}


def prefix_of(theirs: Collection[str], ours: Sequence[str]) -> str:
    """What stands before our names in a file: a network may have been saved under a `prefix`."""
    ending = [name for name in theirs if ours and name.endswith(ours[0])]
    found = ending[0].removesuffix(ours[0]) if len(ending) == 1 else ""
    return found if all(name.startswith(found) for name in theirs) else ""


def _counted(names: Iterable[str]) -> dict[str, list[str]]:
    """Names that Keras makes from a class and a counter, by class, in the order of the counter."""
    found: dict[str, dict[int, str]] = {}
    for name in names:
        match = re.fullmatch(r"(conv2d|batch_normalization)(?:_(\d+))?", name)
        if match:
            found.setdefault(match[1], {})[int(match[2] or 0)] = name
    return {kind: [by[i] for i in sorted(by)] for kind, by in found.items()}


def check(
    arrays: Arrays,
    wanted: Mapping[str, Any],
    classifier: str,
    *,
    left_out: Callable[[], Collection[str]],
    fresh: Sequence[str],
) -> None:
    """Compares names and shapes with those of the layers to be filled.

    A file may have layers that the model lacks if they are in `left_out()`, which is asked for
    only then, or in an auxiliary classifier.
    """
    missing = [name for name in wanted if name not in arrays]
    misshapen = []
    for name in wanted.keys() & arrays.keys():
        found = [a.shape for a in arrays[name]]
        shapes = [tuple(w.shape) for w in wanted[name].weights]
        if name == classifier and found[-1] != shapes[-1]:
            theirs, ours = found[-1][-1], shapes[-1][-1]
            raise MismatchError(f"its classifier has {theirs} classes. Received: classes={ours}")
        if found != shapes:
            misshapen.append(f"{name} {found} instead of {shapes}")
    leftover = [
        name for name in arrays if name not in wanted and name not in fresh and not auxiliary(name)
    ]
    if leftover:
        known = left_out()
        leftover = [name for name in leftover if name not in known]
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
        raise MismatchError("; ".join(problems))


def auxiliary(name: str) -> bool:
    """Whether a layer is part of an auxiliary classifier, which is for training only."""
    return re.match(r"aux\d", name) is not None


def _few(items: Sequence[str], most: int = 4) -> str:
    """The first few of many items, and how many more there are."""
    more = f" and {len(items) - most} more" if len(items) > most else ""
    return ", ".join(items[:most]) + more
