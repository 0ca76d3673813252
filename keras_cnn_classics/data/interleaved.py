"""Batches of several data sets in turn."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np


def interleaved(sources: Sequence[tuple[Any, Any]], batch_size: int, seed: int = 0) -> Any:
    """Batches of several data sets in turn: ({"images": images, "task": numbers}, labels).

    An epoch has as many batches of each as the last one has; those of the others are gone through
    again, or not all of them come. Of arrays, an epoch goes on where the one before has ended; a
    data set begins anew, so it should be shuffled.

    Args:
        sources: Pairs of arrays (images, labels), or of a `tf.data.Dataset` and `None`; all of one
            kind.
        batch_size: Images in a batch, for arrays.
        seed: Seed of the order of arrays.

    Returns:
        A `PyDataset` for arrays, whose `epoch` is to be set before each, and a `tf.data.Dataset`
        for data sets. In `task`, each image has the number of its source.

    Raises:
        ValueError: If the sources are of different kinds, or a source gives no batches.
    """
    arrays = [hasattr(x, "shape") for x, _ in sources]
    if all(arrays):
        return _Interleaved(sources, batch_size, seed)
    import tensorflow as tf

    sets = [x for x, _ in sources]
    if not all(isinstance(x, tf.data.Dataset) for x in sets):
        raise ValueError(
            "Old and new data must both be arrays (images, labels), or both a tf.data.Dataset. "
            f"Received: {', '.join(type(x).__name__ for x in sets)}"
        )
    count = int(sets[-1].cardinality())
    if count < 0:
        count = int(sets[-1].reduce(np.int64(0), lambda n, *_: n + 1))

    def numbered(number: int) -> Any:
        def add(images: Any, labels: Any) -> Any:
            task = tf.fill(tf.shape(images)[:1], number)
            return {"images": images, "task": task}, tf.cast(labels, tf.int32)

        return add

    parts = [x.repeat().map(numbered(i)) for i, x in enumerate(sets)]
    turns = tf.data.Dataset.range(len(parts)).repeat(count)
    mixed = tf.data.Dataset.choose_from_datasets(parts, turns, stop_on_empty_dataset=False)
    return mixed.apply(tf.data.experimental.assert_cardinality(count * len(parts)))


class _Interleaved(keras.utils.PyDataset):
    """Batches of arrays in turn."""

    def __init__(self, sources: Sequence[tuple[Any, Any]], batch_size: int, seed: int) -> None:
        super().__init__()
        self.sources, self.batch_size = sources, batch_size
        self._seed, self.epoch = seed, 0

    @functools.lru_cache(maxsize=8)  # noqa: B019  it is made for one `fit`
    def _order(self, number: int, passed: int) -> np.ndarray:
        """The order of the images of a source when it is gone through for the `passed`th time."""
        rng = np.random.default_rng((self._seed, number, passed))
        return rng.permutation(len(self.sources[number][0]))

    @property
    def _batches(self) -> int:
        return -(-len(self.sources[-1][0]) // self.batch_size)

    def __len__(self) -> int:
        return self._batches * len(self.sources)

    def __getitem__(self, index: int) -> Any:
        step, number = divmod(index, len(self.sources))
        images, labels = self.sources[number]
        count = len(images)
        if number == len(self.sources) - 1:
            chosen = self._order(number, self.epoch)[step * self.batch_size :][: self.batch_size]
        else:
            start = (self.epoch * self._batches + step) * self.batch_size
            places = (divmod(i, count) for i in range(start, start + self.batch_size))
            chosen = np.array([self._order(number, passed)[at] for passed, at in places])
        task = np.full(len(chosen), number, "int32")
        return {"images": np.asarray(images[chosen]), "task": task}, np.asarray(labels[chosen])
