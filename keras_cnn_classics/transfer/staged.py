"""Models that are trained in stages, in each of which other layers learn."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import keras

from keras_cnn_classics.training import distribution
from keras_cnn_classics.training.optimizers import discriminative_rates, scaled
from keras_cnn_classics.training.training_state import TrainingState
from keras_cnn_classics.transfer.parts import train_only


@dataclass(frozen=True)
class Stage:
    """A part of the training.

    Attributes:
        name: For the log.
        layers: The layers that learn.
        start: The epoch in which it begins, from 0.
        rate: Factor on the learning rate of `compile`.
        factors: Further factors for some of the layers, by their names.
    """

    name: str
    layers: Collection[Any]
    start: int = 0
    rate: float = 1.0
    factors: Mapping[tuple[str, ...], float] = field(default_factory=dict)


class StagedModel(keras.Model):
    """A model whose `fit` goes through stages.

    Each stage is a training of its own for Keras and for callbacks, with its own optimizer made by
    the settings of the one that `compile` was given; epochs and history count on. A stage that
    `EarlyStopping` ends is followed by the next one. A `TrainingState` among the callbacks goes on
    in the stage in which training was interrupted.

    A subclass gives its `stages` and, for files, its `settings`; `_set_up` makes the model of the
    network and these.

    Attributes:
        network: The Functional model that is trained.
    """

    network: Any
    _set_up: Callable[..., None]
    batch_norm = False  # whether batch normalization learns where its block does

    def __init__(self, network: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.network = network
        self._arguments: dict[str, Any] | None = None
        self._stage = 0  # the last one that was entered
        self.built = True

    def stages(self) -> Sequence[Stage]:
        """The stages, in the order of their starts, of which the first one is 0."""
        raise NotImplementedError

    def default_loss(self) -> Any:
        """The loss where `compile` is given none."""
        raise NotImplementedError

    def check_loss(self, loss: Any) -> None:
        """Refuses a loss that cannot be meant."""

    @property
    def stage(self) -> Stage:
        """The stage that the model is in."""
        return self.stages()[self._stage]

    # -- Keras ---------------------------------------------------------------------------------

    def compile(
        self,
        optimizer: Any = "sgd",
        loss: Any = None,
        loss_weights: Any = None,
        metrics: Any = None,
        weighted_metrics: Any = None,
        **kwargs: Any,
    ) -> None:
        """As `keras.Model.compile`, for the new task.

        Args:
            optimizer: An optimizer or its name. It is the pattern for that of each stage.
            loss: Loss of the new task. Defaults to the cross-entropy that fits its head, of integer
                and one-hot labels alike.
            loss_weights: Weight of that loss.
            metrics: Metrics of the new task.
            weighted_metrics: Those that sample weights count in.
            **kwargs: Further arguments of `keras.Model.compile`.

        Raises:
            ValueError: If the loss takes probabilities for scores, or scores for probabilities.
        """
        self.check_loss(loss)
        self._arguments = {
            "optimizer": keras.optimizers.get(optimizer),
            "loss": loss,
            "loss_weights": loss_weights,
            "metrics": metrics,
            "weighted_metrics": weighted_metrics,
            **kwargs,
        }
        self._enter(self._stage)

    def _enter(self, number: int) -> None:
        """Lets the layers of a stage learn, by an optimizer of their own."""
        if self._arguments is None:
            raise ValueError("Compile the model before it is trained.")
        self._stage, stage = number, self.stages()[number]
        with _scope(self):
            train_only(self.network, stage.layers, batch_norm=self.batch_norm)
            optimizer = scaled(self._arguments["optimizer"], stage.rate)
            # Of a block that learns, batch normalization may be frozen.
            learning = {layer.name for layer in stage.layers if layer.trainable_variables}
            factors: dict[Any, float] = {
                kept: factor
                for group, factor in stage.factors.items()
                if (kept := tuple(name for name in group if name in learning))
            }
            if factors:
                optimizer = discriminative_rates(self, optimizer, factors)
            self._compile({**self._arguments, "optimizer": optimizer})
        distribution.prepare(self)

    def _compile(self, arguments: dict[str, Any]) -> None:
        if arguments["loss"] is None:
            arguments["loss"] = self.default_loss()
        # Keras keeps the objects, whose state is that of one training.
        for name in ("metrics", "weighted_metrics"):
            arguments[name] = _fresh(arguments[name])
        super().compile(**arguments)

    def fit(
        self,
        x: Any = None,
        y: Any = None,
        batch_size: int | None = None,
        epochs: int = 1,
        verbose: Any = "auto",
        callbacks: Any = None,
        *,
        initial_epoch: int = 0,
        **kwargs: Any,
    ) -> Any:
        """As `keras.Model.fit`, on images and labels of the new task.

        Args:
            x: Images, or batches of images and labels: a `tf.data.Dataset`, a `PyDataset`.
            y: Labels, for images in an array.
            batch_size: For arrays.
            epochs: The epoch to end with, those of all stages counted.
            verbose: As in Keras.
            callbacks: As in Keras.
            initial_epoch: As in Keras.
            **kwargs: Further arguments of `keras.Model.fit`.

        Returns:
            A `keras.callbacks.History` of all epochs.

        Raises:
            ValueError: If the model is not compiled, or the data do not fit it.
        """
        stages = self.stages()
        states = [one for one in listed(callbacks) if isinstance(one, TrainingState)]
        begin = max([self._stage, *(state.saved_part() or 0 for state in states)])
        rows: dict[int, dict[str, float]] = {}
        history = None
        for number in range(begin, len(stages)):
            first = initial_epoch if number == begin else max(initial_epoch, stages[number].start)
            last = epochs
            if number + 1 < len(stages):
                last = min(epochs, max(stages[number + 1].start, first))
            if first >= last:
                continue
            self._enter(number)
            for state in states:
                state.part = number
            history = self._fit_stage(
                x,
                y,
                batch_size=batch_size,
                epochs=last,
                verbose=verbose,
                callbacks=callbacks,
                initial_epoch=first,
                **kwargs,
            )
            for i, epoch in enumerate(history.epoch):
                rows[epoch] = {k: v[i] for k, v in history.history.items() if i < len(v)}
        if history is None:
            return super().fit(x, y, batch_size, epochs=0, verbose=0)
        history.epoch = sorted(rows)
        names = dict.fromkeys(name for epoch in history.epoch for name in rows[epoch])
        history.history = {
            name: [rows[epoch][name] for epoch in history.epoch if name in rows[epoch]]
            for name in names
        }
        return history

    def _fit_stage(self, x: Any, y: Any, **kwargs: Any) -> Any:
        """Trains in the stage that was entered."""
        return super().fit(x, y, **kwargs)

    # -- Files ---------------------------------------------------------------------------------

    def settings(self) -> dict[str, Any]:
        """What beside the network must be known to make the model again."""
        raise NotImplementedError

    def get_config(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "network": keras.saving.serialize_keras_object(self.network),
            "stage": self._stage,
            **keras.saving.serialize_keras_object(self.settings()),
        }

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> Any:
        found = {
            name: keras.saving.deserialize_keras_object(value, custom_objects)
            if isinstance(value, (dict, list))
            else value
            for name, value in config.items()
        }
        stage = found.pop("stage")
        model = cls.__new__(cls)
        model._set_up(**found)
        model._stage = stage
        return model

    def get_compile_config(self) -> dict[str, Any]:
        if self._arguments is None:
            return {}
        return dict(keras.saving.serialize_keras_object(self._arguments))

    def compile_from_config(self, config: dict[str, Any]) -> None:
        self.compile(**keras.saving.deserialize_keras_object(config))
        self.optimizer.build(self.trainable_variables)


def _scope(model: Any) -> contextlib.AbstractContextManager[Any]:
    """The scope in which the variables of a model's training are made."""
    if keras.backend.backend() != "tensorflow":
        return contextlib.nullcontext()
    scope: contextlib.AbstractContextManager[Any] = model.distribute_strategy.scope()
    return scope


def listed(callbacks: Any) -> list[Any]:
    """Callbacks in any form that `fit` takes, as a list."""
    if callbacks is None:
        return []
    return list(getattr(callbacks, "callbacks", callbacks))


def _fresh(metrics: Any) -> Any:
    """Metrics without a state, in the same structure."""
    return keras.tree.map_structure(
        lambda one: (
            type(one).from_config(one.get_config())
            if isinstance(one, keras.metrics.Metric)
            else one
        ),
        metrics,
    )
