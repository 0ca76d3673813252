"""Loads weights into a model."""

from __future__ import annotations

import contextlib
import json
import logging
import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np

from keras_cnn_classics.registry import ModelSpec, WeightsSource
from keras_cnn_classics.weights import (
    _compare,
    _copies,
    _download,
    _faults,
    _files,
    _match,
    _old_keras,
    deferred,
    torch_layout,
)
from keras_cnn_classics.weights.errors import FormatError, MismatchError, WeightsError

logger = logging.getLogger("keras_cnn_classics")

TorchNames = Mapping[str, Sequence[torch_layout.TorchName]] | None

_SUFFIXES = (".weights.h5", ".keras", ".h5", *_files.TORCH_SUFFIXES)


def load(
    model: Any,
    source: WeightsSource | str | os.PathLike[str],
    *,
    name: str | None = None,
    include_top: bool = True,
    classes: int | None = None,
    classifier: str = "predictions",
    whole: Callable[[], Any] | None = None,
    options: Mapping[str, Any] | None = None,
    torch_names: TorchNames = None,
    torch_options: Mapping[str, Any] | None = None,
    torch_doubt: bool = True,
    adapt_input_channels: bool = False,
    skip_mismatch: bool = False,
) -> str | None:
    """Loads published weights or a file, after all comparisons of the two.

    Args:
        model: The model; its layers are matched by their names.
        source: Published weights, or the path of a file: `.weights.h5`, `.keras`, Keras's old
            `.h5`, `.safetensors`, `.pth`, `.pt` or `.th`.
        name: Name of the architecture, for messages. Defaults to the model's.
        include_top: Whether the model has its classifier. Auxiliary classifiers that the model
            lacks are left out of a file in any case.
        classes: Number of the model's classes. Where published weights have another, the last
            layer keeps its values, and a warning is logged. So do auxiliary classifiers that they
            lack.
        classifier: Name of the layer whose weights make the classes.
        whole: Gives the network with all its classifiers, empty, as `deferred.build_empty` does. It
            is called only for a file that has more layers than a model without, and to convert.
            Defaults to the model.
        options: Options of the builder, which a converted file is compared with.
        torch_names: Names of the layers in PyTorch checkpoints.
        torch_options: Options of the builder that those checkpoints mostly want and the model
            does not have: the error names them if the file does not fit.
        torch_doubt: Whether a checkpoint that fits may want them all the same: a warning says so.
        adapt_input_channels: Whether the first kernel is made to fit images of other channels.
        skip_mismatch: Whether what does not fit is left out, with a warning. What a whole model's
            file says of its layers' settings is not compared then.

    Returns:
        The mode by which images are prepared for these weights, if the file says it.

    Raises:
        WeightsError: One of its kinds, if published weights cannot be had, or the file is damaged,
            unsafe, of an unknown format, or of another model.
        OSError: If the file cannot be read.
    """
    name, whole = name or model.name, whole or (lambda: model)
    published = isinstance(source, WeightsSource)
    if isinstance(source, WeightsSource):
        if source.noncommercial:
            logger.warning(
                "%s: these weights are for non-commercial use only, %s.", name, source.license
            )
        about = {"model": name, "options": options, "preprocessing": source.preprocessing}
        path = _ready(source, name, whole, torch_names, about, include_top=include_top)
        known_classes: int | None = source.classes
    else:
        path, known_classes = Path(source), None
    wanted = ""
    if torch_options and path.suffix.lower() in _files.TORCH_SUFFIXES:
        wanted = ", ".join(f"{key}={value!r}" for key, value in torch_options.items())
    with _explained(path, name, wanted, published), contextlib.ExitStack() as opened:
        file = _read(path, opened, model, torch_names, classifier, whole, published=published)
        if adapt_input_channels:
            _match.adapt_input(file.arrays, model.layers)
        left_out = tuple if include_top else lambda: _names(whole()) - _names(model)
        other_classes = published and include_top and classes not in (None, known_classes)
        fresh = _fresh(model, file, (classifier,) if other_classes else ()) if published else ()
        missed = _other_network(file.about, name, options or {})
        if missed and not skip_mismatch:
            raise MismatchError(missed)
        missed += _fill(model, file, classifier, left_out, fresh, skip_mismatch, include_top)
    if fresh:
        why = "published weights have no such auxiliary classifier"
        if other_classes:
            why = f"the published classifier has {known_classes} classes, this model {classes}"
        logger.warning(
            "%s: %s: `%s` %s from random weights, all other layers are loaded.",
            name,
            why,
            "`, `".join(fresh),
            "start" if len(fresh) > 1 else "starts",
        )
    if missed:
        logger.warning("%s: what fits of %s is loaded, the rest not: %s.", name, path, missed)
    if wanted and torch_doubt:
        logger.warning(
            "%s: checkpoints that were trained in PyTorch mostly want %s; without, they fit and "
            "give other answers. Those that came from TensorFlow, as timm's `tf_...`, do not.",
            name,
            wanted,
        )
    return next(
        (c["config"]["mode"] for c in file.configs or () if _prepares(c)),
        file.about.get("preprocessing"),
    )


