"""Tells a network from one with the same weights but other layers or settings.

Weights fit wherever their names and shapes do. Files that also hold the configurations of the
layers say more: another epsilon, step or activation would give other answers without a word.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import keras

Config = Mapping[str, Any]

# Layers that do nothing in use, or only what shows in the shapes of the weights behind them.
_IDLE = ("InputLayer", "Dropout", "SpatialDropout2D", "Reshape", "Flatten", "Normalization")
_PADS = ("ZeroPadding2D", "SamePadding2D")
# Settings without effect in use, or with none but what shapes and `edges` show.
_IDLE_SETTINGS = re.compile(
    r"name|trainable|dtype|momentum|axis|data_format|padding|keepdims|synchronized|renorm.*|seed|"
    r".*_(initializer|regularizer|constraint)"
)


class Layer(NamedTuple):
    """What a layer computes, but for its weights.

    Attributes:
        name: Name of the layer.
        kind: Name of its class, one for those that do the same.
        settings: Arguments that matter.
        edges: Ways to say what its windows see beyond the edges of the map, if it has windows.
            Zeros may be as many as `padding="same"` has for one size of map but not for another.
    """

    name: str
    kind: str
    settings: dict[str, str]
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
    """Compares two networks whose weights fit.

    Layers with weights are compared by name, all others by how many there are of each sort.
    Dropout does not count, nor does the activation that gives the answers: training often has
    scores there. Without the classifier, what follows the last weights does not count either.

    Args:
        theirs: Configurations of the file's layers, under the names of the model.
        ours: Configurations of the model's layers.
        weighted: Names of the model's layers with weights.
        classifier: Name of the layer whose weights make the classes.
        include_top: Whether the model has it.

    Raises:
        ValueError: If they are different networks.
    """
    kinds = [{_kind(one) for one in configs} for configs in (theirs, ours)]
    if len({"Normalization" in both for both in kinds}) > 1:
        raise ValueError(
            f"it {'normalizes' if 'Normalization' in kinds[0] else 'does not normalize'} images "
            "itself, unlike the model: see include_preprocessing"
        )
    found, wanted = list(_layers(theirs)), list(_layers(ours))
    by_name = {layer.name: layer for layer in found}
    for layer in wanted:
        if layer.name in weighted:
            _compare_one(by_name[layer.name], layer, answers=layer.name == classifier)
    if include_top:
        found, wanted = _without_answers(found), _without_answers(wanted)
        _compare_counts(found, wanted, weighted)
    else:
        _compare_counts(_until_last(found, weighted), wanted, weighted, more="ours")
        _compare_counts(found, _until_last(wanted, weighted), weighted, more="theirs")


def _compare_one(found: Layer, wanted: Layer, *, answers: bool) -> None:
    if found.kind != wanted.kind:
        raise ValueError(f"its layer {found.name} is {found.kind}, the model's {wanted.kind}")
    for key in sorted(found.settings.keys() & wanted.settings.keys()):
        theirs, ours = found.settings[key], wanted.settings[key]
        if theirs != ours and not (answers and key == "activation"):
            raise ValueError(f"its layer {found.name} has {key}={theirs}, the model's {key}={ours}")
    if not found.sees_the_same(wanted):
        theirs, ours = (" or ".join(sorted(layer.edges)) for layer in (found, wanted))
        raise ValueError(f"its layer {found.name} has {theirs} padding, the model's {ours}")


def _compare_counts(
    found: Sequence[Layer], wanted: Sequence[Layer], weighted: Collection[str], *, more: str = ""
) -> None:
    """Compares the layers without weights; `"theirs"` or `"ours"` may be more."""
    found, wanted = (
        [layer for layer in layers if layer.name not in weighted] for layers in (found, wanted)
    )
    keys: dict[str, set[str]] = {}
    for layer in (*found, *wanted):  # versions of Keras write more settings or fewer
        keys[layer.kind] = keys.get(layer.kind, set(layer.settings)) & set(layer.settings)

    def count(layers: Sequence[Layer]) -> Counter[str]:
        return Counter(
            " ".join([kind, *(f"{key}={settings[key]}" for key in sorted(keys[kind]))])
            for _, kind, settings, _ in layers
        )

    theirs, ours = count(found), count(wanted)
    for sort in sorted(theirs.keys() | ours.keys()):
        a, b = theirs[sort], ours[sort]
        if (a > b and more != "theirs") or (a < b and more != "ours"):
            raise ValueError(f"it has {a} of the layer {sort}, the model {b}")
    for one, other, whose in ((found, wanted, "theirs"), (wanted, found, "ours")):
        for layer in one if more != whose else ():
            if not any(x.kind == layer.kind and x.sees_the_same(layer) for x in other):
                where = "file" if whose == "theirs" else "model"
                raise ValueError(
                    f"only in the {where} is there a {layer.kind} with "
                    f"{' or '.join(sorted(layer.edges))} padding, {layer.name}"
                )


def _without_answers(layers: list[Layer]) -> list[Layer]:
    return layers[:-1] if layers[-1].kind in ("Activation", "Softmax") else layers


def _until_last(layers: list[Layer], weighted: Collection[str]) -> list[Layer]:
    return layers[: 1 + max(i for i, layer in enumerate(layers) if layer.name in weighted)]


def _layers(configs: Sequence[Config]) -> Iterator[Layer]:
    """The layers that matter, in one form for the several ways to write the same."""
    by_name = {one["config"]["name"]: one for one in configs}
    for one in configs:
        kind, config = _kind(one), one["config"]
        name = config["name"]
        # Under the name that Keras gives it, it prepares images, which the caller compares.
        prepares = kind == "Rescaling" and re.fullmatch(r"rescaling(_\d+)?", name)
        linear = kind == "Activation" and config["activation"] == "linear"
        if kind in (*_IDLE, *_PADS) or prepares or linear:
            continue
        settings = {
            key: _activation(value) if key == "activation" else json.dumps(value)
            for key, value in config.items()
            if not _IDLE_SETTINGS.fullmatch(key)
        }
        if kind == "ReLU" and not (config.get("negative_slope") or config.get("threshold")):
            most = config.get("max_value")
            kind = "Activation"
            settings = {"activation": "relu" if most is None else f"relu{most:g}"}
        elif kind == "CustomScaleLayer":  # of Keras's Inception-ResNet v2
            yield Layer(name, "Add", {})
            kind = "Rescaling"
            settings["offset"] = "0.0"
        elif kind == "GroupedConv2D":
            kind = "Conv2D"
        yield Layer(name, kind, settings, _edges(one, by_name))


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
            yield node["config"]["keras_history"][0], node["config"]["shape"]
        else:
            for value in node.values():
                yield from _inputs(value)
    elif isinstance(node, Sequence) and not isinstance(node, str) and node:
        if isinstance(node[0], str):  # as Keras 2 wrote it
            yield node[0], None
        else:
            for value in node:
                yield from _inputs(value)
