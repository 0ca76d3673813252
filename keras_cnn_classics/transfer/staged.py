"""Models that are trained in stages, in each of which other layers learn."""

from __future__ import annotations

import contextlib
import logging
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import keras

from keras_cnn_classics.training import distribution
from keras_cnn_classics.training.early_stopping import EarlyStopping
from keras_cnn_classics.training.optimizers import discriminative_rates, scaled
from keras_cnn_classics.training.plateau_decay import PlateauDecay
from keras_cnn_classics.training.training_state import TrainingState
from keras_cnn_classics.transfer.parts import train_only

_LOGGER = logging.getLogger("keras_cnn_classics")


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
    the settings of the one that `compile` was given, whose schedule begins anew; epochs and history
    count on. A stage that `EarlyStopping` or `PlateauDecay` ends is followed by the next one; what
    else stops training, such as a spent time budget, ends it as a whole. A `TrainingState` among
    the callbacks goes on in the stage in which training was interrupted.

    The epochs of all calls of `fit` count: a second one goes on where the first one has ended, with
    the same optimizer if in the same stage.

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
        self._done = 0  # epochs
        self.built = True

    def stages(self) -> Sequence[Stage]:
        """The stages, in the order of their starts, of which the first one is 0."""
        raise NotImplementedError

    def default_loss(self) -> Any:
        """The loss where `compile` is given none."""
        raise NotImplementedError

    def check_data(self, x: Any, y: Any) -> None:
        """Refuses images and labels that do not fit, as far as they are known."""
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
        now = self._stage
        for number, stage in enumerate(self.stages()):
            if stage.factors and number != now:  # not every optimizer can have them
                self._enter(number)
        self._enter(now)

    def _enter(self, number: int) -> None:
        """Lets the layers of a stage learn, by an optimizer of their own."""
        assert self._arguments is not None
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

        Callbacks see a training for each stage. One that looks for the best epoch of all should
        monitor what all stages have.

        Args:
            x: Images, or batches of images and labels: a `tf.data.Dataset`, a `PyDataset`.
            y: Labels, for images in an array.
            batch_size: For arrays.
            epochs: The epoch to end with, those of all stages counted.
            verbose: As in Keras.
            callbacks: As in Keras; without `BackupAndRestore` and `SwapEMAWeights`, which know no
                stages.
            initial_epoch: As in Keras.
            **kwargs: Further arguments of `keras.Model.fit`.

        Returns:
            A `keras.callbacks.History` of all epochs.

        Raises:
            ValueError: If the model is not compiled, or the data do not fit it.
        """
        self.check_data(x, y)
        if (validation := kwargs.get("validation_data")) is not None:
            self.check_data(*pair_of(validation))
        if self._arguments is None:
            raise ValueError("Compile the model before it is trained.")
        stages, callbacks = self.stages(), listed(callbacks)
        _check_callbacks(callbacks)
        states = [one for one in callbacks if isinstance(one, TrainingState)]
        begin = max([self._stage, *(state.saved_part() or 0 for state in states)])
        before = max(0, self._done - initial_epoch)  # epochs of earlier calls
        starts = [stage.start - before for stage in stages]
        history, rows, values = None, list[int](), dict[str, list[float]]()
        callbacks = [_Count(self, before), _Warning(), *callbacks]
        for number in range(begin, len(stages)):
            first = initial_epoch if number == begin else max(initial_epoch, starts[number])
            last = epochs
            if number + 1 < len(stages):
                last = min(epochs, max(starts[number + 1], first))
            if first >= last:
                continue
            if number != self._stage:
                self._enter(number)
            for state in states:
                state.part = number
            for one in callbacks:
                if isinstance(one, keras.callbacks.History):
                    one.history = {}
                if isinstance(one, keras.callbacks.CSVLogger) and history is not None:
                    one.append = True
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
            rows += history.epoch
            for name, found in history.history.items():
                values.setdefault(name, []).extend(found)
            if self.stop_training and not any(map(_has_waited, callbacks)):
                break
            self._done = max(self._done, before + last)
        if self._stage + 1 < len(stages):
            _LOGGER.warning(
                "Training has ended in the stage %r, after %d epochs. The next one, %r, begins "
                "after %d: give more epochs, or shorten the stage.",
                self.stage.name,
                self._done,
                stages[self._stage + 1].name,
                stages[self._stage + 1].start,
            )
        if history is None:
            return super().fit(x, y, batch_size, epochs=0, verbose=0)
        history.epoch, history.history = rows, values
        return history

    def evaluate(self, x: Any = None, y: Any = None, *args: Any, **kwargs: Any) -> Any:
        """As `keras.Model.evaluate`, on images and labels of the new task.

        Raises:
            ValueError: If the data do not fit the model.
        """
        if not kwargs.get("_use_cached_eval_dataset"):  # by `fit`, which has looked at them
            self.check_data(x, y)
        return super().evaluate(x, y, *args, **kwargs)

    def _fit_stage(self, x: Any, y: Any, **kwargs: Any) -> Any:
        """Trains in the stage that was entered."""
        if hasattr(x, "element_spec"):  # a tf.data.Dataset, of whose order Keras warns
            kwargs["shuffle"] = False
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
            "done": self._done,
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
        stage, done = found.pop("stage"), found.pop("done")
        model = cls.__new__(cls)
        model._set_up(**found)
        model._stage, model._done = stage, done
        return model

    def get_compile_config(self) -> dict[str, Any]:
        if self._arguments is None:
            return {}
        return dict(keras.saving.serialize_keras_object(self._arguments))

    def compile_from_config(self, config: dict[str, Any]) -> None:
        self.compile(**keras.saving.deserialize_keras_object(config))
        self.optimizer.build(self.trainable_variables)


class _Count(keras.callbacks.Callback):
    """Counts the epochs of a model over all calls of `fit`."""

    def __init__(self, staged: StagedModel, before: int) -> None:
        super().__init__()
        self.staged, self.before = staged, before

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.staged._done = max(self.staged._done, self.before + epoch + 1)


class _Warning(keras.callbacks.Callback):
    """Says once what a loss may have become NaN by."""

    told = False

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        if not self.told and not math.isfinite((logs or {}).get("loss", 0.0)):
            self.told = True
            _LOGGER.warning(
                "The loss is not finite: the rate may be too high, or there are labels outside the "
                "classes, in another batch than the first."
            )


def _scope(model: Any) -> contextlib.AbstractContextManager[Any]:
    """The scope in which the variables of a model's training are made."""
    if keras.backend.backend() != "tensorflow":
        return contextlib.nullcontext()
    scope: contextlib.AbstractContextManager[Any] = model.distribute_strategy.scope()
    return scope


