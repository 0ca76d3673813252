"""The one place where a trunk becomes a public Keras application.

A *trunk* is a function from image to feature map, a *head* one from feature map to classes.
`@architecture(...)` wraps them in everything that is the same for every model: the signature,
argument checks, input, pooling, auxiliary classifiers, weights, names, docstring, registration.
"""

from __future__ import annotations

import contextlib
import dataclasses
import inspect
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol, cast

import keras
from keras import layers

from keras_cnn_classics import registry
from keras_cnn_classics.applications import _arguments
from keras_cnn_classics.applications._docstring import docstring
from keras_cnn_classics.layers import PreprocessInput
from keras_cnn_classics.preprocessing import Preparation, remember
from keras_cnn_classics.registry import Builder, ModelSpec, WeightsSource
from keras_cnn_classics.weights import deferred, preprocessing_of, sources
from keras_cnn_classics.weights import load as load_weights
from keras_cnn_classics.weights.torch_layout import TorchNames

Head = Callable[..., Any]


class Trunk(Protocol):
    """A decorated trunk: the function from image to feature map, and the maker of variants."""

    def __call__(self, x: Any, **options: Any) -> Any: ...

    def variant(
        self,
        name: str,
        *,
        params: int,
        macs: int,
        head: Head = ...,
        torch_names: TorchNames | None = ...,
        **row: Any,
    ) -> Builder:
        """Makes the builder of one row of the table, and registers it.

        Args:
            name: Name of the model.
            params: Trainable parameters.
            macs: Multiply-adds for one image or clip.
            head: Another classifier than the trunk's.
            torch_names: Another mapping of names than the trunk's.
            **row: Further fields of `ModelSpec`, and options of trunk and head.

        Returns:
            The builder.
        """


def architecture(
    *,
    head: Head,
    aux_head: Head | None = None,
    torch_names: TorchNames | None = None,
    **shared: Any,
) -> Callable[[Callable[..., Any]], Trunk]:
    """Decorates a trunk, so that named variants can be made of it.

    Args:
        head: Classifier: `head(x, classes, classifier_activation, *, ...)`.
        aux_head: Classifier for the layers named in `aux_taps`, if the paper has any; it is given
            those options of trunk and head that it has too.
        torch_names: Gives each layer's name in PyTorch checkpoints, from the variant's options.
        **shared: Fields of `ModelSpec` that all variants share.

    Returns:
        A decorator that gives the trunk the method `variant`.
    """

    def decorate(trunk: Any) -> Trunk:
        def variant(
            name: str,
            *,
            head: Head = head,
            torch_names: TorchNames | None = torch_names,
            **row: Any,
        ) -> Builder:
            facts = {f.name for f in dataclasses.fields(ModelSpec)}
            own = {key: row.pop(key) for key in list(row) if key in facts}
            unknown = sorted(set(row) - {*_options(trunk), *_options(head)})
            if unknown:
                raise TypeError(f"The row of {name} has columns that nothing takes: {unknown}.")
            spec = ModelSpec(
                name=name,
                family=trunk.__module__.rsplit(".", 1)[-1],
                config=row,
                **{"weights": sources.of(name), **shared, **own},
            )
            builder = _make_builder(_Parts(spec, trunk, head, aux_head, torch_names))
            registry.register(builder)
            return builder

        trunk.variant = variant
        return cast(Trunk, trunk)

    return decorate


@dataclasses.dataclass(frozen=True)
class _Parts:
    """What a builder is made of."""

    spec: ModelSpec
    trunk: Callable[..., Any]
    head: Head
    aux_head: Head | None
    torch_names: TorchNames | None

    @property
    def options(self) -> dict[str, inspect.Parameter]:
        """Options of trunk and head with this variant's defaults."""
        both = {**_options(self.trunk), **_options(self.head)}
        return {
            key: option.replace(default=self.spec.config.get(key, option.default))
            for key, option in both.items()
        }


