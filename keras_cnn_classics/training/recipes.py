"""Which recipe a network has: its paper's, or ours for quick runs."""

from __future__ import annotations

import dataclasses
import difflib

from keras_cnn_classics import registry
from keras_cnn_classics.registry import ModelSpec
from keras_cnn_classics.training.papers import PAPERS
from keras_cnn_classics.training.settings import Recipe

_LENET = Recipe(
    name="lenet-quick",
    optimizer="adamw",
    learning_rate=3e-3,
    weight_decay=0.1,
    batch_size=64,
    epochs=30,
    resize="pad",
    source="chosen on MNIST by this project; the paper's is a diagonal Levenberg-Marquardt method",
)
_QUICK = Recipe(
    name="quick",
    optimizer="sgd",
    learning_rate=1e-2,
    weight_decay=5e-4,
    batch_size=64,
    epochs=20,
    resize="crop",
    source="rate, momentum and decay of AlexNet and VGG; the papers divide the rate by 10 instead",
)

# Which paper's recipe a family of networks was trained by; its networks for images of 32 pixels.
_FAMILIES: dict[str, tuple[str | None, str | None]] = {
    "lenet": ("lenet", "lenet"),
    "alexnet": ("alexnet", None),
    "zfnet": ("zfnet", None),
    "vgg": ("vgg", None),
    "googlenet": ("googlenet", None),
    "inception_v3": ("inception-v3", None),
    "resnet": ("resnet", "resnet-cifar"),
    "stochastic_depth": (None, "stochastic-depth"),
    "densenet": ("densenet", "densenet-cifar"),
    "resnext": ("resnext", None),
    "senet": ("senet", None),
    "mobilenet": ("mobilenet", None),
    "mobilenet_v2": ("mobilenet-v2", None),
    "efficientnet": ("efficientnet", None),
}


def recipe(
    model: str | ModelSpec,
    kind: str = "paper",
    *,
    batch_size: int | None = None,
    scale: float = 1.0,
) -> Recipe:
    """Gives the settings for a model.

    Args:
        model: A model's name or spec, or the name of a paper's recipe, such as `"resnet-cifar"`.
        kind: `"paper"`, or `"quick"` for settings that reach a usable network soon.
        batch_size: Images in a step; the learning rate changes with it by the linear rule.
            Defaults to the recipe's.
        scale: Factor on the epochs, and on all lengths that are counted in them.

    Raises:
        ValueError: If there is no such model or kind, or no recipe of its paper is known.
    """
    if kind not in ("paper", "quick"):
        raise ValueError(f"`kind` must be 'paper' or 'quick'. Received: {kind!r}")
    found = _quick(_spec(model)) if kind == "quick" else _paper(model)
    return found.scaled(batch_size=batch_size, scale=scale)


def has_paper_recipe(spec: ModelSpec) -> bool:
    """Whether the recipe of a model's paper is known."""
    return _of_paper(spec) is not None


def _of_paper(spec: ModelSpec) -> str | None:
    """The name of the recipe of a model's paper, if it is known."""
    return _FAMILIES.get(spec.family, (None, None))[spec.input_size <= 32]


def _spec(model: str | ModelSpec) -> ModelSpec:
    return registry.get_builder(model).spec if isinstance(model, str) else model


def _quick(spec: ModelSpec) -> Recipe:
    return _LENET if spec.family == "lenet" else _QUICK


def _paper(model: str | ModelSpec) -> Recipe:
    if isinstance(model, str) and model.lower() in PAPERS:
        return PAPERS[model.lower()]
    try:
        spec = _spec(model)
    except ValueError as error:
        near = difflib.get_close_matches(str(model).lower(), PAPERS, n=1)
        guess = f" Or is the recipe {near[0]!r} meant?" if near else ""
        raise ValueError(f"{error}{guess}") from None
    name = _of_paper(spec)
    if name is None:
        raise ValueError(
            f"The recipe of {spec.name}'s paper is not here. Take kind='quick', or the name of "
            f"another: {', '.join(PAPERS)}."
        )
    return PAPERS[name]


def describe(one: Recipe) -> list[tuple[str, str, str]]:
    """The settings that matter, for people: name, value, and where it stands in the source."""
    shown = []
    for item in dataclasses.fields(one):
        value = getattr(one, item.name)
        if item.name in ("name", "source", "sections") or value in (None, (), {}, ""):
            continue
        if value == item.default and item.name not in (*one.sections, "measured"):
            continue
        if item.name == "initialization":
            how, options = value
            listed = {k: " ".join(v) if isinstance(v, tuple) else v for k, v in options.items()}
            value = " ".join([how, *(f"{key}={option}" for key, option in listed.items())])
        elif isinstance(value, tuple):
            value = ", ".join(value)
        elif isinstance(value, float):
            value = f"{value:g}"
        shown.append((item.name.replace("_", " "), str(value), one.sections.get(item.name, "")))
    return shown
