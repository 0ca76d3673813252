"""Checks of a builder's arguments: each message says what was expected and what was received."""

from __future__ import annotations

import difflib
import inspect
import math
import os
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_cnn_classics import registry
from keras_cnn_classics.registry import ModelSpec, WeightsSource

# The arguments that every builder has; what else it takes are options.
NAMES = (
    "include_top",
    "weights",
    "input_tensor",
    "input_shape",
    "pooling",
    "classes",
    "classifier_activation",
    "name",
    "aux",
    "prefix",
    "include_preprocessing",
    "adapt_input_channels",
    "skip_mismatch",
)


INTEGERS = (int, np.integer)

# What other packages call the arguments of a builder.
_ELSEWHERE = {
    "pretrained": "weights",
    "num_classes": "classes",
    "in_chans": "input_shape",
    "global_pool": "pooling",
    "drop_rate": "dropout",
    "drop_path_rate": "drop_connect",
    "include_rescaling": "include_preprocessing",
}

# Options without weights, which do nothing in use.
TRAINING = ("dropout", "drop_connect", "survival", "transform_bias")


def check_options(
    model: str, given: dict[str, Any], known: Mapping[str, inspect.Parameter]
) -> None:
    """Refuses options that a model does not have, and values of another type."""
    for key, value in given.items():
        if key not in known:
            near = difflib.get_close_matches(key, [*known, *NAMES], n=1)
            near = [_ELSEWHERE[key]] if key in _ELSEWHERE else near
            guess = f" Did you mean `{near[0]}`?" if near else ""
            names = ", ".join(f"`{option}`" for option in known) or "none"
            raise TypeError(f"{model} takes the options {names}.{guess} Received: {key}={value!r}")
        expected = known[key].annotation
        if not _fits(key, value, expected):
            kind = _RANGES.get(key) if expected in (int, float) else None
            kind = kind or _KINDS.get(expected, "several integers, all positive, as (1, 2)")
            raise ValueError(f"`{key}` of {model} must be {kind}. Received: {key}={value!r}")


_KINDS = {
    int: "a positive integer",
    float: "a positive number",
    bool: "True or False",
    str: "a string",
}

# Numbers may be 0 only here: what training drops, and a layer that may be left out; and negative
# only where any number may be.
_SHARE = "a number from 0 to less than 1"
_FINITE = "a finite number"
_RANGES = {
    **{"dropout": _SHARE, "drop_connect": _SHARE, "units": "0 or a positive integer"},
    "transform_bias": _FINITE,
}


def published(
    spec: ModelSpec,
    source: WeightsSource,
    given: Mapping[str, Any],
    known: Mapping[str, inspect.Parameter],
    input_shape: Any,
) -> tuple[WeightsSource, dict[str, Any]]:
    """The published weights for the options that are given, and all options that they are for.

    Raises:
        ValueError: For options under which the weights would not fit, or fit and be wrong.
    """
    size = _square_side(input_shape) or spec.input_size
    found = source.variant(given, size)
    changed = _contradictions(found, given, known)
    if changed:
        received = ", ".join(f"{key}={given[key]!r}" for key in changed)
        needed = ", ".join(
            f"{key}={' or '.join(dict.fromkeys(repr(one) for one in values))}"
            for key, values in (
                (key, [v.options.get(key, value) for v in (found, source, *source.variants)])
                for key, value in changed.items()
            )
        )
        others = [
            repr(tag)
            for tag, other in spec.weights.items()
            if not _contradictions(other.variant(given, size), given, known)
        ]
        raise ValueError(
            f"These published weights of {spec.name} are for {needed}. With the options that are "
            f"given, `weights` may be {' or '.join(['None', *others])}. Received: {received}"
        )
    return found, {**found.options, **given}


def _square_side(shape: Any) -> int | None:
    """The side of a square image, if it is one of a known size."""
    if not isinstance(shape, (tuple, list)) or len(shape) != 3:
        return None
    height, width = shape[:2] if shape[0] == shape[1] else shape[1:]
    return height if height == width else None


def _contradictions(
    source: WeightsSource, given: Mapping[str, Any], known: Mapping[str, inspect.Parameter]
) -> dict[str, Any]:
    """What published weights want of each option that is given another value."""
    wanted = {key: source.options.get(key, option.default) for key, option in known.items()}
    return {
        key: wanted[key]
        for key, value in given.items()
        if key not in TRAINING and _plain(value) != _plain(wanted[key])
    }


