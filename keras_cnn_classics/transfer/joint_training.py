"""Joint training: old and new tasks together, on the data of all of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras
from keras import ops

from keras_cnn_classics.data.interleaved import interleaved
from keras_cnn_classics.training._arguments import check_number
from keras_cnn_classics.transfer.learner import Learner, loss_of
from keras_cnn_classics.transfer.staged import Stage, listed

_WARM_UP = "warm-up"


@keras.saving.register_keras_serializable(package="keras_cnn_classics")
class JointTraining(Learner):
    """Trains all layers on the data of the old tasks and of the new one.

    It shows what the methods without old data could reach at best. Each batch is of one task, and
    its loss that of this task's head alone. The tasks take turns, and all have as many batches in
    an epoch as the new one; a smaller data set is gone through again. Labels are integers.

    Args:
        model: A trained Functional or Sequential model, or one that `export_model` gave.
        classes: Number of classes of the new task; `None` if `task` is one of the model's own.
        task: Name of the new task.
        warmup_epochs: Epochs in which only the new head learns, on its own data. Defaults to `5`.
        warmup_rate: Factor on the learning rate in them. Defaults to `10`.
        freeze_batch_norm: Whether batch normalization stays as it is. Defaults to `True`.
        decay: Coupled weight decay of kernels, in place of the layers' own and also in what is
            exported; see `training.add_l2`. Defaults to `0`: what the model's layers have.
        hidden: Units of a hidden layer in the new head.
        old_task: Name of the old task of a model with one output.
        head: Name of the first layer of the old head, if it is not its last layer with weights.
        name: Name of the model.

    Raises:
        ValueError: If an argument is out of range, the model's head is not recognised, or, in
            `fit`, if the old data are missing or do not fit.

    Example:
        joint = transfer.JointTraining(model, classes=5)
        joint.compile(keras.optimizers.SGD(1e-3, 0.9), metrics=["accuracy"])
        joint.fit(images, labels, old_data=(old_images, old_labels), epochs=25)

    References:
        - [Caruana, 1997](https://doi.org/10.1023/A:1007379606734)
        - [Li and Hoiem, 2016](https://arxiv.org/abs/1606.09282), section 4: its form here
    """

    def __init__(
        self,
        model: Any,
        classes: int | None = None,
        task: str = "new",
        *,
        warmup_epochs: int = 5,
        warmup_rate: float = 10.0,
        freeze_batch_norm: bool = True,
        decay: float = 0.0,
        hidden: int | None = None,
        old_task: str = "old",
        head: str | None = None,
        name: str | None = None,
    ) -> None:
        check_number("warmup_epochs", warmup_epochs, 0, whole=True)
        check_number("warmup_rate", warmup_rate, above=0)
        super().__init__(
            model,
            classes,
            task,
            old_task=old_task,
            head=head,
            hidden=hidden,
            multi_label=False,
            decay=decay,
            name=name,
            warmup_epochs=warmup_epochs,
            warmup_rate=warmup_rate,
            freeze_batch_norm=freeze_batch_norm,
        )

    def _set_up(self, **options: Any) -> None:
        super()._set_up(**options)
        self._old_losses = {task: loss_of(self.form(task)) for task in self.tasks[:-1]}
        self._old_data: Any = None

    def stages(self) -> Sequence[Stage]:
        everything = [*self.shared_layers(), *(x for t in self.tasks for x in self.head_layers(t))]
        start = self._options["warmup_epochs"]
        joint = Stage("joint training", everything, start)
        if not start:
            return [joint]
        warm_up = Stage(_WARM_UP, self.head_layers(self.task), rate=self._options["warmup_rate"])
        return [warm_up, joint]

    def _compile(self, arguments: dict[str, Any]) -> None:
        # Metrics of the new task must not count the batches of the others.
        given = [arguments.pop("metrics"), arguments.get("weighted_metrics")]
        found = [one for part in given if part is not None for one in _listed(part)]
        super()._compile({**arguments, "metrics": None, "weighted_metrics": found or None})

    def fit(self, x: Any = None, y: Any = None, *args: Any, **kwargs: Any) -> Any:
        """As `keras.Model.fit`, on images and labels of the new task.

        Args:
            x: Images, or a `tf.data.Dataset` of batches of images and labels.
            y: Labels, for images in an array.
            *args: As in `keras.Model.fit`.
            **kwargs: As in `keras.Model.fit`; and `old_data`: `(images, labels)` or a data set, or
                a dict of them with one for each old task.
        """
        old = kwargs.pop("old_data", None)
        if not isinstance(old, Mapping):
            old = {} if old is None else {self.tasks[0]: old}
        if set(old) != set(self.tasks[:-1]):
            raise ValueError(
                f"`old_data` must hold the data of the old tasks {self.tasks[:-1]}. "
                f"Received: {list(old)}"
            )
        for task, data in old.items():
            self.check_data(*_pair(data), task)
        self._old_data = old
        return super().fit(x, y, *args, **kwargs)

    def _fit_stage(self, x: Any, y: Any, **kwargs: Any) -> Any:
        if self.stage.name == _WARM_UP:
            return super()._fit_stage(x, y, **kwargs)
        sources = [_pair(self._old_data[task]) for task in self.tasks[:-1]] + [(x, y)]
        seed = int(keras.random.randint((), 0, 2**31 - 1))
        batches = interleaved(sources, kwargs.pop("batch_size", None) or 32, seed)
        kwargs["callbacks"] = [
            keras.callbacks.LambdaCallback(
                on_epoch_begin=lambda epoch, logs: setattr(batches, "epoch", epoch)
            ),
            *listed(kwargs.get("callbacks")),
        ]
        return super()._fit_stage(batches, None, **{**kwargs, "shuffle": False})

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> Any:
        if not isinstance(x, dict):
            return super().compute_loss(x, y, y_pred, sample_weight, training)
        total = super().compute_loss(x, *self._masked(x, y, -1, y_pred, sample_weight), training)
        for i, (task, loss) in enumerate(self._old_losses.items()):
            labels, answers, weights = self._masked(x, y, i, y_pred, sample_weight)
            total = total + loss(labels, answers[task], weights)
        return total

    def compute_metrics(self, x: Any, y: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        if isinstance(x, dict):
            y, y_pred, sample_weight = self._masked(x, y, -1, y_pred, sample_weight)
        return super().compute_metrics(x, y, y_pred, sample_weight)

    def _masked(
        self, x: dict[str, Any], y: Any, task: int, y_pred: Any, weights: Any
    ) -> tuple[Any, Any, Any]:
        """Labels, answers and weights in which only the images of one task count."""
        number = len(self.tasks) + task if task < 0 else task
        mine = ops.equal(ops.cast(x["task"], "int32"), number)
        kept = ops.cast(mine, "float32")
        labels = ops.where(mine, ops.cast(y, "int32"), 0)
        return labels, y_pred, kept if weights is None else kept * ops.cast(weights, "float32")


def _pair(data: Any) -> tuple[Any, Any]:
    if isinstance(data, (tuple, list)):
        if len(data) != 2:
            raise ValueError(
                "`old_data` must be (images, labels) or a data set. Received: a "
                f"{type(data).__name__} of {len(data)}"
            )
        return data[0], data[1]
    return data, None


def _listed(metrics: Any) -> list[Any]:
    return list(metrics) if isinstance(metrics, (list, tuple)) else [metrics]
