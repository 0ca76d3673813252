"""What all parity tests share: rough weights for Keras models, and the comparison of answers."""

import keras
import numpy as np


def randomize(model, seed=1, gain=1.0):
    """Rough weights that keep the scale of activations; statistics far from 0 and 1.

    Very deep networks of such weights are chaotic, so that rounding changes all; a smaller gain of
    their normalizations tames them.
    """
    rng = np.random.default_rng(seed)
    for layer in model.layers:
        values = []
        for w in layer.weights:
            if w.name == "moving_variance":
                values.append(rng.uniform(0.5, 2.0, w.shape))
            elif len(w.shape) > 1:
                depthwise = isinstance(layer, keras.layers.DepthwiseConv2D)
                inputs = w.shape[:2] if depthwise or "depthwise" in w.name else w.shape[:-1]
                scale = np.sqrt(2 / np.prod(inputs))
                values.append(rng.standard_normal(w.shape, "float32") * scale)
            else:
                values.append(rng.normal(gain * (w.name == "gamma"), 0.2, w.shape))
        if values:
            layer.set_weights(values)


def assert_near(got, expected, name=""):
    """Asserts the same answers, to 1e-4 of their scale.

    The first two images must differ in them by ten times as much. A saturated softmax, or numbers
    that the biases rule, would agree with wrong weights too.
    """
    scale = np.abs(expected).max()
    np.testing.assert_allclose(
        got, expected, rtol=0, atol=1e-4 * scale, equal_nan=False, err_msg=name
    )
    assert np.abs(expected[0] - expected[1]).max() > 1e-3 * scale, "the images make no difference"