def _fresh(model: Any, file: _Content, also: tuple[str, ...]) -> tuple[str, ...]:
    """The layers of auxiliary classifiers that published weights lack, or have for others."""
    return also + tuple(
        layer.name
        for layer in model.layers
        if layer.weights
        and _match.auxiliary(layer.name)
        and not _match.fits(file.arrays.get(layer.name, ()), layer)
    )


def _other_network(about: Mapping[str, Any], name: str, options: Mapping[str, Any]) -> str:
    """What a converted file says of its network that is not so of the model, or nothing."""
    if about.get("model", name) != name:
        return f"it is of {about['model']}"
    theirs = about.get("options") or {}
    ours = json.loads(json.dumps(options))
    other = [key for key in theirs.keys() & ours.keys() if theirs[key] != ours[key]]
    return ", ".join(f"it is for {key}={theirs[key]!r}, not {ours[key]!r}" for key in sorted(other))


def _prepares(config: _compare.Config) -> bool:
    return config["class_name"] == "PreprocessInput"


@contextlib.contextmanager
def _explained(path: Path, name: str, wanted: str = "", cached: bool = False) -> Iterator[None]:
    """Makes every error that a file's contents cause one of `WeightsError` that names the file."""
    try:
        yield
    except (FileNotFoundError, PermissionError, ImportError):
        raise
    except Exception as error:  # readers of foreign formats have errors of their own
        reason = " ".join(str(error).split())
        kind: type[WeightsError] = FormatError
        if isinstance(error, WeightsError):
            kind = type(error)
        else:
            reason = f"it cannot be read ({type(error).__name__}: {reason})"
        if wanted and kind is MismatchError:
            reason += f"; PyTorch's checkpoints mostly want {wanted}"
        elif cached and kind is FormatError:
            reason += "; remove the file, and the next call gets it anew"
        raise kind(f"{path} does not hold the weights of this {name}: {reason}") from error


def preprocessing_of(spec: ModelSpec, weights: str | os.PathLike[str] | None) -> str:
    """The mode of `preprocess_input` that goes with a builder's `weights`.

    Published weights say it themselves. Checkpoints in PyTorch's layout were mostly trained with
    PyTorch's, whatever the paper's; the spec knows those that were not.
    """
    if isinstance(weights, str) and weights in spec.weights:
        return spec.weights[weights].preprocessing
    torch = weights is not None and Path(weights).suffix.lower() in _files.TORCH_SUFFIXES
    return spec.torch_preprocessing if torch else spec.preprocessing


