"""Decoding by TensorFlow, for training: nothing of an image but the window that is wanted.

TensorFlow has its own JPEG and PNG decoders, which give the same pixels as Pillow's, to the last
bit for whole images. Everything else, and what a viewer does not show as it is stored (turned by
the camera, in CMYK, transparent, in 16 bits, with a palette), goes through `decode_image`.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import numpy as np

from keras_cnn_classics.data.augmentation.crops import cut, resized

_JPEG, _PNG, _OTHER = 0, 1, 2
_RATIOS = (1, 2, 4, 8)  # by which libjpeg can shrink an image while it decodes


def decode_window(
    encoded: Any,
    channels: int,
    window: Callable[[Any, Any], Any],
    size: tuple[int, int],
    load: Callable[[], Any],
) -> Any:
    """Decodes a window of an image and brings it to a size.

    A window of a JPEG that is at least twice the size is shrunk by the decoder, which computes
    only what is left: a photograph of 12 megapixels costs little more than one of 1.

    Args:
        encoded: Scalar string tensor, the contents of an image file.
        channels: 1 or 3.
        window: Gives the window `(top, left, height, width)` for an image's height and width.
        size: `(height, width)` of the result.
        load: Gives the whole image by `decode_image`.

    Returns:
        A tensor of uint8, `(*size, channels)`. It is what cutting the window out of
        `decode_image` gives, but for JPEG's colour differences: these are interpolated between
        neighbours, of which the window's outermost pixels have fewer.
    """
    import tensorflow as tf

    def jpeg() -> Any:
        height, width, _ = tf.unstack(tf.io.extract_jpeg_shape(encoded))
        place = window(height, width)
        fold = tf.reduce_min(place[2:] // tf.constant(size))
        power = tf.reduce_sum(tf.cast(fold >= tf.constant(_RATIOS[1:]), tf.int32))

        def part(ratio: int) -> Callable[[], Any]:
            return lambda: tf.io.decode_and_crop_jpeg(
                encoded, place // ratio, channels, ratio, dct_method="INTEGER_ACCURATE"
            )

        return resized(tf.switch_case(power, [part(ratio) for ratio in _RATIOS]), size)

    def whole(image: Any) -> Any:
        image = tf.ensure_shape(image, (None, None, channels))
        height, width, _ = tf.unstack(tf.shape(image))
        return cut(image, window(height, width), size)

    def png() -> Any:
        colours = tf.io.decode_png(encoded, 3)
        return whole(colours if channels == 3 else _luma(colours))

    return tf.switch_case(_kind(encoded), [jpeg, png, lambda: whole(load())])


def _luma(colours: Any) -> Any:
    """The grey of `images.to_channels`; the decoder's own has other weights."""
    import tensorflow as tf

    parts = tf.cast(colours, tf.int32) * tf.constant([19595, 38470, 7471])
    grey = tf.bitwise.right_shift(tf.reduce_sum(parts, -1, keepdims=True) + 32768, 16)
    return tf.cast(grey, tf.uint8)


def _kind(encoded: Any) -> Any:
    """Which decoder shows an image as `decode_image` does."""
    import tensorflow as tf

    def has(mark: bytes) -> Any:
        return tf.size(tf.strings.split(encoded, mark)) > 1

    def plain_jpeg() -> Any:
        turned = tf.cond(
            has(b"Exif\0\0"),
            lambda: tf.numpy_function(_turned, [encoded], tf.bool),
            lambda: False,
        )
        return ~turned & (tf.io.extract_jpeg_shape(encoded)[2] != 4)

    def plain_png() -> Any:
        form = tf.strings.substr(encoded, 24, 2)  # bits per sample and kind of colour
        return ((form == b"\x08\0") | (form == b"\x08\x02")) & ~has(b"tRNS") & ~has(b"eXIf")

    def starts(mark: bytes, least: int, plain: Callable[[], Any]) -> Any:
        def same() -> Any:
            return tf.strings.substr(encoded, 0, len(mark)) == mark

        there = tf.cond(tf.strings.length(encoded) >= least, same, lambda: False)
        return tf.cond(there, plain, lambda: False)

    jpeg = starts(b"\xff\xd8\xff", 4, plain_jpeg)
    png = starts(b"\x89PNG\r\n\x1a\n", 26, plain_png)
    return tf.where(jpeg, _JPEG, tf.where(png, _PNG, _OTHER))


def _turned(encoded: bytes) -> np.bool_:
    """Whether the camera's orientation asks for a turn; unreadable ones are Pillow's to judge."""
    from PIL import Image

    try:
        with Image.open(io.BytesIO(encoded)) as image:
            return np.bool_(image.getexif().get(0x0112, 1) != 1)
    except Exception:
        return np.bool_(True)
