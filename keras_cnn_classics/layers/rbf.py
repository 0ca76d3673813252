"""Euclidean radial basis function units, the output of LeNet-5."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import ops


@keras.saving.register_keras_serializable(package="keras_cnn_classics")
class EuclideanRBF(keras.layers.Layer):
    """Squared Euclidean distance of the input from each of several fixed centres.

    `y[i] = sum_j (x[j] - centers[i, j]) ** 2`. The smaller an output, the better its centre
    fits: for scores that grow with the fit, negate it.

    Args:
        centers: Array of shape `(units, features)`.
        trainable_centers: Whether the centres are learned. Defaults to `False`, as in the paper;
            setting the layer's `trainable` does not change it.

    Input shape:
        2D tensor, `(batch, features)`.

    Output shape:
        2D tensor, `(batch, units)`.

    References:
        - [LeCun et al., 1998](https://doi.org/10.1109/5.726791), equation 7
    """

    def __init__(self, centers: Any, trainable_centers: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        centers = np.asarray(centers, "float32")
        if centers.ndim != 2:
            raise ValueError(
                "`centers` must have the shape (units, features). "
                f"Received an array of shape {centers.shape}."
            )
        self._initial_centers = centers
        self.trainable_centers = trainable_centers

    def build(self, input_shape: Any) -> None:
        features = self._initial_centers.shape[1]
        if len(input_shape) != 2 or input_shape[-1] != features:
            raise ValueError(
                f"Layer {self.name!r} expects inputs of shape (batch, {features}). "
                f"Received: {tuple(input_shape)}"
            )
        self.centers = self.add_weight(
            shape=self._initial_centers.shape,
            initializer=lambda shape, dtype: ops.convert_to_tensor(self._initial_centers, dtype),
            trainable=self.trainable_centers,
            name="centers",
        )

    def call(self, inputs: Any) -> Any:
        # The difference is taken before it is squared: expanding the square would cancel.
        return ops.sum(ops.square(ops.expand_dims(inputs, 1) - self.centers), axis=-1)

    def compute_output_shape(self, input_shape: Any) -> Any:
        return (input_shape[0], self._initial_centers.shape[0])

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "centers": self._initial_centers.tolist(),
            "trainable_centers": self.trainable_centers,
        }
