"""Losses of the papers that Keras lacks."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops


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
