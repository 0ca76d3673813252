"""The heads of a model: the layers that belong to one task alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import layers

from keras_cnn_classics.training._arguments import check_number

FORMS = ("softmax", "sigmoid", "linear")
_FEATURES = "__features__"
_NAMED = 8  # layers in a message
# What may stand between the last weights of a classifier and its answer.
_PASSED = (
    layers.Activation,
    layers.Softmax,
    layers.ReLU,
    layers.Reshape,
    layers.Flatten,
    layers.Dropout,
    layers.Identity,
    layers.GlobalAveragePooling2D,
    layers.GlobalMaxPooling2D,
)
# Layers and operations, by name as those of keras.ops have no class that is public: what decides
# the form of answers, and what leaves answers of some forms in it.
_DECIDING = {"Softmax": "softmax", "Sigmoid": "sigmoid", "EuclideanRBF": "linear"}
_KEPT = {
    name: forms
    for forms, names in (
        (
            FORMS,
            "Activation AdaptiveAveragePooling Average AveragePooling2D Cast Dropout Flatten "
            "GlobalAveragePooling1D GlobalAveragePooling2D Identity Mean Permute ReLU Relu "
            "Reshape SpatialDropout2D Squeeze StopGradient",
        ),
        (("sigmoid", "linear"), "Concatenate GlobalMaxPooling2D Maximum"),
        (
            ("linear",),
            "Add BatchNormalization Divide GetItem LayerNormalization Multiply Rescaling Subtract "
            "TrueDivide",
        ),
    )
    for name in names.split()
}


@dataclass(frozen=True)
class Head:
    """A head.

    Attributes:
        layers: Its layers, a chain from the shared part of the model to the answer.
        inputs: The symbolic tensor that the first of them takes.
        output: That which the last one gives.
        prefix: What the names of the layers begin with, if they were added for a task.
    """

    layers: tuple[Any, ...]
    inputs: Any
    output: Any
    prefix: str = ""

    @property
    def classes(self) -> int:
        return int(self.output.shape[-1])

    @property
    def form(self) -> str:
        """`"softmax"` or `"sigmoid"` for probabilities, `"linear"` for scores."""
        return form_of(self.output)


def functional(model: Any) -> keras.Model:
    """A plain Functional model on the layers of a Functional or Sequential one.

    Raises:
        ValueError: If the model is neither, is not built, or takes more than one image.
    """
    if hasattr(model, "export_model"):
        raise ValueError(
            f"Give the model that it has trained, as export_model(). Received: "
            f"{type(model).__name__} {model.name!r}"
        )
    if not isinstance(model, keras.Model):
        raise ValueError(f"The model must be a keras.Model. Received: {model!r}")
    try:
        sequential = isinstance(model, keras.Sequential)
        inputs, outputs = model.inputs, model.outputs[0] if sequential else model.output
    except (AttributeError, ValueError):
        inputs = outputs = None
    if not inputs or outputs is None:
        raise ValueError(
            "The model must be a Functional one, or a Sequential one that is built, so that its "
            f"layers can be told apart. Received: {type(model).__name__} {model.name!r}"
        )
    if len(inputs) != 1:
        raise ValueError(f"The model must take one batch of images. Received: {len(inputs)} inputs")
    return keras.Model(inputs[0], outputs, name=model.name)


def outputs_of(model: keras.Model, task: str) -> dict[str, Any]:
    """The outputs of a Functional model by their tasks: one output is that of `task`."""
    outputs = model.output
    if isinstance(outputs, dict):
        return dict(sorted(outputs.items()))  # as some backends have them anyway
    if isinstance(outputs, (list, tuple)):
        if len(outputs) != 1:
            raise ValueError(
                "A model of several tasks must have its outputs by name, as keras.Model(inputs, "
                f"{{'old': ..., 'new': ...}}) has. Received: a list of {len(outputs)}"
            )
        outputs = outputs[0]
    return {task: outputs}


def form_of(output: Any) -> str:
    """What kind of answers a symbolic output holds: one of `FORMS`.

    Raises:
        ValueError: For the answers of another activation, which no loss of classes fits, and for
            those of a layer or an operation that may be of any kind.
    """
    return _forming(output)[1]


def _forming(output: Any) -> tuple[Any, str]:
    """The layer or operation that decides the form of an output, and the form."""
    operation, node, index = output._keras_history
    if isinstance(operation, keras.Model) and getattr(operation, "outputs", None):
        return _forming(operation.outputs[index])
    layer = operation
    while isinstance(layer, layers.Wrapper):
        layer = layer.layer
    own = kinds(layer)
    form = next((_DECIDING[kind] for kind in own if kind in _DECIDING), None)
    if form is None and hasattr(layer, "activation"):
        activation = layer.activation or keras.activations.linear
        form = getattr(activation, "__name__", type(activation).__name__).lower()
        if form not in (*FORMS, "relu"):
            raise ValueError(
                f"The answers of {layer.name!r} go through {form!r}: they are neither "
                "probabilities (softmax, sigmoid) nor scores (no activation)."
            )
        if form in ("linear", "relu"):  # relu leaves probabilities as they are
            form = None if isinstance(layer, layers.Activation) else "linear"
    if form is not None:
        return operation, form
    kept = next((_KEPT[kind] for kind in own if kind in _KEPT), ())
    found = [_forming(x) for x in operation._inbound_nodes[node].input_tensors] if kept else []
    if len({form for _, form in found}) != 1 or found[0][1] not in kept:
        raise ValueError(
            f"It cannot be told whether {operation.name!r} ({type(layer).__name__}) gives "
            "probabilities or scores. Let it give scores, and end the model in "
            "keras.layers.Softmax() or, for several labels at once, in "
            "keras.layers.Activation('sigmoid')."
        )
    return found[0]


def kinds(layer: Any) -> list[str]:
    """The names of the classes that a layer or operation is of, those of Keras and of ours."""
    ours = ("keras.", "keras_cnn_classics.")
    return [kind.__name__ for kind in type(layer).__mro__ if kind.__module__.startswith(ours)]


def find_head(output: Any, first: str | None = None) -> Head:
    """Finds the head that a symbolic output comes from.

    It begins with the last dense layer or convolution, which must have an output for each class,
    or with the layer that is named.

    Args:
        output: An output of a Functional model.
        first: Name of the first layer of the head, to make more layers the task's own.

    Raises:
        ValueError: If no head is recognised, or no such layer is on the way.
    """
    chain: list[Any] = []
    seen: list[str] = []
    tensor = output
    while True:
        layer, node, _ = tensor._keras_history
        if isinstance(layer, keras.Model):
            raise ValueError(
                f"The head lies within {layer.name!r}, a model in the model. Give that one, as "
                f"model.get_layer({layer.name!r}), with the preparation of the images done "
                "before, or build the head outside of it."
            )
        inputs = layer._inbound_nodes[node].input_tensors
        if isinstance(layer, layers.InputLayer) or len(inputs) != 1:
            raise _unrecognised(output, first, seen)
        chain.insert(0, layer)
        seen.append(layer.name)
        if layer.name == first:
            break
        if first is None:
            size = getattr(layer, "units", None) or getattr(layer, "filters", None)
            if isinstance(layer, (layers.Dense, layers.Conv2D)) and size == output.shape[-1]:
                break
            if not isinstance(layer, _PASSED) and kinds(layer)[0] not in _DECIDING:
                raise _unrecognised(output, first, seen)
        tensor = inputs[0]
    form_of(output)
    return Head(tuple(chain), inputs[0], output)


def _unrecognised(output: Any, first: str | None, seen: list[str]) -> ValueError:
    if first is not None:
        return ValueError(
            f"No layer {first!r} is on the one way to the output. The layers there are, from the "
            f"last one: {', '.join(seen)}."
        )
    return ValueError(
        "The head is not recognised: it should end in a dense layer or a convolution with "
        f"{output.shape[-1]} outputs. Name its first layer by `head`; the last layers are, from "
        f"the output: {', '.join(names_before(output)[:_NAMED])}."
    )


def names_before(output: Any) -> list[str]:
    """The names of the layers before an output, as far as there is one way back."""
    names: list[str] = []
    tensor = output
    while True:
        layer, node, _ = tensor._keras_history
        inputs = layer._inbound_nodes[node].input_tensors
        if isinstance(layer, layers.InputLayer):
            break
        names.append(layer.name)
        if len(inputs) != 1:
            break
        tensor = inputs[0]
    return names


def operations_before(outputs: Iterable[Any]) -> list[Any]:
    """All layers and operations that symbolic tensors come from, each of them once."""
    found: dict[int, Any] = {}
    seen: set[tuple[int, int]] = set()
    left = list(outputs)
    while left:
        operation, node, _ = left.pop()._keras_history
        if (id(operation), node) not in seen:
            seen.add((id(operation), node))
            found[id(operation)] = operation
            left += operation._inbound_nodes[node].input_tensors
    return list(found.values())


def copy_of(
    model: keras.Model,
    rename: Callable[[str], str] = str,
    inputs: Any = None,
    name: str | None = None,
) -> keras.Model:
    """A copy of a Functional model with weights of its own.

    Args:
        model: The model.
        rename: Gives a layer's name in the copy for its name. Those in a model in the model get
            the name of that before theirs.
        inputs: A symbolic tensor for the copy to begin from, instead of an input of its own.
        name: Name of the copy. Defaults to the model's.
    """

    def copied(layer: Any) -> Any:
        if rename is not str and type(layer) in (type(model), keras.Sequential):
            name = rename(layer.name)
            return copy_of(functional(layer), lambda inner: f"{name}_{inner}", name=name)
        return remade(layer, name=rename(layer.name))

    copy = keras.models.clone_model(model, input_tensors=inputs, clone_function=copied)
    copy.set_weights(model.get_weights())
    return copy if name is None else keras.Model(copy.input, copy.output, name=name)


def remade(layer: Any, **changes: Any) -> Any:
    """A layer or an operation by the config of another one, with changes."""
    config = {**layer.get_config(), **changes}
    if isinstance(layer, layers.Lambda):  # of whose function from_config may be afraid
        config |= {"function": layer.function, "mask": layer.mask, "arguments": layer.arguments}
        config["output_shape"] = layer._output_shape
        return type(layer)(**config)
    return type(layer).from_config(config)


def copy_with(
    model: keras.Model, outputs: dict[str, Any], features: Any
) -> tuple[Any, dict[str, Any], Any]:
    """The input, the outputs and the features in a copy of a Functional model."""
    whole = keras.Model(model.input, {**outputs, _FEATURES: features}, name=model.name)
    copied = copy_of(whole)
    found = dict(copied.output)
    features = found.pop(_FEATURES)
    return copied.input, found, features


def duplicate(inputs: Any, features: Any, task: str) -> Any:
    """The features by a copy of all layers from the input on, called by the task."""
    model = keras.Model(inputs, features)
    return copy_of(model, lambda name: f"{task}_{name}", inputs).output


def new_head(
    features: Any,
    like: Head | None,
    task: str,
    classes: int,
    *,
    hidden: int | None = None,
    multi_label: bool = False,
) -> Any:
    """Puts a head for a new task on features.

    It has the layers of another head, with weights drawn by Glorot's rule in the last one and
    copied in those before it, or a dense layer where that head is of a kind that cannot be copied
    for other classes. All are called by the task.

    Args:
        features: Symbolic tensor.
        like: The head of another task, if there is one.
        task: Name of the task.
        classes: Number of classes.
        hidden: Units of a hidden layer before a dense one, instead of a copy: the paper's 4,096.
        multi_label: Whether an image may have several labels: each is then a probability of its
            own.

    Returns:
        A symbolic tensor of shape `(batch, classes)`.
    """
    check_number("classes", classes, 1, whole=True)
    if classes == 1 and not multi_label:
        raise ValueError(
            "One class is always right: give classes=2, or multi_label=True for a yes or no."
        )
    form = "softmax" if like is None or like.form == "sigmoid" else like.form
    form = "sigmoid" if multi_label else form
    last = None
    if like is not None:
        last = next((x for x in reversed(like.layers) if _sized(x, like.classes)), None)
    if like is None or last is None or hidden is not None:
        return _dense_head(features, task, classes, hidden, form)
    ending = like.layers[-1] if like.form == "linear" else _forming(like.output)[0]
    x, copied = features, []
    for layer in like.layers:
        own = layer.name.removeprefix(like.prefix)
        config = {**layer.get_config(), "name": f"{task}_{own}"}
        if isinstance(layer, layers.Layer):  # no operation of keras.ops
            config["trainable"] = True
        if layer is last:
            config["units" if "units" in config else "filters"] = classes
            config |= {"kernel_initializer": "glorot_uniform", "bias_initializer": "zeros"}
        if isinstance(layer, layers.Reshape):
            shape = config["target_shape"]
            config["target_shape"] = tuple(classes if n == like.classes else n for n in shape)
        if layer is ending and form != like.form:
            new = _ending(layer, config, form)
        else:
            new = remade(layer, **config)
        x = new(x)
        if layer is not last and getattr(layer, "weights", None):
            copied.append((new, layer))
    for new, old in copied:
        new.set_weights(old.get_weights())
    return x


def _sized(layer: Any, classes: int) -> bool:
    size = getattr(layer, "units", None) or getattr(layer, "filters", None)
    return isinstance(layer, (layers.Dense, layers.Conv2D)) and size == classes


def _ending(layer: Any, config: dict[str, Any], form: str) -> Any:
    """A layer like the one that decides the form of a head, for answers of another form."""
    if _DECIDING.keys() & kinds(layer):
        return layers.Activation(form, name=config["name"], dtype=config.get("dtype"))
    if "activation" not in config:
        raise ValueError(
            f"The head ends in {layer.name!r}, a {type(layer).__name__}, whose answers cannot be "
            f"made those of a {form}: end it in keras.layers.Activation."
        )
    return type(layer).from_config({**config, "activation": form})


def _dense_head(features: Any, task: str, classes: int, hidden: int | None, form: str) -> Any:
    x = features
    if len(x.shape) in (4, 5):
        pool = layers.GlobalAveragePooling2D, layers.GlobalAveragePooling3D
        x = pool[len(x.shape) - 4](name=f"{task}_pool")(x)
    elif len(x.shape) != 2:
        x = layers.Flatten(name=f"{task}_flatten")(x)
    if hidden is not None:
        check_number("hidden", hidden, 1, whole=True)
        x = layers.Dense(hidden, "relu", name=f"{task}_hidden")(x)
    activation = None if form == "linear" else form
    return layers.Dense(classes, activation, dtype="float32", name=f"{task}_predictions")(x)


def expanded(features: Any, task: str, units: int, seed: int) -> Any:
    """Adds units to the dense layers that features come from, for a new task alone.

    Each layer gets `units` more, which see the old and the new units of the layer before it, while
    the old ones see old ones only. They begin as copies of old units, drawn at random.

    Args:
        features: Symbolic tensor that heads take.
        task: Name of the new task.
        units: Units for each layer.
        seed: Seed of the draw.

    Returns:
        The symbolic features for the head of the new task: the old and the new units.

    Raises:
        ValueError: If there is no dense layer before the head.

    References:
        - [Li and Hoiem, 2016](https://arxiv.org/abs/1606.09282), section 4.2
        - [Chen et al., 2015](https://arxiv.org/abs/1511.05641): Net2Net's copies
    """
    check_number("expansion", units, 1, whole=True)
    passed = (*_PASSED[:3], layers.Dropout, layers.BatchNormalization)
    chain: list[Any] = []
    tensor, start = features, None
    while True:
        layer, node, _ = tensor._keras_history
        inputs = layer._inbound_nodes[node].input_tensors
        if not isinstance(layer, (layers.Dense, *passed)) or len(inputs) != 1:
            break
        chain.insert(0, (layer, tensor))
        tensor = inputs[0]
        if isinstance(layer, layers.Dense):
            start = len(chain)
    if start is None:
        raise ValueError(
            "`expansion` adds units to the hidden dense layers before the head, and this model "
            "has none there. The layers there are, from the head: "
            f"{', '.join(names_before(features)[:_NAMED])}."
        )
    chain = chain[-start:]  # from the first dense layer on
    rng = np.random.default_rng(seed)
    old = chain[0][0]._inbound_nodes[chain[0][1]._keras_history.node_index].input_tensors[0]
    new = None
    for layer, output in chain:
        config = {**layer.get_config(), "name": f"{task}_{layer.name}_more", "trainable": True}
        dense = isinstance(layer, layers.Dense)
        if dense:
            config["units"] = units
        more = type(layer).from_config(config)
        seen = old
        if dense and new is not None:
            seen = layers.Concatenate(name=f"{task}_{layer.name}_inputs")([old, new])
        new = more(seen if dense else new)
        if dense:
            drawn = rng.integers(0, layer.units, units)
            _copy_units(layer, more, drawn)
        else:  # what batch normalization knows of the units
            more.set_weights([weights[drawn] for weights in layer.get_weights()])
        old = output
    return layers.Concatenate(name=f"{task}_features")([old, new])


def _copy_units(layer: Any, more: Any, drawn: np.ndarray) -> None:
    """Gives a dense layer the weights of another's units; further inputs begin with 0."""
    weights = layer.get_weights()
    kernel = np.zeros(more.kernel.shape, weights[0].dtype)
    kernel[: len(weights[0])] = weights[0][:, drawn]
    more.set_weights([kernel, *(bias[drawn] for bias in weights[1:])])
