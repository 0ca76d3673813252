"""What a recipe consists of, and how it becomes an optimizer, a loss and callbacks."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import keras

from keras_cnn_classics.layers import EuclideanRBF
from keras_cnn_classics.training._callback import Callback


@dataclass(frozen=True)
class Decay:
    """How the learning rate falls. Lengths are in epochs, and need not be whole."""

    kind: ClassVar[str]

    def scaled(self, scale: float) -> Decay:
        """The same for a run that is so many times as long."""
        return self

    def rate(self, start: float, epochs: float, steps_per_epoch: int) -> Any:
        """A number or a schedule for the optimizer."""
        return start

    def callbacks(self, warmup: float, monitor: str) -> list[Callback]:
        """Callbacks that set the rate instead."""
        return []


@dataclass(frozen=True)
class Cosine(Decay):
    """It falls to zero along half a cosine."""

    kind = "cosine"

    def __str__(self) -> str:
        return "along half a cosine to 0"

    def rate(self, start: float, epochs: float, steps_per_epoch: int) -> Any:
        steps = max(1, round(epochs * steps_per_epoch))
        return keras.optimizers.schedules.CosineDecay(start, steps)


@dataclass(frozen=True)
class Steps(Decay):
    """It is multiplied by a factor at certain epochs."""

    kind = "steps"
    at: tuple[float, ...]
    factor: float = 0.1

    def __str__(self) -> str:
        return f"times {self.factor:g} after epochs {', '.join(f'{one:g}' for one in self.at)}"

    def scaled(self, scale: float) -> Decay:
        return dataclasses.replace(self, at=tuple(scale * one for one in self.at))

    def rate(self, start: float, epochs: float, steps_per_epoch: int) -> Any:
        from keras_cnn_classics.training.schedules import StepDecay

        boundaries = [max(1, round(one * steps_per_epoch)) for one in self.at]
        for at in range(1, len(boundaries)):  # of a run that is cut to nearly nothing
            boundaries[at] = max(boundaries[at], boundaries[at - 1] + 1)
        return StepDecay(start, boundaries, 1 / self.factor)


@dataclass(frozen=True)
class Staircase(Decay):
    """It is multiplied by a factor every so many epochs."""

    kind = "staircase"
    factor: float
    every: float

    def __str__(self) -> str:
        return f"times {self.factor:g} every {self.every:g} epochs"

    def scaled(self, scale: float) -> Decay:
        return dataclasses.replace(self, every=scale * self.every)

    def rate(self, start: float, epochs: float, steps_per_epoch: int) -> Any:
        from keras_cnn_classics.training.schedules import StaircaseDecay

        return StaircaseDecay(start, max(1.0, self.every * steps_per_epoch), self.factor)


@dataclass(frozen=True)
class Plateau(Decay):
    """It is multiplied by a factor when the validation accuracy stops improving.

    The papers did it by hand and give no patience; 5 epochs are ours.
    """

    kind = "plateau"
    drops: int = 3
    factor: float = 0.1
    patience: int = 5

    def __str__(self) -> str:
        return (
            f"times {self.factor:g} on a plateau of {self.patience} epochs, {self.drops} times; "
            "the next plateau ends training"
        )

    def scaled(self, scale: float) -> Decay:
        return dataclasses.replace(self, patience=max(1, round(scale * self.patience)))

    def callbacks(self, warmup: float, monitor: str) -> list[Callback]:
        from keras_cnn_classics.training.plateau_decay import PlateauDecay

        return [
            PlateauDecay(
                monitor,
                factor=self.factor,
                patience=self.patience,
                max_drops=self.drops,
                warmup_epochs=round(warmup),
            )
        ]


_OPTIMIZERS = ("sgd", "nesterov", "rmsprop", "adamw")


@dataclass(frozen=True)
class Recipe:
    """Settings of one training run.

    Attributes:
        name: What `recipe` finds it by.
        optimizer: `"sgd"`, `"nesterov"`, `"rmsprop"` as in TensorFlow 1, or `"adamw"`.
        learning_rate: Learning rate at the start, for `batch_size`.
        weight_decay: Weight decay, on kernels only and coupled to the gradient as in the papers;
            with `"adamw"` Keras's own, decoupled and on all weights.
        batch_size: Images in a step, on all devices together.
        epochs: Passes through the training images.
        resize: How images of another size are fitted; see `data.load`.
        source: Where the settings come from.
        decay: How the learning rate falls.
        momentum: Momentum of the optimizer.
        warmup: Epochs in which the learning rate rises at first.
        epsilon: Of `"rmsprop"`.
        clipnorm: Bound of the norm of all gradients together, or `None`.
        label_smoothing: Share of the labels that goes to all classes alike.
        depthwise_decay: Whether depthwise kernels decay as well.
        filter_rms: Bound of the root mean square of each filter, or `None`.
        average: `None`, `"polyak"` for the mean of all weights of the second half, or the decay of
            a moving average.
        auxiliary: Weight of each auxiliary loss; the network is then trained with them.
        initialization: Method of `training.initialize` and its options, or `None` for what the
            layers name.
        dropout: What dropout the network has, which is the builder's default.
        augmentation: Names of `data.augmentation.named`.
        resize_side: Shorter side that images are scaled to for the test, as a multiple of the
            image size; 256 / 224 in most papers.
        protocol: How the paper tested.
        result: What the paper reached.
        sections: Where in the source each of the settings stands; those without are ours.
        departures: What is otherwise here.
        measured: What we reached, with the command, or `"not run"`.
    """

    name: str
    optimizer: str
    learning_rate: float
    weight_decay: float
    batch_size: int
    epochs: int
    resize: str
    source: str
    decay: Decay = Cosine()
    momentum: float = 0.9
    warmup: float = 0.0
    epsilon: float = 1.0
    clipnorm: float | None = None
    label_smoothing: float = 0.0
    depthwise_decay: bool = True
    filter_rms: float | None = None
    average: str | float | None = None
    auxiliary: float | None = None
    initialization: tuple[str, Mapping[str, Any]] | None = None
    dropout: str = ""
    augmentation: tuple[str, ...] = ()
    resize_side: float | None = None
    protocol: str = ""
    result: str = ""
    sections: Mapping[str, str] = field(default_factory=dict)
    departures: str = ""
    measured: str = "not run"

    def __post_init__(self) -> None:
        if self.optimizer not in _OPTIMIZERS:
            raise ValueError(
                f"`optimizer` must be one of {_OPTIMIZERS}. Received: {self.optimizer!r}"
            )
        if self.learning_rate <= 0:
            raise ValueError(f"`learning_rate` must be positive. Received: {self.learning_rate}")

    def scaled(self, *, batch_size: int | None = None, scale: float = 1.0) -> Recipe:
        """The recipe for another batch size, and for a longer or shorter run.

        Args:
            batch_size: Images in a step. The learning rate changes with it by the linear rule.
            scale: Factor on the epochs, and on all lengths that are counted in them.

        Raises:
            ValueError: If one of them is not positive.

        References:
            - [Goyal et al., 2017](https://arxiv.org/abs/1706.02677), section 2.1: the linear rule
        """
        if not 0 < scale < math.inf or (batch_size is not None and batch_size < 1):
            raise ValueError(
                f"`scale` and `batch_size` must be positive. Received: {scale=}, {batch_size=}"
            )
        size = batch_size or self.batch_size
        return dataclasses.replace(
            self,
            batch_size=size,
            learning_rate=self.learning_rate * size / self.batch_size,
            epochs=max(1, round(scale * self.epochs)),
            warmup=scale * self.warmup,
            decay=self.decay.scaled(scale),
        )

    def load_options(self, size: int | tuple[int, int]) -> dict[str, Any]:
        """The arguments of `data.load` for networks that take images of a size."""
        from keras_cnn_classics.data.augmentation import named

        side = min(size) if isinstance(size, tuple) else size
        return {
            "batch_size": self.batch_size,
            "resize": self.resize,
            "augment": named(self.augmentation, size),
            "resize_side": shorter_side(self.resize_side, side, self.resize),
        }

    def make_optimizer(self, steps_per_epoch: int) -> keras.optimizers.Optimizer:
        """Makes the optimizer for epochs of so many steps."""
        rate = self.decay.rate(self.learning_rate, self.epochs, steps_per_epoch)
        if self.warmup and not isinstance(self.decay, Plateau):  # whose callback warms up
            from keras_cnn_classics.training.schedules import WarmUp

            rate = WarmUp(rate, self.warmup * steps_per_epoch)
        clip: dict[str, Any] = {"global_clipnorm": self.clipnorm}
        if self.optimizer == "adamw":
            return keras.optimizers.AdamW(rate, weight_decay=self.weight_decay, **clip)
        if self.optimizer == "rmsprop":
            from keras_cnn_classics.training.optimizers import RMSpropTF1

            return RMSpropTF1(rate, momentum=self.momentum, epsilon=self.epsilon, **clip)
        nesterov = self.optimizer == "nesterov"
        return keras.optimizers.SGD(rate, momentum=self.momentum, nesterov=nesterov, **clip)

    def compile(
        self,
        model: Any,
        steps_per_epoch: int,
        *,
        validated: bool = True,
        fresh: bool = True,
        one_hot: bool = False,
    ) -> list[Callback]:
        """Makes a model ready to be trained by the recipe.

        Args:
            model: A built model with one output for the classes, or one with auxiliary classifiers
                that `with_auxiliary_targets` gave.
            steps_per_epoch: Steps in an epoch.
            validated: Whether there is a validation split, for the decay on a plateau; without one
                it goes by the accuracy of training.
            fresh: Whether the weights are to be drawn anew, where the recipe says how.
            one_hot: Whether labels are one-hot instead of integers, as those of mixers are.

        Returns:
            Callbacks for `fit`; `TrainingState` comes behind them.
        """
        from keras_cnn_classics.training.averaging import WeightAveraging
        from keras_cnn_classics.training.initialization import initialize
        from keras_cnn_classics.training.penalties import FilterRMS, add_l2, constrain

        if fresh and self.initialization:
            how, options = self.initialization
            initialize(model, how, **options)
        if self.optimizer != "adamw" and self.weight_decay:
            add_l2(model, self.weight_decay, depthwise=self.depthwise_decay)
        if self.filter_rms:
            constrain(model, FilterRMS(self.filter_rms), layers="conv*")
        monitor = f"{'val_' if validated else ''}{accuracy_of(model)}"
        callbacks = self.decay.callbacks(self.warmup, monitor)
        if self.average is not None:
            polyak = self.average == "polyak"
            decay = None if polyak else float(self.average)
            # The mean of all weights would have the random ones of the start in it.
            callbacks.append(WeightAveraging(decay, start_epoch=self.epochs // 2 if polyak else 0))
        loss: Any = loss_for(model, self.label_smoothing, one_hot)
        arguments: dict[str, Any] = {"loss": loss, "metrics": ["accuracy"]}
        if isinstance(model.output, dict):
            from keras_cnn_classics.training.auxiliary import AuxiliaryLossWeights

            weights = AuxiliaryLossWeights(model, 0.3 if self.auxiliary is None else self.auxiliary)
            callbacks.append(weights)
            arguments = {
                "loss": weights.loss(loss),
                "loss_weights": weights.loss_weights,
                "metrics": {"predictions": ["accuracy"]},
            }
        model.compile(self.make_optimizer(steps_per_epoch), **arguments)
        return callbacks

    def to_dict(self) -> dict[str, Any]:
        """The settings as JSON has them, without what the paper says of its own run."""
        decay = {"kind": self.decay.kind, **vars(self.decay)}
        said = ("sections", "protocol", "result", "departures", "dropout", "measured")
        settings: dict[str, Any] = json.loads(
            json.dumps({**dataclasses.asdict(self), "decay": decay})
        )
        return {name: value for name, value in settings.items() if name not in said}


def shorter_side(factor: float | None, side: int, resize: str) -> int | None:
    """The shorter side that images are scaled to before the centre of `side` is taken, if any."""
    return round(factor * side) if factor and resize == "crop" else None


def accuracy_of(model: Any) -> str:
    """The name of a model's accuracy in the logs: that of the main output if it has several."""
    return "predictions_accuracy" if isinstance(model.output, dict) else "accuracy"


def loss_for(model: Any, label_smoothing: float = 0.0, one_hot: bool = False) -> keras.losses.Loss:
    """Gives the loss that fits a model's output.

    It is the cross-entropy of probabilities or scores, and LeNet-5's own for the negative
    distances that `LeNet5(classifier_activation=None)` gives.

    Args:
        model: A model with one output for the classes, or with auxiliary ones beside it.
        label_smoothing: Share of the labels that goes to all classes alike.
        one_hot: Whether labels are one-hot instead of integers.
    """
    from keras_cnn_classics.training.losses import MaximumAPosteriori, SmoothedCrossentropy

    name = "predictions" if isinstance(model.output, dict) else model.layers[-1].name
    linear = model.get_layer(name).activation is keras.activations.linear
    if linear and any(isinstance(layer, EuclideanRBF) for layer in model.layers):
        if label_smoothing:
            raise ValueError(
                "LeNet-5's own loss, for distances, knows no label smoothing. Received: "
                f"{label_smoothing=}. Build it with output='dense', or leave the smoothing out."
            )
        return MaximumAPosteriori()
    if label_smoothing:
        return SmoothedCrossentropy(label_smoothing, from_logits=linear)
    if one_hot:
        return keras.losses.CategoricalCrossentropy(from_logits=linear)
    return keras.losses.SparseCategoricalCrossentropy(from_logits=linear)
