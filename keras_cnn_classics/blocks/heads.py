"""Classifiers: functions from a feature map to one activation for each class.

The last layer is called `predictions` and computes in float32 under every dtype policy: a
softmax over a thousand classes in float16 loses the small probabilities that a loss needs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from keras import layers

from keras_cnn_classics.blocks import core


def predictions(x: Any, classes: int, activation: Any, *, name: str = "predictions") -> Any:
    """The float32 output layer.

    Args:
        x: A vector for each image.
        classes: Number of classes.
        activation: Activation of the layer.
        name: Name of the layer.

    Returns:
        A tensor of shape `(batch, classes)`.
    """
    return layers.Dense(classes, activation=activation, dtype="float32", name=name)(x)


def gap_dense(*, dropout: float | None = None, name: str = "dropout") -> Callable[..., Any]:
    """Makes a head of global average pooling and one dense layer: GoogLeNet and most since.

    Args:
        dropout: Share of the averages that training drops; without it there is no such layer.
        name: Name of the layer that drops.

    Returns:
        A function `head(x, classes, classifier_activation)`, with the option `dropout` if there
        is dropout.
    """

    def plain(x: Any, classes: int, classifier_activation: Any) -> Any:
        """Average, then classify."""
        x = layers.GlobalAveragePooling2D(name="avg_pool")(x)
        return predictions(x, classes, classifier_activation)

    def with_dropout(
        x: Any, classes: int, classifier_activation: Any, *, dropout: float = dropout or 0.0
    ) -> Any:
        """Average, drop, then classify.

        Args:
            x: Feature map.
            classes: Number of classes.
            classifier_activation: Activation of the last layer.
            dropout: Share of the averages that training drops.

        Returns:
            A tensor of shape `(batch, classes)`.
        """
        x = layers.GlobalAveragePooling2D(name="avg_pool")(x)
        x = layers.Dropout(dropout, name=name)(x)
        return predictions(x, classes, classifier_activation)

    return plain if dropout is None else with_dropout


def flat_dense(x: Any, classes: int, classifier_activation: Any) -> Any:
    """Flatten, then classify.

    Args:
        x: Feature map.
        classes: Number of classes.
        classifier_activation: Activation of the layer.

    Returns:
        A tensor of shape `(batch, classes)`.
    """
    return predictions(layers.Flatten(name="flatten")(x), classes, classifier_activation)


def cells(*, conv: str, pool: str) -> Callable[..., Any]:
    """Makes a head that classifies each cell and averages the answers: NIN, SqueezeNet.

    Args:
        conv: Name of the 1x1 convolution with ReLU that has a map for each class.
        pool: Name of the average.

    Returns:
        A function `head(x, classes, classifier_activation)`.
    """

    def head(x: Any, classes: int, classifier_activation: Any) -> Any:
        """Classify each cell, then average."""
        x = core.conv(x, classes, 1, name=conv, dtype="float32")
        x = layers.GlobalAveragePooling2D(dtype="float32", name=pool)(x)
        return layers.Activation(classifier_activation, dtype="float32", name="predictions")(x)

    return head


def mlp(*, first: int = 1, dropout_before: bool = False) -> Callable[..., Any]:
    """Makes a head of dense layers with ReLU and dropout: AlexNet, ZFNet, VGG.

    Args:
        first: Number of the first dense layer, for the names `fc1`, `dropout1` and so on.
        dropout_before: Whether dropout comes before each of them, not after.

    Returns:
        A function `head(x, classes, classifier_activation, *, units, dropout)`.
    """

    def head(
        x: Any,
        classes: int,
        classifier_activation: Any,
        *,
        units: Sequence[int] = (4096, 4096),
        dropout: float = 0.5,
    ) -> Any:
        """Flatten, then dense layers.

        Args:
            x: Feature map.
            classes: Number of classes.
            classifier_activation: Activation of the last layer.
            units: Sizes of the dense layers before the last.
            dropout: Share of activations that training drops beside each of them.

        Returns:
            A tensor of shape `(batch, classes)`.
        """
        x = layers.Flatten(name="flatten")(x)
        for i, n in enumerate(units, first):
            if dropout_before:
                x = layers.Dropout(dropout, name=f"dropout{i}")(x)
            x = layers.Dense(n, activation="relu", name=f"fc{i}")(x)
            if not dropout_before:
                x = layers.Dropout(dropout, name=f"dropout{i}")(x)
        return predictions(x, classes, classifier_activation)

    return head
