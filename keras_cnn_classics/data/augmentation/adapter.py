"""Preprocessing layers of Keras and of KerasCV as operations, with draws from our seeds.

Keras's layers draw from a state that each call moves on, KerasCV's from TensorFlow's stateful
operations, some of which start again in every epoch. In a parallel map neither can be repeated.
Both ask for their numbers by a few names in Python while the layer is traced into a graph, and
that is where `from_layer` gives them stateless ones; a layer that draws otherwise is refused.

The names are those of Keras 3.15.1, KerasCV 0.9.0 and TensorFlow 2.21, with which this was tried.
They are replaced in the whole process, under a lock, and for the thread that traces only. Where
another version draws by other names, its layers are refused.
"""

from __future__ import annotations

import contextlib
import itertools
import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import keras
import numpy as np
import tensorflow as tf

from keras_cnn_classics.data.augmentation._operation import (
    apply,
    check_image,
    check_single,
    rounded,
)
from keras_cnn_classics.data.augmentation.mixing import check_batch

MIXERS = ("CutMix", "FourierMix", "MixUp", "Mosaic")
CHAINS = ("Augmenter", "Pipeline", "Sequential")

# Nodes of a graph whose numbers come from elsewhere than from a seed among the inputs.
_STATEFUL = re.compile(
    "Random(?!.*Dataset)|Stateful[USTR]|Rng|TruncatedNormal|Multinomial|(Eager)?PyFunc"
)
_TRACING = threading.RLock()


def from_layer(layer: Any) -> Any:
    """Makes an operation or a mixer of a layer of Keras or KerasCV.

    Each image has draws of its own, which depend on the operation's seed alone; the layer's own
    seed is not used. The layer is tried out once, so what does not work is said at once.

    Args:
        layer: An image preprocessing layer that takes and gives pixels from 0 to 255, channels
            last; or `keras_cv.layers.Augmenter`, `keras.layers.Pipeline` or `keras.Sequential`
            of such layers, which are applied one after the other. `Sometimes` does for any of
            them what KerasCV's `RandomApply` does for batches only.

    Returns:
        A mixer for `MixUp`, `CutMix`, `FourierMix` and `Mosaic`, else an operation on one image.

    Raises:
        ValueError: If the layer cannot be used; the message says why.
    """
    kind = type(layer).__name__
    if kind in CHAINS:
        chain = tuple(from_layer(one) for one in layer.layers)
        for operation in chain:
            check_single(operation, kind)
        return Chain(chain)
    if not isinstance(layer, keras.layers.Layer):
        raise ValueError(f"`from_layer` takes a layer of Keras or KerasCV. Received: {layer!r}")
    if getattr(layer, "data_format", None) == "channels_first":
        raise _refusal(layer, "it is for channels first; set `data_format='channels_last'`")
    if kind == "CutMix" and _from_kerascv(layer):
        reason = "its labels count what the border cuts off its rectangle, and are wrong by 0.16"
        raise _refusal(layer, f"{reason} on average; take `data.augmentation.CutMix`")
    adapted = LayerMixer(layer) if kind in MIXERS else LayerOperation(layer)
    _try_out(adapted)
    return adapted


def check_model(model: Any) -> None:
    """Refuses a model with a preprocessing layer of KerasCV in it.

    Args:
        model: A Keras model.

    Raises:
        ValueError: If it has one; the message names it and says what to do.
    """
    for layer in model.layers:
        if _from_kerascv(layer):
            raise ValueError(
                f"The model holds KerasCV's layer {layer.name!r} ({type(layer).__name__}). It "
                "knows no `training` argument, so it would change the images in `predict` and "
                "`evaluate` too. Take it out of the model, and put "
                "`data.augmentation.from_layer(layer)` into the input pipeline."
            )
        if hasattr(layer, "layers"):
            check_model(layer)


@dataclass(frozen=True)
class Chain:
    """Operations on one image as one operation."""

    operations: tuple[Any, ...]

    def __call__(self, image: Any, seed: Any) -> Any:
        return apply(image, self.operations, seed)


class _Adapter:
    """A layer, and the graph functions that are traced from it."""

    def __init__(self, layer: Any) -> None:
        self.layer = layer
        self.traced = tf.function(self._call)

    def _call(self, inputs: Any, seed: Any) -> Any:
        """The layer's outputs; Python runs this only while it is traced."""
        with _TRACING, _draws_from(seed):
            return self.layer(inputs, training=True)

    def __repr__(self) -> str:
        return f"from_layer({self.layer!r})"


class LayerOperation(_Adapter):
    """A layer as an operation on one image."""

    def __call__(self, image: Any, seed: Any) -> Any:
        image = check_image(image, self.layer)
        # A seed of Python's numbers would be traced anew each time.
        changed = self.traced(tf.cast(image, tf.float32), tf.convert_to_tensor(seed))
        return rounded(tf.cast(changed, tf.float32))


class LayerMixer(_Adapter):
    """A layer as a mixer of a batch and its one-hot labels."""

    mixes: ClassVar[bool] = True

    def __call__(self, images: Any, labels: Any, seed: Any) -> tuple[Any, Any]:
        images, labels = check_batch(images, labels, self.layer)
        inputs = {"images": tf.cast(images, tf.float32), "labels": labels}
        mixed = self.traced(inputs, tf.convert_to_tensor(seed))
        pixels = tf.cast(mixed["images"], tf.float32)
        return rounded(pixels) if images.dtype == tf.uint8 else pixels, mixed["labels"]


