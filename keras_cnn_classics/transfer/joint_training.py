"""Joint training: old and new tasks together, on the data of all of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras

from keras_cnn_classics.data.batches.interleaved import interleaved
from keras_cnn_classics.data.loading import ImageData
from keras_cnn_classics.training._arguments import check_number
from keras_cnn_classics.training.training_state import TrainingState
from keras_cnn_classics.transfer.learner import Learner, loss_of
from keras_cnn_classics.transfer.staged import Stage, listed

_WARM_UP = "warm-up"


@keras.saving.register_keras_serializable(package="keras_cnn_classics")
class JointTraining(Learner):
    """Trains all layers on the data of the old tasks and of the new one.

    It shows what the methods without old data could reach at best. Each batch is of one task, and
    its loss that of this task's head alone. The tasks take turns, and all have as many images in
    an epoch as the new one, in batches of the same size; a smaller data set is gone through again.
    Labels of each task are in any form that fits its head.

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
        multi_label: Whether an image may have several of the new labels.
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
        multi_label: bool = False,
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
            multi_label=multi_label,
            decay=decay,
            name=name,
            warmup_epochs=warmup_epochs,
            warmup_rate=warmup_rate,
            freeze_batch_norm=freeze_batch_norm,
        )

    def _set_up(self, **options: Any) -> None:
        super()._set_up(**options)
        self._old_losses = {task: loss_of(self.form(task)) for task in self.tasks[:-1]}

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

    def fit(
        self,
        x: Any = None,
        y: Any = None,
        batch_size: int | None = None,
        *args: Any,
        old_data: Any = None,
        sample_weight: Any = None,
        validation_split: float = 0.0,
        **kwargs: Any,
    ) -> Any:
        """As `keras.Model.fit`, on images and labels of the new task.

        Args:
            x: Images, or a `tf.data.Dataset` of batches of images and labels.
            y: Labels, for images in an array.
            batch_size: For arrays.
            *args: As in `keras.Model.fit`.
            old_data: `(images, labels)` or `(images, labels, weights)`, or a `tf.data.Dataset` if
                `x` is one; or a dict of them with one for each old task.
            sample_weight: Weights of the new images. They, and `class_weight`, which is of the new
                task, too, count in all metrics.
            validation_split: As in `keras.Model.fit`, of the new images.
            **kwargs: As in `keras.Model.fit`. `steps_per_epoch` counts batches of the new task.
        """
        olds = old_data
        if not isinstance(olds, Mapping):
            olds = {} if olds is None else {self.tasks[0]: olds}
        if set(olds) != set(self.tasks[:-1]):
            raise ValueError(
                f"`old_data` must hold the data of the old tasks {self.tasks[:-1]}. "
                f"Received: {list(olds)}"
            )
        sources = {task: _source(olds[task]) for task in self.tasks[:-1]}
        for task, (images, labels, _) in sources.items():
            self.check_data(images, labels, task)
        if validation_split and kwargs.get("validation_data") is None:
            (x, y, sample_weight), kwargs["validation_data"] = _split(
                (x, y, sample_weight), validation_split
            )
        for state in listed(kwargs.get("callbacks")):
            if isinstance(state, TrainingState) and isinstance(state.data, ImageData):
                raise ValueError(
                    "A step of joint training is not one of the new data: give TrainingState all "
                    "data, as TrainingState(folder, [new, old])."
                )
        seed = int(keras.random.randint((), 0, 2**31 - 1))
        # Before the warm-up, so that data of the wrong kind do not come to light after it.
        batches = interleaved(
            {**sources, self.task: (x, y, sample_weight)},
            batch_size or 32,
            seed if kwargs.get("shuffle", True) else None,
            steps=kwargs.get("steps_per_epoch"),
            class_weight=kwargs.get("class_weight"),
        )
        return super().fit(
            x, y, batch_size, *args, sample_weight=sample_weight, batches=batches, **kwargs
        )

    def _fit_stage(self, x: Any, y: Any, **kwargs: Any) -> Any:
        batches = kwargs.pop("batches")
        if self.stage.name == _WARM_UP:
            return super()._fit_stage(x, y, **kwargs)
        arguments = {**kwargs, "shuffle": False, "class_weight": None, "sample_weight": None}
        if isinstance(batches, keras.utils.PyDataset):
            arguments["steps_per_epoch"] = None  # it knows them
            arguments["callbacks"] = [
                keras.callbacks.LambdaCallback(
                    on_epoch_begin=lambda epoch, logs: setattr(batches, "epoch", epoch)
                ),
                *listed(kwargs.get("callbacks")),
            ]
        elif kwargs.get("steps_per_epoch") is not None:
            arguments["steps_per_epoch"] = kwargs["steps_per_epoch"] * len(self.tasks)
        return super()._fit_stage(batches, None, **arguments)

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> Any:
        if not isinstance(y, dict):
            return super().compute_loss(x, y, y_pred, sample_weight, training)
        new = self.task
        total = super().compute_loss(x, y[new], y_pred, sample_weight[new], training)
        for task, loss in self._old_losses.items():
            total = total + loss(y[task], y_pred[task], sample_weight[task])
        return total

    def compute_metrics(self, x: Any, y: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        if isinstance(y, dict):
            y, sample_weight = y[self.task], sample_weight[self.task]
        return super().compute_metrics(x, y, y_pred, sample_weight)


def _source(data: Any) -> tuple[Any, Any, Any]:
    """Images, labels and weights of an old task."""
    if not isinstance(data, (tuple, list)):
        return data, None, None
    if len(data) not in (2, 3):
        raise ValueError(
            "`old_data` must be (images, labels), (images, labels, weights) or a tf.data.Dataset. "
            f"Received: a {type(data).__name__} of {len(data)}"
        )
    return data[0], data[1], data[2] if len(data) == 3 else None


def _split(data: tuple[Any, Any, Any], share: float) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    """The data to learn from, and the last ones, to validate with."""
    check_number("validation_split", share, 0, below=1)
    if not all(one is None or hasattr(one, "shape") for one in data):
        raise ValueError(
            "validation_split needs arrays: give validation_data. Received: a "
            f"{type(data[0]).__name__}"
        )
    count = len(data[0])
    at = int(count * (1 - share))
    if not 0 < at < count:
        raise ValueError(
            f"validation_split must leave images to learn from and to validate with. Received: "
            f"{share} of {count} images"
        )
    first = tuple(None if one is None else one[:at] for one in data)
    return first, tuple(None if one is None else one[at:] for one in data)


def _listed(metrics: Any) -> list[Any]:
    return list(metrics) if isinstance(metrics, (list, tuple)) else [metrics]
