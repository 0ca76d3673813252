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
    only what is left. For a photograph of 12 megapixels that takes a third off the time, and half
    of what decoding the whole takes.

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

    # Even the operations of a branch that is not taken cost time. So the branches are short, and
    # the window is chosen and brought to size outside them.
    plain, shape = tf.cond(
        tf.strings.substr(encoded, 0, 3) == b"\xff\xd8\xff",
        lambda: _jpeg_facts(encoded),
        lambda: (False, tf.zeros(3, tf.int32)),
    )

    def whole() -> Any:
        return tf.cond(_plain_png(encoded), png, load)

    def png() -> Any:
        colours = tf.io.decode_png(encoded, 3)
        return colours if channels == 3 else _luma(colours)

    image = tf.cond(plain, lambda: tf.zeros((0, 0, channels), tf.uint8), whole)
    height, width, _ = tf.unstack(tf.where(plain, shape, tf.shape(image)))
    place = window(height, width)

    def part(ratio: int) -> Callable[[], Any]:
        return lambda: tf.io.decode_and_crop_jpeg(
            encoded, place // ratio, channels, ratio, dct_method="INTEGER_ACCURATE"
        )

    fold = tf.reduce_min(place[2:] // tf.constant(size))
    power = tf.reduce_sum(tf.cast(fold >= tf.constant(_RATIOS[1:]), tf.int32))
    ways = [*(part(ratio) for ratio in _RATIOS), lambda: cut(image, place)]
    pixels = tf.switch_case(tf.where(plain, power, len(_RATIOS)), ways)
    return resized(tf.ensure_shape(pixels, (None, None, channels)), size)


def _jpeg_facts(encoded: Any) -> tuple[Any, Any]:
    """Whether a JPEG shows as it is stored, and its shape."""
    import tensorflow as tf

    shape = tf.io.extract_jpeg_shape(encoded)
    return tf.logical_not((shape[2] == 4) | _turned(encoded)), shape


def _luma(colours: Any) -> Any:
    """The grey of `images.to_channels`; the decoder's own has other weights."""
    import tensorflow as tf

    parts = tf.cast(colours, tf.int32) * tf.constant([19595, 38470, 7471])
    grey = tf.bitwise.right_shift(tf.reduce_sum(parts, -1, keepdims=True) + 32768, 16)
    return tf.cast(grey, tf.uint8)


def _has(encoded: Any, mark: bytes) -> Any:
    """Whether a mark is anywhere in a file; once in a while, chance puts one there."""
    import tensorflow as tf

    # `tf.strings.split` would make a ragged tensor of it, which takes longer than the search.
    return tf.raw_ops.StringSplitV2(input=encoded[None], sep=mark, maxsplit=1).shape[1] > 1


def _turned(encoded: Any) -> Any:
    """Whether the camera's orientation asks for a turn."""
    import tensorflow as tf

    def turned(encoded: bytes) -> np.bool_:
        from PIL import Image

        try:
            with Image.open(io.BytesIO(encoded)) as image:
                return np.bool_(image.getexif().get(0x0112, 1) != 1)
        except Exception:
            return np.bool_(True)  # that it cannot be read is for Pillow to say

    def asked() -> Any:
        return tf.ensure_shape(tf.numpy_function(turned, [encoded], tf.bool), ())

    return tf.cond(_has(encoded, b"Exif\0\0"), asked, lambda: False)


def _plain_png(encoded: Any) -> Any:
    """Whether it is a PNG of 8 bits, grey or RGB, opaque and upright."""
    import tensorflow as tf

    def plain() -> Any:
        form = tf.strings.substr(encoded, 24, 2)  # bits per sample and kind of colour
        marked = _has(encoded, b"tRNS") | _has(encoded, b"eXIf")
        return ((form == b"\x08\0") | (form == b"\x08\x02")) & tf.logical_not(marked)

    signed = tf.strings.substr(encoded, 0, 8) == b"\x89PNG\r\n\x1a\n"
    return tf.cond(signed & (tf.strings.length(encoded) >= 26), plain, lambda: False)
