"""What the methods have in common that add a head for a new task to a trained model."""

from __future__ import annotations

import dataclasses
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import keras
import numpy as np

from keras_cnn_classics.training import distribution
from keras_cnn_classics.training._arguments import check_number
from keras_cnn_classics.training._layers import as_array, layers_of
from keras_cnn_classics.training.losses import SmoothedCrossentropy
from keras_cnn_classics.training.penalties import add_l2
from keras_cnn_classics.transfer import heads as _heads
from keras_cnn_classics.transfer.heads import Head
from keras_cnn_classics.transfer.parts import blocks, train_all, weighted_layers
from keras_cnn_classics.transfer.staged import StagedModel

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")


class Learner(StagedModel):
    """A trained model with one more head, for a new task.

    It is trained, evaluated and compiled on images and labels of the new task. Its outputs, and
    those of the model that `export_model` gives, are a dict with the answers of each task.

    The model that it is made of stays as it is: all weights are copied.

    Attributes:
        task: Name of the new task.
        tasks: Names of all tasks, the old ones sorted, the new one last.
        network: The Functional model of all tasks.
    """

    task: str
    duplicates = False  # whether the new task has all layers for itself

    def __init__(
        self,
        model: Any,
        classes: int | None,
        task: str,
        *,
        old_task: str | None,
        head: str | None,
        hidden: int | None,
        multi_label: bool,
        decay: float,
        expansion: int | None = None,
        name: str | None,
        seed: int = 0,
        **options: Any,
    ) -> None:
        check_number("decay", decay, 0)
        if classes is not None:
            check_number("classes", classes, 1, whole=True)
            classes = int(classes)  # not NumPy's, which no config can hold
        source, outputs, like = _with_tasks(model, classes, task, old_task, head)
        features = source.output if like is None else like.inputs
        inputs, outputs, features = _heads.copy_with(source, outputs, features)
        owned = {one: _owned(output, head, one) for one, output in outputs.items()}
        if classes is not None:
            there = _heads.operations_before([*outputs.values(), features])
            if expansion is not None:
                features = _heads.expanded(features, task, expansion, seed)
            if self.duplicates:
                features = _heads.duplicate(inputs, features, task)
                there += _heads.operations_before([features])
            outputs[task] = _heads.new_head(
                features, like, task, classes, hidden=hidden, multi_label=multi_label
            )
            _check_names(outputs.values(), task)
            new = [x for x in _heads.operations_before([outputs[task]]) if x not in there]
            owned[task] = [x.name for x in new if getattr(x, "weights", None)]
        network = keras.Model(inputs, outputs, name=source.name)
        if decay:
            add_l2(network, decay)
        self._set_up(network=network, task=task, heads=owned, name=name, **options)

    def _set_up(
        self,
        *,
        network: Any,
        task: str,
        heads: Mapping[str, Sequence[str]],
        name: str | None,
        freeze_batch_norm: bool = True,
        **options: Any,
    ) -> None:
        StagedModel.__init__(self, network, name=name)
        self.batch_norm = not freeze_batch_norm
        self.task = task
        self.tasks = [*sorted(one for one in network.output if one != task), task]
        self._heads = {one: list(names) for one, names in heads.items()}
        self._options = options

    # -- Parts ---------------------------------------------------------------------------------

    def head_layers(self, task: str) -> list[Any]:
        """The layers with weights that are a task's own."""
        names = set(self._heads[task])  # of layers of the network itself, not of models in it
        own = [layer for layer in self.network.layers if layer.name in names]
        return [layer for layer in weighted_layers(self.network) if layer in own]

    def shared_layers(self) -> list[Any]:
        """The layers with weights that several tasks share."""
        own = [layer for task in self._heads for layer in self.head_layers(task)]
        return [layer for layer in weighted_layers(self.network) if layer not in own]

    # -- Keras ---------------------------------------------------------------------------------

    def call(self, inputs: Any, training: Any = None) -> Any:
        return self.network(images_of(inputs), training=training)

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> Any:
        return super().compute_loss(x, y, y_pred[self.task], sample_weight, training)

    def compute_metrics(self, x: Any, y: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        return super().compute_metrics(x, y, y_pred[self.task], sample_weight)

    def form(self, task: str) -> str:
        """What a task's answers are: `"softmax"`, `"sigmoid"` or `"linear"` for scores."""
        return _heads.form_of(self.network.output[task])

    def default_loss(self) -> Any:
        return loss_of(self.form(self.task))

    def check_loss(self, loss: Any) -> None:
        check_form(loss, self.form(self.task), self.task)

    def _compile(self, arguments: dict[str, Any]) -> None:
        super()._compile(with_accuracy_of(self.form(self.task), arguments))

    def check_data(self, x: Any, y: Any, task: str | None = None) -> None:
        """Refuses images of another size and labels that are no classes, as far as they are known.

        Raises:
            ValueError: For such data.
        """
        check_data(x, y, self.network, task or self.task)

    # -- Results -------------------------------------------------------------------------------

    def export_model(self, task: str | None = None, name: str | None = None) -> keras.Model:
        """Gives a plain Functional model with weights of its own, all of them trainable.

        Args:
            task: A task, for a model with its answers alone. By default the model answers to all
                tasks, and its output is a dict.
            name: Name of the model. Defaults to that of the trained one.

        Raises:
            ValueError: If there is no such task.
        """
        if task is not None and task not in self.tasks:
            raise ValueError(f"`task` must be one of {self.tasks}. Received: {task!r}")
        outputs = dict(self.network.output)
        chosen = keras.Model(
            self.network.input,
            outputs if task is None else outputs[task],
            name=name or self.network.name,
        )
        exported = _heads.copy_of(chosen)
        train_all(exported)
        return exported

    def settings(self) -> dict[str, Any]:
        return {
            "task": self.task,
            "heads": {task: list(names) for task, names in self._heads.items()},
            "freeze_batch_norm": not self.batch_norm,
            **self._options,
        }


def images_of(inputs: Any) -> Any:
    """The images of a batch that may hold something else with them."""
    return inputs["images"] if isinstance(inputs, dict) else inputs


def loss_of(form: str) -> keras.losses.Loss:
    """The loss of labels that fits a head's answers."""
    if form == "sigmoid":
        return keras.losses.BinaryCrossentropy()
    return SmoothedCrossentropy(0.0, from_logits=form == "linear")


def with_accuracy_of(form: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """The arguments of `compile` with the accuracy that fits a head's answers.

    By its name alone, Keras takes several labels for one class of many.
    """
    if form != "sigmoid":
        return arguments

    def fitting(metric: Any) -> Any:
        named = isinstance(metric, str) and metric in ("accuracy", "acc")
        return keras.metrics.BinaryAccuracy(name=metric) if named else metric

    names = ("metrics", "weighted_metrics")
    found = {name: keras.tree.map_structure(fitting, arguments.get(name)) for name in names}
    return {**arguments, **found}


def check_form(loss: Any, form: str, task: str) -> None:
    """Refuses a loss that takes a head's answers for something else.

    Raises:
        ValueError: For scores taken as probabilities, and probabilities as scores.
    """
    if isinstance(loss, str):
        loss = keras.losses.get(loss)
    name = getattr(loss, "name", getattr(loss, "__name__", ""))
    known = getattr(loss, "from_logits", False if "crossentropy" in str(name) else None)
    if known is None or known == (form == "linear"):
        return
    if known:
        raise ValueError(
            f"The head of {task!r} gives probabilities, by {form}: a loss with from_logits=True "
            "would put a second softmax on them. Leave from_logits out, or the loss, which then "
            f"fits the head. Received: loss={loss!r}"
        )
    raise ValueError(
        f"The head of {task!r} gives scores: the loss needs from_logits=True. Or leave the loss "
        f"out, which then fits the head. Received: loss={loss!r}"
    )


def check_data(x: Any, y: Any, network: Any, task: str, *, labelled: bool = True) -> None:
    """Refuses images and labels that do not fit a network, as far as they are known.

    Args:
        x: Images, or batches.
        y: Labels of an array of images.
        network: A Functional model with its outputs by task.
        task: The task that the labels are of.
        labelled: Whether there must be labels.

    Raises:
        ValueError: For such data.
    """
    expected = tuple(network.input.shape)
    for name, value in (("x", x), ("y", y)):
        if isinstance(value, (list, tuple)):
            raise ValueError(f"`{name}` must be an array. Received: a {type(value).__name__}")
    if x is None:
        raise ValueError("There must be images to learn from. Received: none")
    if y is None:
        if hasattr(x, "shape"):
            if labelled:
                raise ValueError(f"The images of {task!r} need labels. Received: none")
            _check_images(x, expected)
            return
        if isinstance(x, keras.utils.PyDataset):
            batch = x[0] if len(x) else None
        elif hasattr(x, "take"):
            batch = next(iter(x.take(1)), None)
        else:
            return  # what can be gone through but once
        if batch is None:
            raise ValueError(
                "The data give no batches: there are none, or fewer images than in one batch, and "
                "those are dropped. Take a smaller batch size."
            )
        parts = batch if isinstance(batch, (tuple, list)) else (batch,)
        if isinstance(parts[0], Mapping):
            raise ValueError(
                "The data must give batches (images, labels), with images in one tensor. Received: "
                f"a dict of {', '.join(map(str, parts[0]))}"
            )
        _check_images(parts[0], expected)
        if len(parts) > 1:
            check_labels(as_array(parts[1]), network, task)
        elif labelled:
            raise ValueError(
                f"The data of {task!r} must give batches (images, labels). Received: images alone"
            )
        return
    if hasattr(x, "shape"):
        _check_images(x, expected)
        if len(x) != len(y):
            raise ValueError(
                f"There must be labels for all images. Received: {len(x)} images, {len(y)} labels"
            )
    if len(y) == 0:
        raise ValueError("There must be images to learn from. Received: none")
    check_labels(np.asarray(as_array(y)), network, task)


def _check_images(images: Any, expected: tuple[int | None, ...]) -> None:
    shape = tuple(images.shape)
    # Of bfloat16, which NumPy does not know, the kind is V.
    if "string" in str(images.dtype) or getattr(images.dtype, "kind", "f") not in "biufV":
        raise ValueError(f"The images must be numbers. Received: {images.dtype}")
    fits = len(shape) == len(expected) and all(
        None in (a, b) or a == b for a, b in zip(shape[1:], expected[1:], strict=True)
    )
    if not fits:
        raise ValueError(
            f"The images must have the shape {expected[1:]}, that of the model's. Received: "
            f"{tuple(shape[1:])}"
        )


def check_labels(labels: np.ndarray, network: Any, task: str) -> None:
    """Refuses labels that a head has no classes for.

    Raises:
        ValueError: For such labels.
    """
    classes = int(network.output[task].shape[-1])
    if _heads.form_of(network.output[task]) == "sigmoid":
        columns = labels.shape[1:] or (1,)
        if columns != (classes,) or not 0 <= labels.min() <= labels.max() <= 1:
            raise ValueError(
                f"The head of {task!r} is one for several labels (sigmoid): its labels must be 0 "
                f"or 1 in {classes} columns. Received: the shape {labels.shape}, from "
                f"{labels.min()} to {labels.max()}"
            )
        return
    if labels.ndim > 1 and labels.shape[-1] not in (1, classes):
        raise ValueError(
            f"The labels of {task!r} must be integers or have {classes} columns, one for each "
            f"class. Received: the shape {labels.shape}"
        )
    if labels.dtype.kind not in "biuf":
        raise ValueError(
            f"The labels of {task!r} must be numbers. Received: such as {labels.flat[0]}"
        )
    numbers = labels.ndim == 1 or labels.shape[-1] == 1 != classes
    if not numbers and (labels.min() < 0 or not np.allclose(labels.sum(-1), 1, atol=1e-3)):
        raise ValueError(
            f"Labels of {task!r} in columns must be shares of the classes that add up to 1. "
            f"Received: from {labels.min()} to {labels.max()}, with sums from "
            f"{labels.sum(-1).min()} to {labels.sum(-1).max()}"
        )
    if numbers and labels.dtype.kind == "f" and (labels % 1).any():
        raise ValueError(
            f"The labels of {task!r} must be whole numbers. Received: {labels[labels % 1 != 0][0]}"
        )
    if numbers and not 0 <= labels.min() <= labels.max() < classes:
        raise ValueError(
            f"The labels of {task!r} must be from 0 to {classes - 1}, as its head has {classes} "
            f"classes: number them anew. Received: {labels.min()} to {labels.max()}"
        )


def augmenting(model: Any) -> list[str]:
    """The names of the layers of a model that change images at random."""
    names = {"AugMix", "CutMix", "MixUp", "RandAugment"}
    return [
        layer.name
        for layer in layers_of(model)
        if any(kind.startswith("Random") or kind in names for kind in _heads.kinds(layer))
    ]


def check_unaugmented(model: Any) -> None:
    """Refuses a model in which images change at random, so that another one sees others.

    Raises:
        ValueError: For such a model.
    """
    if found := augmenting(model):
        raise ValueError(
            f"{model.name!r} augments images within itself, by {', '.join(found)}: the answers to "
            "be kept would be those to other images. Build it without, and augment the data."
        )


def unscaled(loss: Any) -> Any:
    """A loss as a log shows it: TensorFlow's replicas each have their share of it."""
    if keras.backend.backend() == "tensorflow":
        return loss * distribution.replicas()
    return loss


def _check_names(outputs: Iterable[Any], task: str) -> None:
    """Refuses a task that two layers would be called alike for, which Keras does not allow."""
    counts = Counter(operation.name for operation in _heads.operations_before(outputs))
    if taken := [name for name, count in counts.items() if count > 1]:
        raise ValueError(
            f"The new layers' names would begin with {task!r}, and the model has such ones "
            f"already: {', '.join(taken[:5])}. Choose another `task`."
        )


def _with_tasks(
    model: Any, classes: int | None, task: str, old_task: str | None, first: str | None
) -> tuple[keras.Model, dict[str, Any], Head | None]:
    """The Functional model, its outputs by name, and the head that a new one is like."""
    for argument, value in (("task", task), ("old_task", old_task)):
        if value is not None and not (isinstance(value, str) and _NAME.fullmatch(value)):
            raise ValueError(
                f"`{argument}` must be a name of letters, digits and _. Received: {value!r}"
            )
    source = _heads.functional(model)
    if old_task is None:  # all of the model is shared
        if classes is None:
            raise ValueError("`classes` must be given for a model without a head.")
        if isinstance(source.output, (dict, list, tuple)):
            raise ValueError("A model without a head must have one output, its features.")
        return source, {}, None
    outputs = _heads.outputs_of(source, task if classes is None else old_task)
    if classes is None and task not in outputs:
        raise ValueError(
            f"`classes` must be given for a new task. The model's own are {list(outputs)}. "
            f"Received: task={task!r}"
        )
    if classes is not None and task in outputs:
        raise ValueError(
            f"The model has a head for {task!r} already: choose another `task`, or leave `classes` "
            f"out to train that one. Its tasks are {list(outputs)}."
        )
    # The new head is like that which has most before it, not like an auxiliary one.
    depths = {one: len(_heads.operations_before([out])) for one, out in outputs.items()}
    last = max(reversed(depths), key=depths.__getitem__)
    head = _heads.find_head(outputs[last], _first(outputs[last], first, last))
    added = all(layer.name.startswith(f"{last}_") for layer in head.layers)
    return source, outputs, dataclasses.replace(head, prefix=f"{last}_" if added else "")


def _first(output: Any, first: str | None, task: str) -> str | None:
    """The name of the first layer of a task's head, which is called by the task if it was added."""
    if first is None:
        return None
    own = f"{task}_{first}"
    return own if own in _heads.names_before(output) else first


def _owned(output: Any, first: str | None, task: str) -> list[str]:
    found = _heads.find_head(output, _first(output, first, task))
    return [layer.name for layer in found.layers if getattr(layer, "weights", None)]


def rates_by_depth(layers: list[Any], decay: float) -> dict[tuple[str, ...], float]:
    """Factors of the learning rate that fall by `decay` from one block to the one before it."""
    groups = blocks(layers)
    return {
        tuple(layer.name for layer in group): decay ** (len(groups) - i)
        for i, group in enumerate(groups)
    }
