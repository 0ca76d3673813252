"""What several commands share."""

from __future__ import annotations

import ast
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

if TYPE_CHECKING:
    from keras_cnn_classics.registry import Builder

Name = Annotated[str, typer.Argument(help="Name of the network; `list` shows them all.")]
Options = Annotated[
    list[str],
    typer.Option(
        "--option",
        "-o",
        metavar="KEY=VALUE",
        help="Option of the network, such as activation=relu. May be repeated; "
        "`show` names a network's options.",
    ),
]
Source = Annotated[
    str,
    typer.Option(
        help="`digits` (embedded), a TFDS name such as mnist, or a folder with a folder of "
        "images for each class."
    ),
]
DataDir = Annotated[
    Path | None, typer.Option(help="Folder in which TFDS keeps its prepared data sets.")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


def fail(error: BaseException) -> NoReturn:
    """Ends the command with one line about an error."""
    message = " ".join(str(error).split()) or type(error).__name__
    print(f"Error: {message}", file=sys.stderr)
    raise SystemExit(1)


@contextmanager
def quiet() -> Iterator[None]:
    """Drops what native code writes to the standard error while a backend is imported.

    TensorFlow logs a page about processors and missing GPUs there before it can be told not to.
    """
    sys.stderr.flush()
    kept = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def import_keras() -> Any:
    """Imports Keras and its backend, quietly."""
    with quiet():
        import keras
        import tensorflow  # noqa: F401
    return keras


def find_builder(name: str) -> Builder:
    """The builder of that name; an unknown one is wrong usage."""
    import_keras()
    import keras_cnn_classics as kcc

    try:
        return kcc.get_builder(name)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="NAME") from error


def parse_options(builder: Builder, options: list[str]) -> dict[str, Any]:
    """`["depths=(1, 2)", "activation=relu"]` as keyword arguments of a builder's options."""
    import inspect

    known = list(inspect.signature(builder).parameters)
    own = known[known.index("prefix") + 1 :]
    parsed = {}
    for option in options:
        key, equals, value = option.partition("=")
        if not equals or key not in own:
            raise typer.BadParameter(
                f"{builder.spec.name} takes {', '.join(own) or 'no options'}, each as KEY=VALUE. "
                f"Received: {option!r}",
                param_hint="--option",
            )
        try:
            parsed[key] = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            parsed[key] = value  # a bare word is a string
    return parsed


def run_facts(weights: Path) -> dict[str, Any]:
    """The summary of the run that a checkpoint belongs to, or nothing."""
    path = weights.parent / "summary.json"
    if weights.suffix != ".keras" or not path.is_file():
        return {}
    try:
        return dict(json.loads(path.read_text()))
    except (ValueError, OSError) as error:
        raise ValueError(
            f"{path} is not the summary of a run: mend it or move it away ({error})."
        ) from error


def load_model(
    builder: Builder, weights: str, classes: int | None, options: dict[str, Any]
) -> tuple[Any, dict[str, Any]]:
    """Builds a network with weights; also gives the facts of the run that they come from.

    Args:
        builder: The network.
        weights: A tag, or the path of a file that `train` or anybody else has left.
        classes: Number of classes, if the user has said it.
        options: Options of the network, if the user has given any.

    Returns:
        The model, and the summary of its run.
    """
    path = Path(weights)
    facts = run_facts(path)
    if facts and facts.get("model") != builder.spec.name:
        raise ValueError(
            f"{path} is a checkpoint of {facts.get('model')}, not of {builder.spec.name}."
        )
    arguments: dict[str, Any] = {"weights": weights, **facts.get("options", {}), **options}
    if facts:
        arguments["input_shape"] = tuple(facts["image_shape"])
        arguments["classes"] = len(facts["class_names"])
        arguments["classifier_activation"] = facts["classifier_activation"]
    if classes is not None:
        arguments["classes"] = classes
    return builder(**arguments), facts


def probabilities(model: Any, outputs: Any) -> Any:
    """What a classifier gives, as probabilities: scores go through a softmax."""
    import keras

    if model.layers[-1].activation is keras.activations.linear:
        outputs = keras.ops.softmax(outputs, axis=-1)
    return keras.ops.convert_to_numpy(outputs)