def _ready(
    source: WeightsSource,
    name: str,
    whole: Callable[[], Any],
    torch_names: TorchNames,
    about: Mapping[str, Any],
    *,
    include_top: bool,
) -> Path:
    """The path of published weights in a layout of Keras: the file, or a copy that is made once."""
    file = source.file(include_top=include_top)
    if not _files.is_foreign(file.name):
        return _download.fetch(file)
    copy = _copies.verified(file, name)
    if copy:
        return copy
    _files.check_reader(file.name)  # before a download that would be in vain
    path, model = _download.fetch(file), whole()
    with _explained(path, name), contextlib.ExitStack() as opened:
        content = _read(path, opened, model, torch_names, "", whole, published=True)
        layers = {layer.name: layer for layer in model.layers if layer.weights}
        absent = {x for x in layers if _match.auxiliary(x) and x not in content.arrays}
        layers = {x: layer for x, layer in layers.items() if x not in absent}
        _match.check(content.arrays, layers, "", left_out=tuple, unknown=content.unknown)
    try:
        return _copies.write(file, name, model, content.arrays, about)
    except (OSError, RuntimeError) as error:  # the second is h5py's, for a full disk
        logger.warning("%s: no converted copy is kept in the cache (%s).", name, error)
        return path


def _names(model: Any) -> set[str]:
    return {layer.name for layer in model.layers}


class _Content(NamedTuple):
    """What a file holds.

    Attributes:
        arrays: Arrays in the order of the layer's weights, by our names of the layers.
        configs: Configurations of the layers, if it is the file of a whole model.
        unknown: Names of the tensors that belong to no layer.
        about: What a converted file says of its network.
    """

    arrays: _files.Arrays
    configs: Sequence[_compare.Config] | None = None
    unknown: Sequence[str] = ()
    about: Mapping[str, Any] = {}


def _read(
    path: Path,
    opened: contextlib.ExitStack,
    model: Any,
    torch_names: TorchNames,
    classifier: str,
    whole: Callable[[], Any],
    *,
    published: bool,
) -> _Content:
    """Reads a file of any format, of which `opened` closes what stays open."""
    if not path.name.lower().endswith(_SUFFIXES):
        raise FormatError(f"the file name must end in {', '.join(_SUFFIXES)}")
    if _faults.is_page(path):
        raise FormatError("it is a page of text, as a proxy, a login or a failing server gives it")
    suffix = path.suffix.lower()
    if _files.is_foreign(path.name):
        if torch_names is None:
            raise FormatError("no PyTorch checkpoint of this architecture is known")
        tensors = _files.read_foreign(path)
        arrays, unknown = torch_layout.convert(tensors, torch_names, model.layers)
        return _Content(arrays, unknown=unknown)
    configs: Sequence[_compare.Config] | None = None
    about: Mapping[str, Any] = {}
    if suffix == ".keras":
        arrays, configs = _files.read_keras(path, opened)
    elif path.name.lower().endswith(".weights.h5"):
        arrays, about = _files.read_weights_h5(path, opened)
    else:
        arrays, configs = _files.read_legacy_h5(path, opened)
    ours = [layer.name for layer in model.layers if layer.weights]
    prefix = _match.prefix_of(arrays, ours)
    names = _match.our_names(arrays, ours, prefix)
    if suffix == ".h5" and not set(ours) <= set(names.values()):
        ordered = _match.by_order(arrays, model.layers, {classifier})
        if not ordered and len(arrays) > len(ours):
            network = [layer for layer in whole().layers if not _match.auxiliary(layer.name)]
            head = {layer.name for layer in network} - _names(model)
            ordered = _match.by_order(arrays, network, head)
        if ordered and configs is None and not published:
            logger.warning(
                "%s has other names than %s, but its shapes in their order: it is taken for that, "
                "and nothing in it could tell otherwise.",
                path,
                model.name,
            )
        names |= ordered
    if configs is not None:
        configs = _without_auxiliary(_renamed(one, names, prefix) for one in configs)
    arrays = {names[name]: values for name, values in arrays.items()}
    arrays = _old_keras.with_grouped_kernels(arrays, model.layers)
    return _Content(arrays, configs, about=about)


