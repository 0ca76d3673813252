"""Batches of several tasks in turn."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

Source = tuple[Any, Any, Any]


def interleaved(
    sources: Mapping[str, Source],
    batch_size: int,
    seed: int | None = None,
    *,
    steps: int | None = None,
    class_weight: Mapping[int, float] | None = None,
) -> Any:
    """Batches of several tasks in turn: (images, {task: labels}, {task: weights}).

    The images of a batch are of one task, and the weights of the others are 0. Their labels stand
    there for their shapes, which each task has its own of.

    An epoch has as many images of each task as the last one has; those of the others are gone
    through again, or not all of them come. Of arrays, an epoch goes on where the one before has
    ended; a data set begins anew, so it should be shuffled.

    Args:
        sources: For each task its images, labels and weights or `None`: arrays, or a
            `tf.data.Dataset` of them, `None` and `None`; all of one kind.
        batch_size: Images in a batch, for arrays. Data sets all get that of the last one.
        seed: Seed of the order of arrays. Defaults to their own order.
        steps: Batches of the last task in an epoch. Defaults to all that it has.
        class_weight: Weights of images of the last task by their classes; others have 1.

    Returns:
        A `PyDataset` for arrays, whose `epoch` is to be set before each, and a `tf.data.Dataset`
        for data sets, which knows nothing of `steps`.

    Raises:
        ValueError: If the sources are of different kinds, lack labels, have no end and no `steps`,
            or have weights that do not fit.
    """
    if all(hasattr(images, "shape") for images, *_ in sources.values()):
        *_, last = sources
        arrays = {
            task: _arrays(task, *source, class_weight if task == last else None)
            for task, source in sources.items()
        }
        return _Interleaved(arrays, batch_size, seed, steps)
    import tensorflow as tf

    if not all(isinstance(images, tf.data.Dataset) for images, *_ in sources.values()):
        kinds = ", ".join(type(images).__name__ for images, *_ in sources.values())
        raise ValueError(
            "Old and new data must all be arrays (images, labels), or all a tf.data.Dataset. "
            f"Received: {kinds}"
        )
    return _of_data_sets(sources, steps, class_weight)


def _arrays(
    task: str, images: Any, labels: Any, weights: Any, class_weight: Mapping[int, float] | None
) -> Source:
    """Images, labels and weights, as arrays."""
    if labels is None:
        raise ValueError(f"The images of {task!r} need labels. Received: none")
    images, labels = (keras.ops.convert_to_numpy(one) for one in (images, labels))
    count = len(images)
    if weights is None:
        weights = np.ones(count)
    else:
        _check_one_kind(class_weight)
        weights = np.asarray(keras.ops.convert_to_numpy(weights))
        if weights.shape not in ((count,), (count, 1)):
            raise ValueError(
                f"There must be a weight for each of the {count} images of {task!r}. Received: "
                f"the shape {weights.shape}"
            )
    if class_weight:
        one_hot = labels.ndim > 1 and labels.shape[-1] > 1
        classes = labels.argmax(-1) if one_hot else labels.reshape(-1)
        weights = np.array([class_weight.get(int(one), 1.0) for one in classes])
    return images, labels, weights.reshape(-1).astype("float32")


def _check_one_kind(class_weight: Any) -> None:
    if class_weight:
        raise ValueError(
            "Give class_weight or sample weights, and not both: multiply them. Received: both"
        )


def _of_data_sets(
    sources: Mapping[str, Source], steps: int | None, class_weight: Mapping[int, float] | None
) -> Any:
    import tensorflow as tf

    for task, (data, labels, weights) in sources.items():
        spec = data.element_spec
        if not isinstance(spec, tuple) or len(spec) not in (2, 3):
            raise ValueError(
                f"The data set of {task!r} must give (images, labels) or (images, labels, "
                f"weights). Received: {spec}"
            )
        if labels is not None or weights is not None:
            raise ValueError(
                f"The data set of {task!r} must give labels and weights itself, beside the images."
            )
    *olds, new = (data for data, *_ in sources.values())
    count = int(new.cardinality())
    if count == tf.data.INFINITE_CARDINALITY and steps is None:
        raise ValueError(
            "The new data have no end: give steps_per_epoch, or leave their repeat() out."
        )
    if len(new.element_spec) == 3:
        _check_one_kind(class_weight)
    size = new.element_spec[0].shape[0]
    if size is None:  # only a batch knows
        for images, *_ in new.take(1):
            size = int(images.shape[0])
    if not size:
        raise ValueError("There must be new images to learn from. Received: none")

    def parts(images: Any, labels: Any, weights: Any = None) -> Source:
        images = tf.cast(images, keras.config.floatx())
        if weights is None:
            return images, labels, tf.ones(tf.shape(images)[:1])
        return images, labels, tf.reshape(tf.cast(weights, tf.float32), [-1])

    def weighted(images: Any, labels: Any, weights: Any) -> Source:
        one_hot = labels.shape.rank == 2 and labels.shape[-1] != 1
        classes = tf.argmax(labels, -1) if one_hot else tf.cast(tf.reshape(labels, [-1]), tf.int64)
        for one, weight in (class_weight or {}).items():
            weights = tf.where(classes == one, tf.cast(weight, tf.float32), weights)
        return images, labels, weights

    def turns(new: Source, *olds: Source) -> Any:
        # As many old images as there are new ones in a batch, the last one or a larger one too.
        rows = tf.range(tf.shape(new[0])[0]) % size
        chosen = [tuple(tf.gather(one, rows) for one in old) for old in olds] + [new]
        labels = {task: part[1] for task, part in zip(sources, chosen, strict=True)}
        zeros = dict.fromkeys(sources, tf.zeros(tf.shape(rows)))
        batches = [
            tf.data.Dataset.from_tensors((images, labels, zeros | {task: weights}))
            for task, (images, _, weights) in zip(sources, chosen, strict=True)
        ]
        return functools.reduce(lambda one, other: one.concatenate(other), batches)

    again = [old.map(parts).repeat().rebatch(size) for old in olds]
    mixed = tf.data.Dataset.zip((new.map(parts).map(weighted), *again)).flat_map(turns)
    if count < 0:
        return mixed
    return mixed.apply(tf.data.experimental.assert_cardinality(count * len(sources)))


class _Interleaved(keras.utils.PyDataset):
    """Batches of arrays in turn."""

    def __init__(
        self, sources: Mapping[str, Source], batch_size: int, seed: int | None, steps: int | None
    ) -> None:
        super().__init__()
        self._sources, self._batch_size, self._seed = sources, batch_size, seed
        *_, (images, *_) = sources.values()
        self._images = steps * batch_size if steps else len(images)  # of each task in an epoch
        self.epoch = 0
        # Of its own, so that nothing of the arrays is left with the class.
        self._order = functools.lru_cache(2 * len(sources))(self._ordered)

    def _ordered(self, number: int, passed: int) -> np.ndarray:
        """The order of the images of a source when it is gone through for the `passed`th time."""
        images, *_ = list(self._sources.values())[number]
        if self._seed is None:
            return np.arange(len(images))
        return np.random.default_rng((self._seed, number, passed)).permutation(len(images))

    def __len__(self) -> int:
        return -(-self._images // self._batch_size) * len(self._sources)

    def __getitem__(self, index: int) -> Any:
        step, turn = divmod(index, len(self._sources))
        begin, end = (self._images * epoch for epoch in (self.epoch, self.epoch + 1))
        begin += step * self._batch_size
        places = range(begin, min(begin + self._batch_size, end))
        batch, y, w = None, {}, {}
        for number, (task, (images, labels, weights)) in enumerate(self._sources.items()):
            found = (divmod(place, len(images)) for place in places)
            rows = np.array([self._order(number, passed)[at] for passed, at in found])
            y[task], w[task] = labels[rows], np.zeros(len(rows), "float32")
            if number == turn:
                batch, w[task] = images[rows].astype(keras.config.floatx()), weights[rows]
        return batch, y, w