def _check_callbacks(callbacks: Sequence[Any]) -> None:
    if any(isinstance(one, keras.callbacks.BackupAndRestore) for one in callbacks):
        raise ValueError(
            "BackupAndRestore does not know in which stage training was: take training."
            "TrainingState(folder), as the last callback."
        )
    if any(isinstance(one, keras.callbacks.SwapEMAWeights) for one in callbacks):
        raise ValueError(
            "SwapEMAWeights belongs to one optimizer, and each stage has its own: take training."
            "WeightAveraging instead."
        )


def _has_waited(callback: Any) -> bool:
    """Whether a callback stops a stage since it has waited for something better in vain."""
    if isinstance(callback, PlateauDecay):
        return callback.max_drops is not None and callback.drops >= callback.max_drops
    if isinstance(callback, EarlyStopping):
        return bool(callback.reason) and not callback.out_of_time
    return isinstance(callback, keras.callbacks.EarlyStopping) and callback.stopped_epoch > 0


def pair_of(data: Any) -> tuple[Any, Any]:
    """Images and labels, or a data set and `None`."""
    return (data[0], data[1]) if isinstance(data, (tuple, list)) else (data, None)


def listed(callbacks: Any) -> list[Any]:
    """Callbacks in any form that `fit` takes, as a list."""
    if callbacks is None:
        return []
    if isinstance(callbacks, keras.callbacks.Callback) and not hasattr(callbacks, "callbacks"):
        return [callbacks]
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
