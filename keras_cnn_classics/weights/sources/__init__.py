"""Every published set of weights that the package can load, one file for each publisher.

Each set has a tag of its own, such as `"imagenet/timm-a1"`. The one whose preprocessing and
architecture are the paper's, or come closest to them, also has the name of its data alone:
`"imagenet"` or `"cifar10"`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from keras_cnn_classics.registry import WeightsSource
from keras_cnn_classics.weights.sources import imgclsmob, keras_files, others, timm, torchvision

# Whose weights have the plain name: the authors' own and their conversions, by what Keras made of
# them first, before those of later and better recipes.
_FIRST = ("keras", "timm-tf", "timm-legacy", "akamaster", "timm-tv", "torchvision", "timm-gluon")


def of(model: str) -> Mapping[str, WeightsSource]:
    """The published weights of a model, by their tags; the plain names come first."""
    publishers = (keras_files, timm, torchvision, imgclsmob, others)
    found = {tag: s for one in publishers for tag, s in one.SOURCES.get(model, {}).items()}
    plain: dict[str, WeightsSource] = {}
    for tag in sorted(found, key=_rank):
        if not found[tag].noncommercial:
            plain.setdefault(tag.partition("/")[0], found[tag])
    return plain | found


def models() -> Iterable[str]:
    """The names of all models that have published weights."""
    publishers = (keras_files, timm, torchvision, imgclsmob, others)
    return sorted({model for one in publishers for model in one.SOURCES})


def _rank(tag: str) -> int:
    publisher = tag.partition("/")[2]
    return _FIRST.index(publisher) if publisher in _FIRST else len(_FIRST)
