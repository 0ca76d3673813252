"""Weight decay and bounds of filters, as the papers had them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_cnn_classics.training._arguments import check_number
from keras_cnn_classics.training._layers import kernels, matches, refuse_compiled_steps


def add_l2(
    model: Any, decay: float, *, depthwise: bool = True, exclude: str | Sequence[str] = ()
) -> None:
    """Adds the weight decay of the papers to a model: on kernels, not on biases or batch norm.

    It is coupled to the gradient: plain gradient descent then takes the step
    `w - learning_rate * (gradient + decay * w)`, and momentum or a division by the root of the
    mean square act on the sum. The loss has `decay / 2 * sum(w^2)` added. `weight_decay=` of
    Keras's optimizers is another thing: decoupled, it takes `learning_rate * decay * w` off beside
    the gradient's step, and off biases and batch normalization too.

    It acts on the variables and stands in the layers' configs, so it is saved with the model. What
    regularized a kernel before is replaced; a decay of 0 takes it away. Layers that have one
    argument for all the kernels of their parts, such as `ChannelAttention`, count as one layer.

    Args:
        model: A built model, not yet trained since it was compiled.
        decay: As in the papers: 5e-4 for AlexNet and VGG, 1e-4 for ResNet.
        depthwise: Whether depthwise kernels decay as well. MobileNet's authors found that these
            want little or none.
        exclude: A name of layers that do not decay, in which `*` stands for anything, or several.

    Raises:
        ValueError: If `decay` is negative, or the model is not built or trained already.

    References:
        - [Krizhevsky et al., 2012](https://papers.nips.cc/paper/4824), section 5
        - [Howard et al., 2017](https://arxiv.org/abs/1704.04861), section 3.2
        - [Loshchilov and Hutter, 2017](https://arxiv.org/abs/1711.05101): the difference
    """
    check_number("decay", decay, 0)
    refuse_compiled_steps(model, "add_l2")
    for kernel in kernels(model):
        if (depthwise or not kernel.depthwise) and not matches(kernel.holder, exclude):
            regularizer = keras.regularizers.L2(decay / 2) if decay else None
            for layer in (kernel.layer, kernel.holder):
                setattr(layer, f"{kernel.role}_regularizer", regularizer)
            kernel.variable.regularizer = regularizer


@keras.saving.register_keras_serializable(package="keras_cnn_classics")
class FilterRMS(keras.constraints.Constraint):
    """Scales filters down whose root mean square has grown above a bound.

    The mean is over the inputs of a filter, its last axis left out, so the same bound fits
    filters of all sizes; `keras.constraints.MaxNorm` bounds the root of the sum.

    Args:
        maximum: The bound. Defaults to `0.1`.
        axis: Axes of a filter's inputs. By default all but the last; a depthwise kernel has
            `(0, 1)`.

    Raises:
        ValueError: If the bound is not positive.

    References:
        - [Zeiler and Fergus, 2013](https://arxiv.org/abs/1311.2901), section 3
    """

    def __init__(self, maximum: float = 0.1, axis: Sequence[int] | None = None) -> None:
        check_number("maximum", maximum, above=0)
        self.maximum, self.axis = maximum, None if axis is None else tuple(axis)

    def __call__(self, w: Any) -> Any:
        w = ops.convert_to_tensor(w)
        axis = tuple(range(len(w.shape) - 1)) if self.axis is None else self.axis
        rms = ops.sqrt(ops.mean(ops.square(w), axis=axis, keepdims=True))
        return w * (self.maximum / ops.maximum(rms, self.maximum))

    def get_config(self) -> dict[str, Any]:
        return {"maximum": self.maximum, "axis": self.axis}


def constrain(model: Any, constraint: Any, layers: str | Sequence[str] = "*") -> None:
    """Puts a constraint on the kernels of a model, where the optimizer obeys it after each step.

    It acts on the variables and stands in the layers' configs, so it is saved with the model.
    Depthwise kernels are left out: their filters lie along other axes.

    Args:
        model: A built model, not yet trained since it was compiled.
        constraint: A `keras.constraints.Constraint`, such as `FilterRMS(0.1)` for ZFNet, or
            `None`.
        layers: A name of layers, in which `*` stands for anything, or several; ZFNet's
            convolutions are `"conv*"`. Defaults to all.

    Raises:
        ValueError: If no kernel is in such a layer, one is in a layer that has no argument for a
            constraint, or the model is not built or trained already.
    """
    refuse_compiled_steps(model, "constrain")
    chosen = [one for one in kernels(model) if matches(one.holder, layers) and not one.depthwise]
    if not chosen:
        raise ValueError(f"No kernel is in a layer of that name. Received: {layers=}")
    for kernel in chosen:
        if not hasattr(kernel.holder, f"{kernel.role}_constraint"):
            raise ValueError(
                f"Layer {kernel.holder.name!r} is a {type(kernel.holder).__name__}, whose kernel "
                "cannot have a constraint that is saved: leave it out by `layers`."
            )
    for kernel in chosen:
        for layer in (kernel.layer, kernel.holder):
            setattr(layer, f"{kernel.role}_constraint", constraint)
        kernel.variable.constraint = constraint
