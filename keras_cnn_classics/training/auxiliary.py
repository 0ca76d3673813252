"""Auxiliary classifiers: trained with the labels of the main one, and then left out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import keras

from keras_cnn_classics.training._arguments import check_number
from keras_cnn_classics.training.scalars import Scalar, ScalarSchedule

MAIN = "predictions"


def _auxiliary(model: keras.Model) -> list[str]:
    """The names of a model's auxiliary outputs."""
    outputs = getattr(model, "output", None)
    if not isinstance(outputs, dict) or MAIN not in outputs or len(outputs) < 2:
        raise ValueError(
            f"The model must have the outputs '{MAIN}', 'aux1', ... by name, as those built with "
            f"aux=True have. Received: {model!r} with the outputs "
            f"{list(outputs) if isinstance(outputs, dict) else outputs}"
        )
    return sorted(outputs.keys() - {MAIN}, key=lambda name: (len(name), name))  # aux10 comes last


@keras.saving.register_keras_serializable(package="keras_cnn_classics")
class AuxiliaryModel(keras.Model):
    """A Functional model whose outputs all have the same targets; see `with_auxiliary_targets`."""

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> Any:
        return super().compute_loss(x, _repeat(y, y_pred), y_pred, sample_weight, training)

    def compute_metrics(self, x: Any, y: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        return super().compute_metrics(x, _repeat(y, y_pred), y_pred, sample_weight)


def _repeat(y: Any, y_pred: Any) -> Any:
    return y if y is None or isinstance(y, dict) else dict.fromkeys(y_pred, y)


def with_auxiliary_targets(model: keras.Model) -> keras.Model:
    """Gives a model that is trained with plain labels, for one with auxiliary classifiers.

    Keras wants one target for each output: without this, the data would have to repeat its labels.
    All of `fit`, `evaluate`, sample weights and class weights work as with one output. Metrics are
    given by output, as Keras wants them: `metrics={"predictions": ["accuracy"]}` has the names
    `predictions_accuracy` and `val_predictions_accuracy` in the history.

    Args:
        model: A model built with `aux=True`. Under a `tf.distribute` strategy, call this inside
            its scope.

    Returns:
        An uncompiled model on the same layers, of the same name; it is saved and loaded as usual.

    Raises:
        ValueError: If the model has no auxiliary classifiers.
    """
    _auxiliary(model)
    return AuxiliaryModel(model.input, model.output, name=model.name)


def without_auxiliary(model: keras.Model) -> keras.Model:
    """Gives the model for inference, without auxiliary classifiers, on the same weights.

    Args:
        model: A model built with `aux=True`, or one from `with_auxiliary_targets`.

    Returns:
        An uncompiled Functional model on the same layers, of the same name, with one output: what
        the builder makes with `aux=False`.

    Raises:
        ValueError: If the model has no auxiliary classifiers.
    """
    _auxiliary(model)
    return keras.Model(model.input, model.output[MAIN], name=model.name)


class AuxiliaryLossWeights(ScalarSchedule):
    """Gives a model's auxiliary classifiers their share of the loss, and changes it by the epoch.

    The step is not compiled again, and the weights of each epoch stand in the history as
    `aux1_weight`, `aux2_weight`, ...

    Args:
        model: The model, built with `aux=True`.
        weights: Weight of each auxiliary loss against the main one's, or a dict with one for each
            auxiliary output. The default is GoogLeNet's. The paper of Inception v3 gives none;
            TF-slim trains it with 0.4.
        schedule: `"constant"`; `"linear"` or `"cosine"`, which fall to zero in the last epoch; or a
            callable that takes the epoch, counted from 0, and gives the factor on the weights.
        drop_at: The first epoch, counted from 0, in which the weights are zero; a falling schedule
            ends before it. By default there is none.

    Raises:
        ValueError: If the model has no auxiliary classifiers, or an argument is out of range; when
            training starts, if the model was not compiled with `loss_weights`; in the epoch in
            which a callable gives what is no factor.

    Example:
        model = with_auxiliary_targets(GoogLeNet(weights=None, aux=True))
        weights = AuxiliaryLossWeights(model)
        model.compile(
            "sgd",
            loss=weights.loss("sparse_categorical_crossentropy"),
            loss_weights=weights.loss_weights,
            metrics={"predictions": ["accuracy"]},
        )
        model.fit(images, labels, callbacks=[weights])
        network = without_auxiliary(model)

    References:
        - [Szegedy et al., 2014](https://arxiv.org/abs/1409.4842), section 5: weights of 0.3
        - TF-slim, `train_image_classifier.py`: 0.4 for `AuxLogits`
    """

    def __init__(
        self,
        model: keras.Model,
        weights: float | Mapping[str, float] = 0.3,
        schedule: str | Callable[[int], Any] = "constant",
        drop_at: int | None = None,
    ) -> None:
        super().__init__(schedule)
        names = _auxiliary(model)
        self.weights = (
            dict(weights) if isinstance(weights, Mapping) else dict.fromkeys(names, weights)
        )
        if set(self.weights) != set(names):
            raise ValueError(f"`weights` must have the keys {names}. Received: {weights}")
        for weight in self.weights.values():
            check_number("weights", weight, 0)
        if drop_at is not None and (not isinstance(drop_at, int) or drop_at < 0):
            raise ValueError(f"`drop_at` must be an epoch, at least 0. Received: {drop_at!r}")
        self.drop_at = drop_at
        self._made = {name: Scalar(self.weights[name], name=f"{name}_weight") for name in names}

    @property
    def loss_weights(self) -> dict[str, Any]:
        """The weight of each output, for `compile`."""
        return {MAIN: 1.0, **self._made}

    def loss(self, loss: Any) -> dict[str, Any]:
        """The loss of each output, for `compile`.

        Args:
            loss: Anything that `compile` takes as a loss for one output.
        """
        return dict.fromkeys(self.loss_weights, loss)

    def scalars(self) -> dict[str, Any]:
        # Those of a model from a file are others than `_made`, and Keras has no other way to them.
        compiled = self.model._compile_config.config["loss_weights"]
        given = compiled if isinstance(compiled, dict) else {}
        found = {f"{name}_weight": given.get(name) for name in self.weights}
        if not all(isinstance(scalar, Scalar) for scalar in found.values()):
            raise ValueError(
                "AuxiliaryLossWeights needs a model compiled with its `loss_weights` and "
                f"`loss(...)`. Received: loss_weights={compiled}"
            )
        return found

    def value(self, name: str, scalar: Scalar, epoch: int) -> float:
        epochs = self.params["epochs"] if self.drop_at is None else self.drop_at
        if self.drop_at is not None and epoch >= epochs:
            return 0.0
        factor = self.curve(epoch, epochs, 1.0, 0.0)
        check_number(f"schedule({epoch})", factor, 0)
        return self.weights[name.removesuffix("_weight")] * factor
