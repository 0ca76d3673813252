"""What is measured of transfer: accuracies by task, and what a sequence of tasks forgets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np

from keras_cnn_classics.data.batches.recorded import batches_of
from keras_cnn_classics.training._arguments import check_number
from keras_cnn_classics.training._layers import as_array
from keras_cnn_classics.transfer import heads, responses
from keras_cnn_classics.transfer.learner import check_data, check_labels

_BATCH = 128  # images of an array that are computed at a time


def accuracies(model: Any, data: Mapping[str, Any]) -> dict[str, float]:
    """Measures a model on its tasks, each image counted once.

    A head of scores or softmax is right about an image if its largest answer is that of the label.
    Of a head for several labels (sigmoid) it is the share of all labels of all images that are on
    the right side of 0.5, as in `keras.metrics.BinaryAccuracy`: a head that never sees a rare label
    has a high one, too.

    Args:
        model: A Functional or Sequential model, or one of the methods of `transfer`. One with a
            single output is measured on the one task there is.
        data: For each task `(images, labels)`, or batches of them that end: a `tf.data.Dataset`, a
            `PyDataset`. Labels are integers or one-hot; for several labels, columns of 0 and 1.

    Returns:
        A number from 0 to 1 for each task, in the order of `data`.

    Raises:
        ValueError: If the model has no such task, or the data do not fit it.
    """
    if not isinstance(data, Mapping) or not data:
        raise ValueError(
            "`data` must be a dict with (images, labels) or a data set for each task. Received: "
            f"{type(data).__name__}"
        )
    network = heads.functional(getattr(model, "network", model))
    outputs = heads.outputs_of(network, next(iter(data)))
    unknown = [task for task in data if task not in outputs]
    if unknown:
        raise ValueError(f"The model's tasks are {list(outputs)}. Received data for: {unknown}")
    network = keras.Model(network.input, outputs)
    return {task: _accuracy(network, task, one) for task, one in data.items()}


def _accuracy(network: keras.Model, task: str, data: Any) -> float:
    """The accuracy of one head."""
    x, y = data if isinstance(data, (tuple, list)) and len(data) == 2 else (data, None)
    if not responses.is_finite(x):
        raise ValueError(
            f"The data of {task!r} must be arrays or batches that end. Received: a "
            f"{type(x).__name__}"
        )
    check_data(x, y, network, task)
    model = keras.Model(network.input, network.output[task])
    several = heads.form_of(model.output) == "sigmoid"
    right = total = 0
    for images, labels, *_ in batches_of(x, None if y is None else as_array(y), _BATCH):
        answers = as_array(responses.outputs(model, images))
        check_labels(labels, network, task)
        if several:
            hits = (answers > 0.5) == (labels.reshape(answers.shape) > 0.5)
        else:
            if labels.ndim > 1 and labels.shape[-1] > 1:
                labels = labels.argmax(-1)
            hits = answers.argmax(-1) == labels.reshape(-1)
        right, total = right + int(hits.sum()), total + hits.size
    if not total:
        raise ValueError(f"The data of {task!r} hold no images.")
    return right / total


class TransferMatrix:
    """How each task of a sequence is known after each of them has been learned.

    `values[i, j]` is the accuracy on task `j` after task `i` was learned. One that was not measured
    is NaN, and counts in no mean; a mean of none is NaN. A model that gets its head for a task only
    when it learns it, as by all methods of `transfer`, has nothing above the diagonal, and so no
    forward transfer. A matrix of its own with what a new head on the frozen features can do
    (`FeatureExtraction`) has one; in this matrix it would count as known once, and as forgotten.

    Args:
        tasks: Names of the tasks, in the order of learning.
        values: Accuracies of shape `(tasks, tasks)`, to begin from. Defaults to none.

    Raises:
        ValueError: If tasks or shape are wrong.

    Example:
        matrix = transfer.TransferMatrix(["old", "new"])
        matrix.learned("old", transfer.accuracies(model, {"old": old}))
        ...
        matrix.learned("new", transfer.accuracies(learner, {"old": old, "new": new}))
        matrix.forgetting()

    References:
        - [Lopez-Paz and Ranzato, 2017](https://arxiv.org/abs/1706.08840), section 2
        - [Chaudhry et al., 2018](https://arxiv.org/abs/1801.10112), section 4
    """

    def __init__(self, tasks: Sequence[str], values: Any = None) -> None:
        self.tasks = list(tasks)
        size = len(self.tasks)
        if isinstance(tasks, str) or not size or len(set(self.tasks)) != size:
            raise ValueError(f"`tasks` must be different names, at least one. Received: {tasks!r}")
        self.values = np.full((size, size), np.nan)
        if values is not None:
            given = np.asarray(values, float)
            if given.shape != self.values.shape:
                raise ValueError(
                    f"`values` must have the shape {self.values.shape}, a row and a column for "
                    f"each task. Received: {given.shape}"
                )
            self.values[:] = given

    def learned(self, task: str, accuracies: Mapping[str, float]) -> None:
        """Takes down the accuracies after a task was learned; those of others stay NaN.

        Raises:
            ValueError: For tasks that are not in the sequence.
        """
        unknown = [one for one in (task, *accuracies) if one not in self.tasks]
        if unknown:
            raise ValueError(f"The tasks are {self.tasks}. Received: {unknown}")
        row = self.values[self.tasks.index(task)]
        row[:] = np.nan
        for one, accuracy in accuracies.items():
            row[self.tasks.index(one)] = accuracy

    def average_accuracy(self) -> float:
        """Mean accuracy on all tasks after the last one: the ACC of Lopez-Paz and Ranzato."""
        return _mean(self.values[-1])

    def forgetting(self) -> float:
        """How much lower the accuracy on earlier tasks is in the end than it once was.

        The mean over all tasks but the last of `max(values[:-1, j]) - values[-1, j]`: the `F` of
        Chaudhry et al. It is negative if the tasks are known better than ever.
        """
        earlier = self.values[:-1, :-1]
        best = np.where(np.isnan(earlier), -np.inf, earlier).max(axis=0, initial=-np.inf)
        return _mean(np.where(np.isinf(best), np.nan, best) - self.values[-1, :-1])

    def backward_transfer(self) -> float:
        """What later tasks have done to earlier ones; below 0 it is forgetting.

        The mean over all tasks but the last of `values[-1, j] - values[j, j]`: the BWT of
        Lopez-Paz and Ranzato.
        """
        return _mean((self.values[-1] - self.values.diagonal())[:-1])

    def forward_transfer(self, untrained: Mapping[str, float]) -> float:
        """What earlier tasks have done for later ones before these were learned.

        The mean over all tasks but the first of `values[j - 1, j] - untrained[j]`: the FWT of
        Lopez-Paz and Ranzato.

        Args:
            untrained: Accuracy on each of these tasks of a network that has learned nothing.

        Raises:
            ValueError: If it lacks a task.
        """
        missing = [task for task in self.tasks[1:] if task not in untrained]
        if missing:
            raise ValueError(f"`untrained` must hold an accuracy for {missing}, too.")
        before = self.values.diagonal(1)
        return _mean(before - np.array([untrained[task] for task in self.tasks[1:]], float))


def _mean(values: np.ndarray) -> float:
    """The mean of what is a number."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else float("nan")


def class_weights(
    labels: Any, method: str = "balanced", *, beta: float = 0.999
) -> dict[int, float]:
    """Weights of classes that have images in unequal numbers, for `fit(class_weight=...)`.

    - `"balanced"`: `n / (classes * n_c)` for `n_c` images of a class among `n`, as scikit-learn's;
      the mean weight of an image is 1.
    - `"effective"`: in inverse proportion to the effective number of images,
      `(1 - beta^n_c) / (1 - beta)`, with a mean weight of 1 of the classes. With `beta=0` all
      classes weigh the same; towards 1 it becomes the inverse of `n_c`.

    Args:
        labels: Integers of shape `(images,)` or `(images, 1)`, or one-hot.
        method: `"balanced"` or `"effective"`.
        beta: For `"effective"`: from 0 to below 1. The paper has 0.9, 0.99, 0.999 and 0.9999.

    Returns:
        A weight for each class that has images.

    Raises:
        ValueError: For an unknown method, no labels, or labels that are no classes, such as several
            for an image.

    References:
        - [Cui et al., 2019](https://arxiv.org/abs/1901.05555), equations 3 to 5
    """
    found = np.asarray(as_array(labels) if hasattr(labels, "shape") else labels)
    if found.ndim == 2 and found.shape[-1] > 1:
        if not (np.isin(found, (0, 1)).all() and (found.sum(-1) == 1).all()):
            raise ValueError(
                "Labels in columns must be one-hot: exactly one 1 in each row. Images with several "
                "labels have no class to weigh."
            )
        found = found.argmax(-1)
    found = found.reshape(-1) if found.ndim == 2 else found
    whole = found.dtype.kind in "biuf" and not (found % 1).any()
    if found.ndim != 1 or not found.size or not whole or found.min() < 0:
        raise ValueError(
            "`labels` must be integers from 0, one for each image, or one-hot. Received: shape "
            f"{found.shape}, {found.dtype}"
        )
    found = found.astype(int)
    classes, counts = np.unique(found, return_counts=True)
    if method == "balanced":
        from sklearn.utils.class_weight import compute_class_weight

        weights = compute_class_weight("balanced", classes=classes, y=found)
    elif method == "effective":
        check_number("beta", beta, 0, below=1)
        weights = (1 - beta) / (1 - np.power(float(beta), counts))
        weights *= len(classes) / weights.sum()
    else:
        raise ValueError(f"`method` must be 'balanced' or 'effective'. Received: {method!r}")
    return {int(one): float(weight) for one, weight in zip(classes, weights, strict=True)}
