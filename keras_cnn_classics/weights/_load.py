"""Loads weights into a model."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_cnn_classics.registry import ModelSpec, WeightsSource
from keras_cnn_classics.weights import _download, _files, torch_layout

logger = logging.getLogger("keras_cnn_classics")

_TORCH_SUFFIXES = (".safetensors", ".pth", ".pt", ".th")
_SUFFIXES = (".weights.h5", ".keras", ".h5", *_TORCH_SUFFIXES)


def load(
    model: Any,
    source: WeightsSource | str | os.PathLike[str],
    *,
    name: str | None = None,
    include_top: bool = True,
    classes: int | None = None,
    classifier: str = "predictions",
    torch_names: Mapping[str, Sequence[torch_layout.TorchName]] | None = None,
    torch_options: Mapping[str, Any] | None = None,
) -> None:
    """Loads published weights or a file, all of it or nothing.

    Args:
        model: The model; its layers are matched by their names.
        source: Published weights, or the path of a file: `.weights.h5`, `.keras`, Keras's old
            `.h5`, `.safetensors`, `.pth`, `.pt` or `.th`.
        name: Name of the architecture, for messages. Defaults to the model's.
        include_top: Whether the model has its classifier. Without it, what follows the last
            layer of the model in a file is left out. Auxiliary classifiers that the model lacks
            are left out in any case.
        classes: Number of the model's classes. Where published weights have another, the last
            layer keeps its values, and a warning is logged.
        classifier: Name of the layer whose weights make the classes.
        torch_names: Names of the layers in PyTorch checkpoints.
        torch_options: Options of the builder that those checkpoints mostly want and the model
            does not have: a warning names them, or the error if the file does not fit.

    Raises:
        ValueError: If the file is damaged, of an unknown format, or of another model.
        OSError: If the file cannot be read or downloaded.
    """
    name = name or model.name
    fresh: tuple[str, ...] = ()
    if isinstance(source, WeightsSource):
        if include_top and classes not in (None, source.classes):
            fresh = (classifier,)
            logger.warning(
                "%s: the published classifier has %d classes, this model %d: `%s` starts "
                "from random weights, all other layers are loaded.",
                name,
                source.classes,
                classes,
                classifier,
            )
        path = _download.fetch(source.file(include_top=include_top))
    else:
        path = Path(source)
    wanted = ""
    if torch_options and path.suffix.lower() in _TORCH_SUFFIXES:
        wanted = ", ".join(f"{key}={value!r}" for key, value in torch_options.items())
    try:
        arrays = _read(path, model, torch_names, include_top=include_top)
        _assign(arrays, model.layers, classifier, include_top=include_top, fresh=fresh)
    except (FileNotFoundError, PermissionError, ImportError):
        raise
    except Exception as error:  # readers of foreign formats have errors of their own
        reason = " ".join(str(error).split()) or type(error).__name__
        hint = f"; PyTorch's checkpoints mostly want {wanted}" if wanted else ""
        raise ValueError(
            f"{path} does not hold the weights of this {name}: {reason}{hint}"
        ) from error
    if wanted:
        logger.warning(
            "%s: checkpoints of PyTorch packages mostly want %s. Without, they fit and give other "
            "answers; those that came from TensorFlow may be right.",
            name,
            wanted,
        )


def preprocessing_of(spec: ModelSpec, weights: str | os.PathLike[str] | None) -> str:
    """The mode of `preprocess_input` that goes with a builder's `weights`.

    Published weights say it themselves. Checkpoints in PyTorch's layout were mostly trained with
    PyTorch's, whatever the paper's; the spec knows those that were not.
    """
    if isinstance(weights, str) and weights in spec.weights:
        return spec.weights[weights].preprocessing
    torch = weights is not None and Path(weights).suffix.lower() in _TORCH_SUFFIXES
    return spec.torch_preprocessing if torch else spec.preprocessing


def _read(
    path: Path,
    model: Any,
    torch_names: Mapping[str, Sequence[torch_layout.TorchName]] | None,
    *,
    include_top: bool,
) -> dict[str, list[np.ndarray]]:
    if not path.name.lower().endswith(_SUFFIXES):
        raise ValueError(f"the file name must end in {', '.join(_SUFFIXES)}")
    suffix = path.suffix.lower()
    if suffix in _TORCH_SUFFIXES:
        if torch_names is None:
            raise ValueError("no PyTorch checkpoint of this architecture is known")
        reader = _files.read_safetensors if suffix == ".safetensors" else _files.read_torch
        return torch_layout.convert(reader(path), torch_names, model.layers)
    if suffix == ".keras":
        arrays, configs = _files.read_keras(path)
        _compare(configs, model.layers, include_top=include_top)
        # The file's own order, which tells the trunk from what follows it.
        order = [one["config"]["name"] for one in configs]
        arrays = {name: arrays[name] for name in order if name in arrays}
    elif path.name.lower().endswith(".weights.h5"):
        arrays = _files.read_weights_h5(path)
    else:
        arrays = _renumbered(_files.read_legacy_h5(path), model.layers)
        for name in [name for name in arrays if re.fullmatch(r"normalization(_\d+)?", name)]:
            _check_statistics(arrays.pop(name), model.layers)
        return arrays
    arrays = _without_prefix(arrays, [layer.name for layer in model.layers if layer.weights])
    return _renumbered(arrays, model.layers)


def _compare(configs: Sequence[Any], layers: Sequence[Any], *, include_top: bool) -> None:
    """Tells a network from one with the same weights but other layers or activations.

    Dropout does not count, as it does nothing in use, nor does the last layer's activation:
    training often has scores for its output. Without the classifier, what follows the last
    weights of the model does not count either, nor do auxiliary classifiers.
    """
    layers = [layer for layer in layers if not _auxiliary(layer.name)]
    configs = [one for one in configs if not _auxiliary(one["config"]["name"])]
    ours = [
        (type(layer).__name__, keras.saving.serialize_keras_object(layer)["config"], layer.weights)
        for layer in layers
    ]
    wanted = [(kind, config.get("activation")) for kind, config, _ in ours if kind != "Dropout"]
    weighted = [bool(weights) for kind, _, weights in ours if kind != "Dropout"]
    rows = [(one["class_name"], one["config"].get("activation")) for one in configs]
    # Two ways to compute the same.
    wanted, rows = (
        [("Conv2D" if kind == "GroupedConv2D" else kind, activation) for kind, activation in both]
        for both in (wanted, rows)
    )
    found = [row for row in rows if row[0] != "Dropout"]
    if include_top:
        wanted[-1] = (wanted[-1][0], None)
        found[-1:] = [(found[-1][0], None)] if found else []
    else:
        end = len(weighted) - weighted[::-1].index(True)
        wanted, found = wanted[:end], found[:end]
    for i, (theirs, mine) in enumerate(zip(found[1:], wanted[1:], strict=False), 1):
        if theirs != mine:
            raise ValueError(
                f"its layer {i} is {theirs[0]}, activation {theirs[1] or 'none'}, where the model "
                f"has {mine[0]}, activation {mine[1] or 'none'}"
            )
    if len(found) != len(wanted):
        raise ValueError(f"it has {len(found)} layers, the model {len(wanted)}")


def _without_prefix(
    arrays: dict[str, list[np.ndarray]], wanted: Sequence[str]
) -> dict[str, list[np.ndarray]]:
    """The arrays under the names of the model, if they were saved under a builder's `prefix`."""
    ending = [name for name in arrays if wanted and name.endswith(wanted[0])]
    prefix = ending[0].removesuffix(wanted[0]) if len(ending) == 1 else ""
    if not all(name.startswith(prefix) for name in arrays):
        return arrays
    return {name.removeprefix(prefix): values for name, values in arrays.items()}


