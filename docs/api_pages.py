"""The pages of the API: of builders from what they say at run time, of the rest directives.

The builders are made by one factory, so that nothing in the source has their signatures. All else
is read from the source by mkdocstrings, when the site is built.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Sequence
from importlib import import_module

import keras_cnn_classics as kcc
from keras_cnn_classics.registry import Builder

WRITTEN = "<!-- Written by docs/generate.py from the code: change that, then `make docs`. -->"
PACKAGE = "keras_cnn_classics"

# Modules that have no `__all__`; those with one show what is in it.
PUBLIC = {
    "preprocessing": (
        *("preprocess_input", "model_preprocessing", "to_pixels", "decode_predictions"),
    ),
    "registry": (
        *("list_models", "get_builder", "build", "Builder", "ModelSpec"),
        *("WeightsSource", "WeightsFile"),
    ),
    "blocks.attention": ("cbam", "non_local"),
    "testing.contracts": (
        *("check", "tiny", "image_shape", "images", "check_params", "check_features"),
        *("check_signature", "check_docstring", "check_errors", "check_pooling"),
        *("check_classes_and_activation", "check_names", "check_prefix", "check_stacking"),
        *("check_input_tensor", "check_save_load", "check_config", "check_gradients"),
        *("check_mixed_precision", "check_data_formats", "check_channels", "check_aux"),
    ),
    "testing.golden": ("fill", "fingerprint"),
    "training.initialization": (
        *("initialize", "gaussian", "glorot", "he", "lsuv", "orthogonal", "from_shallower"),
        *("weight_normalization", "zeros", "gain"),
    ),
}

# The page of each module.
PAGES = {
    "layers": "layers",
    "blocks.attention": "blocks",
    "training": "training",
    "training.initialization": "initialization",
    "training.distribution": "distribution",
    "transfer": "transfer",
    "data": "data",
    "data.augmentation": "augmentation",
    "evaluation": "evaluation",
    "inspection": "inspection",
    "weights": "weights",
    "preprocessing": "preprocessing",
    "testing.contracts": "contracts",
    "testing.golden": "golden",
    "registry": "registry",
}


def pages(families: Iterable[Sequence[Builder]]) -> dict[str, str]:
    """Name and text of every page."""
    of_modules = {page: module_page(module) for module, page in PAGES.items()}
    return {"applications": builders_page(families), **of_modules}


def public_names(module: str) -> list[str]:
    """What a module offers, but for the modules in it."""
    loaded = import_module(f"{PACKAGE}.{module}")
    names = PUBLIC.get(module, getattr(loaded, "__all__", ()))
    return [name for name in names if not inspect.ismodule(getattr(loaded, name))]


def module_page(module: str) -> str:
    """What the module says of itself, and a directive for each of its names."""
    text = inspect.getdoc(import_module(f"{PACKAGE}.{module}")) or ""
    directives = [f"::: {PACKAGE}.{module}.{name}" for name in public_names(module)]
    parts = [WRITTEN, f"# `{PACKAGE}.{module}`", indented_as_code(text), *directives]
    return "\n\n".join(parts) + "\n"


def indented_as_code(text: str) -> str:
    """The text with its indented blocks as blocks of Python."""
    return re.sub(
        r"\n\n((?:    .*\n|\n)+?)(?=\n?\S)",
        lambda block: f"\n\n```python\n{inspect.cleandoc(block[1])}\n```\n\n",
        text,
    )


def builders_page(families: Iterable[Sequence[Builder]]) -> str:
    """What all builders take, once, and then the options of each."""
    groups = list(families)
    shared = set.intersection(*(set(arguments(one)) for group in groups for one in group))
    first = kcc.get_builder("VGG16")
    lines = [
        WRITTEN,
        "",
        f"# `{PACKAGE}.applications`",
        "",
        "A function for each network. All are in the package itself, too: `kcc.VGG16`.",
        "",
        "## Arguments of all builders",
        "",
        "In this order; those behind `*` are given by name. Defaults of `weights` and `classes`",
        "are each network's, see below; EfficientNet has `include_preprocessing=True`.",
        "",
        "```text",
        common_signature(first, shared),
        "```",
        "",
        *(
            f"- `{name}`: {of_any_network(words)}"
            for name, words in arguments(first).items()
            if name in shared
        ),
        "",
        "They return a Functional `keras.Model`, and raise `ValueError` for arguments that",
        "contradict each other, the model or the weights, and `TypeError` for an option that the",
        "model does not have.",
        "",
    ]
    for group in groups:
        family = group[0].spec.family
        lines += [f"## {family}", "", f"[The family](../families/{family}.md).", ""]
        for builder in group:
            lines += [f"### {builder.spec.name}", "", *builder_lines(builder, shared)]
    return "\n".join(lines).rstrip() + "\n"


def of_any_network(words: str) -> str:
    """What the docstring of a network says of an argument, without what is the network's own."""
    own = r' Defaults to (`"?vgg16"?`|`1000`|`.imagenet.`)\.| \(it has none\)| \(`"imagenet".*?`\)'
    return re.sub(own, "", words).replace("at least 32 pixels", "at least the smallest image")


def common_signature(builder: Builder, shared: set[str]) -> str:
    signature = inspect.signature(builder)
    parts = []
    for name, one in signature.parameters.items():
        if name in shared:
            if one.kind is one.KEYWORD_ONLY and "*" not in parts:
                parts.append("*")
            parts.append(f"{name}={one.default!r}")
    return "builder(\n" + "".join(f"    {part},\n" for part in parts) + ")"


def builder_lines(builder: Builder, shared: set[str]) -> list[str]:
    spec = builder.spec
    weights = f'"{spec.default_weights}"' if spec.default_weights else "None"
    own = {name: words for name, words in arguments(builder).items() if name not in shared}
    defaults = inspect.signature(builder).parameters
    signature = [f"weights={weights}", f"classes={spec.classes}"]
    signature += [f"{name}={defaults[name].default!r}" for name in own]
    return [
        f"`{spec.name}({', '.join(signature)})`",
        "",
        *(f"- `{name}`: {words}" for name, words in own.items()),
        *([""] if own else []),
    ]


def arguments(builder: Builder) -> dict[str, str]:
    """Each argument and what the docstring says of it."""
    text = inspect.cleandoc(builder.__doc__ or "").partition("\nArgs:\n")[2]
    text = text.partition("\n\n")[0]
    items = re.split(r"(?m)^    (\w+): ", text)[1:]
    return {
        name: " ".join(words.split()) for name, words in zip(items[::2], items[1::2], strict=True)
    }
