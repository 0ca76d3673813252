"""Augmentation of images, one by one, in `tf.data`.

An image operation is called as `operation(image, seed)`, with one image of uint8, channels last,
and gives one; a mixer as `operation(images, labels, seed)`, with a batch and one-hot labels. All
that is random comes from the seed: the same image and seed give the same result, in whatever order
and in however many threads.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
