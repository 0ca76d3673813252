"""Losses of the papers that Keras lacks."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from keras_cnn_classics.training._arguments import check_number
from keras_cnn_classics.training.scalars import Scalar


def _distances(y_true: Any, y_pred: Any) -> tuple[Any, Any]:
    """The penalties, and that of the true class, from negative distances."""
    distances = -ops.convert_to_tensor(y_pred)
    labels = ops.convert_to_tensor(y_true)
    if len(labels.shape) == len(distances.shape) and labels.shape[-1] == distances.shape[-1] > 1:
        hot = ops.cast(labels, distances.dtype)
    else:
        labels = ops.reshape(ops.cast(labels, "int32"), (-1,))
        hot = ops.one_hot(labels, distances.shape[-1], dtype=distances.dtype)
    return distances, ops.sum(distances * hot, axis=-1)


@keras.saving.register_keras_serializable(package="keras_cnn_classics")
class MeanSquaredDistance(keras.losses.Loss):
    """Squared distance from the code of the true class: LeNet-5's plain criterion.

    `y_pred` are negative squared distances, as `LeNet5(classifier_activation=None)` gives them;
    `y_true` are integer or one-hot labels. Only right for codes that are fixed: with codes that
    are learned, all would collapse into one.

    References:
        - [LeCun et al., 1998](https://doi.org/10.1109/5.726791), equation 8
    """

    def __init__(
        self,
        reduction: str = "sum_over_batch_size",
        name: str = "mean_squared_distance",
        dtype: Any = None,
    ) -> None:
        super().__init__(name=name, reduction=reduction, dtype=dtype)

    def call(self, y_true: Any, y_pred: Any) -> Any:
        return _distances(y_true, y_pred)[1]


@keras.saving.register_keras_serializable(package="keras_cnn_classics")
class MaximumAPosteriori(keras.losses.Loss):
    """Distance from the true code that also pushes the other codes away: LeNet-5's MAP criterion.

    `d[true] + log(exp(-j) + sum_i exp(-d[i]))` for the distances `d`. The constant is the
    penalty of a rubbish class: it keeps classes that are already far from being pushed further.
    Without it (`j` large) the loss is the cross-entropy of a softmax of `-d`.

    Args:
        j: Positive float, the penalty of the rubbish class. The paper gives no value.

    References:
        - [LeCun et al., 1998](https://doi.org/10.1109/5.726791), equation 9
    """

    def __init__(
        self,
        j: float = 10.0,
        reduction: str = "sum_over_batch_size",
        name: str = "maximum_a_posteriori",
        dtype: Any = None,
    ) -> None:
        super().__init__(name=name, reduction=reduction, dtype=dtype)
        if j <= 0:
            raise ValueError(f"`j` must be positive. Received: {j=}")
        self.j = j

    def call(self, y_true: Any, y_pred: Any) -> Any:
        distances, true = _distances(y_true, y_pred)
        rubbish = ops.full_like(distances[..., :1], -self.j)
        return true + ops.logsumexp(ops.concatenate([rubbish, -distances], axis=-1), axis=-1)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "j": self.j}


def check_epsilon(value: float) -> float:
    """Refuses a share of smoothing that is none."""
    check_number("epsilon", value, 0, below=1)
    return value


def _one_hot(y_true: Any, y_pred: Any, dtype: str) -> Any:
    """Labels of any form as the probabilities of the classes."""
    labels = ops.convert_to_tensor(y_true)
    shape, got = tuple(ops.convert_to_tensor(y_pred).shape), tuple(labels.shape)
    wanted = (shape[:-1], (*shape[:-1], 1), shape)
    if shape[-1] < 2 or not any(_fits(got, one) for one in wanted):
        raise ValueError(
            "The outputs must have at least two classes in their last dimension, and the labels "
            f"the shape {wanted[0]} or {wanted[1]}, as integers, or {wanted[2]}. Received: outputs "
            f"of shape {shape}, labels of shape {got}"
        )
    if _fits(got, shape):
        return ops.cast(labels, dtype)
    labels = ops.cast(labels, "int32")
    if len(got) < len(shape):
        labels = ops.expand_dims(labels, -1)
    hot = ops.cast(ops.equal(labels, ops.arange(shape[-1], dtype="int32")), dtype)
    # A label beyond the classes is no class at all: a loss that is not a number says so.
    known = ops.logical_and(labels >= 0, labels < shape[-1])
    return ops.where(known, hot, ops.cast(float("nan"), dtype))


def _fits(got: tuple[int | None, ...], wanted: tuple[int | None, ...]) -> bool:
    return len(got) == len(wanted) and all(
        None in (a, b) or a == b for a, b in zip(got, wanted, strict=True)
    )


@keras.saving.register_keras_serializable(package="keras_cnn_classics")
class SmoothedCrossentropy(keras.losses.Loss):
    """Cross-entropy with smoothed labels, for integer and one-hot labels.

    Label smoothing takes `epsilon` from the true class and gives it to others. There are two
    conventions for `K` classes:

    - `"uniform"`: all classes share it, so the true one has `1 - epsilon + epsilon / K` and each
      other one `epsilon / K`. This is the paper's, and Keras's `label_smoothing`.
    - `"others"`: only the wrong classes share it, so the true one has `1 - epsilon` and each other
      one `epsilon / (K - 1)`.

    An epsilon of the second is `K / (K - 1)` times as much of the first: twice for two classes,
    0.111 instead of 0.1 for ten, the same in practice for a thousand. Labels that are mixed, as by
    mixup, are smoothed in proportion. Validation losses are smoothed as well.

    `LabelSmoothing` changes the epsilon during training. An integer label that is not a class makes
    the loss NaN.

    Args:
        epsilon: Share of the smoothing, at least 0 and less than 1. As an attribute, it is a
            `Scalar`.
        from_logits: Whether the outputs are scores instead of probabilities.
        convention: `"uniform"` or `"others"`.
        reduction: As in `keras.losses.Loss`.
        name: As in `keras.losses.Loss`.
        dtype: As in `keras.losses.Loss`.

    Raises:
        ValueError: If an argument is not one of these, or, when it is called, if the shapes of
            labels and outputs do not fit: `(batch,)`, `(batch, 1)` or `(batch, K)` for outputs of
            `(batch, K)`, and for those of `(batch, height, width, K)`, with a label for each
            pixel, likewise.

    References:
        - [Szegedy et al., 2015](https://arxiv.org/abs/1512.00567), section 7
    """

    def __init__(
        self,
        epsilon: float = 0.1,
        from_logits: bool = False,
        convention: str = "uniform",
        reduction: str | None = "sum_over_batch_size",
        name: str = "smoothed_crossentropy",
        dtype: Any = None,
    ) -> None:
        super().__init__(name=name, reduction=reduction, dtype=dtype)
        if convention not in ("uniform", "others"):
            raise ValueError(
                f"`convention` must be 'uniform' or 'others'. Received: {convention!r}"
            )
        self.epsilon = Scalar(check_epsilon(epsilon), name="label_smoothing")
        self.from_logits, self.convention = from_logits, convention

    def __call__(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        # Before the labels become floats: bfloat16 has none for 257.
        return super().__call__(_one_hot(y_true, y_pred, self.dtype), y_pred, sample_weight)

    def call(self, y_true: Any, y_pred: Any) -> Any:
        classes = y_pred.shape[-1]
        epsilon = ops.cast(ops.convert_to_tensor(self.epsilon), y_pred.dtype)
        if self.convention == "others":
            epsilon = epsilon * (classes / (classes - 1))
        y_true = y_true * (1 - epsilon) + epsilon / classes
        return ops.categorical_crossentropy(y_true, y_pred, from_logits=self.from_logits)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "epsilon": float(self.epsilon),
            "from_logits": self.from_logits,
            "convention": self.convention,
            "dtype": self.dtype,
        }
