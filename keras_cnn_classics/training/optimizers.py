"""Optimizers as the papers had them, and learning rates that differ between layers.

Clipping of gradients is an argument of every Keras optimizer: `clipvalue` for each number,
`clipnorm` for each variable, `global_clipnorm` for all together (Inception v3's 2.0).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import keras
from keras import ops

from keras_cnn_classics.training._arguments import check_number
from keras_cnn_classics.training._layers import layers_of, matches
from keras_cnn_classics.training.schedules import ScaledSchedule


@keras.saving.register_keras_serializable(package="keras_cnn_classics")
class RMSpropTF1(keras.optimizers.RMSprop):
    """RMSProp as TensorFlow 1 had it, with which Google's networks were trained.

    For a gradient `g`, the mean square `v` and the momentum `m`:

        v = rho * v + (1 - rho) * g^2
        m = momentum * m + learning_rate * g / sqrt(v + epsilon)
        w = w - m

    Keras's `RMSprop` computes the same, but its `v` starts at 0, TensorFlow 1's at 1: without
    that, the first steps are up to `1 / sqrt(1 - rho)` times as long where `epsilon` is small.
    PyTorch's adds `epsilon` to the root instead; an `epsilon` of 1.0 means something else there.

    Args:
        learning_rate: A float or a schedule. Defaults to `0.045`.
        rho: Decay of the mean square. Defaults to `0.9`.
        momentum: Defaults to `0.9`.
        epsilon: Added to the mean square. Defaults to `1.0`.
        **kwargs: Further arguments of `keras.optimizers.RMSprop`. Its `weight_decay` is decoupled
            from the gradient; `add_l2` gives the decay of the papers.

    References:
        - [Szegedy et al., 2015](https://arxiv.org/abs/1512.00567), section 8: the defaults
    """

    def __init__(
        self,
        learning_rate: Any = 0.045,
        rho: float = 0.9,
        momentum: float = 0.9,
        epsilon: float = 1.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(learning_rate, rho, momentum, epsilon, **kwargs)

    def add_optimizer_variables(
        self, trainable_variables: Any, name: Any, initializer: Any = "zeros"
    ) -> Any:
        # `velocity` is Keras's name of the mean square.
        initializer = "ones" if name == "velocity" else initializer
        return super().add_optimizer_variables(trainable_variables, name, initializer)


@keras.saving.register_keras_serializable(package="keras_cnn_classics")
class MomentumScheduleSGD(keras.optimizers.SGD):
    """Gradient descent whose momentum follows a schedule, as the learning rate does.

    Keras's `SGD` compiles its momentum into the step: changing it later does nothing.

    Args:
        learning_rate: A float or a schedule. Defaults to `0.01`.
        momentum: A schedule; see `OneCycle`.
        nesterov: Whether to look ahead. Defaults to `False`.
        **kwargs: Further arguments of `keras.optimizers.SGD`.

    Raises:
        ValueError: If `momentum` is not a schedule.

    References:
        - [Smith, 2018](https://arxiv.org/abs/1803.09820), section 4.3
    """

    def __init__(
        self, learning_rate: Any = 0.01, momentum: Any = None, nesterov: bool = False, **kwargs: Any
    ) -> None:
        if not callable(momentum):
            raise ValueError(
                "`momentum` must be a schedule; for a number there is keras.optimizers.SGD. "
                f"Received: {momentum=}"
            )
        # Any momentum but 0 makes Keras keep the variables for it.
        super().__init__(learning_rate, momentum=1.0, nesterov=nesterov, **kwargs)
        self.momentum_schedule = momentum

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        keep = ops.cast(self.momentum_schedule(self.iterations), variable.dtype)
        step = ops.cast(gradient, variable.dtype) * ops.cast(learning_rate, variable.dtype)
        moving = self.momentums[self._get_variable_index(variable)]
        self.assign(moving, moving * keep - step)
        self.assign_add(variable, moving * keep - step if self.nesterov else moving)

    def get_config(self) -> dict[str, Any]:
        momentum = keras.saving.serialize_keras_object(self.momentum_schedule)
        return {**super().get_config(), "momentum": momentum}

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> Any:
        momentum = keras.saving.deserialize_keras_object(config["momentum"], custom_objects)
        return super().from_config({**config, "momentum": momentum}, custom_objects)


def discriminative_rates(
    model: Any, optimizer: Any, factors: Mapping[str | tuple[str, ...], float]
) -> Any:
    """Gives an optimizer that trains groups of layers at different learning rates.

    Fine-tuning changes the first layers, which see edges in any picture, less than the last:
    `{"block1_*": 0.01, ("block2_*", "block3_*"): 0.1}`. Layers that are in no group have the
    optimizer's own rate. Layers that shall not learn at all are frozen instead, by
    `layer.trainable = False`, before this function is called.

    It is Keras's `MultiOptimizer` with one copy of the optimizer for each factor. So
    `global_clipnorm` is that of each group, and `learning_rate` is asked of the members of
    `.optimizers`.

    Args:
        model: A built model.
        optimizer: A Keras optimizer that is not in use, with a number or a schedule for its rate,
            or the name of one.
        factors: A factor of the learning rate for each group. A group is a layer's name, in which
            `*` stands for anything, or a tuple of them; the name of a model in the model stands
            for all layers in it.

    Returns:
        A `keras.optimizers.MultiOptimizer`.

    Raises:
        ValueError: If a name fits no layer that is trained, a layer is in two groups, a factor is
            not positive, two layers have the same name, or the optimizer has groups already.
        RuntimeError: If this version of Keras has no `MultiOptimizer`.

    References:
        - [Howard and Ruder, 2018](https://arxiv.org/abs/1801.06146), section 3.2
    """
    if not hasattr(keras.optimizers, "MultiOptimizer"):
        raise RuntimeError(
            f"Keras {keras.__version__} has no MultiOptimizer, on which this stands: 3.15 has."
        )
    optimizer = keras.optimizers.get(optimizer)
    if hasattr(optimizer, "optimizers") or hasattr(optimizer, "inner_optimizer"):
        raise ValueError(
            "`optimizer` must be a plain one, which is copied for each group. "
            f"Received: {type(optimizer).__name__}"
        )
    if not isinstance(factors, Mapping) or not factors:
        raise ValueError(
            f"`factors` must hold a factor for each name of layers. Received: {factors!r}"
        )
    for names, factor in factors.items():  # layers that shall not learn are frozen instead
        check_number(f"factors[{names!r}]", factor, above=0)
    groups = _groups(model, factors)
    models = {one.name for one in (model, *layers_of(model)) if isinstance(one, keras.Model)}
    # In a Sequential model the paths of variables begin with its name, but not once it is loaded.
    prefix = "(?:(?:" + "|".join(map(re.escape, models)) + ")/)*"
    patterns: dict[float, list[str]] = {}
    for variable in model.trainable_variables:
        path = re.escape(re.sub(f"^{prefix}", "", variable.path))
        if any(path in group for group in patterns.values()):
            raise ValueError(
                f"Keras tells variables apart by their paths, and {variable.path!r} is not the "
                "only one of its name: give the layers different names."
            )
        patterns.setdefault(groups.get(id(variable), 1.0), []).append(path)
    # An optimizer without variables could not be loaded: the default has a group of its own.
    default = 1.0 if 1.0 in patterns else max(patterns)
    optimizers = keras.optimizers.OptimizerMap(scaled(optimizer, default))
    for factor, group in patterns.items():
        if factor != default:
            optimizers[f"{prefix}(?:{'|'.join(group)})"] = scaled(optimizer, factor)
    return keras.optimizers.MultiOptimizer(optimizers)


def _groups(model: Any, factors: Mapping[str | tuple[str, ...], float]) -> dict[int, float]:
    """The factor of each variable that is in a group, by its identity."""
    found: dict[int, tuple[Any, float]] = {}
    for group, factor in factors.items():
        for pattern in (group,) if isinstance(group, str) else group:
            fitting = [one for one in layers_of(model) if matches(one, pattern)]
            variables = {id(v): v for one in fitting for v in one.trainable_variables}
            if not variables:
                raise ValueError(
                    f"No layer that is trained fits {pattern!r}. The layers are: "
                    + ", ".join(one.name for one in layers_of(model) if one.trainable_variables)
                )
            for key, variable in variables.items():
                if found.setdefault(key, (group, factor))[0] != group:
                    raise ValueError(
                        f"{variable.path!r} is in two groups: {found[key][0]!r} and {group!r}."
                    )
    return {key: factor for key, (_, factor) in found.items()}


def scaled(optimizer: Any, factor: float) -> Any:
    """A copy of an optimizer without its state, whose learning rate is multiplied by a factor.

    Raises:
        ValueError: If it is not a plain one, or one that scales the loss for a plain one.
    """
    config = optimizer.get_config()
    if isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
        inner = keras.saving.serialize_keras_object(scaled(optimizer.inner_optimizer, factor))
        return type(optimizer).from_config({**config, "name": None, "inner_optimizer": inner})
    if "learning_rate" not in config:
        raise ValueError(
            "The optimizer must have one learning rate, of which others are made. "
            f"Received: {type(optimizer).__name__}"
        )
    rate = config["learning_rate"]
    if isinstance(rate, dict):
        rate = ScaledSchedule(keras.saving.deserialize_keras_object(rate), factor)
    else:
        rate = rate * factor
    return type(optimizer).from_config({**config, "name": None, "learning_rate": rate})
