"""Images to batches, by `tf.data`."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_cnn_classics.data.images import decode_image, fit_image, to_channels
from keras_cnn_classics.data.sources import Arrays, Files, Images, Stream
from keras_cnn_classics.data.tfds_builders import MEMORY_LIMIT

if TYPE_CHECKING:
    import tensorflow as tf

_BUFFER = 4096  # encoded images of a stream that are shuffled together


@dataclass(frozen=True)
class Batching:
    """How images become batches; all of it is the same for every split."""

    size: tuple[int, int]
    channels: int
    resize: str
    batch_size: int
    preprocess: str | Callable[[Any], Any] | None

    def dataset(self, images: Images, seed: int | None = None) -> tf.data.Dataset:
        """Batches of (float32 images, int32 labels), shuffled anew each epoch under a seed."""
        import tensorflow as tf

        if isinstance(images, Arrays):
            batches = self._from_arrays(images, seed)
        elif isinstance(images, Files):
            batches = self._from_files(images, seed)
        else:
            assert isinstance(images, Stream)
            batches = self._from_stream(images, seed)
        options = tf.data.Options()
        options.deterministic = True
        finished = batches.map(self._finish, num_parallel_calls=tf.data.AUTOTUNE)
        return finished.with_options(options).prefetch(tf.data.AUTOTUNE)

    def _from_arrays(self, images: Arrays, seed: int | None) -> tf.data.Dataset:
        """Shuffles positions and gathers whole batches, which is far faster than single images."""
        import tensorflow as tf

        fits = len(images) * self.size[0] * self.size[1] * self.channels <= MEMORY_LIMIT
        array = self._fitted(images.pixels) if fits else images.pixels
        with tf.device("CPU:0"):
            pixels, labels = tf.constant(array), tf.constant(images.labels)
        batches = _positions(len(images), seed).batch(self.batch_size)
        parallel = {"num_parallel_calls": tf.data.AUTOTUNE}
        batches = batches.map(lambda at: (tf.gather(pixels, at), tf.gather(labels, at)), **parallel)
        if fits:
            return batches

        def fit(batch: tf.Tensor, marks: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            return tf.numpy_function(self._fitted, [batch], tf.uint8), marks

        return batches.map(fit, **parallel)

    def _fitted(self, pixels: np.ndarray) -> np.ndarray:
        if pixels.shape[1:] == (*self.size, self.channels):
            return pixels
        result = np.empty((len(pixels), *self.size, self.channels), np.uint8)
        for i, image in enumerate(pixels):
            result[i] = fit_image(to_channels(image, self.channels), self.size, self.resize)
        return result

    def _from_files(self, images: Files, seed: int | None) -> tf.data.Dataset:
        import tensorflow as tf

        paths = tf.constant([os.fsencode(path) for path in images.paths])
        labels = tf.constant(images.labels)
        examples = _positions(len(images), seed).map(lambda at: (paths[at], labels[at]))
        return self._decoded(examples, os.fsdecode).batch(self.batch_size)

    def _from_stream(self, images: Stream, seed: int | None) -> tf.data.Dataset:
        import tensorflow as tf

        examples = images.opened()
        if images.indices is not None:
            mask = np.zeros(images.size, bool)
            mask[images.indices] = True
            chosen = tf.constant(mask)
            examples = examples.enumerate().filter(lambda i, _: chosen[i]).map(lambda _, x: x)
            examples = examples.apply(tf.data.experimental.assert_cardinality(len(images)))
        if images.order is not None:
            order = tf.constant(images.order)
            examples = examples.map(lambda image, label: (image, order[label]))
        if seed is not None:
            examples = examples.shuffle(min(len(images), _BUFFER), seed=seed)
        return self._decoded(examples, bytes).batch(self.batch_size)

    def _decoded(
        self, examples: tf.data.Dataset, reference: Callable[[bytes], str | bytes]
    ) -> tf.data.Dataset:
        """Decodes examples one by one. `reference` makes bytes what `decode_image` takes."""
        import tensorflow as tf

        def decode(encoded: bytes) -> np.ndarray:
            pixels = decode_image(reference(encoded), self.channels)
            return fit_image(pixels, self.size, self.resize)

        def decode_example(encoded: tf.Tensor, label: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            pixels = tf.numpy_function(decode, [encoded], tf.uint8)
            pixels.set_shape((*self.size, self.channels))
            return pixels, label

        return examples.map(decode_example, num_parallel_calls=tf.data.AUTOTUNE)

    def _finish(self, pixels: tf.Tensor, labels: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Preprocesses a batch, and brings it to Keras's layout."""
        import keras
        import tensorflow as tf

        from keras_cnn_classics.preprocessing import preprocess_input

        pixels = tf.cast(tf.ensure_shape(pixels, (None, *self.size, self.channels)), tf.float32)
        if isinstance(self.preprocess, str):
            pixels = preprocess_input(pixels, self.preprocess, data_format="channels_last")
        elif self.preprocess is not None:
            pixels = self.preprocess(pixels)
        if keras.config.image_data_format() == "channels_first":
            pixels = tf.transpose(pixels, (0, 3, 1, 2))
        return pixels, tf.cast(labels, tf.int32)


def _positions(count: int, seed: int | None) -> tf.data.Dataset:
    import tensorflow as tf

    positions = tf.data.Dataset.range(count)
    if seed is None:
        return positions
    return positions.shuffle(count, seed=seed, reshuffle_each_iteration=True)
