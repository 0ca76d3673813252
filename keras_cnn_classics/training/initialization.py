"""Initial weights by the methods of the papers, for any model that is built.

Every method draws the kernels of convolutions and dense layers anew, and gives biases, batch
normalization and the slopes of PReLU the start that their layers name. All are reproducible: the
same seed gives the same weights on every backend. What a unit's inputs are is counted for each kind
of convolution: the channels of its group, one channel if it is depthwise, the maps that LeNet-5's
table names.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
from keras import layers, ops

from keras_cnn_classics.layers import (
    LocallyConnected2D,
    PartiallyConnectedConv2D,
    ScaledTanh,
    WeightNormalization,
)
from keras_cnn_classics.training._layers import (
    Kernel,
    as_array,
    first_batches,
    kernels,
    layers_of,
    matches,
    outputs_through,
)

_RELU = math.sqrt(2)  # its gain
_ACTIVATIONS = (layers.Activation, layers.ReLU, layers.LeakyReLU, layers.ELU, ScaledTanh)
# Variables beside the kernels, each of which has an initializer of that name in its layer.
_OTHERS = ("bias", "beta", "gamma", "moving_mean", "moving_variance", "alpha")


def initialize(model: Any, how: str = "he", seed: int = 0, **options: Any) -> None:
    """Initializes a model by the name of a method.

    Args:
        model: A built model.
        how: `"gaussian"`, `"glorot"`, `"he"`, `"orthogonal"`, `"zeros"`, `"lsuv"` or
            `"weight_normalization"`; see the functions of these names.
        seed: Seed of what is drawn.
        **options: Further arguments of the function, such as `data` for `lsuv`.

    Raises:
        ValueError: If there is no such method.
    """
    if how not in _METHODS:
        raise ValueError(f"`how` must be one of {', '.join(_METHODS)}. Received: {how=}")
    _METHODS[how](model, seed=seed, **options)


def gaussian(
    model: Any, *, std: float = 0.01, ones: str | Sequence[str] = (), seed: int = 0
) -> None:
    """Draws all kernels from one normal distribution, whatever their size.

    Args:
        model: A built model.
        std: Standard deviation. Defaults to `0.01`. The variance that VGG's paper prints for its
            net A means 0.1, with which the first loss is far too large to train.
        ones: Name of layers whose biases begin at 1, in which `*` stands for anything, or several
            names. For AlexNet these are conv2, conv4, conv5 and the hidden dense layers.
        seed: Seed of what is drawn.

    References:
        - [Krizhevsky et al., 2012](https://papers.nips.cc/paper/4824), section 5
    """
    _draw(model, lambda rng, kernel, shape: rng.normal(0, std, shape), seed)
    for layer in layers_of(model):
        if matches(layer, ones) and getattr(layer, "bias", None) is not None:
            layer.bias.assign(np.ones(layer.bias.shape))


def glorot(model: Any, *, seed: int = 0) -> None:
    """Uniform within `sqrt(6 / (fan_in + fan_out))`: the variances between forward and backward.

    With linear units a layer multiplies the variance of what goes forward by
    `fan_in * Var(w)`, and of the gradient that comes back by `fan_out * Var(w)`. Both cannot be 1:
    `Var(w) = 2 / (fan_in + fan_out)`, a third of the squared bound, is between the two.

    Args:
        model: A built model.
        seed: Seed of what is drawn.

    References:
        - [Glorot and Bengio, 2010](https://proceedings.mlr.press/v9/glorot10a.html), equation 16
    """

    def draw(rng: np.random.Generator, kernel: Kernel, shape: Any) -> np.ndarray:
        return rng.uniform(-1, 1, shape) * np.sqrt(6 / np.add(*_fans(kernel, shape)))

    _draw(model, draw, seed)


def he(model: Any, *, mode: str = "fan_in", seed: int = 0) -> None:
    """Normal with the standard deviation `gain / sqrt(fan)`, which keeps the variance.

    Let `y` be a unit's sum over `fan_in` inputs `x = f(y')`, where `y'` has the variance 1 and is
    symmetric about 0. The weights are independent with mean 0, so `Var(y) = fan_in * Var(w) *
    E[x^2]`, and `Var(y) = 1` asks for `Var(w) = gain^2 / fan_in` with `gain^2 = 1 / E[f(y')^2]`.
    The gain is thus that of the activation *before* a layer: the root of 2 for a ReLU, which loses
    half of `E[y'^2]`, and 1 for the image and after a linear bottleneck. See `gain`.

    The activation is looked for backwards from the layer's input, among layers and arguments of
    layers, and into nested models. What batch normalization gives has `E[x^2] = 1` itself, so a
    layer directly behind it has the gain 1; behind batch normalization and then a ReLU it is the
    root of 2.

    This is exact for chains of layers, and rough elsewhere. What is between the activation and the
    layer is taken to leave `E[x^2]` as it is, though a max-pool raises it, an average lowers it,
    and a sum adds up those of its terms, of which the first one's activation counts. A layer that
    no graph tells the inputs of, as in subclassed models, is taken to follow a ReLU.

    Args:
        model: A built model.
        mode: `"fan_in"` keeps the variance forward; `"fan_out"` that of the gradient, and is what
            the code of many residual networks has.
        seed: Seed of what is drawn.

    Raises:
        ValueError: If `mode` is neither of the two.

    References:
        - [He et al., 2015](https://arxiv.org/abs/1502.01852), section 2.2
    """
    if mode not in ("fan_in", "fan_out"):
        raise ValueError(f"`mode` must be 'fan_in' or 'fan_out'. Received: {mode=}")

    @functools.cache
    def gains() -> dict[int, float]:  # asked for once the slopes of PReLU have their start
        return _input_gains(model)

    def draw(rng: np.random.Generator, kernel: Kernel, shape: Any) -> np.ndarray:
        fan = _fans(kernel, shape)[mode == "fan_out"]
        # Nothing lies between the two kernels of a separable convolution.
        factor = 1.0 if kernel.role == "pointwise" else gains().get(id(kernel.layer), _RELU)
        return rng.normal(0, factor, shape) / np.sqrt(fan)

    _draw(model, draw, seed)


def gain(activation: Any) -> float:
    """`1 / sqrt(E[f(y)^2])` for a standard normal `y`: what makes up for an activation `f`.

    It is the square root of 2 for ReLU, of `2 / (1 + a^2)` for leaky and parametric ReLU of slope
    `a`, 1 for linear, 1.59 for tanh (for which PyTorch has 5/3 by a rule of thumb), and found by
    integration for any other function of one number.

    Args:
        activation: A function, its Keras name, or a layer; of a `PReLU` its mean slope counts.
    """
    y = np.linspace(-12, 12, 24001, dtype="float32")
    if isinstance(activation, layers.PReLU):
        slope = float(np.mean(as_array(activation.alpha)))
        f = np.where(y < 0, slope * y, y)
    else:
        if not isinstance(activation, layers.Layer):
            activation = keras.activations.get(activation)
        f = as_array(activation(ops.convert_to_tensor(y)))
    density = np.exp(-(y.astype("float64") ** 2) / 2) / math.sqrt(2 * math.pi)
    return 1 / math.sqrt(float(np.sum(f**2 * density)) * 0.001)


def orthogonal(model: Any, *, seed: int = 0) -> None:
    """Kernels with orthonormal filters, or orthonormal inputs where there are more filters.

    Args:
        model: A built model.
        seed: Seed of what is drawn.

    References:
        - [Saxe et al., 2013](https://arxiv.org/abs/1312.6120), section 3
    """

    def draw(rng: np.random.Generator, kernel: Kernel, shape: Any) -> np.ndarray:
        fan_in, blocks, out = shape
        q, r = np.linalg.qr(rng.normal(size=(blocks, max(fan_in, out), min(fan_in, out))))
        # The signs make it uniform among all such matrices.
        q = q * np.sign(np.diagonal(r, axis1=1, axis2=2))[:, None, :]
        q = (q if fan_in >= out else q.swapaxes(1, 2)).transpose(1, 0, 2)
        return q * np.sqrt(fan_in / _fans(kernel, shape)[0])

    _draw(model, draw, seed)


def zeros(model: Any, *, seed: int = 0) -> None:
    """All kernels zero: to see why not. No gradient comes back through any of them.

    The units of a layer are the same, and stay so; but for the last layer's bias, nothing learns.

    Args:
        model: A built model.
        seed: Not used: nothing is drawn.
    """
    _draw(model, lambda rng, kernel, shape: np.zeros(shape), seed)


def lsuv(
    model: Any,
    data: Any,
    *,
    batches: int = 1,
    tolerance: float = 0.1,
    max_iterations: int = 10,
    seed: int = 0,
) -> dict[str, float]:
    """Layer-sequential unit variance: orthonormal kernels, then scaled layer by layer on data.

    In the order in which the network computes, what each layer gives before its activation gets
    the variance 1 on the data, by a division of its kernel, or of the length `g` that
    `WeightNormalization` gives it; the next layer sees that. One pass
    does it for all of them, on branches and in nested models too. A layer that is used more than
    once is scaled where it is used first.

    Args:
        model: A built model.
        data: An array of inputs, or an iterable of batches `inputs` or `(inputs, ...)`.
        batches: How many batches of an iterable to take. Defaults to `1`.
        tolerance: How far from 1 a variance may be left. Defaults to `0.1`, the paper's.
        max_iterations: Divisions of one kernel. Defaults to `10`.
        seed: Seed of the orthonormal kernels.

    Returns:
        The variance of each layer in the end, by its name; that of a part of an attention layer is
        `"layer/part"`.

    Raises:
        ValueError: If what a layer gives is the same everywhere, and so has no variance.

    References:
        - [Mishkin and Matas, 2015](https://arxiv.org/abs/1511.06422), algorithm 1
    """
    orthogonal(model, seed=seed)
    wrappers = _wrappers(model)
    scaled, names = {}, {}
    for kernel in kernels(model):
        # Of the two kernels of a separable convolution the last one scales the output.
        wrapper = wrappers.get(id(kernel.layer))
        layer = wrapper or kernel.layer
        scaled[layer] = wrapper.g if wrapper else kernel.variable
        names[layer] = kernel.name
    variances: dict[Any, float] = {}

    def variance_of(outputs: Any) -> float:
        return float(np.var(as_array(outputs), dtype="float64"))

    def scale(layer: Any, compute: Callable[[], Any]) -> Any:
        outputs = compute()
        if layer in variances:
            return outputs
        kernel, variance = scaled[layer], variance_of(outputs)
        for _ in range(max_iterations):
            if abs(variance - 1) < tolerance or not variance > 0:
                break
            kernel.assign(kernel / math.sqrt(variance))
            outputs = compute()
            variance = variance_of(outputs)
        variances[layer] = variance
        return outputs

    with outputs_through(list(scaled), scale):
        model(first_batches(data, batches), training=False)
    dead = [names[layer] for layer, variance in variances.items() if not variance > 0]
    if dead:  # not raised in the pass, where Keras would put words around it
        raise ValueError(
            f"Layer {dead[0]!r} gives the same number everywhere on this data: it cannot be scaled "
            "to unit variance. Give other data, or more of it."
        )
    return {names[layer]: variance for layer, variance in variances.items()}


def weight_normalization(
    model: Any, data: Any, *, std: float = 0.05, batches: int = 1, seed: int = 0
) -> None:
    """Draws small kernels, and gives each unit of `WeightNormalization` the mean 0 and variance 1.

    In the order in which the network computes, the length `g` and the bias of each wrapped layer
    are set so that what it gives before its activation has these statistics on the data, channel by
    channel; the next layer sees that. A layer without a bias keeps its mean. One that is used more
    than once is set where it is used first.

    Args:
        model: A built model with layers wrapped in `layers.WeightNormalization`.
        data: An array of inputs, or an iterable of batches `inputs` or `(inputs, ...)`.
        std: Standard deviation of all kernels. Defaults to `0.05`, the paper's.
        batches: How many batches of an iterable to take. Defaults to `1`.
        seed: Seed of what is drawn.

    Raises:
        ValueError: If no layer is wrapped so, or a unit gives the same everywhere.

    References:
        - [Salimans and Kingma, 2016](https://arxiv.org/abs/1602.07868), section 3
    """
    wrappers = _wrappers(model)
    if not wrappers:
        raise ValueError(
            "There is nothing to initialize: wrap layers in layers.WeightNormalization. "
            f"Received: the model {model.name!r}"
        )
    gaussian(model, std=std, seed=seed)
    left, dead = dict(wrappers), []
    values: list[tuple[Any, Any]] = []  # given in the end: a wrapper computes without side effects

    def standardize(layer: Any, compute: Callable[[], Any]) -> Any:
        outputs = compute()
        wrapper = left.pop(id(layer), None)
        if wrapper is None:
            return outputs
        axis = 1 if getattr(layer, "data_format", None) == "channels_first" else -1
        seen = np.moveaxis(as_array(outputs).astype("float64"), axis, -1)
        seen = seen.reshape(-1, seen.shape[-1])
        mean, deviation = seen.mean(0), seen.std(0)
        if not (deviation > 0).all():
            dead.append(wrapper.name)
            return outputs
        values.append((wrapper.g, as_array(wrapper.g) / deviation.reshape(wrapper.g.shape)))
        if layer.bias is None:
            mean = 0 * mean
        else:
            values.append((layer.bias, (as_array(layer.bias) - mean) / deviation))
        shape = [-1 if i == axis % len(outputs.shape) else 1 for i in range(len(outputs.shape))]
        mean, deviation = (ops.cast(x.reshape(shape), outputs.dtype) for x in (mean, deviation))
        return (outputs - mean) / deviation

    with outputs_through([one.layer for one in wrappers.values()], standardize):
        model(first_batches(data, batches), training=False)
    if dead:
        raise ValueError(
            f"A unit of layer {dead[0]!r} gives the same number everywhere on this data: it cannot "
            "be scaled to unit variance. Give other data, or more of it."
        )
    for variable, value in values:
        variable.assign(value)


def from_shallower(
    model: Any, shallower: Any, *, convolutions: int = 4, dense: int = 3
) -> dict[str, str]:
    """Copies a shallower net's first convolutions and last dense layers, as VGG's authors did.

    Each of the first convolutions goes to the next one of the deeper net, in order, that has a
    kernel of the same shape: VGG-11's second, from 64 channels to 128, to the third of VGG-16.
    The dense layers are matched from the end in the same way. All other layers stay as they are:
    initialize the model first.

    Args:
        model: The deeper model, built.
        shallower: The shallower one, trained.
        convolutions: How many convolutions to copy. Defaults to `4`, VGG's.
        dense: How many dense layers. Defaults to `3`, VGG's.

    Returns:
        The name of the layer that was copied, for the name of each layer that it was copied to.

    Raises:
        ValueError: If the shallower model has fewer layers, or one has no place in the deeper
            one; then nothing is copied.

    References:
        - [Simonyan and Zisserman, 2014](https://arxiv.org/abs/1409.1556), section 3.1
    """
    pairs = []
    for kind, count in ((layers.Conv2D, convolutions), (layers.Dense, dense)):
        theirs, ours = (
            [k.layer for k in kernels(m) if isinstance(k.layer, kind)] for m in (shallower, model)
        )
        if len(theirs) < count:
            raise ValueError(
                f"{shallower.name!r} has {len(theirs)} layers of the kind {kind.__name__}, of "
                f"which {count} shall be copied."
            )
        if kind is layers.Dense:  # from the end
            theirs, ours = theirs[::-1], ours[::-1]
        places = iter(ours)
        for source in theirs[:count]:
            shapes = [w.shape for w in source.weights]
            target = next((o for o in places if [w.shape for w in o.weights] == shapes), None)
            if target is None:
                raise ValueError(
                    f"Layer {source.name!r} of {shallower.name!r}, whose kernel has the shape "
                    f"{tuple(source.kernel.shape)}, has no place left in {model.name!r}."
                )
            pairs.append((target, source))
    for target, source in pairs:
        target.set_weights(source.get_weights())
    return {target.name: source.name for target, source in pairs}


_METHODS: dict[str, Callable[..., Any]] = {
    "gaussian": gaussian,
    "glorot": glorot,
    "he": he,
    "orthogonal": orthogonal,
    "zeros": zeros,
    "lsuv": lsuv,
    "weight_normalization": weight_normalization,
}


def _draw(
    model: Any, draw: Callable[[np.random.Generator, Kernel, tuple[int, int, int]], Any], seed: int
) -> None:
    """Gives each kernel what `draw` makes in the shape (inputs, blocks, outputs of a block)."""
    drawn = [(kernel, _shape(kernel)) for kernel in kernels(model)]
    _reset(model, _OTHERS)
    rng = np.random.default_rng(seed)
    for kernel, shape in drawn:
        values = np.asarray(draw(rng, kernel, shape), "float32")
        if isinstance(kernel.layer, LocallyConnected2D):  # its blocks come first
            values = values.swapaxes(0, 1)
        kernel.variable.assign(values.reshape(kernel.variable.shape))
    _reset(model, ("g",))  # of `WeightNormalization`: the length of what has been drawn


def _reset(model: Any, names: Sequence[str]) -> None:
    """Gives variables of these names the start that their layers name."""
    for layer in layers_of(model):
        for name in names:
            variable = getattr(layer, name, None)
            initializer = getattr(layer, f"{name}_initializer", None)
            if variable is not None and initializer is not None:
                variable.assign(initializer(variable.shape, dtype=variable.dtype))


def _shape(kernel: Kernel) -> tuple[int, int, int]:
    """Inputs of a unit, blocks that share no inputs or outputs, units in a block."""
    shape, layer = tuple(kernel.variable.shape), kernel.layer
    if isinstance(layer, PartiallyConnectedConv2D):  # each connection for itself
        return math.prod(shape[:-1]), shape[-1], 1
    if isinstance(layer, LocallyConnected2D):  # each position for itself
        return shape[1], shape[0], shape[2]
    if kernel.depthwise:
        return math.prod(shape[:-2]), shape[-2], shape[-1]
    known = (layers.Dense, layers.Conv1D, layers.Conv2D, layers.Conv3D)
    if isinstance(layer, known) or kernel.role == "pointwise":
        groups = getattr(layer, "groups", 1)
        return math.prod(shape[:-1]), groups, shape[-1] // groups
    raise ValueError(
        f"The inputs of a unit of layer {layer.name!r}, a {type(layer).__name__}, are not known: "
        "there is no rule for its kernel."
    )


def _fans(kernel: Kernel, shape: tuple[int, int, int]) -> tuple[Any, Any]:
    """How many inputs a unit sees, and how many units an input reaches: numbers, or by block."""
    layer = kernel.layer
    rows = getattr(layer, "connections", None)
    if rows is None:
        local = isinstance(layer, LocallyConnected2D)
        window = layer.kernel_size if local else kernel.variable.shape[:-2]
        return shape[0], shape[2] * math.prod(window)
    maps = np.concatenate(rows)
    seen = np.concatenate([[len(row)] * len(row) for row in rows])
    reached = np.bincount(maps)[maps]
    return shape[0] * seen[:, None], shape[0] * reached[:, None]


def _wrappers(model: Any) -> dict[int, WeightNormalization]:
    """The wrappers of weight-normalized layers, by the identity of the layer."""
    return {id(one.layer): one for one in layers_of(model) if isinstance(one, WeightNormalization)}


def _input_gains(model: Any) -> dict[int, float]:
    """The gain of the activation that each layer with kernels sees, by the layer's identity."""
    wrappers = _wrappers(model)
    # Of a layer and its wrapper the graph has the wrapper.
    called = {id(k.layer): wrappers.get(id(k.layer), k.layer) for k in kernels(model)}
    outer: dict[int, Any] = {}  # what the inputs of nested models are given
    for inner in layers_of(model):
        if isinstance(inner, keras.Model) and inner._inbound_nodes:
            given = inner._inbound_nodes[0].input_tensors
            outer.update(zip(map(id, inner.inputs), given, strict=True))

    def of(tensor: Any) -> float:
        if id(tensor) in outer:
            return of(outer[id(tensor)])
        operation, node, place = tensor._keras_history
        inputs = operation._inbound_nodes[node].input_tensors
        if isinstance(operation, WeightNormalization):
            operation = operation.layer
        if isinstance(operation, keras.Model):
            return of(operation.outputs[place])
        if isinstance(operation, (*_ACTIVATIONS, layers.PReLU)):
            return _finite(operation)
        if isinstance(operation, layers.BatchNormalization):
            return 1.0
        if id(operation) in called:
            return _finite(getattr(operation, "activation", None))
        return of(inputs[0]) if inputs else 1.0

    return {
        identity: of(layer._inbound_nodes[0].input_tensors[0])
        for identity, layer in called.items()
        if layer._inbound_nodes
    }


def _finite(activation: Any) -> float:
    """A gain, 1 for what is no function of one number."""
    function = getattr(activation, "activation", activation)
    return 1.0 if function is keras.activations.softmax else gain(activation)
