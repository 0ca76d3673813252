"""The loss by which a network keeps to another one's answers."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from keras_cnn_classics.training._arguments import check_number
from keras_cnn_classics.training.scalars import Scalar
from keras_cnn_classics.transfer.heads import FORMS

_LEAST = 1e-37  # above it float32 has all its digits


@keras.saving.register_keras_serializable(package="keras_cnn_classics")
class DistillationLoss(keras.losses.Loss):
    """Cross-entropy with the answers of another network, both softened by a temperature.

    For scores `z`, the soft probabilities are `softmax(z / T)`. For probabilities `p` these are
    `p^(1/T) / sum(p^(1/T))`, the same if `p = softmax(z)`. The loss is `-sum(q' log q)`, with `q'`
    of the teacher's answers and `q` of the network's. Answers to several labels at once
    (`"sigmoid"`) give the sum of the losses of all labels.

    Its gradients are about `1 / T^2` times as long as those of the labels. Hinton et al. multiply
    the loss by `T^2` for that; Li and Hoiem do not.

    Args:
        temperature: `T`. As an attribute it is a `Scalar`, which can be changed during training.
            Defaults to `2`, Li and Hoiem's.
        squared: Whether the loss is multiplied by `T^2`. Defaults to `False`.
        form: What the network's answers are: `"softmax"`, `"sigmoid"` or `"linear"` for scores.
        teacher_form: The same of the other network. Defaults to `form`.
        reduction: As in `keras.losses.Loss`.
        name: As in `keras.losses.Loss`.
        dtype: As in `keras.losses.Loss`.

    Raises:
        ValueError: If an argument is not one of these.

    References:
        - [Hinton et al., 2015](https://arxiv.org/abs/1503.02531), section 2
        - [Li and Hoiem, 2016](https://arxiv.org/abs/1606.09282), equations 2 and 3
    """

    def __init__(
        self,
        temperature: float = 2.0,
        squared: bool = False,
        form: str = "softmax",
        teacher_form: str | None = None,
        reduction: str | None = "sum_over_batch_size",
        name: str = "distillation_loss",
        dtype: Any = None,
    ) -> None:
        super().__init__(name=name, reduction=reduction, dtype=dtype)
        check_number("temperature", temperature, above=0)
        teacher_form = teacher_form or form
        for argument, value in (("form", form), ("teacher_form", teacher_form)):
            if value not in FORMS:
                raise ValueError(f"`{argument}` must be one of {FORMS}. Received: {value!r}")
        if {form, teacher_form} == {"softmax", "sigmoid"}:
            raise ValueError(
                "Probabilities of several labels at once (sigmoid) and of one of many (softmax) "
                f"cannot be compared. Received: {form=}, {teacher_form=}"
            )
        self.temperature = Scalar(temperature, name="temperature")
        self.squared, self.form, self.teacher_form = squared, form, teacher_form

    def call(self, y_true: Any, y_pred: Any) -> Any:
        temperature = ops.cast(ops.convert_to_tensor(self.temperature), y_pred.dtype)
        teacher = scores(y_true, self.teacher_form) / temperature
        student = scores(y_pred, self.form) / temperature
        if self.form == "sigmoid":
            found = ops.binary_crossentropy(ops.sigmoid(teacher), student, from_logits=True)
            loss = ops.sum(found, axis=-1)
        else:
            loss = -ops.sum(ops.softmax(teacher) * ops.log_softmax(student), axis=-1)
        return loss * temperature**2 if self.squared else loss

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "temperature": float(self.temperature),
            "squared": self.squared,
            "form": self.form,
            "teacher_form": self.teacher_form,
            "dtype": self.dtype,
        }


def scores(answers: Any, form: str) -> Any:
    """Answers of any form as scores, up to a number that is added to all of an image."""
    if form == "linear":
        return answers
    if form == "softmax":
        return ops.log(ops.maximum(answers, _LEAST))
    least = keras.config.epsilon()  # 1 - p has no more digits
    answers = ops.clip(answers, least, 1 - least)
    return ops.log(answers) - ops.log(1 - answers)
