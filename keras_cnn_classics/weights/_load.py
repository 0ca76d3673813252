"""Loads weights into a model."""

from __future__ import annotations

import json
import logging
import os
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_cnn_classics.registry import ModelSpec, WeightsSource
from keras_cnn_classics.weights import _compare, _download, _files, _match, torch_layout
from keras_cnn_classics.weights.errors import FormatError, MismatchError, WeightsError

logger = logging.getLogger("keras_cnn_classics")

_TORCH_SUFFIXES = (".safetensors", ".pth", ".pt", ".th")
_TF2CV = ".tf2.h5"  # with the layers of the same package's PyTorch networks
_READERS = {".safetensors": _files.read_safetensors, ".h5": _files.read_tf2cv}
_SUFFIXES = (".weights.h5", ".keras", ".h5", *_TORCH_SUFFIXES)


def load(
    model: Any,
    source: WeightsSource | str | os.PathLike[str],
    *,
    name: str | None = None,
    include_top: bool = True,
    classes: int | None = None,
    classifier: str = "predictions",
    whole: Callable[[], Any],
    torch_names: Mapping[str, Sequence[torch_layout.TorchName]] | None = None,
    torch_options: Mapping[str, Any] | None = None,
    torch_doubt: bool = True,
) -> None:
    """Loads published weights or a file, all of it or nothing.

    Args:
        model: The model; its layers are matched by their names.
        source: Published weights, or the path of a file: `.weights.h5`, `.keras`, Keras's old
            `.h5`, `.safetensors`, `.pth`, `.pt` or `.th`.
        name: Name of the architecture, for messages. Defaults to the model's.
        include_top: Whether the model has its classifier. Auxiliary classifiers that the model
            lacks are left out of a file in any case.
        classes: Number of the model's classes. Where published weights have another, the last
            layer keeps its values, and a warning is logged.
        classifier: Name of the layer whose weights make the classes.
        whole: Gives the network with its classifier, empty, as `deferred.build_empty` does. It is
            called only for a file that has more layers than a model without, and to convert.
        torch_names: Names of the layers in PyTorch checkpoints.
        torch_options: Options of the builder that those checkpoints mostly want and the model
            does not have: the error names them if the file does not fit.
        torch_doubt: Whether a checkpoint that fits may want them all the same: a warning says so.

    Raises:
        WeightsError: One of its kinds, if published weights cannot be had, or the file is damaged,
            unsafe, of an unknown format, or of another model.
        OSError: If the file cannot be read.
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
        if source.noncommercial:
            logger.warning(
                "%s: these weights are for non-commercial use, %s.", name, source.license
            )
        path = _ready(source, name, whole, torch_names, include_top=include_top)
    else:
        path = Path(source)
    wanted = ""
    if torch_options and path.suffix.lower() in _TORCH_SUFFIXES:
        wanted = ", ".join(f"{key}={value!r}" for key, value in torch_options.items())
    try:
        head = None if include_top else lambda: _names(whole()) - _names(model)
        arrays, configs = _read(path, model, torch_names)
        _fill(model, arrays, configs, classifier, head, fresh)
    except (FileNotFoundError, PermissionError, ImportError):
        raise
    except Exception as error:  # readers of foreign formats have errors of their own
        reason = " ".join(str(error).split()) or type(error).__name__
        if wanted and isinstance(error, MismatchError):
            reason += f"; PyTorch's checkpoints mostly want {wanted}"
        kind = type(error) if isinstance(error, WeightsError) else FormatError
        raise kind(f"{path} does not hold the weights of this {name}: {reason}") from error
    if wanted and torch_doubt:
        logger.warning(
            "%s: checkpoints that were trained in PyTorch mostly want %s; without, they fit and "
            "give other answers. Those that came from TensorFlow, as timm's `tf_...`, do not.",
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


def convert(
    path: Path,
    target: Path,
    model: Any,
    torch_names: Mapping[str, Sequence[torch_layout.TorchName]] | None,
    classifier: str = "predictions",
) -> None:
    """Writes the weights of a file in Keras's present layout, `.weights.h5`.

    Args:
        path: A file in any format that `load` reads.
        target: The file to write; it is there only when it is whole.
        model: The network with its classifier, empty will do.
        torch_names: Names of its layers in PyTorch checkpoints.
        classifier: Name of the layer whose weights make the classes.

    Raises:
        WeightsError: If the file is not one of this network's.
    """
    arrays, _ = _read(path, model, torch_names)
    layers = {layer.name: layer for layer in model.layers if layer.weights}
    _match.check(arrays, layers, classifier, left_out=tuple, fresh=())
    scratch = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        _files.write_weights_h5(scratch, model.layers, arrays)
        os.replace(scratch, target)
    finally:
        scratch.unlink(missing_ok=True)


def _ready(
    source: WeightsSource,
    name: str,
    whole: Callable[[], Any],
    torch_names: Mapping[str, Sequence[torch_layout.TorchName]] | None,
    *,
    include_top: bool,
) -> Path:
    """The path of published weights in a layout of Keras: the file, or a copy that is made once."""
    file = source.file(include_top=include_top)
    foreign = Path(file.name).suffix in _TORCH_SUFFIXES or file.name.endswith(_TF2CV)
    if not foreign:
        return _download.fetch(file)
    copy = _download.cache_dir() / f"{file.name}.{name}.weights.h5"
    if not copy.is_file():
        convert(_download.fetch(file), copy, whole(), torch_names)
    return copy


def _names(model: Any) -> set[str]:
    return {layer.name for layer in model.layers}


def _read(
    path: Path, model: Any, torch_names: Mapping[str, Sequence[torch_layout.TorchName]] | None
) -> tuple[_match.Arrays, Sequence[_compare.Config] | None]:
    """The arrays of a file by our names, and the configurations of its layers if it has them."""
    if not path.name.lower().endswith(_SUFFIXES):
        raise FormatError(f"the file name must end in {', '.join(_SUFFIXES)}")
    suffix = path.suffix.lower()
    if suffix in _TORCH_SUFFIXES or path.name.endswith(_TF2CV):
        if torch_names is None:
            raise FormatError("no PyTorch checkpoint of this architecture is known")
        read = _READERS.get(suffix, _files.read_torch)
        return torch_layout.convert(read(path), torch_names, model.layers), None
    configs: Sequence[_compare.Config] | None = None
    if suffix == ".keras":
        arrays, configs = _files.read_keras(path)
    elif path.name.lower().endswith(".weights.h5"):
        arrays = _files.read_weights_h5(path)
    else:
        arrays, configs = _files.read_legacy_h5(path)
    ours = [layer.name for layer in model.layers if layer.weights]
    prefix = _match.prefix_of(arrays, ours)
    names = _match.our_names(arrays, ours, prefix)
    if configs is not None:
        configs = _without_auxiliary(_renamed(one, names, prefix) for one in configs)
    return {names[name]: values for name, values in arrays.items()}, configs


def _without_auxiliary(configs: Iterable[_compare.Config]) -> list[_compare.Config]:
    return [one for one in configs if not _match.auxiliary(one["config"]["name"])]


def _renamed(config: _compare.Config, names: Mapping[str, str], prefix: str) -> _compare.Config:
    """A layer's configuration with our name, and the file's, by which others refer to it."""
    name = config["config"]["name"]
    ours = names.get(name, name.removeprefix(prefix))
    return {**config, "name": name, "config": {**config["config"], "name": ours}}


def _fill(
    model: Any,
    arrays: _match.Arrays,
    configs: Sequence[_compare.Config] | None,
    classifier: str,
    head: Callable[[], Collection[str]] | None,
    fresh: Sequence[str],
) -> None:
    """Gives the model the arrays, after all comparisons with what the file holds.

    `head` gives the names of the layers of the classifier that the model lacks, if it lacks it.
    """
    statistics = _statistics(arrays, configs or ())
    layers = {x.name: x for x in model.layers if x.weights and x.name not in fresh}
    _match.check(arrays, layers, classifier, left_out=head or tuple, fresh=fresh)
    if configs is not None:
        ours = _without_auxiliary(json.loads(model.to_json())["config"]["layers"])
        _compare.compare(configs, ours, layers, classifier=classifier, include_top=head is None)
    for layer in model.layers:
        if isinstance(layer, keras.layers.Normalization) and statistics:
            _normalize_by(layer, *statistics, sure=configs is not None)
    for name, layer in layers.items():
        layer.set_weights(arrays.pop(name))  # which frees the memory of each in turn


def _statistics(
    arrays: _match.Arrays, configs: Sequence[_compare.Config]
) -> tuple[np.ndarray, np.ndarray] | None:
    """Takes the mean and the variance by which a network normalizes images, if a file has them."""
    found = None
    for name in list(arrays):
        if re.fullmatch(r"normalization(_\d+)?", name):  # as Keras numbers its layer
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
