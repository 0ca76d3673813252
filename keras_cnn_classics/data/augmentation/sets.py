"""Augmentations by name, for recipes and the command line."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence
from typing import Any

from keras_cnn_classics.data import augmentation as ops

_CIFAR_MEAN = (125, 123, 114)  # of the pixels of CIFAR-10


def _jitter(size: Any, low: int, high: int) -> Any:
    """The papers' shorter sides, which are for crops of 224 pixels, for crops of another size."""
    side = max(size) if isinstance(size, tuple) else size
    return ops.ScaleJitter(size, (round(low / 224 * side), round(high / 224 * side)))


# Each takes the size of the network's images, a side or (height, width), and gives operations.
# The colours of PCANoise are ImageNet's everywhere: those of other data are only known once it is
# loaded, which is when the operations must be there. In Python `ColourStatistics.of` has them.
AUGMENTATIONS: dict[str, Callable[[Any], tuple[Any, ...]]] = {
    "flip": lambda size: (ops.RandomFlip(),),
    "crop": lambda size: (ops.RandomCrop(size),),
    "pad-and-crop": lambda size: (ops.PadAndCrop(4),),
    "random-resized-crop": lambda size: (ops.RandomResizedCrop(size),),
    "scale-jitter": lambda size: (_jitter(size, 256, 512),),
    "affine": lambda size: (ops.Affine(),),
    "elastic": lambda size: (ops.Elastic(),),
    "colour-jitter": lambda size: (ops.ColourJitter(),),
    "pca-noise": lambda size: (ops.PCANoise(),),
    "photometric": lambda size: (ops.Photometric(),),
    "gamma": lambda size: (ops.Gamma(),),
    "noise": lambda size: (ops.Noise(),),
    "blur": lambda size: (ops.GaussianBlur(),),
    "sharpen": lambda size: (ops.Sharpen(),),
    "emboss": lambda size: (ops.Emboss(),),
    "cutout": lambda size: (ops.Cutout(),),
    "coarse-dropout": lambda size: (ops.CoarseDropout(),),
    "randaugment": lambda size: (ops.RandAugment(),),
    "mixup": lambda size: (ops.MixUp(),),
    "cutmix": lambda size: (ops.CutMix(),),
    # LeNet-5's; AlexNet's; VGG's; ResNet's; GoogLeNet's; fb.resnet.torch's; ResNet's for CIFAR.
    "mnist": lambda size: (ops.Affine(),),
    "alexnet": lambda size: (_jitter(size, 256, 256), ops.RandomFlip(), ops.PCANoise()),
    "vgg": lambda size: (_jitter(size, 256, 512), ops.RandomFlip(), ops.PCANoise()),
    "resnet": lambda size: (_jitter(size, 256, 480), ops.RandomFlip(), ops.PCANoise()),
    "googlenet": lambda size: (ops.RandomResizedCrop(size), ops.RandomFlip(), ops.Photometric()),
    "imagenet": lambda size: (
        ops.RandomResizedCrop(size),
        ops.RandomFlip(),
        ops.ColourJitter(),
        ops.PCANoise(),
    ),
    "cifar": lambda size: (ops.PadAndCrop(4, fill=_CIFAR_MEAN), ops.RandomFlip()),
}


def named(names: str | Sequence[str], size: int | tuple[int, int]) -> tuple[Any, ...]:
    """The operations that go by these names.

    Args:
        names: One or several keys of `AUGMENTATIONS`.
        size: Side of the network's images, or `(height, width)`, in pixels.

    Returns:
        Operations on one image first, in the order of the names, then mixers.

    Raises:
        ValueError: For an unknown name.
    """
    found: list[Any] = []
    for name in [names] if isinstance(names, str) else names:
        if name not in AUGMENTATIONS:
            near = difflib.get_close_matches(str(name), AUGMENTATIONS, n=1)
            guess = f" Did you mean {near[0]!r}?" if near else ""
            raise ValueError(
                f"An augmentation is one of {', '.join(AUGMENTATIONS)}. Received: {name!r}.{guess}"
            )
        found += AUGMENTATIONS[name](size)
    return tuple(sorted(found, key=lambda operation: getattr(operation, "mixes", False)))
