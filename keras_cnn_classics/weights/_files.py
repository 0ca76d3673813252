"""Readers of the formats that weights come in: each gives arrays by name. And hashes of files."""

from __future__ import annotations

import hashlib
import importlib.util
import itertools
import json
import pickle
import re
import tempfile
import zipfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np

from keras_cnn_classics.weights.errors import FormatError, UnsafeError

Arrays = dict[str, list[Any]]  # of NumPy, or of h5py, which are read when they are wanted
Tensors = dict[str, np.ndarray]
Config = dict[str, Any]

TORCH_SUFFIXES = (".safetensors", ".pth", ".pt", ".th")
_TF2CV = ".tf2.h5"  # with the layers of the same package's PyTorch networks

_ABOUT = "keras_cnn_classics"
_ALIGNMENT = 64  # bytes
_MOST_COMPRESSED = 100  # no network's weights are; what is, would fill the disk

# PyTorch's names for what TensorFlow's variables are called.
_OF_TENSORFLOW = {
    "kernel": "weight",
    "bias": "bias",
    "gamma": "weight",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
}


def is_foreign(name: str) -> bool:
    """Whether a file of this name has another layout than Keras's, and other names of layers."""
    return name.lower().endswith((*TORCH_SUFFIXES, _TF2CV))


def needs_torch(name: str) -> bool:
    """Whether a file of this name is in PyTorch's own format."""
    name = name.lower()
    return name.endswith(TORCH_SUFFIXES) and not name.endswith(".safetensors")


def check_reader(name: str) -> None:
    """Refuses a file that needs a package which is not there.

    Raises:
        ImportError: For a file of PyTorch's own format, without PyTorch.
    """
    if needs_torch(name) and importlib.util.find_spec("torch") is None:
        raise ImportError(
            f"Reading {name} needs PyTorch: pip install torch. Published sets whose files end in "
            ".safetensors or .h5 do without."
        )


def read_foreign(path: Path) -> Tensors:
    """Reads such a file as a state dict of PyTorch."""
    if path.suffix.lower() == ".safetensors":
        return read_safetensors(path)
    return read_tf2cv(path) if path.suffix.lower() == ".h5" else read_torch(path)


def read_legacy_h5(path: Path, opened: ExitStack) -> tuple[Arrays, list[Config] | None]:
    """Reads Keras's old HDF5 layout: arrays in the order of the layer's weights, by layer.

    They stay in the file until they are wanted, and `opened` closes it. A file of a whole model
    also holds the configurations of its layers.
    """
    file = opened.enter_context(h5py.File(path, "r"))
    root = _item(file, "model_weights") if "model_weights" in file else file
    layers = _list(root, "layer_names")
    if not layers:
        raise FormatError(_other_layout(file, "layers", ".weights.h5"))
    found = {}
    for name in layers:
        group = _item(root, name)
        arrays = [_item(group, key) for key in _list(group, "weight_names")]
        if arrays:
            found[name] = arrays
    (model,) = _strings([file.attrs.get("model_config", "{}")])
    return found, json.loads(model).get("config", {}).get("layers")


class _Ours(np.ndarray):
    """An array that nobody else will write to.

    TensorFlow copies an array first, lest somebody did; at this alignment it needs no copy else.
    """

    def copy(self, order: Any = "C") -> _Ours:
        return self


