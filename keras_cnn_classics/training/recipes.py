"""How to train each network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import keras

from keras_cnn_classics import registry
from keras_cnn_classics.layers import EuclideanRBF
from keras_cnn_classics.registry import ModelSpec
from keras_cnn_classics.training.losses import MaximumAPosteriori


@dataclass(frozen=True)
class Recipe:
    """Settings of one training run. The learning rate falls to zero along a cosine.

    Attributes:
        optimizer: `"adamw"`, or `"sgd"` with a momentum of 0.9.
        learning_rate: Learning rate at the start.
        weight_decay: Share of each weight that a step takes off, times the learning rate.
        batch_size: Images in a step.
        epochs: Passes through the training images.
        resize: How images of another size are fitted; see `data.load`.
        source: Where the settings come from.
    """

    optimizer: str
    learning_rate: float
    weight_decay: float
    batch_size: int
    epochs: int
    resize: str
    source: str

    def make_optimizer(self, steps: int) -> keras.optimizers.Optimizer:
        """Makes the optimizer for a run of `steps` steps."""
        if self.learning_rate <= 0:
            raise ValueError(f"`learning_rate` must be positive. Received: {self.learning_rate}")
        schedule = keras.optimizers.schedules.CosineDecay(self.learning_rate, max(1, steps))
        if self.optimizer == "adamw":
            return keras.optimizers.AdamW(schedule, weight_decay=self.weight_decay)
        if self.optimizer == "sgd":
            return keras.optimizers.SGD(schedule, momentum=0.9, weight_decay=self.weight_decay)
        raise ValueError(f"`optimizer` must be 'adamw' or 'sgd'. Received: {self.optimizer!r}")


_LENET = Recipe(
    optimizer="adamw",
    learning_rate=3e-3,
    weight_decay=0.1,
    batch_size=64,
    epochs=30,
    resize="pad",
    source="chosen on MNIST by this project; the paper's is a diagonal Levenberg-Marquardt method",
)
_IMAGENET = Recipe(
    optimizer="sgd",
    learning_rate=1e-2,
    weight_decay=5e-4,
    batch_size=64,
    epochs=20,
    resize="crop",
    source="rate, momentum and decay of AlexNet and VGG; the papers divide the rate by 10 instead",
)


def recipe(model: str | ModelSpec) -> Recipe:
    """Gives the settings for a model, by its name or spec."""
    spec = registry.get_builder(model).spec if isinstance(model, str) else model
    return _LENET if spec.family == "lenet" else _IMAGENET


def loss_for(model: Any) -> keras.losses.Loss:
    """Gives the loss that fits a model's output, for integer labels.

    It is the cross-entropy of probabilities or scores, and LeNet-5's own for the negative
    distances that `LeNet5(classifier_activation=None)` gives.
    """
    linear = model.layers[-1].activation is keras.activations.linear
    if linear and any(isinstance(layer, EuclideanRBF) for layer in model.layers):
        return MaximumAPosteriori()
    return keras.losses.SparseCategoricalCrossentropy(from_logits=linear)
