"""Tells a network from one with the same weights but other layers, settings or connections.

Weights fit wherever their names and shapes do. Files that also hold the configurations of the
layers say more: another epsilon, step or activation would give other answers without a word.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import keras

from keras_cnn_classics.weights.errors import MismatchError

Config = Mapping[str, Any]

# Layers that do nothing in use, or only what shows in the shapes of the weights behind them.
_IDLE = ("Dropout", "SpatialDropout2D", "Reshape", "Flatten", "Normalization", "PreprocessInput")
_PADS = ("ZeroPadding2D", "SamePadding2D")
_COMMUTATIVE = ("Add", "Average", "Maximum", "Minimum", "Multiply")
_ANSWERS = ("Activation", "Softmax")
_POOLING = tuple(f"Global{kind}Pooling{n}D" for kind in ("Average", "Max") for n in (2, 3))
# Settings without effect in use, or with none but what shapes and `edges` show.
_IDLE_SETTINGS = re.compile(
    r"name|trainable|dtype|momentum|axis|data_format|padding|keepdims|synchronized|renorm.*|seed|"
    r".*_(initializer|regularizer|constraint)"
)


# Between the name of a layer and the number of its use, from the second on.
_USE = ", use "


class Layer(NamedTuple):
    """What a layer computes, but for its weights, and of what; one for each use of it.

    Attributes:
        name: Name of the layer in the model.
        kind: Name of its class, one for those that do the same; empty if it does nothing.
        settings: Arguments that matter.
        before: Names in the file of the layers that it is called with.
        edges: Ways to say what its windows see beyond the edges of the map, if it has windows.
            Zeros may be as many as `padding="same"` has for one size of map but not for another.
    """

    name: str
    kind: str
    settings: dict[str, str]
    before: tuple[str, ...]
    edges: frozenset[str] = frozenset()

    def sees_the_same(self, other: Layer) -> bool:
        """Whether both see the same beyond the edges."""
        return bool(self.edges & other.edges) or self.edges == other.edges


def compare(
    theirs: Sequence[Config],
    ours: Sequence[Config],
    weighted: Collection[str],
    *,
    classifier: str,
    include_top: bool,
) -> None:
    """Compares two networks whose weights fit: what each layer does, and what it is given.

    Dropout does not count, nor does the activation that gives the answers: training often has
    scores there. Without the classifier, what the file has behind the trunk does not count either.

    Args:
        theirs: Configurations of the file's layers. Each has the model's name in its `config`, and
            beside that the file's, by which others refer to it.
        ours: Configurations of the model's layers.
        weighted: Names of the model's layers with weights.
        classifier: Name of the layer whose weights make the classes.
        include_top: Whether the model has it.

    Raises:
        MismatchError: If they are different networks.
    """
    kinds = [{_kind(one) for one in configs} for configs in (theirs, ours)]
    if len({"Normalization" in both for both in kinds}) > 1:
        raise MismatchError(
            f"it {'normalizes' if 'Normalization' in kinds[0] else 'does not normalize'} images "
            "itself, unlike the model"
        )
    found, wanted = _Network(theirs, weighted), _Network(ours, weighted)
    by_name = {layer.name: layer for layer in found.layers.values()}
    for layer in wanted.layers.values():
        if layer.name in weighted:
            _compare_one(by_name[layer.name], layer, answers=layer.name == classifier)
    shared, known = _shared_settings(found, wanted), dict[Any, int]()
    found.number(shared, known)
    wanted.number(shared, known)
    for name in wanted.inputs:
        if name not in found.inputs:  # shared by the model's layers, but not by the file's
            raise MismatchError(f"it lacks {name}")
        if found.inputs[name] != wanted.inputs[name]:
            theirs_given, ours_given = found.given(name), wanted.given(name)
            raise MismatchError(
                f"its layer {name} is given {theirs_given}, the model's {ours_given}"
            )
    end, our_end = found.end(include_top), wanted.end(include_top)
    ends = [found.numbers[end]] if include_top else found.numbers.values()
    if wanted.numbers[our_end] not in ends:
        raise MismatchError(f"it ends in {found.text(end)}, the model in {wanted.text(our_end)}")
    _compare_edges(found, wanted)


def _compare_one(found: Layer, wanted: Layer, *, answers: bool) -> None:
    if found.kind != wanted.kind:
        raise MismatchError(f"its layer {found.name} is {found.kind}, the model's {wanted.kind}")
    for key in sorted(found.settings.keys() & wanted.settings.keys()):
        theirs, ours = found.settings[key], wanted.settings[key]
        if theirs != ours and not (answers and key == "activation"):
            raise MismatchError(
                f"its layer {found.name} has {key}={theirs}, the model's {key}={ours}"
            )
    if not found.sees_the_same(wanted):
        theirs, ours = (" or ".join(sorted(layer.edges)) for layer in (found, wanted))
        raise MismatchError(f"its layer {found.name} has {theirs} padding, the model's {ours}")


def _compare_edges(found: _Network, wanted: _Network) -> None:
    """Compares what the pools at one place see beyond the edges."""
    places: dict[int, list[Layer]] = {}
    for key, layer in found.layers.items():
        if layer.kind:
            places.setdefault(found.numbers[key], []).append(layer)
    for key, layer in wanted.layers.items():
        there = places.get(wanted.numbers[key], [])
        if layer.kind and there and not any(layer.sees_the_same(x) for x in there):
            theirs, ours = (" or ".join(sorted(x.edges)) for x in (there[0], layer))
            raise MismatchError(
                f"its layer {there[0].name} has {theirs} padding, the model's {ours}"
            )


def _shared_settings(*networks: _Network) -> dict[str, set[str]]:
    """The settings that each kind of layer has in all: versions of Keras write more or fewer."""
    shared: dict[str, set[str]] = {}
    for network in networks:
        for layer in network.layers.values():
            shared[layer.kind] = shared.get(layer.kind, set(layer.settings)) & set(layer.settings)
    return shared


def _sorted(layers: Mapping[str, Layer]) -> dict[str, Layer]:
    """The layers, each behind those that it is called with, but else in their order."""
    found: dict[str, Layer] = {}
    ahead = dict(layers)
    while ahead:
        ready = len(found)
        for key, layer in list(ahead.items()):
            if found.keys() >= set(layer.before):
                found[key] = ahead.pop(key)
        if len(found) == ready:
            raise MismatchError(f"it gives {min(ahead)} what it does not have")
    return found


class _Network:
    """A network, with a number for what each layer gives.

    In networks that are numbered together, what is made in the same way of what the same layers
    with weights give has the same number.

    Attributes:
        layers: The layers by their names in the file, each behind those that it is called with.
        numbers: The number of each; a layer that does nothing has that of its input.
        inputs: The numbers of the inputs of each layer with weights, by its name in the model.
        weighted: Names of the layers with weights in the model.
    """

    def __init__(self, configs: Sequence[Config], weighted: Collection[str]) -> None:
        self.layers = _sorted(dict(_layers(configs)))
        names = (layer.name for layer in self.layers.values())
        self.weighted = {name for name in names if name.partition(_USE)[0] in weighted}
        self.numbers: dict[str, int] = {}
        self.inputs: dict[str, tuple[int, ...]] = {}

    def number(self, shared: Mapping[str, set[str]], known: dict[Any, int]) -> None:
        """Gives the numbers; `known` has those of what another network does."""
        for key, layer in self.layers.items():
            inputs = tuple(self.numbers[one] for one in layer.before)
            if layer.kind in _COMMUTATIVE:
                inputs = tuple(sorted(inputs))
            if not layer.kind and inputs:
                self.numbers[key] = inputs[0]
                continue
            what: Any = layer.name
            if layer.name in self.weighted:
                self.inputs[layer.name] = inputs
            else:
                settings = tuple((k, layer.settings[k]) for k in sorted(shared[layer.kind]))
                what = layer.kind, settings, inputs
            self.numbers[key] = known.setdefault(what, len(known))

    def end(self, include_top: bool) -> str:
        """The layer that gives the answers, or the features if there is no classifier."""
        used = {one for layer in self.layers.values() for one in layer.before}
        end = [key for key in self.layers if key not in used][-1]
        # The pooling that a model may have behind its trunk is not the trunk's.
        while self.layers[end].kind in (_ANSWERS if include_top else _POOLING):
            if self.layers[end].name in self.weighted:
                break
            end = self.layers[end].before[0]
        return end

    def given(self, name: str) -> str:
        """What a layer is called with, for messages."""
        (layer,) = (x for x in self.layers.values() if x.name == name)
        return self._texts(layer, 3)

    def text(self, key: str, depth: int = 3) -> str:
        """How what a layer gives is made, for messages: back to layers with weights."""
        layer = self.layers[key]
        if layer.name in self.weighted or not layer.before:
            return layer.name
        if not layer.kind:
            return self.text(layer.before[0], depth)
        what = " ".join([layer.kind, *(f"{k}={v}" for k, v in layer.settings.items())])
        return f"{layer.settings.get('activation', what)}({self._texts(layer, depth - 1)})"

    def _texts(self, layer: Layer, depth: int) -> str:
        return ", ".join(self.text(one, depth) for one in layer.before) if depth else "..."


def _layers(configs: Sequence[Config]) -> Iterator[tuple[str, Layer]]:
    """The layers, in one form for the several ways to write the same."""
    by_name = {_key(one): one for one in configs}
    for one in configs:
        for n, node in enumerate(one.get("inbound_nodes") or [None]):
            before = tuple(source for source, _ in _inputs(node))
            yield from _use(one, n, before, by_name)


def _use(
    one: Config, n: int, before: tuple[str, ...], by_name: Mapping[str, Config]
) -> Iterator[tuple[str, Layer]]:
    """One use of a layer."""
    kind, config = _kind(one), one["config"]
    key, name = _used(_key(one), n), _used(config["name"], n)
    linear = kind == "Activation" and config["activation"] == "linear"
    # By it Keras mends the statistics of its EfficientNets; reading these takes it in.
    mends = kind == "Rescaling" and _kind(by_name[before[0].partition(_USE)[0]]) == "Normalization"
    if kind in (*_IDLE, *_PADS) or linear or mends:
        yield key, Layer(name, "", {}, before)
        return
    settings = {
        key: _activation(value) if key == "activation" else json.dumps(value)
        for key, value in config.items()
        if not _IDLE_SETTINGS.fullmatch(key)
    }
    if kind == "InputLayer":
        name, settings = "the image", {}
    elif kind == "ReLU" and not (config.get("negative_slope") or config.get("threshold")):
        most = config.get("max_value")
        kind = "Activation"
        settings = {"activation": "relu" if most is None else f"relu{most:g}"}
    elif kind == "CustomScaleLayer":  # of Keras's Inception-ResNet v2
        scaled = f"{key}, scaled"
        scale = {"scale": settings["scale"], "offset": "0.0"}
        yield scaled, Layer(scaled, "Rescaling", scale, before[1:])
        kind, settings, before = "Add", {}, (before[0], scaled)
    elif kind == "GroupedConv2D":
        kind = "Conv2D"
    yield key, Layer(name, kind, settings, before, _edges(one, by_name))


def _used(name: str, n: int) -> str:
    """The name of a use of a layer: of the first, the layer's."""
    return f"{name}{_USE}{n + 1}" if n else name


