"""A model's layers and kernels, and its state, for what acts on a model from outside."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import islice
from typing import Any

import keras
import numpy as np

from keras_cnn_classics.training._random import get_random, set_random

ROLES = ("kernel", "depthwise", "pointwise")


@dataclass(frozen=True)
class Kernel:
    """A kernel of a layer.

    Attributes:
        layer: The layer.
        role: What the layer's arguments for it begin with: one of `ROLES`.
        variable: The kernel.
        holder: The layer whose arguments, and so whose saved config, are those for the kernel: the
            layer itself, or one that it is a part of, such as `ChannelAttention`.
    """

    layer: Any
    role: str
    variable: Any
    holder: Any

    @property
    def name(self) -> str:
        """The layer's name; that of a part, which others may have too, behind its holder's."""
        parts = [self.layer] if self.holder is self.layer else [self.holder, self.layer]
        return "/".join(part.name for part in parts)

    @property
    def depthwise(self) -> bool:
        """Whether each of its filters sees one channel only."""
        return self.role == "depthwise"


def layers_of(model: Any) -> list[Any]:
    """The layers of a model and all that is in them, each once, in the model's order."""
    found: dict[Any, None] = {}
    for layer in model._layers:
        found |= dict.fromkeys([layer, *layers_of(layer)])
    return list(found)


def kernels(model: Any) -> list[Kernel]:
    """The kernels of a model's layers: of convolutions, dense layers and the like.

    Raises:
        ValueError: If the model is not built.
    """
    if not model.built:
        raise ValueError(
            f"The model {model.name!r} has no weights yet: build it, or give it an Input."
        )
    found = []
    holders: dict[tuple[Any, str], Any] = {}
    for layer in layers_of(model):
        for role in ROLES:
            if not hasattr(layer, f"{role}_regularizer"):
                continue
            name = f"{role}_kernel" if hasattr(layer, f"{role}_kernel") else "kernel"
            variable = getattr(layer, name, None)
            if variable is not None:
                found.append(Kernel(layer, role, variable, holders.get((layer, role), layer)))
            elif f"{role}_regularizer" in vars(layer):
                # It hands the argument to its parts; an `LSTM`, which only shows its cell's, has
                # none. Of layers within layers the outermost is saved.
                holders = {(part, role): layer for part in layers_of(layer)} | holders
    return found


def matches(layer: Any, patterns: str | Sequence[str]) -> bool:
    """Whether a layer's name fits a pattern, or one of several: `"conv1"`, `"block1_*"`."""
    patterns = (patterns,) if isinstance(patterns, str) else patterns
    return any(fnmatchcase(layer.name, pattern) for pattern in patterns)


def refuse_compiled_steps(model: Any, what: str) -> None:
    """Refuses a model whose training step is compiled already, and would not see a change."""
    if getattr(model, "train_function", None) is not None:
        raise ValueError(
            f"{what} changes the training step, but that of the model {model.name!r} is made "
            "already: call it before the first training, or compile the model again first."
        )


@contextlib.contextmanager
def preserved(model: Any) -> Iterator[None]:
    """Puts all variables of a model, and the random state of the process, back in the end.

    The random state is that of Keras, NumPy's old generator, Python's and, on its backend,
    PyTorch's.
    """
    # Keras gives its random state to nobody else. It is a private module: whoever does not need
    # it here must not depend on its place, least of all every `import keras`, which comes by.
    from keras.src.backend.common import global_state

    variables = [(v, np.array(keras.ops.convert_to_numpy(v))) for v in model.variables]
    others = get_random()
    name = "global_seed_generator"
    generator = global_state.get_global_attribute(name)
    if generator is not None:
        variables.append((generator.state, np.array(keras.ops.convert_to_numpy(generator.state))))
    try:
        yield
    finally:
        for variable, value in variables:
            variable.assign(value)
        set_random(others)
        global_state.set_global_attribute(name, generator)


@contextlib.contextmanager
def outputs_through(
    layers: Sequence[Any], function: Callable[[Any, Callable[[], Any]], Any]
) -> Iterator[None]:
    """Lets what layers give, before their own activation, pass through a function.

    `function(layer, compute)` is called in place of the layer; `compute()` gives what the layer
    would have given without its activation, as often as it is called. The activation is applied
    to what the function returns. It acts wherever the layers are in a model. The activation of a
    wrapper is that of its layer.
    """

    def through(layer: Any, call: Callable[..., Any]) -> Callable[..., Any]:
        active = layer.layer if isinstance(layer, keras.layers.Wrapper) else layer

        def wrapped(*args: Any, **kwargs: Any) -> Any:
            activation = getattr(active, "activation", None)
            if activation is None:
                return function(layer, lambda: call(*args, **kwargs))

            def compute() -> Any:
                active.activation = None
                try:
                    return call(*args, **kwargs)
                finally:
                    active.activation = activation

            return activation(function(layer, compute))

        return wrapped

    for layer in layers:
        # Past Keras's own `__setattr__`, which keeps books on what a layer has.
        object.__setattr__(layer, "call", through(layer, layer.call))
    try:
        yield
    finally:
        for layer in layers:
            object.__delattr__(layer, "call")


def as_array(value: Any) -> np.ndarray:
    """A tensor of any library as an array."""
    return value if isinstance(value, np.ndarray) else keras.ops.convert_to_numpy(value)


def inputs_of(batch: Any) -> Any:
    """The inputs of a batch, `inputs` or `(inputs, ...)`, as arrays."""
    return arrays(batch[0] if isinstance(batch, (tuple, list)) else batch)


def arrays(tensors: Any) -> Any:
    """Tensors of any library, in any structure, as arrays."""
    return keras.tree.map_structure(as_array, tensors)


def first_batches(data: Any, batches: int) -> Any:
    """The inputs of the first batches as one, or those of an array as it is."""
    if hasattr(data, "shape"):
        return as_array(data)
    found = [inputs_of(batch) for batch in islice(data, batches)]
    if not found:
        raise ValueError("`data` gives no batches: pass an array, a list of them, or a data set.")
    return keras.tree.map_structure(lambda *parts: np.concatenate(parts), *found)