def lasting(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options that make a network what it is in use, images apart, as Python's own values."""
    left_out = (*TRAINING, "include_preprocessing")
    return {key: _plain(value) for key, value in options.items() if key not in left_out}


def _plain(value: Any) -> Any:
    """A value of an option in one form: sequences as tuples, NumPy's numbers as Python's."""
    if isinstance(value, (list, tuple)):
        return tuple(map(_plain, value))
    return value.item() if isinstance(value, np.generic) else value


def _fits(key: str, value: Any, expected: Any) -> bool:
    """Whether a value has the type that an option is annotated with, and can be built at all."""
    if typing.get_origin(expected) is Sequence:
        (item,) = typing.get_args(expected)
        return isinstance(value, (list, tuple)) and all(_fits("", v, item) for v in value)
    if expected in (int, float):
        kinds = INTEGERS if expected is int else (*INTEGERS, float, np.floating)
        if isinstance(value, bool) or not isinstance(value, kinds):
            return False
        if _RANGES.get(key) == _FINITE:
            return math.isfinite(value)
        most = 1 if _RANGES.get(key) == _SHARE else math.inf
        return bool(0 < value < most or (value == 0 and key in _RANGES))
    return isinstance(value, expected) if isinstance(expected, type) else True


def check_activation(name: str, value: Any) -> None:
    """Refuses what Keras does not know as an activation."""
    try:
        keras.activations.get(value)
    except (ValueError, TypeError) as error:
        raise ValueError(
            f"`{name}` must be the name of a Keras activation, a callable, or None. "
            f"Received: {name}={value!r}"
        ) from error


def check(
    spec: ModelSpec,
    *,
    include_top: Any,
    weights: Any,
    pooling: Any,
    classes: Any,
    classifier_activation: Any,
    aux: Any,
    prefix: Any,
    **flags: Any,
) -> WeightsSource | Path | None:
    """Checks all arguments but the shape; gives the place that the weights come from."""
    for flag, value in {"include_top": include_top, "aux": aux, **flags}.items():
        if not isinstance(value, (bool, np.bool_)):
            raise ValueError(f"`{flag}` must be True or False. Received: {flag}={value!r}")
    if pooling not in (None, "avg", "max"):
        raise ValueError(f"`pooling` must be None, 'avg' or 'max'. Received: {pooling=}")
    if isinstance(classes, bool) or not isinstance(classes, INTEGERS) or classes < 1:
        raise ValueError(f"`classes` must be a positive integer. Received: {classes=}")
    check_activation("classifier_activation", classifier_activation)
    if aux and not (include_top and spec.aux_taps):
        raise ValueError(
            "`aux=True` needs `include_top=True` and a model whose paper has auxiliary "
            f"classifiers. Received: aux=True for {spec.name} with {include_top=}"
        )
    if not isinstance(prefix, str) or "/" in prefix:
        raise ValueError(f"`prefix` must be a string without '/'. Received: {prefix=}")
    return _source(spec, weights)


def _source(spec: ModelSpec, weights: Any) -> WeightsSource | Path | None:
    if weights is None:
        return None
    if isinstance(weights, str) and weights in spec.weights:
        return spec.weights[weights]
    if isinstance(weights, (str, os.PathLike)) and Path(weights).is_file():
        return Path(weights)
    if weights == "imagenet" and not spec.weights:
        raise ValueError(
            f"No weights are registered for {spec.name}: use weights=None, the path of a weights "
            f"file{_nearest(spec)}. Received: weights='imagenet'"
        )
    tags = ", ".join(repr(tag) for tag in spec.weights)
    key = str(weights).lower().replace("_", "-")
    near = [tag for tag in spec.weights if tag.endswith(key) and key]
    near = near or difflib.get_close_matches(key, spec.weights, n=1)
    guess = f" Did you mean {near[0]!r}?" if near else ""
    raise ValueError(
        f"`weights` of {spec.name} must be None, {tags + ', ' if tags else ''}or the path of a "
        f"file that exists.{guess} Received: weights={weights!r}"
    )


def _nearest(spec: ModelSpec) -> str:
    """Names the model with weights that is closest: of the family if possible, then by year."""
    others = [registry.get_builder(name).spec for name in registry.list_models(pretrained=True)]
    alike = [s for s in others if s.default_weights and s.channels == spec.channels]
    if not alike:
        return ""
    nearest = min(alike, key=lambda s: (s.family != spec.family, abs(s.year - spec.year)))
    return f", or {nearest.name}, which has some"


def image_shape(
    spec: ModelSpec,
    input_shape: Any,
    input_tensor: Any,
    include_top: bool,
    aux: bool,
    source: WeightsSource | Path | None,
    *,
    adapt_input_channels: bool,
    skip_mismatch: bool,
) -> tuple[int | None, ...]:
    """The shape of one image, in the global data format, after all checks.

    It is the caller's, else the tensor's, else the weights', else the paper's; without a classifier
    height and width give way to any.
    """
    size = spec.input_size
    if isinstance(source, WeightsSource) and source.input_size:
        size = source.input_size
    last = keras.config.image_data_format() == "channels_last"
    rank = len(spec.input_shape) - 1
    axes = ("frames", "height", "width")[-rank:]
    order = f"({', '.join((*axes, 'channels') if last else ('channels', *axes))})"
    if input_tensor is not None:
        input_shape = _tensor_shape(spec, input_tensor, input_shape, order)
    if input_shape is None:
        known = include_top or spec.fixed_trunk
        area = (spec.frames, size, size)[-rank:] if known else (None,) * rank
        return (*area, spec.channels) if last else (spec.channels, *area)

    try:
        shape = tuple(input_shape)
    except TypeError:
        shape = ()
    if len(shape) != rank + 1:
        raise ValueError(f"`input_shape` must be {order}. Received: {input_shape=}")
    if not all(n is None or (isinstance(n, INTEGERS) and n > 0) for n in shape):
        raise ValueError(
            f"`input_shape` must be {order}, each a positive integer. Received: {input_shape=}"
        )
    *frames, height, width, channels = shape if last else (*shape[1:], shape[0])
    if channels is None:
        raise ValueError(f"The number of channels must be known. Received: {input_shape=}")
    least = max(spec.min_size, spec.aux_min_size) if aux else spec.min_size
    if any(side is not None and side < least for side in (height, width)):
        raise ValueError(
            f"{spec.name}{' with aux=True' if aux else ''} needs images of at least "
            f"{least}x{least} pixels. Received: {input_shape=}, read as {order}"
        )
    if any(n is not None and n < spec.frames for n in frames):
        raise ValueError(
            f"{spec.name} needs clips of at least {spec.frames} frames. "
            f"Received: {input_shape=}, read as {order}"
        )
    if spec.fixed_trunk and None in shape:
        raise ValueError(
            f"{spec.name} has weights for every place of the image, and so needs a fixed height "
            f"and width. Received: {input_shape=}"
        )
    if include_top and (spec.fixed_top or aux) and None in shape:
        sizes = "length, height and width" if spec.frames else "height and width"
        raise ValueError(
            f"The classifier of {spec.name} needs a fixed {sizes}; with "
            f"`include_top=False` they may be None. Received: {input_shape=}"
        )
    if isinstance(source, WeightsSource) and not skip_mismatch:
        if channels != spec.channels and not adapt_input_channels:
            raise ValueError(
                f"The published weights of {spec.name} are for {spec.channels} channels; "
                "`adapt_input_channels=True` makes them serve others. "
                f"Received: {input_shape=}, read as {order}"
            )
        if spec.fixed_trunk and (height, width) != (size, size):
            raise ValueError(
                f"The published weights of {spec.name} are for images of {size}x{size}. "
                f"Received: {input_shape=}"
            )
        if include_top and spec.fixed_top and (height, width) != (size, size):
            raise ValueError(
                f"The published classifier of {spec.name} is for images of {size}x{size}; "
                f"other sizes need `include_top=False`. Received: {input_shape=}"
            )
    return tuple(None if n is None else int(n) for n in shape)


def _tensor_shape(
    spec: ModelSpec, tensor: Any, input_shape: Any, order: str
) -> tuple[int | None, ...]:
    if not keras.utils.is_keras_tensor(tensor):
        raise ValueError(
            "`input_tensor` must be a Keras tensor: `keras.Input(...)` or what a layer gives for "
            f"one. Received a value of type {type(tensor).__name__}."
        )
    shape = tuple(tensor.shape[1:])
    if len(shape) != len(spec.input_shape):
        raise ValueError(
            f"`input_tensor` must be a batch of {spec.input_kind}s {order}. "
            f"Received the shape {tensor.shape}."
        )
    if input_shape is not None and tuple(input_shape) != shape:
        raise ValueError(
            f"`input_shape` must be that of `input_tensor`, {shape}. Received: {input_shape=}"
        )
    return shape