def _options(function: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    parameters = inspect.signature(function, eval_str=True).parameters.values()
    return {p.name: p for p in parameters if p.kind is p.KEYWORD_ONLY}


def _make_builder(parts: _Parts) -> Builder:
    spec = parts.spec
    # EfficientNet normalizes images itself: an option of its trunk, by Keras's name.
    prepares = "include_preprocessing" in _options(parts.trunk)

    def builder(
        include_top: bool = True,
        weights: str | os.PathLike[str] | None = spec.default_weights,
        input_tensor: Any = None,
        input_shape: tuple[int | None, ...] | None = None,
        pooling: str | None = None,
        classes: int = spec.classes,
        classifier_activation: Any = "softmax",
        name: str | None = None,
        *,
        aux: bool = False,
        prefix: str = "",
        include_preprocessing: bool = prepares,
        adapt_input_channels: bool = False,
        skip_mismatch: bool = False,
        **options: Any,
    ) -> keras.Model:
        _arguments.check_options(spec.name, options, parts.options)
        source = _arguments.check(
            spec,
            include_top=include_top,
            weights=weights,
            pooling=pooling,
            classes=classes,
            classifier_activation=classifier_activation,
            aux=aux,
            prefix=prefix,
            include_preprocessing=include_preprocessing,
            adapt_input_channels=adapt_input_channels,
            skip_mismatch=skip_mismatch,
        )
        if isinstance(source, WeightsSource):
            given = input_shape if input_tensor is None else getattr(input_tensor, "shape", ())[1:]
            source, options = _arguments.published(spec, source, options, parts.options, given)
        shape = _arguments.image_shape(
            spec,
            input_shape,
            input_tensor,
            include_top,
            aux,
            source,
            adapt_input_channels=adapt_input_channels,
            skip_mismatch=skip_mismatch,
        )
        mode = preprocessing_of(spec, weights)
        if prepares:
            options["include_preprocessing"] = include_preprocessing
            mode = "torch"

        def make() -> keras.Model:
            image = keras.Input(shape, name="image") if input_tensor is None else input_tensor
            inputs = _source_inputs(image)
            start = inputs[0] if len(inputs) == 1 else inputs
            prepare = None
            given = () if input_tensor is None else keras.Model(start, image).layers
            # The scope keeps the variables of two networks in one model apart, as names do.
            with keras.name_scope(prefix) if prefix else contextlib.nullcontext():
                if include_preprocessing and not prepares:
                    # In float32, for half of it would spoil what comes before any weights.
                    prepare = PreprocessInput(mode, dtype="float32", name="preprocessing")
                    image = prepare(image)
                outputs = _connect(
                    parts,
                    image,
                    include_top,
                    pooling,
                    int(classes),
                    classifier_activation,
                    aux,
                    options,
                )
            full_name = name or prefix + spec.name.lower()
            model = keras.Model(start, outputs, name=full_name)
            made = [layer for layer in model.layers if layer not in given]
            said = None
            if source is not None:
                said = load_weights(
                    # Only the network, on an input of its own if `image` is a layer's output.
                    model if start is image else keras.Model(image, outputs),
                    source,
                    name=spec.name,
                    include_top=include_top,
                    classes=classes,
                    classifier=spec.classifier,
                    whole=lambda: _whole(named, source, options),
                    options=_arguments.lasting(_values(parts, options)),
                    adapt_input_channels=adapt_input_channels,
                    skip_mismatch=skip_mismatch,
                    **_torch_layout(parts, _values(parts, options)),
                )
            # A file's network may say how it wants images; weights alone leave that open.
            facts = Preparation(
                mode if prepares else said or mode,
                adapted=adapt_input_channels,
                sure=prepares or said is not None or not isinstance(source, Path),
                inside=prepare or _normalization(made) if include_preprocessing else None,
            )
            if prepare is not None:
                prepare.mode = facts.mode
                facts.warn_if_unsure(model.name)
            remember(made, facts)
            if not prefix:
                return model
            for layer in made:
                layer.name = prefix + layer.name
            # A model takes its layers' names when it is made.
            return keras.Model(start, outputs, name=full_name)

        return deferred.build(make)

    builder.__name__ = builder.__qualname__ = spec.name
    builder.__module__ = parts.trunk.__module__
    own = {key: value for key, value in parts.options.items() if key not in _arguments.NAMES}
    builder.__doc__ = docstring(spec, parts.trunk, parts.head, own)
    signature = inspect.signature(builder, eval_str=True)
    common = [p for p in signature.parameters.values() if p.kind is not p.VAR_KEYWORD]
    builder.__signature__ = signature.replace(  # type: ignore[attr-defined]
        parameters=[*common, *own.values()]
    )
    named = cast(Builder, builder)
    named.spec = spec
    return named


def _torch_layout(parts: _Parts, values: dict[str, Any]) -> dict[str, Any]:
    """What loading needs to know of PyTorch's checkpoints."""
    if parts.torch_names is None:
        return {}
    names = parts.torch_names(**values)
    wanted = {k: v for k, v in parts.spec.torch_options.items() if values[k] != v}
    # Where other options have other names, a checkpoint that fits is one for these.
    doubt = parts.torch_names(**{**values, **wanted}) == names
    return {"torch_names": names, "torch_options": wanted, "torch_doubt": doubt}


def _whole(builder: Builder, source: Any, options: dict[str, Any]) -> keras.Model:
    """The network with all classifiers, without values, for as many classes as the weights."""
    known = source if isinstance(source, WeightsSource) else builder.spec
    aux = bool(builder.spec.aux_taps)
    return deferred.build_empty(
        lambda: builder(weights=None, classes=known.classes, aux=aux, **options)
    )


def _normalization(made: list[Any]) -> Any:
    """The layer by which a network normalizes images itself."""
    return next(one for one in made if isinstance(one, layers.Normalization))


def _source_inputs(tensor: Any) -> list[Any]:
    """The inputs of the graph that a tensor comes from, in order.

    `keras.utils.get_source_inputs` goes every way through the graph, and an Inception network has
    billions; this visits each tensor once.
    """
    found, seen, ahead = [], set(), [tensor]
    while ahead:
        one = ahead.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        operation, index, _ = one._keras_history
        node = operation._inbound_nodes[index]
        if node.is_input:
            found.append(one)
        ahead += reversed(node.input_tensors)
    return found


def _values(parts: _Parts, options: dict[str, Any]) -> dict[str, Any]:
    return {**{key: option.default for key, option in parts.options.items()}, **options}


# For images and for clips.
_POOLING = {
    "avg": (layers.GlobalAveragePooling2D, layers.GlobalAveragePooling3D),
    "max": (layers.GlobalMaxPooling2D, layers.GlobalMaxPooling3D),
}


def _connect(
    parts: _Parts,
    image: Any,
    include_top: bool,
    pooling: str | None,
    classes: int,
    activation: Any,
    aux: bool,
    options: dict[str, Any],
) -> Any:
    """Runs trunk and head; gives the outputs of the model."""
    values = _values(parts, options)
    x = parts.trunk(image, **{key: values[key] for key in _options(parts.trunk)})
    features = x
    if include_top:
        x = parts.head(x, classes, activation, **{key: values[key] for key in _options(parts.head)})
    elif pooling:
        pool = _POOLING[pooling][1 if parts.spec.frames else 0]
        x = pool(name=f"{pooling}_pool")(x)
    if not aux:
        return x
    assert parts.aux_head is not None  # `aux` was checked against the spec
    taps = keras.Model(image, features)
    outputs = {"predictions": x}
    own = {key: values[key] for key in _options(parts.aux_head) if key in values}
    for i, tap in enumerate(parts.spec.aux_taps, 1):
        y = taps.get_layer(tap).output
        outputs[f"aux{i}"] = parts.aux_head(y, classes, activation, name=f"aux{i}", **own)
    return outputs