def _renumbered(
    arrays: dict[str, list[np.ndarray]], layers: Iterable[Any]
) -> dict[str, list[np.ndarray]]:
    """The arrays under the model's names, where Keras gave layers the next number of a process.

    The first unnamed convolution of a process is `conv2d`, its second `conv2d_1`; a network that
    was built later starts higher, and old versions of Keras started at 1.
    """
    ours = _counted(layer.name for layer in layers if layer.weights)
    theirs = _counted(arrays)
    names: dict[str, str] = {}
    for kind in ours.keys() & theirs.keys():
        names |= dict(zip(theirs[kind], ours[kind], strict=False))
    return {names.get(name, name): values for name, values in arrays.items()}


def _counted(names: Iterable[str]) -> dict[str, list[str]]:
    """Names that Keras makes from a class and a counter, by class, in the order of the counter."""
    found: dict[str, dict[int, str]] = {}
    for name in names:
        match = re.fullmatch(r"(conv2d|batch_normalization)(?:_(\d+))?", name)
        if match:
            found.setdefault(match[1], {})[int(match[2] or 0)] = name
    return {kind: [by[i] for i in sorted(by)] for kind, by in found.items()}


def _check_statistics(arrays: Sequence[np.ndarray], layers: Iterable[Any]) -> None:
    """Compares the statistics of a file's input normalization with the constants of the model's.

    Keras's published EfficientNets hold the standard deviation where the variance should be, and
    Keras mends that with another layer; so both are right.
    """
    own = [layer for layer in layers if isinstance(layer, keras.layers.Normalization)]
    if not own:
        return
    mean, variance = (np.ravel(a) for a in (own[0].input_mean, own[0].input_variance))
    same = [np.allclose(arrays[1], v, rtol=1e-3) for v in (variance, np.sqrt(variance))]
    if not (np.allclose(arrays[0], mean, rtol=1e-3) and any(same)):
        identity = not np.any(arrays[0]) and np.all(np.asarray(arrays[1]) == 1)
        own_way = "give it pixels / 255" if identity else "normalize the images in its way"
        raise ValueError(
            f"it normalizes images by the mean {arrays[0]} and the variance {arrays[1]}, this "
            f"model by {mean} and {variance}; build it with include_preprocessing=False and "
            f"{own_way}"
        )


def _assign(
    arrays: dict[str, list[np.ndarray]],
    layers: Iterable[Any],
    classifier: str,
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
        if name == classifier and found[-1] != shapes[-1]:
            theirs, ours = found[-1][-1], shapes[-1][-1]
            raise ValueError(f"its classifier has {theirs} classes. Received: classes={ours}")
        if found != shapes:
            misshapen.append(f"{name} {found} instead of {shapes}")
    order = list(arrays)
    leftover = [
        name for name in order if name not in wanted and name not in fresh and not _auxiliary(name)
    ]
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
        layer.set_weights(arrays.pop(name))  # which frees the memory of each in turn


def _auxiliary(name: str) -> bool:
    """Whether a layer is part of an auxiliary classifier, which is for training only."""
    return re.match(r"aux\d", name) is not None


def _few(items: Sequence[str], most: int = 4) -> str:
    """The first few of many items, and how many more there are."""
    more = f" and {len(items) - most} more" if len(items) > most else ""
    return ", ".join(items[:most]) + more
