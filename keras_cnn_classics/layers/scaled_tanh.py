"""The squashing function of LeNet-5."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="keras_cnn_classics")
class ScaledTanh(keras.layers.Layer):
    """`amplitude * tanh(slope * x)`.

    With the default constants the function maps 1 to 1 and -1 to -1, and its curvature is
    greatest there, so that targets of +-1 lie where it is most non-linear, not where it
    saturates.

    Args:
        amplitude: Float, the asymptote. Defaults to `1.7159`.
        slope: Float, the slope at the origin divided by `amplitude`. Defaults to `2 / 3`.

    Input shape:
        Any.

    Output shape:
        The input's.

    References:
        - [LeCun et al., 1998](https://doi.org/10.1109/5.726791), equation 6 and appendix A
    """

    def __init__(self, amplitude: float = 1.7159, slope: float = 2 / 3, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.amplitude, self.slope = amplitude, slope
        self.supports_masking = True

    def call(self, inputs: Any) -> Any:
        return self.amplitude * ops.tanh(self.slope * inputs)

    def compute_output_shape(self, input_shape: Any) -> Any:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "amplitude": self.amplitude, "slope": self.slope}
