"""The table of every model: what it is, who builds it, and what must be true of it.

This module imports nothing of the package, and not Keras either, so anything may import it.
"""

from __future__ import annotations

import difflib
import fnmatch
import os
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import keras


_HUB = "https://huggingface.co/"


@dataclass(frozen=True)
class WeightsFile:
    """One downloadable file.

    Attributes:
        url: Where its publisher keeps it. A `.zip` holds one file of that name.
        digest: Hash of the file, unpacked, as `"md5:<hex>"`, `"sha1:<hex>"` or `"sha256:<hex>"`,
            of which PyTorch's names have only the first digits. Empty where none is published:
            the Hugging Face hub tells it with the file, and a few of Keras's files have none.
    """

    url: str
    digest: str = ""

    @property
    def hub(self) -> tuple[str, str, str] | None:
        """Repository, revision and name of a file on the Hugging Face hub."""
        repository, found, rest = self.url.removeprefix(_HUB).partition("/resolve/")
        revision, _, name = rest.partition("/")
        return (repository, revision, name) if self.url.startswith(_HUB) and found else None

    @property
    def archive(self) -> bool:
        """Whether the publisher packs the file."""
        return self.url.endswith(".zip")

    @property
    def name(self) -> str:
        """The name of the file in the cache."""
        if self.hub:
            repository, _, name = self.hub
            return "--".join((*repository.split("/"), name))
        return self.url.rsplit("/", 1)[-1].removesuffix(".zip")


@dataclass(frozen=True)
class WeightsSource:
    """One published set of weights.

    Attributes:
        top: File with the classifier, or `None` where only the trunk is published.
        no_top: File without the classifier, or `None`; then the file with it is used.
        classes: Number of classes of the classifier.
        preprocessing: Mode of `preprocess_input` that the weights were trained with.
        top1: Published top-1 accuracy on the validation set, percent, one centre crop.
        top5: Published top-5 accuracy, likewise.
        license: Licence of the weights.
        origin: Who trained and who published them.
        options: Options of the builder that make the network the one that the weights are for.
        input_size: Height and width of the images in training, pixels; `None` is the model's.
        variants: The same weights for other options or sizes of image.
    """

    top: WeightsFile | None
    no_top: WeightsFile | None = None
    classes: int = 1000
    preprocessing: str = "torch"
    top1: float | None = None
    top5: float | None = None
    license: str = ""
    origin: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    input_size: int | None = None
    variants: tuple[WeightsSource, ...] = ()

    @property
    def noncommercial(self) -> bool:
        """Whether the licence forbids commercial use."""
        return "-NC" in self.license

    def variant(self, options: Mapping[str, Any], size: int | None) -> WeightsSource:
        """The variant for options and a size of image; that for the published ones otherwise."""
        fitting = [
            one
            for one in (self, *self.variants)
            if all(one.options.get(key, value) == value for key, value in options.items())
        ]
        of_size = [one for one in fitting if one.input_size == size]
        return (of_size or fitting or [self])[0]

    def file(self, *, include_top: bool) -> WeightsFile:
        """The file to use: the smaller one for a trunk, where it is published."""
        found = self.top if include_top or self.no_top is None else self.no_top
        found = found or self.no_top
        if found is None:
            raise ValueError("A `WeightsSource` must have a file. Received none.")
        return found


@dataclass(frozen=True)
class ModelSpec:
    """Facts about one model. `testing.contracts` asserts the numeric ones.

    Attributes:
        name: Name of the builder.
        family: Name of the file that it stands in, such as `"vgg"`.
        year: Year of the paper.
        paper: Title of the paper.
        url: Where to read the paper.
        params: Trainable parameters of the model as built without arguments.
        macs: Multiply-adds of its convolutions and dense layers, for one published input.
        top1_error: Top-1 error that the paper reports, percent, on the validation set of ImageNet
            or the test set of its other data.
        top5_error: Top-5 error, likewise.
        protocol: What those were measured with, such as `"one crop"`.
        features: Channels of the last feature map.
        stride: Pixels of the image for each cell of the last feature map.
        input_size: Height and width of the published input, pixels.
        min_size: The smallest height and width that the trunk can take, pixels.
        frames: Frames of the published clip, and the fewest that the trunk can take; 0 for networks
            of single images.
        channels: Channels of the published input.
        classes: Classes of the published classifier.
        preprocessing: Mode of `preprocess_input` that the paper's training used.
        torch_preprocessing: Mode that checkpoints in PyTorch's layout were trained with.
        torch_options: Options under which those checkpoints give the answers of their packages,
            where they are not the defaults.
        classifier: Name of the layer that holds the classifier's weights.
        fixed_top: Whether the classifier is tied to one image size, as a flattening one is.
        fixed_trunk: Whether the trunk too has weights for one image size only, as a locally
            connected one has.
        aux_taps: Names of the layers that the auxiliary classifiers hang on.
        aux_min_size: The smallest height and width that the auxiliary classifiers can take.
        config: Options of this variant.
        tiny: Options that make a small model of the same code, for tests.
        weights: Published weights, by tag.
        notes: How the model differs from the paper, for the page on fidelity.
    """

    name: str
    family: str
    year: int
    paper: str
    url: str
    params: int
    macs: int
    features: int
    stride: int
    input_size: int = 224
    min_size: int = 32
    frames: int = 0
    channels: int = 3
    classes: int = 1000
    preprocessing: str = "torch"
    torch_preprocessing: str = "torch"
    top1_error: float | None = None
    top5_error: float | None = None
    protocol: str = ""
    torch_options: Mapping[str, Any] = field(default_factory=dict)
    classifier: str = "predictions"
    fixed_top: bool = False
    fixed_trunk: bool = False
    aux_taps: tuple[str, ...] = ()
    aux_min_size: int = 0
    config: Mapping[str, Any] = field(default_factory=dict)
    tiny: Mapping[str, Any] = field(default_factory=dict)
    weights: Mapping[str, WeightsSource] = field(default_factory=dict)
    notes: str = ""

    @property
    def input_shape(self) -> tuple[int, ...]:
        """The published input, channels last: an image, or a clip with its frames first."""
        return (*([self.frames] if self.frames else []), *[self.input_size] * 2, self.channels)

    @property
    def input_kind(self) -> str:
        """What the network takes: `"image"` or `"clip"`."""
        return "clip" if self.frames else "image"

    def results(self) -> str:
        """The paper's errors as a table shows them: `"22.85 / 6.71, ten crops"`, or nothing."""
        if self.top1_error is None and self.top5_error is None:
            return ""
        first, second = ("-" if e is None else f"{e:g}" for e in (self.top1_error, self.top5_error))
        return f"{first} / {second}, {self.protocol}"

    @property
    def default_weights(self) -> str | None:
        """The default of the builder's `weights`: `"imagenet"` wherever that is published."""
        return "imagenet" if "imagenet" in self.weights else None