def in_memory(array: Any) -> np.ndarray:
    """Reads an array from its file, to where a tensor can be made of it without a copy."""
    if not isinstance(array, h5py.Dataset) or not array.shape:
        return np.asarray(array)
    room = np.empty(array.nbytes + _ALIGNMENT, np.uint8)
    start = -room.ctypes.data % _ALIGNMENT
    found = room[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
    if array.size:
        array.read_direct(found)
    return found.view(_Ours)


def read_tf2cv(path: Path) -> Tensors:
    """Reads a file of tf2cv, as the state dict that pytorchcv has for the same network."""
    found = {}
    with h5py.File(path, "r") as file:
        for layer in _list(file, "layer_names"):
            group = _item(file, layer)
            for name in _list(group, "weight_names"):
                *modules, kind = name.partition(":")[0].split("/")
                array = np.asarray(_item(group, name))
                if kind == "kernel":
                    array = array.transpose(3, 2, 0, 1) if array.ndim == 4 else array.T
                key = ".".join((*_modules_of_pytorchcv(layer, modules), _OF_TENSORFLOW[kind]))
                if key in found:
                    raise FormatError(f"it has two arrays for {key}")
                found[key] = array
    return found


def _modules_of_pytorchcv(layer: str, scopes: Sequence[str]) -> Iterator[str]:
    """The modules of pytorchcv for the scopes of a variable in a layer of tf2cv."""
    scopes = scopes[scopes.index(layer) :]  # a model that is called, not built, stands before it
    if scopes[-1] == "conv":  # TensorFlow's layer, in the one that stands for PyTorch's
        scopes = scopes[:-1]
    for before, scope in zip(("", *scopes), scopes, strict=False):
        # These sequences are in the names of their parts, too.
        if scope != before or not re.fullmatch(r"features|stage\d", scope):
            yield "output" if scope == "output1" else scope


def read_weights_h5(path: Path, opened: ExitStack) -> tuple[Arrays, Mapping[str, Any]]:
    """Reads Keras's present layout: arrays in the order of the layer's weights, by layer.

    They stay in the file until they are wanted, and `opened` closes it. With them comes what
    `write_about` has noted, or nothing.
    """
    file = opened.enter_context(h5py.File(path, "r"))
    if "layers" not in file:
        raise FormatError(_other_layout(file, "model_weights", ".h5"))
    groups = _item(file, "layers")
    arrays = {}
    for name in groups:
        layer = _item(groups, name)
        found = [*_variables(layer), *_variables_of_parts(layer)]
        if found:
            arrays[str(_item(layer, "vars").attrs["name"])] = found
    return arrays, json.loads(file.attrs.get(_ABOUT, "{}"))


def _variables(group: Any) -> list[Any]:
    """What a layer itself has."""
    variables = _item(group, "vars") if "vars" in group else ()
    return [_item(variables, str(i)) for i in range(len(variables))]


def _variables_of_parts(group: Any) -> Iterator[Any]:
    """What the layers in a layer have, which stand in the order of their names.

    That must be the order in which the layer makes them. Generators of random numbers stand there
    too, whose state is of integers and no weight.
    """
    for name in group:
        part = _item(group, name)
        if name != "vars" and isinstance(part, h5py.Group):
            yield from (v for v in _variables(part) if np.issubdtype(v.dtype, np.floating))
            yield from _variables_of_parts(part)


def _other_layout(file: Any, mark: str, suffix: str) -> str:
    """What is wrong with an HDF5 file that lacks what its name promises."""
    if mark in file or (suffix == ".h5" and "layer_names" in file.attrs):
        return f"it has the layout of files whose names end in {suffix}: rename it"
    return "it is an HDF5 file, but holds no Keras weights"


def _item(group: Any, path: str) -> Any:
    """A group or an array, unless HDF5 would take it from another file or place.

    Raises:
        UnsafeError: If it would.
    """
    for part in filter(None, path.split("/")):
        if not isinstance(group.get(part, getlink=True), h5py.HardLink):
            raise UnsafeError(f"its {part} is not in it, but a link to elsewhere")
        group = group[part]
    if isinstance(group, h5py.Dataset) and (group.external or group.is_virtual):
        raise UnsafeError(f"its array {path} is not in it, but in another file")
    return group


def read_keras(path: Path, opened: ExitStack) -> tuple[Arrays, list[Config]]:
    """Reads a whole saved model: its weights, and the configurations of its layers."""
    if not zipfile.is_zipfile(path):
        raise FormatError("it is no saved model, or one that is cut off")
    folder = opened.enter_context(tempfile.TemporaryDirectory())
    with zipfile.ZipFile(path) as archive:
        for part in map(archive.getinfo, ("config.json", "model.weights.h5")):
            if part.file_size > _MOST_COMPRESSED * part.compress_size + 1e6:
                raise UnsafeError(f"its {part.filename} would be {part.file_size:,} bytes unpacked")
        config = json.loads(archive.read("config.json"))["config"]
        weights = Path(archive.extract("model.weights.h5", folder))
    arrays, _ = read_weights_h5(weights, opened)
    return arrays, config.get("layers", [])


def read_safetensors(path: Path) -> Tensors:
    """Reads a safetensors file."""
    from safetensors.numpy import load_file

    return {key.removeprefix("module."): tensor for key, tensor in load_file(path).items()}


def read_torch(path: Path) -> Tensors:
    """Reads a PyTorch checkpoint, never running code that it may contain."""
    check_reader(path.name)
    import torch

    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        found = re.search(r"GLOBAL (\S+)", str(error))
        if found is None and "Unsupported" not in str(error):
            raise FormatError("it is damaged, or no checkpoint of PyTorch") from error
        raise UnsafeError(
            f"it holds more than tensors, {found[1] if found else 'an object'}, which may run code "
            "and was not read; save the state dict alone"
        ) from error
    for key in ("state_dict", "model"):  # as training scripts save it, beside other things
        state = state.get(key, state) if isinstance(state, dict) else state
    if not isinstance(state, dict) or not all(isinstance(v, torch.Tensor) for v in state.values()):
        raise FormatError("it holds no state dict, alone or as 'state_dict' or 'model'")
    # NumPy has no bfloat16.
    return {
        key.removeprefix("module."): (v.float() if v.dtype == torch.bfloat16 else v).numpy()
        for key, v in state.items()
    }


def _list(group: Any, name: str) -> list[str]:
    """A list of names in an attribute, or in numbered ones if it is too long for one, or empty."""
    numbered = (f"{name}{i}" for i in itertools.count())
    parts = itertools.takewhile(group.attrs.__contains__, numbered)
    return [one for part in (name, *parts) for one in _strings(group.attrs.get(part, ()))]


def _strings(values: Any) -> list[str]:
    return [value.decode() if isinstance(value, bytes) else str(value) for value in values]


def write_weights_h5(
    path: Path, layers: Iterable[Any], arrays: Mapping[str, Any], about: Mapping[str, Any]
) -> None:
    """Writes Keras's present layout, without a model that has the weights.

    Args:
        path: The file, which may exist.
        layers: All layers of the model, in its order.
        arrays: Arrays in the order of the layer's weights, by the names of layers.
        about: What later readers are told of the network.
    """
    counts: Counter[str] = Counter()
    with h5py.File(path, "w") as file:
        for layer in layers:
            kind = _snake_case(type(layer).__name__)
            number = counts[kind]
            counts[kind] += 1
            group = file.create_group(f"layers/{kind}_{number}" if number else f"layers/{kind}")
            _write_layer(group, layer, iter(arrays.get(layer.name, ())))
        write_about(file, about)


def _write_layer(group: Any, layer: Any, arrays: Iterator[Any]) -> None:
    """Writes as many arrays as the layer itself has, then those of the layers in it."""
    variables = group.create_group("vars")
    variables.attrs["name"] = layer.name
    parts = {
        name: part for name, part in sorted(vars(layer).items()) if isinstance(part, keras.Layer)
    }
    own = len(layer.weights) - sum(len(part.weights) for part in parts.values())
    for i, array in enumerate(itertools.islice(arrays, own)):
        variables[str(i)] = array
    for name, part in parts.items():
        _write_layer(group.create_group(name), part, arrays)


def write_about(file: Any, about: Mapping[str, Any]) -> None:
    """Notes in an HDF5 file which network its weights are for; Keras does not look at it."""
    file.attrs[_ABOUT] = json.dumps(about)


def _snake_case(name: str) -> str:
    """`SeparableConv2D` becomes `separable_conv2d`, as Keras's files have it."""
    words = re.sub("(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub("([a-z])([A-Z])", r"\1_\2", words).lower()


def digest_of(path: Path, algorithm: str) -> str:
    """The hash of a file, in hexadecimal digits."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, algorithm).hexdigest()
