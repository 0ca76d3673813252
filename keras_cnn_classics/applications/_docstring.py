"""The docstring of a builder, written from its spec and its trunk."""

from __future__ import annotations

import inspect
import re
import textwrap
from collections.abc import Callable
from typing import Any

from keras_cnn_classics.registry import ModelSpec


def docstring(
    spec: ModelSpec,
    trunk: Callable[..., Any],
    head: Callable[..., Any],
    options: dict[str, inspect.Parameter],
) -> str:
    """Writes the docstring: what `help(VGG16)` shows."""
    tags = ", ".join(f'`"{tag}"`' for tag in spec.weights) or "none registered"
    described = {**_arguments(head), **_arguments(trunk)}
    option_lines = [
        textwrap.fill(
            f"{name}: {described.get(name, '')} Defaults to `{option.default!r}`.",
            width=100,
            initial_indent=" " * 4,
            subsequent_indent=" " * 8,
        )
        for name, option in options.items()
    ]
    default, prepares = spec.default_weights, "include_preprocessing" in _arguments(trunk)
    lines = [
        (inspect.getdoc(trunk) or spec.name).splitlines()[0].replace("{name}", spec.name),
        "",
        f"{spec.name}: {spec.params:,} parameters, {spec.macs / 1e6:,.1f} million multiply-adds",
        f"for {'a' if spec.frames else 'an'} {spec.input_kind} of "
        f"{' x '.join(map(str, spec.input_shape))}; feature map of",
        f"stride {spec.stride} with {spec.features:,} channels. {spec.notes}".rstrip(),
        "",
        "Args:",
        "    include_top: Whether to end in the classifier, or else in the feature map.",
        f"    weights: `None` (random), a tag ({tags}), or the path of a weights file. Defaults to",
        f"        `{default!r}`.",
        "    input_tensor: Keras tensor to build on, instead of a new `keras.Input`.",
        f"    input_shape: Shape of one {spec.input_kind} in the global data format, at least "
        f"{spec.min_size} pixels",
        f"        a side{f' and {spec.frames} frames' if spec.frames else ''}. Defaults to the "
        "published size"
        + ("." if spec.fixed_trunk else ", and to any size without the classifier."),
        '    pooling: `None`, `"avg"` or `"max"`: how to reduce the feature map to a vector when',
        "        `include_top=False`.",
        f"    classes: Number of classes. Defaults to `{spec.classes}`. With published weights of",
        "        another number, the last layer starts afresh and a warning is logged.",
        "    classifier_activation: Activation of the last layer; `None` for scores (logits).",
        f'    name: Name of the model. Defaults to `"{spec.name.lower()}"`.',
        "    aux: Whether to add the paper's auxiliary classifiers "
        f"({len(spec.aux_taps) or 'it has none'}); the",
        '        outputs are then a dict with the keys `"predictions"`, `"aux1"`, ...',
        "    prefix: Put before the name of every layer, so that two networks of one kind fit in",
        "        one model.",
        "    include_preprocessing: Whether the network prepares images itself and takes pixels,",
        f"        0 to 255. Defaults to `{prepares}`; `model_preprocessing` prepares them outside.",
        "    adapt_input_channels: Whether weights for another number of channels are made to fit:",
        "        the first kernels are summed for one channel, or else repeated and scaled.",
        "    skip_mismatch: Whether weights that do not fit are left out with a warning; their",
        "        layers then start from random weights.",
        *option_lines,
        "",
        "Returns:",
        "    A Functional `keras.Model`.",
        "",
        "Raises:",
        "    ValueError: For arguments that contradict each other, the model or the weights.",
        "    TypeError: For an option that the model does not have.",
        "",
        "References:",
        f"    - [{spec.paper}]({spec.url}) ({spec.year})",
    ]
    return "\n".join(lines) + "\n"


def _arguments(function: Callable[..., Any]) -> dict[str, str]:
    """What a function's docstring says of each argument."""
    text = inspect.getdoc(function) or ""
    section = re.search(r"Args:\n(.*?)(?:\n\n|\Z)", text, re.DOTALL)
    entries = re.findall(r"^    (\w+): (.*(?:\n {8}.*)*)", section[1] if section else "", re.M)
    return {name: " ".join(body.split()) for name, body in entries}