def _from_kerascv(layer: Any) -> bool:
    """Whether it is one of KerasCV's preprocessing layers, without importing them."""
    module = type(layer).__module__
    return module.startswith("keras_cv.") and ".preprocessing." in module


def _refusal(layer: Any, reason: str) -> ValueError:
    return ValueError(f"{type(layer).__name__} cannot augment: {reason}. Received: {layer!r}")


def _try_out(adapted: _Adapter) -> None:
    """Traces and runs a layer once on pixels of all values."""
    values = tf.reshape(tf.range(64 * 64 * 3, dtype=tf.float32) % 256, (64, 64, 3))
    inputs: Any = values
    if isinstance(adapted, LayerMixer):
        inputs = {"images": tf.stack([values, 255 - values]), "labels": tf.eye(2)}
    seed, drawn = tf.constant([0, 0]), _drawn()
    try:
        graph = adapted.traced.get_concrete_function(inputs, seed).graph
        outputs = adapted.traced(inputs, seed)
    except Exception as error:  # layers fail in many ways; which layer it is must be said
        raise _refusal(adapted.layer, f"it fails on a sample: {_cause(error)}") from error
    images = outputs["images"] if isinstance(outputs, dict) else outputs
    if isinstance(images, tf.RaggedTensor):
        raise _refusal(adapted.layer, "its output is ragged, and a batch needs one size")
    stateful = sorted(name for name in _node_types(graph) if _STATEFUL.match(name))
    if stateful:
        reason = f"no seed reaches the numbers that it draws (by {', '.join(stateful)})"
        raise _refusal(adapted.layer, reason)
    if drawn != _drawn():
        reason = "it draws by NumPy, once for all images, while it is traced"
        raise _refusal(adapted.layer, reason)
    if tf.reduce_max(images) <= 1:
        raise _refusal(adapted.layer, "it does not keep to pixels from 0 to 255, but gives 0 to 1")


def _drawn() -> tuple[Any, ...]:
    """Where NumPy's old generator has got to; from Python's Keras itself takes its seeds."""
    _, keys, place, *_ = np.random.get_state()  # noqa: NPY002
    return np.asarray(keys).tobytes(), place


def _cause(error: Exception) -> str:
    """The message without what TensorFlow and Keras put around it: code, colours, arguments."""
    text = re.sub(r"\x1b\[\d*m", "", str(error)).split("Arguments received by")[0]
    return text.strip().splitlines()[-1].strip() or type(error).__name__


def _node_types(graph: Any) -> set[str]:
    definition = graph.as_graph_def()
    functions = (function.node_def for function in definition.library.function)
    return {node.op for node in itertools.chain(definition.node, *functions)}


@contextlib.contextmanager
def _draws_from(seed: Any) -> Iterator[None]:
    """Lets all that this thread draws in Python come from a seed, each draw another number."""
    thread, count = threading.get_ident(), itertools.count()

    def next_seed() -> Any:
        graph = tf.compat.v1.get_default_graph()
        while graph is not None:
            if type(graph).__name__ == "WhileBodyFuncGraph":
                raise ValueError("it draws in a loop, and each turn would get the same numbers")
            graph = getattr(graph, "outer_graph", None)
        return tf.random.experimental.stateless_fold_in(seed, next(count))

    def uniform(shape: Any, minval: Any = 0, maxval: Any = None, dtype: Any = tf.float32) -> Any:
        maxval = 1 if maxval is None else maxval
        return tf.random.stateless_uniform(shape, next_seed(), minval, maxval, dtype)

    def normal(shape: Any, mean: Any = 0.0, stddev: Any = 1.0, dtype: Any = tf.float32) -> Any:
        return tf.random.stateless_normal(shape, next_seed(), mean, stddev, dtype)

    def gamma(shape: Any, alpha: Any, beta: Any = None, dtype: Any = tf.float32) -> Any:
        alpha = tf.convert_to_tensor(alpha, dtype)
        shape = tf.concat([tf.cast(shape, tf.int32), tf.shape(alpha)], 0)
        return tf.random.stateless_gamma(shape, next_seed(), alpha, beta, dtype)

    def shuffle(value: Any) -> Any:
        return tf.random.experimental.stateless_shuffle(value, next_seed())

    def method(function: Callable[..., Any]) -> Callable[..., Any]:
        return lambda self, *args, **kwargs: function(*args, **kwargs)

    def ours(original: Callable[..., Any], replacement: Callable[..., Any]) -> Callable[..., Any]:
        @tf.autograph.experimental.do_not_convert
        def draw(*args: Any, **kwargs: Any) -> Any:
            if threading.get_ident() != thread:
                return original(*args, **kwargs)
            kwargs = {k: v for k, v in kwargs.items() if k not in ("seed", "name")}
            return replacement(*args, **kwargs)

        return draw

    replacements: dict[tuple[Any, str], Callable[..., Any]] = {
        (keras.random.SeedGenerator, "next"): lambda self, ordered=True: next_seed(),
        (tf.random.Generator, "uniform"): method(uniform),
        (tf.random.Generator, "normal"): method(normal),
        (tf.random, "uniform"): uniform,
        (tf.random, "normal"): normal,
        (tf.random, "gamma"): gamma,
        (tf.random, "shuffle"): shuffle,
    }
    originals = {where: getattr(*where) for where in replacements}
    try:
        for where, replacement in replacements.items():
            setattr(*where, ours(originals[where], replacement))
        yield
    finally:
        for where, original in originals.items():
            setattr(*where, original)
