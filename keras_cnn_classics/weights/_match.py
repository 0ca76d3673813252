"""Compares the names and shapes of a file's arrays with those of a model."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from keras_cnn_classics.weights import _old_keras
from keras_cnn_classics.weights._files import Arrays
from keras_cnn_classics.weights.errors import MismatchError


def our_names(theirs: Iterable[str], ours: Iterable[str], prefix: str) -> dict[str, str]:
    """Our name for each layer of a file with weights, if only `prefix` or what Keras calls it is.

    The first convolution of a process that has no name is `conv2d`, its second `conv2d_1`: a
    network that was built later starts higher, and old versions of Keras started at 1.
    """
    ours = list(ours)
    names = {name: name.removeprefix(prefix) for name in theirs}
    for name, plain in names.items():
        if plain not in ours:
            names[name] = _old_keras.NAMES.get(plain, plain)
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
    fresh: Sequence[str] = (),
    unknown: Sequence[str] = (),
    skip_mismatch: bool = False,
) -> tuple[set[str], str]:
    """Compares names and shapes with those of the layers to be filled.

    Args:
        arrays: The file's arrays, by layer.
        wanted: The model's layers with weights, by their names, but for those of `fresh`.
        classifier: Name of the layer whose weights make the classes.
        left_out: Gives the layers that the file may have and the model lacks, beside those of
            auxiliary classifiers. It is asked for only then.
        fresh: Layers that keep the values that they have.
        unknown: Tensors of the file that belong to no layer.
        skip_mismatch: Whether layers that do not fit are no error.

    Returns:
        The names of the layers that fit, and what does not, or nothing.

    Raises:
        MismatchError: If the file has other layers, or of other shapes, or if none fits.
    """
    misshapen = {}
    for name in wanted.keys() & arrays.keys():
        if fits(arrays[name], wanted[name]):
            continue
        found = [a.shape for a in arrays[name]]
        shapes = [tuple(w.shape) for w in wanted[name].weights]
        misshapen[name] = f"{name} {found} instead of {shapes}"
        if name == classifier and found[-1] != shapes[-1] and not skip_mismatch:
            theirs, ours = found[-1][-1], shapes[-1][-1]
            raise MismatchError(f"its classifier has {theirs} classes. Received: classes={ours}")
    leftover = [
        name for name in arrays if name not in wanted and name not in fresh and not auxiliary(name)
    ]
    if leftover:
        known = left_out()
        leftover = [name for name in leftover if name not in known]
    problems = "; ".join(
        f"{what} {_few(names)}"
        for what, names in (
            ("missing layers", [name for name in wanted if name not in arrays]),
            ("layers of another shape", sorted(misshapen.values())),
            ("unknown layers", leftover),
            ("tensors that belong to no layer", unknown),
        )
        if names
    )
    first = next(iter(wanted), "")
    if first in misshapen and _differ_in_channels(arrays[first], wanted[first]):
        problems += "; `adapt_input_channels=True` makes weights serve images of other channels"
    fitting = (wanted.keys() & arrays.keys()) - misshapen.keys()
    if problems and not fitting:
        problems = f"nothing of it fits: {problems}"
    if problems and not (skip_mismatch and fitting):
        raise MismatchError(problems)
    return fitting, problems


def _differ_in_channels(found: Sequence[Any], layer: Any) -> bool:
    theirs, ours = found[0].shape, tuple(layer.weights[0].shape)
    if len(theirs) < 4 or len(found) != len(layer.weights) or theirs[-2] == ours[-2]:
        return False
    return (*theirs[:-2], theirs[-1]) == (*ours[:-2], ours[-1])


def statistics(name: str) -> bool:
    """Whether Keras numbers its layer so that normalizes images."""
    return re.fullmatch(r"normalization(_\d+)?", name) is not None


def auxiliary(name: str) -> bool:
    """Whether a layer is part of an auxiliary classifier, which is for training only."""
    return re.match(r"aux\d", name) is not None


def _few(items: Sequence[str], most: int = 4) -> str:
    """The first few of many items, and how many more there are."""
    more = f" and {len(items) - most} more" if len(items) > most else ""
    return ", ".join(items[:most]) + more


def adapt_input(arrays: Arrays, layers: Iterable[Any]) -> None:
    """Makes the first kernel one for as many channels as the model's images have.

    For one channel its slices are summed: the answers are those for an image with that channel
    three times. For others they are repeated in their order and scaled, so that the sum keeps its
    size.
    """
    first = next(layer for layer in layers if layer.weights and layer.name in arrays)
    kernel, shape = np.asarray(arrays[first.name][0]), tuple(first.weights[0].shape)
    theirs, ours = kernel.shape[-2], shape[-2]
    if kernel.ndim != len(shape) or theirs == ours:
        return
    if ours == 1:
        kernel = kernel.sum(axis=-2, keepdims=True)
    else:
        kernel = kernel[..., np.arange(ours) % theirs, :] * np.float32(theirs / ours)
    arrays[first.name][0] = kernel


def fits(arrays: Sequence[Any], layer: Any) -> bool:
    """Whether arrays have the shapes of a layer's weights."""
    return [a.shape for a in arrays] == [tuple(w.shape) for w in layer.weights]


def by_order(arrays: Arrays, layers: Iterable[Any], head: Collection[str]) -> dict[str, str]:
    """Our name for each layer of a file, if it has as many of our shapes in our order.

    Keras loads its old files so, whatever the names, and its networks have the same order. There is
    nothing in it otherwise. The shapes of the layers in `head` do not matter.
    """
    theirs = [name for name in arrays if not statistics(name)]
    ours = [layer for layer in layers if layer.weights]
    if len(theirs) != len(ours):
        return {}
    for name, layer in zip(theirs, ours, strict=True):
        if layer.name not in head and not fits(arrays[name], layer):
            return {}
    return {name: layer.name for name, layer in zip(theirs, ours, strict=True)}