def _without_auxiliary(configs: Iterable[_compare.Config]) -> list[_compare.Config]:
    return [one for one in configs if not _match.auxiliary(one["config"]["name"])]


def _renamed(config: _compare.Config, names: Mapping[str, str], prefix: str) -> _compare.Config:
    """A layer's configuration with our name, and the file's, by which others refer to it."""
    name = config["config"]["name"]
    ours = names.get(name, name.removeprefix(prefix))
    return {**config, "name": name, "config": {**config["config"], "name": ours}}


def _fill(
    model: Any,
    file: _Content,
    classifier: str,
    left_out: Callable[[], Collection[str]],
    fresh: Sequence[str],
    skip_mismatch: bool,
    include_top: bool,
) -> str:
    """Gives the model the arrays, after all comparisons with what the file holds.

    Returns what does not fit, if that may be.
    """
    arrays, configs, unknown, _ = file
    statistics = _statistics(arrays, configs or ())
    layers = {x.name: x for x in model.layers if x.weights and x.name not in fresh}
    fitting, missed = _match.check(
        arrays,
        layers,
        classifier,
        left_out=left_out,
        fresh=fresh,
        unknown=unknown,
        skip_mismatch=skip_mismatch,
    )
    if configs is not None and not skip_mismatch:
        ours = _without_auxiliary(json.loads(model.to_json())["config"]["layers"])
        _compare.compare(configs, ours, layers, classifier=classifier, include_top=include_top)
    for layer in model.layers:
        if isinstance(layer, keras.layers.Normalization) and statistics:
            _normalize_by(layer, *statistics, sure=configs is not None)
    for name, layer in layers.items():
        if name in fitting:
            deferred.set_weights(layer, [_files.in_memory(a) for a in arrays.pop(name)])
    return missed


def _statistics(
    arrays: _files.Arrays, configs: Sequence[_compare.Config]
) -> tuple[np.ndarray, np.ndarray] | None:
    """Takes the mean and the variance by which a network normalizes images, if a file has them."""
    found = None
    for name in list(arrays):
        if _match.statistics(name):
            mean, variance = (np.ravel(a) for a in arrays.pop(name)[:2])
            found = mean, variance
    for one in configs:
        kind, config = one["class_name"], one["config"]
        if kind == "Normalization" and config.get("mean") is not None:
            found = np.ravel(config["mean"]), np.ravel(config["variance"])
        elif kind == "Rescaling" and found and np.ndim(config["scale"]):
            # Keras's published EfficientNets have the standard deviation for the variance, and
            # this layer to mend it.
            found = found[0], found[1] / np.square(config["scale"])
    return found


def _normalize_by(layer: Any, mean: np.ndarray, variance: np.ndarray, *, sure: bool) -> None:
    """Gives the layer that normalizes images the statistics of a file.

    They are constants of the model. A file of weights alone says nothing of the layer by which
    Keras mends them, so those of its published files are known by their values.
    """
    usual = np.ravel(layer.input_mean), np.ravel(layer.input_variance)
    squares = (variance,) if sure else (variance, np.square(variance))
    if np.allclose(mean, usual[0], rtol=1e-3) and any(
        np.allclose(one, usual[1], rtol=1e-3) for one in squares
    ):
        return
    layer.input_mean, layer.input_variance = mean.tolist(), variance.tolist()
    layer.build(layer.get_build_config()["input_shape"])  # which makes the constants
    logger.warning(
        "The file's network normalizes images by the mean %s and the variance %s, and so does the "
        "model now. Save it as .keras to keep that: files of weights alone do not hold them.",
        *(np.array2string(values, precision=4) for values in (mean, variance)),
    )
