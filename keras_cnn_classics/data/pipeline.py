"""Images to batches, by `tf.data`."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_cnn_classics.data.decoding import decode_window
from keras_cnn_classics.data.images import decode_image, fit_image, to_channels
from keras_cnn_classics.data.position import Position
from keras_cnn_classics.data.sources import Arrays, Files, Images, Stream
from keras_cnn_classics.data.tfds_builders import MEMORY_LIMIT

if TYPE_CHECKING:
    import tensorflow as tf

_BUFFER = 4096  # encoded images of a stream that are shuffled together
_FOREVER = 2**31  # epochs


@dataclass(frozen=True)
class Batching:
    """How images become batches; all but `augment` is the same for every split.

    Attributes:
        size: Height and width of the images of a batch.
        channels: 1 or 3.
        resize: See `fit_image`.
        batch_size: Images per batch.
        preprocess: See `load`.
        resize_side: See `fit_image`.
        augment: Operations for training: those for images, then those for batches (`mixes`).
        classes: How many, if labels are to be one-hot, else `None`.
    """

    size: tuple[int, int]
    channels: int
    resize: str
    batch_size: int
    preprocess: str | Callable[[Any], Any] | None
    resize_side: int | None = None
    augment: tuple[Any, ...] = ()
    classes: int | None = None

    def dataset(self, images: Images) -> tf.data.Dataset:
        """Batches of (float32 images, labels), all in their order and as they are."""
        return _settled(self._reader(images, ())(None, 0))

    def training(
        self, images: Images, seed: int, position: Position
    ) -> Callable[..., tf.data.Dataset]:
        """Makes the same for training, shuffled and augmented.

        Returns:
            A function of `endless`, `worker` and `workers` that gives the dataset; see
            `ImageData.train` and `ImageData.endless`.
        """
        import tensorflow as tf

        read = self._reader(images, self.augment)
        root = tf.constant([np.uint32(seed).view(np.int32), 0])  # a seed may use all 32 bits
        full, partial = divmod(len(images), self.batch_size)

        def stream(endless: bool = False, worker: int = 0, workers: int = 1) -> tf.data.Dataset:
            count = full if endless else full + bool(partial)

            def epoch(number: tf.Tensor, skip: tf.Tensor) -> tf.data.Dataset:
                batches = read(_folded(root, number), skip, worker, workers).take(count - skip)
                blank = tuple(
                    tf.zeros((self.batch_size // workers, *spec.shape[1:]), spec.dtype)
                    for spec in batches.element_spec
                )
                return tf.data.Dataset.from_tensors(blank).repeat(skip).concatenate(batches)

            def run(_: tf.Tensor) -> tf.data.Dataset:
                start = tf.numpy_function(lambda: position.take(not endless), [], tf.int64)
                first, step = tf.unstack(tf.ensure_shape(start, (2,)))
                if not endless:
                    return epoch(first, step)
                none = tf.constant(0, tf.int64)
                return tf.data.Dataset.range(first, first + _FOREVER).flat_map(
                    lambda number: epoch(number, tf.where(number == first, step, none))
                )

            # The position is read inside the dataset, so that every iterator reads it anew.
            batches = tf.data.Dataset.range(1).flat_map(run)
            if endless:  # several workers must know that all are of one size
                batches = batches.map(
                    lambda *batch: tuple(
                        tf.ensure_shape(part, (self.batch_size // workers, *part.shape[1:]))
                        for part in batch
                    )
                )
            known = tf.data.INFINITE_CARDINALITY if endless else count
            return _settled(batches.apply(tf.data.experimental.assert_cardinality(known)))

        return stream

    def _reader(self, images: Images, ops: tuple[Any, ...]) -> Callable[..., tf.data.Dataset]:
        """A function that gives the batches of one epoch.

        Its arguments are the key of all that is random in the epoch (`None` if nothing is), how
        many batches are skipped, and which share of each batch is wanted.
        """
        import tensorflow as tf

        pictured = tuple(op for op in ops if not getattr(op, "mixes", False))
        mixers = list(enumerate(ops))[len(pictured) :]
        order, picture, gather = self._opened(images, pictured)
        parallel = {"num_parallel_calls": tf.data.AUTOTUNE}

        def read(
            key: tf.Tensor | None, skip: Any, worker: int = 0, workers: int = 1
        ) -> tf.data.Dataset:
            share = self.batch_size // workers

            def example(place: tf.Tensor, item: Any) -> tuple[tf.Tensor, tf.Tensor]:
                return picture(item, None if key is None else _folded(key, place))

            def finish(step: tf.Tensor, batch: tuple[tf.Tensor, tf.Tensor]) -> Any:
                seeded = [(op, _folded(_folded(key, step), i)) for i, op in mixers]
                return self._finish(*batch, seeded)

            items = order(key).enumerate().skip(skip * self.batch_size)
            if workers > 1:
                items = items.filter(lambda place, _: place % self.batch_size // share == worker)
            if gather is None:
                batches = items.map(example, **parallel).batch(share)
            else:
                batches = items.map(lambda _, item: item).batch(share).map(gather, **parallel)
            return batches.enumerate(tf.cast(skip, tf.int64)).map(finish, **parallel)

        return read

    def _opened(self, images: Images, ops: tuple[Any, ...]) -> tuple[Any, Any, Any]:
        """Three functions: of a key, the items in order; of an item, its image; of a batch, too.

        The last, which makes a whole batch of items at once, is `None` where nothing is gained.
        """
        import tensorflow as tf

        if isinstance(images, Stream):
            examples = _examples(images)

            def shuffled(key: tf.Tensor | None) -> tf.data.Dataset:
                return examples if key is None else _shuffled(examples, len(images), key)

            return shuffled, self._decoder(ops, bytes, lambda encoded: encoded), None

        assert isinstance(images, (Arrays, Files))
        with tf.device("CPU:0"):
            labels = tf.constant(images.labels)

        def order(key: tf.Tensor | None) -> tf.data.Dataset:
            if key is None:
                return tf.data.Dataset.range(len(images))
            places = tf.range(len(images), dtype=tf.int64)
            mixed = tf.random.experimental.stateless_shuffle(places, key)
            return tf.data.Dataset.from_tensor_slices(mixed)

        if isinstance(images, Files):
            paths = tf.constant([os.fsencode(path) for path in images.paths])
            decode = self._decoder(ops, os.fsdecode, tf.io.read_file)
            return order, lambda at, seed: decode((paths[at], labels[at]), seed), None

        fits = len(images) * self.size[0] * self.size[1] * self.channels <= MEMORY_LIMIT
        fit = not _windowed(ops)
        array = self._fitted(images.pixels, fit) if fits else images.pixels
        with tf.device("CPU:0"):
            pixels = tf.constant(array)

        def fitted(batch: tf.Tensor) -> tf.Tensor:
            if fits:
                return batch
            result = tf.numpy_function(lambda batch: self._fitted(batch, fit), [batch], tf.uint8)
            size = self.size if fit else batch.shape[1:3]
            return tf.ensure_shape(result, (batch.shape[0], *size, self.channels))

        def picture(at: tf.Tensor, seed: tf.Tensor | None) -> tuple[tf.Tensor, tf.Tensor]:
            return self._changed(fitted(pixels[at][None])[0], ops, seed), labels[at]

        def gather(at: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            return fitted(tf.gather(pixels, at)), tf.gather(labels, at)

        # Gathering whole batches is far faster than single images.
        return order, picture, None if ops else gather

    def _fitted(self, pixels: np.ndarray, fit: bool = True) -> np.ndarray:
        """Brings a batch to the channels, and to the size if it shall `fit`."""
        size = self.size if fit else pixels.shape[1:3]
        if pixels.shape[1:] == (*size, self.channels) and (not fit or self.resize_side is None):
            return pixels
        result = np.empty((len(pixels), *size, self.channels), np.uint8)
        for i, image in enumerate(pixels):
            image = to_channels(image, self.channels)
            result[i] = self._fit(image) if fit else image
        return result

    def _fit(self, pixels: np.ndarray) -> np.ndarray:
        return fit_image(pixels, self.size, self.resize, self.resize_side)

    def _decoder(
        self,
        ops: tuple[Any, ...],
        reference: Callable[[bytes], str | bytes],
        read: Callable[[tf.Tensor], tf.Tensor],
    ) -> Callable[[tuple[tf.Tensor, tf.Tensor], Any], tuple[tf.Tensor, tf.Tensor]]:
        """Makes (source, label) an image. `reference` makes it what `decode_image` takes."""
        import tensorflow as tf

        def load(source: tf.Tensor, fit: bool) -> tf.Tensor:
            def pixels(source: bytes) -> np.ndarray:
                decoded = decode_image(reference(source), self.channels)
                return self._fit(decoded) if fit else decoded

            return tf.numpy_function(pixels, [source], tf.uint8)

        def picture(item: tuple[tf.Tensor, tf.Tensor], seed: Any) -> tuple[tf.Tensor, tf.Tensor]:
            source, label = item
            if not _windowed(ops):
                image = tf.ensure_shape(load(source, True), (*self.size, self.channels))
                return self._changed(image, ops, seed), label
            image = decode_window(
                read(source),
                self.channels,
                lambda height, width: ops[0].window(height, width, _folded(seed, 0)),
                ops[0].size,
                lambda: load(source, False),
            )
            return self._changed(image, ops, seed, done=1), label

        return picture

    def _changed(self, image: tf.Tensor, ops: tuple[Any, ...], seed: Any, done: int = 0) -> Any:
        """The image after the operations, but for the first ones that are done already."""
        for i, op in list(enumerate(ops))[done:]:
            image = op(image, _folded(seed, i))
        if not image.shape.is_compatible_with((*self.size, self.channels)):
            raise ValueError(
                f"`augment` must give images of {self.size[0]} x {self.size[1]} pixels and "
                f"{self.channels} channel(s), as `image_size` and `channels` say. Received: "
                f"{image.shape} after {', '.join(type(op).__name__ for op in ops)}"
            )
        image.set_shape((*self.size, self.channels))
        return image

    def _finish(self, pixels: tf.Tensor, labels: tf.Tensor, mixers: list[tuple[Any, Any]]) -> Any:
        """Mixes and preprocesses a batch, and brings it to Keras's layout."""
        import keras
        import tensorflow as tf

        from keras_cnn_classics.preprocessing import preprocess_input

        pixels = tf.cast(tf.ensure_shape(pixels, (None, *self.size, self.channels)), tf.float32)
        labels = tf.cast(labels, tf.int32)
        if self.classes is not None:
            labels = tf.one_hot(labels, self.classes)
        for mix, seed in mixers:
            pixels, labels = mix(pixels, labels, seed)
        if isinstance(self.preprocess, str):
            pixels = preprocess_input(pixels, self.preprocess, data_format="channels_last")
        elif self.preprocess is not None:
            pixels = self.preprocess(pixels)
        if keras.config.image_data_format() == "channels_first":
            pixels = tf.transpose(pixels, (0, 3, 1, 2))
        return pixels, labels