def _key(one: Config) -> str:
    """The name by which the configurations of a file refer to a layer."""
    return str(one.get("name") or one["config"]["name"])


def _kind(one: Config) -> str:
    """The name of a layer's class; Keras's old format has the class's package before it."""
    return str(one["class_name"]).rpartition(">")[2]


def _activation(value: Any) -> str:
    """The name of an activation, which may have several."""
    try:
        return str(keras.activations.serialize(keras.activations.get(value)))
    except (ValueError, TypeError):  # one that only its author knows
        return json.dumps(value)


def _edges(one: Config, by_name: Mapping[str, Config]) -> frozenset[str]:
    """`Layer.edges` of a configuration."""
    config = one["config"]
    window = config.get("kernel_size") or config.get("pool_size")
    if not window or "padding" not in config:
        return frozenset()
    before, shape = next(_inputs(one.get("inbound_nodes")), ("", None))
    padding = by_name.get(before)
    if padding is None or _kind(padding) not in _PADS:
        single = {"same", "valid"} if set(window) == {1} else set()
        return frozenset({config["padding"]} | single)
    # A pool leaves out what is beyond the edge, unless a layer has put zeros there.
    zeros = " of zeros" if "pool_size" in config else ""
    if _kind(padding) == "SamePadding2D":
        return frozenset({f"same{zeros}"})
    _, shape = next(_inputs(padding["inbound_nodes"]), ("", None))
    pads = padding["config"]["padding"]
    same = pads == _same(window, config["strides"], shape, config.get("data_format"))
    return frozenset({f"{pads}{zeros}"} | ({f"same{zeros}"} if same else set()))


def _same(
    window: Sequence[int],
    strides: Sequence[int],
    shape: Sequence[int | None] | None,
    data_format: str | None,
) -> list[list[int]]:
    """The cells that `padding="same"` puts before and behind a map; even if it is of any size."""
    sides: Sequence[int | None] = (None, None)
    if shape:
        sides = shape[2:4] if data_format == "channels_first" else shape[1:3]
    pads = []
    for size, step, side in zip(window, strides, sides, strict=True):
        rest = (side or 0) % step or step
        total = max(size - rest, 0)
        pads.append([total // 2, total - total // 2])
    return pads


def _inputs(node: Any) -> Iterator[tuple[str, Any]]:
    """Name and, if it is told, shape of each tensor that a layer is called with."""
    if isinstance(node, Mapping):
        if node.get("class_name") == "__keras_tensor__":
            name, use, _ = node["config"]["keras_history"]
            yield _used(name, use), node["config"]["shape"]
        else:
            for value in node.values():
                yield from _inputs(value)
    elif isinstance(node, Sequence) and not isinstance(node, str) and node:
        if isinstance(node[0], str):  # as Keras 2 wrote it
            yield _used(node[0], node[1]), None
        else:
            for value in node:
                yield from _inputs(value)