class Builder(Protocol):
    """The one signature of every application: fchollet's order, then keyword-only arguments.

    The defaults of `weights` and `classes` are the model's own; `inspect.signature` shows them.
    """

    spec: ModelSpec
    __name__: str
    __module__: str

    def __call__(
        self,
        include_top: bool = ...,
        weights: str | os.PathLike[str] | None = ...,
        input_tensor: Any = ...,
        input_shape: tuple[int | None, ...] | None = ...,
        pooling: str | None = ...,
        classes: int = ...,
        classifier_activation: Any = ...,
        name: str | None = ...,
        *,
        aux: bool = ...,
        prefix: str = ...,
        include_preprocessing: bool = ...,
        adapt_input_channels: bool = ...,
        skip_mismatch: bool = ...,
        **options: Any,
    ) -> keras.Model: ...


_BUILDERS: dict[str, Builder] = {}
_LOADERS: list[Callable[[], None]] = []
_LOCK = threading.RLock()


def register(builder: Builder) -> None:
    """Adds a builder to the table.

    Raises:
        ValueError: If another builder has that name, whatever the case of its letters.
    """
    name = builder.spec.name
    other = _BUILDERS.get(name.lower())
    # A cell of a notebook is run again and again; what it defines replaces what it defined.
    if other is not None and not (builder.__module__ == other.__module__ == "__main__"):
        raise ValueError(f"Model names must be unique. Received: {name!r}, registered already.")
    _BUILDERS[name.lower()] = builder


def register_loader(load: Callable[[], None]) -> None:
    """Adds a function that imports more builders; it is called when the table is first read."""
    _LOADERS.append(load)


def list_models(
    pattern: str = "*",
    *,
    family: str | None = None,
    year: int | tuple[int, int] | None = None,
    pretrained: bool = False,
) -> list[str]:
    """Lists the names of the models, oldest first, those of a year by family.

    Args:
        pattern: Shell-style pattern for the name, such as `"VGG*"`; case does not matter.
        family: Only models of this family, such as `"vgg"`.
        year: Only models of this year, or of the years from the first to the second, inclusive.
        pretrained: Whether to list only models that have published weights.

    Returns:
        A list of names for `get_builder` and `build`.
    """
    _load()
    specs = (builder.spec for builder in _BUILDERS.values())
    chosen = matching(specs, pattern, family=family, year=year, pretrained=pretrained)
    return [spec.name for spec in chosen]


def matching(
    specs: Iterable[ModelSpec],
    pattern: str,
    *,
    family: str | None,
    year: int | tuple[int, int] | None,
    pretrained: bool,
) -> list[ModelSpec]:
    """Those that `list_models` would list, in its order."""
    years = (0, 9999) if year is None else (year, year) if isinstance(year, int) else tuple(year)
    if len(years) != 2 or not all(isinstance(y, int) for y in years):
        raise ValueError(f"`year` must be a year, or the first and the last. Received: {year=}")
    first, last = years
    # Not by registration alone, whose order is that of imports.
    return [
        spec
        for spec in sorted(specs, key=lambda spec: (spec.year, spec.family))
        if fnmatch.fnmatchcase(spec.name.lower(), pattern.lower())
        and (family is None or spec.family == family.lower())
        and first <= spec.year <= last
        and (spec.weights or not pretrained)
    ]


def get_builder(name: str) -> Builder:
    """Finds the builder of a model.

    Args:
        name: Name of the model; case does not matter.

    Returns:
        The function that builds it, with its `ModelSpec` as the attribute `spec`.

    Raises:
        ValueError: If there is no such model; the message names those spelt like it.
    """
    _load()
    if not isinstance(name, str):
        raise ValueError(f"`name` must be the name of a model. Received: {name!r}")
    if name.lower() in _BUILDERS:
        return _BUILDERS[name.lower()]
    near = difflib.get_close_matches(name.lower(), _BUILDERS, n=3)
    guess = " or ".join(_BUILDERS[key].spec.name for key in near)
    hint = f"Did you mean {guess}?" if guess else "`list_models()` names them all."
    raise ValueError(f"`name` must be the name of a model. {hint} Received: {name!r}")


def build(name: str, **kwargs: Any) -> keras.Model:
    """Builds a model by name: `build("VGG16", weights=None)` is `VGG16(weights=None)`."""
    return get_builder(name)(**kwargs)


def _load() -> None:
    with _LOCK:
        while _LOADERS:
            _LOADERS[-1]()
            _LOADERS.pop()