def _windowed(ops: tuple[Any, ...]) -> bool:
    """Whether the first operation wants a window of the whole image, not one of a fitted one."""
    return bool(ops) and hasattr(ops[0], "window")


def _folded(key: tf.Tensor, number: Any) -> tf.Tensor:
    """A seed of its own for each number, from the seed of what they are part of."""
    import tensorflow as tf

    return tf.random.experimental.stateless_fold_in(key, tf.cast(number, tf.int32))


def _examples(images: Stream) -> tf.data.Dataset:
    """The stream's (encoded image, label), selected and relabelled."""
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
    return examples


def _shuffled(examples: tf.data.Dataset, count: int, key: tf.Tensor) -> tf.data.Dataset:
    import tensorflow as tf

    # The order is the key's alone: TensorFlow's global seed, which would take part, is of no
    # account in this function's graph.
    tf.compat.v1.get_default_graph().seed = None
    seed = tf.bitcast(key, tf.int64)
    return examples.shuffle(min(count, _BUFFER), seed, reshuffle_each_iteration=False)


def _settled(batches: tf.data.Dataset) -> tf.data.Dataset:
    import tensorflow as tf

    options = tf.data.Options()
    options.deterministic = True
    # They find nothing to do here, and looking takes half of the time to start an epoch.
    options.experimental_optimization.apply_default_optimizations = False
    return batches.with_options(options).prefetch(tf.data.AUTOTUNE)
