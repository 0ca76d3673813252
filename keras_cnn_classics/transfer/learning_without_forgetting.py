"""Learning without Forgetting: a new task without the data of the old ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras

from keras_cnn_classics.data.batches.recorded import Recorded
from keras_cnn_classics.training._arguments import check_number
from keras_cnn_classics.training.scalars import LiveScalars, Scalar, keep_live
from keras_cnn_classics.transfer import heads as _heads
from keras_cnn_classics.transfer import responses
from keras_cnn_classics.transfer.learner import Learner, check_unaugmented, unscaled
from keras_cnn_classics.transfer.losses import DistillationLoss
from keras_cnn_classics.transfer.staged import Stage

_WARM_UP = "warm-up"


@keras.saving.register_keras_serializable(package="keras_cnn_classics")
class LearningWithoutForgetting(Learner):
    """Learns a new task, and keeps its answers for the old ones on the new task's images.

    Before training, the old network's answers to the new images are recorded. Then the new head
    learns alone, and after this warm-up all layers learn together by

        L_new + sum over old tasks of old_weight * L_old + decay

    where `L_old` is `DistillationLoss` at the temperature of 2, between the recorded answers and
    those that the network gives now, with a softmax for each head. No image of an old task is
    needed. Sample weights and class weights count in `L_new` alone. For a sequence of tasks,
    `export_model()` of one is the `model` of the next: all of its heads are then old tasks, whose
    answers are recorded anew.

    Images that are augmented have no recorded answers: a copy of the old network then answers to
    each batch as it comes, as it does to a batch with an image that was not there when answers were
    recorded. It is part of the model while it is trained, and of its file.

    Args:
        model: A trained Functional or Sequential model, or one that `export_model` gave.
        classes: Number of classes of the new task.
        task: Name of the new task.
        temperature: Temperature of `L_old`. Defaults to `2`.
        squared: Whether `L_old` is multiplied by the temperature's square. Defaults to `False`, as
            in the paper; Hinton et al. do.
        old_weight: Weight of `L_old`, or a dict with one for each old task. Defaults to `1`.
        responses: `"recorded"`; `"live"`, from a copy of the old network at each step; or
            `"auto"`, recorded if the images come again as they are in a second epoch.
        warmup_epochs: Epochs in which only the new head learns. Defaults to `5`.
        warmup_rate: Factor on the learning rate in them. Defaults to `10`.
        shared_rate: Factor on the learning rate of the shared layers. Defaults to `1`.
        expansion: Units that each dense layer before the head gets for the new task.
        freeze_batch_norm: Whether batch normalization stays as it is. Defaults to `True`.
        decay: Coupled weight decay of kernels, in place of the layers' own and also in what is
            exported; see `training.add_l2`. Defaults to the paper's `5e-4`.
        multi_label: Whether an image may have several of the new labels.
        old_task: Name of the old task of a model with one output.
        head: Name of the first layer of the old head: by an earlier one than the last with
            weights, more layers are each task's own.
        seed: Seed of what `expansion` copies.
        name: Name of the model.

    Raises:
        ValueError: If an argument is out of range, the model's head is not recognised, or, in
            `fit`, if answers shall be recorded for images that change.

    Example:
        learner = transfer.LearningWithoutForgetting(model, classes=5)
        learner.compile(keras.optimizers.SGD(1e-3, 0.9), metrics=["accuracy"])
        learner.fit(images, labels, epochs=25)
        answers = learner.export_model().predict(images)  # {"old": ..., "new": ...}

    References:
        - [Li and Hoiem, 2016](https://arxiv.org/abs/1606.09282)
    """

    def __init__(
        self,
        model: Any,
        classes: int,
        task: str = "new",
        *,
        temperature: float = 2.0,
        squared: bool = False,
        old_weight: float | Mapping[str, float] = 1.0,
        responses: str = "auto",
        warmup_epochs: int = 5,
        warmup_rate: float = 10.0,
        shared_rate: float = 1.0,
        expansion: int | None = None,
        freeze_batch_norm: bool = True,
        decay: float = 5e-4,
        multi_label: bool = False,
        old_task: str = "old",
        head: str | None = None,
        seed: int = 0,
        name: str | None = None,
    ) -> None:
        if responses not in ("auto", "recorded", "live"):
            raise ValueError(
                f"`responses` must be 'auto', 'recorded' or 'live'. Received: {responses!r}"
            )
        if old_task is None:
            raise ValueError("`old_task` must be a name: without a head there is no old task.")
        check_number("warmup_epochs", warmup_epochs, 0, whole=True)
        check_number("warmup_rate", warmup_rate, above=0)
        check_number("shared_rate", shared_rate, above=0)
        check_number("classes", classes, 1, whole=True)
        olds = _heads.outputs_of(_heads.functional(model), old_task)
        weights = (
            dict(old_weight) if isinstance(old_weight, Mapping) else dict.fromkeys(olds, old_weight)
        )
        if set(weights) != set(olds):
            raise ValueError(
                f"`old_weight` must have the old tasks {list(olds)} as keys. Received: {weights}"
            )
        for one, weight in weights.items():
            check_number(f"old_weight[{one!r}]", weight, 0)
        check_unaugmented(_heads.functional(model))
        super().__init__(
            model,
            classes,
            task,
            old_task=old_task,
            head=head,
            hidden=None,
            multi_label=multi_label,
            decay=decay,
            expansion=expansion,
            seed=seed,
            name=name,
            temperature=temperature,
            squared=squared,
            old_weight=weights,
            responses=responses,
            warmup_epochs=warmup_epochs,
            warmup_rate=warmup_rate,
            shared_rate=shared_rate,
            freeze_batch_norm=freeze_batch_norm,
        )

    def _set_up(self, *, teacher: Any = None, **options: Any) -> None:
        temperature, squared = options.pop("temperature"), options.pop("squared")
        old_weight = options.pop("old_weight")
        super()._set_up(**options)
        network = self.network
        olds = {task: network.output[task] for task in self.tasks if task != self.task}
        if teacher is None:
            teacher = _heads.copy_of(keras.Model(network.input, olds, name="teacher"))
        teacher.trainable = False
        self._teacher = teacher
        self.old_weights = {
            task: Scalar(weight, f"{task}_weight") for task, weight in old_weight.items()
        }
        self.old_losses = {
            task: DistillationLoss(temperature, squared, self.form(task), name=f"{task}_loss")
            for task in olds
        }
        self.new_loss = keras.metrics.Mean("new_loss")
        self.old_loss = keras.metrics.Mean("old_loss")
        self.live_scalars = LiveScalars()
        keep_live(self, [*self.old_weights.values(), *self._temperatures()])
        self._recorded = Recorded(responses.answering(teacher))

    def _temperatures(self) -> list[Scalar]:
        return [loss.temperature for loss in self.old_losses.values()]

    def stages(self) -> Sequence[Stage]:
        options, head = self._options, self.head_layers(self.task)
        shared = self.shared_layers()
        olds = [x for task in self.tasks[:-1] for x in self.head_layers(task)]
        factors = {}
        if options["shared_rate"] != 1:
            factors = {tuple(layer.name for layer in shared): options["shared_rate"]}
        start = options["warmup_epochs"]
        joint = Stage("joint optimisation", [*shared, *olds, *head], start, factors=factors)
        if not start:
            return [joint]
        return [Stage(_WARM_UP, head, rate=options["warmup_rate"]), joint]

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> Any:
        loss = super().compute_loss(x, y, y_pred, sample_weight, training)
        self.new_loss.update_state(unscaled(loss))
        if self.stage.name == _WARM_UP:  # nothing that old answers come from changes
            answers = y_pred
        else:
            answers = responses.answers_of(x, lambda images: self._teacher(images, training=False))
        old = 0.0
        for task, one in self.old_losses.items():
            found = one(answers[task], y_pred[task])
            old = old + keras.ops.convert_to_tensor(self.old_weights[task]) * found
        self.old_loss.update_state(unscaled(old))
        return loss + old

    def _fit_stage(self, x: Any, y: Any, **kwargs: Any) -> Any:
        if self.stage.name != _WARM_UP:
            how = self._options["responses"]
            self._recorded.belongs_to(responses.key_of(self._teacher))
            x = responses.with_answers(self._recorded, x, how, "the old answers", kwargs)
        return super()._fit_stage(x, y, **kwargs)

    def settings(self) -> dict[str, Any]:
        return {
            **super().settings(),
            "temperature": float(self._temperatures()[0]),
            "squared": next(iter(self.old_losses.values())).squared,
            "old_weight": {task: float(weight) for task, weight in self.old_weights.items()},
            "teacher": self._teacher,
        }
