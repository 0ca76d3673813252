"""What several commands share."""

from __future__ import annotations

import ast
import enum
import inspect
import os
import re
import shlex
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, redirect_stdout
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from keras_cnn_classics.cli import _index

if TYPE_CHECKING:
    from keras_cnn_classics.registry import Builder

PROGRAM = "keras-cnn-classics"
FLOAT32_BYTES = 4

Name = Annotated[
    str,
    typer.Argument(
        help="Name of the network; `list` shows them all.", autocompletion=_index.complete
    ),
]
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
Size = Annotated[
    int | None, typer.Option(help="Height and width of the image, pixels. Default: the paper's.")
]
Only = Annotated[
    str | None,
    typer.Option(
        metavar="CLASSES",
        help="Classes of the data to keep, by number or name, such as 0-4,7 or cat,dog. "
        "Default: all.",
    ),
]
Json = Annotated[
    bool,
    typer.Option(
        "--json", help="Print JSON to the standard output, and all else to the error output."
    ),
]
Seed = Annotated[
    int, typer.Option(min=0, max=2**32 - 1, help="Decides all that is drawn by chance.")
]
Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Replace what the command has left there before.")
]


def augmentations(incomplete: str) -> list[str]:
    """The augmentations whose names begin so, for shells."""
    from keras_cnn_classics.data.augmentation import AUGMENTATIONS

    return [name for name in AUGMENTATIONS if name.startswith(incomplete)]


def _choose_backend(context: typer.Context, chosen: Backend | None) -> Backend | None:
    """Tells Keras its backend, before it is imported."""
    if chosen is None or context.resilient_parsing:  # which a shell's completion is
        return None
    if find_spec(chosen) is None:
        raise typer.BadParameter(f"{chosen} is not installed: pip install {chosen}")
    if "keras" in sys.modules and sys.modules["keras"].backend.backend() != chosen:
        raise typer.BadParameter("Keras is imported in this process, with another backend.")
    os.environ["KERAS_BACKEND"] = chosen
    return chosen


def _choose_device(context: typer.Context, chosen: str | None) -> str | None:
    """Hides all devices but one from the backend, before it is imported."""
    if chosen is None or context.resilient_parsing:
        return None
    found = re.fullmatch(r"cpu|gpu(?::(\d+))?", chosen.lower())
    if not found:
        raise typer.BadParameter(
            f"It must be cpu, gpu, or the number of a GPU, as gpu:1. Received: {chosen!r}"
        )
    if chosen.lower() == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"], os.environ["JAX_PLATFORMS"] = "-1", "cpu"
        return chosen
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    number = int(found[1] or 0)
    if visible is None:
        named = [str(i) for i in range(number + 1)]
    else:  # of which "" and "-1" hide all
        named = [one for one in visible.split(",") if one not in ("", "-1")]
    if number < len(named):
        os.environ["CUDA_VISIBLE_DEVICES"] = named[number]
    if number >= len(named) or not _gpus():
        raise typer.BadParameter(f"There is no such GPU. Received: {chosen!r}")
    return chosen


def _gpus() -> bool:
    """Whether the backend has a GPU that it may use."""
    backend = import_keras().backend.backend()
    if backend == "torch":
        import torch

        return bool(torch.cuda.is_available())
    if backend == "jax":
        import jax

        return jax.default_backend() in ("gpu", "cuda", "rocm")
    import tensorflow as tf

    return bool(tf.config.list_physical_devices("GPU"))


class Backend(enum.StrEnum):
    """What Keras computes with."""

    tensorflow = "tensorflow"
    jax = "jax"
    torch = "torch"


BackendOption = Annotated[
    Backend | None,
    typer.Option(
        "--backend",
        callback=_choose_backend,
        is_eager=True,  # whatever else is given, Keras is not imported yet
        help="What Keras computes with. Default: KERAS_BACKEND, or what keras.json says.",
    ),
]
Device = Annotated[
    str | None,
    typer.Option(
        callback=_choose_device,
        metavar="cpu|gpu|gpu:N",
        help="The only device to use; GPUs are counted from 0. Default: what is there.",
    ),
]


class Resize(enum.StrEnum):
    """How an image of another size is fitted."""

    crop = "crop"
    stretch = "stretch"
    pad = "pad"


ResizeOption = Annotated[
    Resize | None,
    typer.Option(help="How images of another size are fitted. Default: the recipe's."),
]
Mode = Annotated[
    str | None,
    typer.Option(
        "--preprocess",
        help="How pixels are prepared: caffe, tf, torch, lenet or unit. Default: as the weights "
        "say, or else the paper.",
    ),
]
Classes = Annotated[
    int | None, typer.Option(min=1, help="Outputs of the network. Default: what is known of it.")
]


def one_line(message: object) -> str:
    """A message without line breaks, with arguments under the names that they have here."""
    text = " ".join(str(message).split())
    return re.sub(
        r"`(data_dir|on_bad_image|batch_size|resize|validation|classes|head|old_data|only|seed|weights)`",
        lambda match: "--" + match[1].replace("_", "-"),
        text,
    )


def command_line() -> str:
    """The command that runs, as it could be typed again."""
    return shlex.join([PROGRAM, *sys.argv[1:]])


def reporting(as_json: bool) -> AbstractContextManager[Any]:
    """Moves what is printed to the standard error if the standard output is for JSON."""
    return redirect_stdout(sys.stderr) if as_json else nullcontext()


@contextmanager
def quiet() -> Iterator[None]:
    """Drops what native code writes to the standard error while a backend is imported.

    TensorFlow logs a page about processors and missing GPUs there before it can be told not to.
    With `--debug` it stays.
    """
    if "--debug" in sys.argv:
        yield
        return
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


def find_image_builder(name: str) -> Builder:
    """The builder of that name, for what is done with images; a network of clips is wrong usage."""
    builder = find_builder(name)
    if builder.spec.frames:
        raise typer.BadParameter(
            f"{builder.spec.name} takes clips of {builder.spec.frames} frames, and this command "
            "images. In Python it is a Keras model like any other.",
            param_hint="NAME",
        )
    return builder


def options_of(builder: Builder) -> list[inspect.Parameter]:
    """What a builder takes beside the arguments that all have."""
    from keras_cnn_classics.applications._arguments import NAMES

    parameters = inspect.signature(builder).parameters
    return [option for name, option in parameters.items() if name not in NAMES]


def parse_options(builder: Builder, options: list[str]) -> dict[str, Any]:
    """`["depths=(1, 2)", "activation=relu"]` as keyword arguments of a builder's options.

    The network is built once with them, small, so that a wrong value is wrong usage.
    """
    from keras_cnn_classics.blocks.core import image_shape

    spec, own = builder.spec, [option.name for option in options_of(builder)]
    parsed: dict[str, Any] = {}
    for option in options:
        key, equals, value = option.partition("=")
        if not equals or key not in own:
            raise typer.BadParameter(
                f"{spec.name} takes {', '.join(own) or 'no options'}, each as KEY=VALUE. "
                f"Received: {option!r}",
                param_hint="--option",
            )
        try:
            parsed[key] = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            parsed[key] = value  # a bare word is a string
    if parsed:
        try:
            shape = image_shape(spec.min_size, spec.channels, spec.frames)
            builder(weights=None, classes=2, input_shape=shape, **parsed)
        except (ValueError, TypeError) as error:
            raise typer.BadParameter(str(error), param_hint="--option") from error
    return parsed


def parse_only(text: str | None) -> list[str | int] | None:
    """`"0-2,7,cat"` as `[0, 1, 2, 7, "cat"]`."""
    if text is None:
        return None
    found: list[str | int] = []
    for part in text.split(","):
        numbers = re.fullmatch(r"(\d+)-(\d+)", part.strip())
        if numbers:
            found += range(int(numbers[1]), int(numbers[2]) + 1)
        else:
            found.append(int(part) if part.strip().isdecimal() else part.strip())
    return found


def check_size(builder: Builder, size: int | None) -> int:
    """The side of the image, in pixels: the user's if the network can take it, or the paper's."""
    spec = builder.spec
    if size is not None and size < spec.min_size:
        raise typer.BadParameter(
            f"{spec.name} needs images of at least {spec.min_size} pixels. Received: {size}",
            param_hint="--size",
        )
    return size or spec.input_size


def check_mode(builder: Builder, mode: str | None) -> str | None:
    """Refuses a mode of preprocessing that there is not, or not for such images."""
    from keras_cnn_classics import preprocessing

    if mode is not None:
        try:
            preprocessing.check_mode(mode, builder.spec.channels)
        except ValueError as error:
            raise typer.BadParameter(str(error), param_hint="--preprocess") from error
    return mode


@dataclass(frozen=True)
class Trained:
    """A network with weights, and how its images are prepared."""

    model: Any
    preprocess: str
    resize: str
    facts: dict[str, Any]

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the images."""
        import keras

        shape = self.model.input_shape[1:]
        last = keras.config.image_data_format() == "channels_last"
        height, width = shape[:2] if last else shape[1:]
        return height, width

    @property
    def resize_side(self) -> int | None:
        """Shorter side that images are scaled to before their centre is taken."""
        from keras_cnn_classics.training.settings import shorter_side

        factor = self.facts.get("recipe", {}).get("resize_side")
        return shorter_side(factor, min(self.size), self.resize)

    @property
    def class_names(self) -> list[str] | None:
        """A name for each output; `None` for ImageNet's."""
        outputs = self.model.output_shape[-1]
        names = self.facts.get("class_names")
        if names is None and outputs == 1000:
            return None
        return [*(names or ()), *map(str, range(len(names or ()), outputs))]


def check_free(path: Path, *, overwrite: bool) -> None:
    """Refuses to replace a file that the user has not given up."""
    if path.exists() and not overwrite:
        raise FileExistsError(f"{path} exists: name another file, or replace it by --overwrite.")


def check_picture(path: Path) -> None:
    """Refuses a file that no picture can be saved to, before any work is done."""
    from PIL import Image

    if path.suffix.lower() not in Image.registered_extensions():
        raise typer.BadParameter(
            f"{path} does not end as a picture does: take .png or .jpg.", param_hint="--output"
        )
    path.parent.mkdir(parents=True, exist_ok=True)


def known_arguments(
    builder: Builder, path: Path, *, classes: int | None, options: dict[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """What a file knows of its run, and a builder's arguments by that and by what the user says."""
    from keras_cnn_classics import training

    facts = training.read_facts(path)
    if facts.get("model") not in (None, builder.spec.name):
        raise ValueError(f"{path} is a checkpoint of {facts['model']}, not of {builder.spec.name}.")
    arguments: dict[str, Any] = {**facts.get("options", {}), **options}
    if facts:
        arguments["input_shape"] = tuple(facts["image_shape"])
        arguments["classes"] = facts["classes"]
        arguments["classifier_activation"] = facts["classifier_activation"]
    if classes is not None:
        arguments["classes"] = classes
    return facts, arguments


def load_trained(
    builder: Builder,
    weights: str,
    *,
    classes: int | None,
    options: dict[str, Any],
    resize: Resize | None,
    preprocess: str | None,
) -> Trained:
    """Builds a network with weights; what the user has not said comes from their run.

    Args:
        builder: The network.
        weights: A tag, or the path of a file that `train` or anybody else has left.
        classes: Number of classes, or `None`.
        options: Options of the network.
        resize: How images are fitted, or `None`.
        preprocess: How pixels are prepared, or `None`.

    Returns:
        The network, ready for images.
    """
    from keras_cnn_classics import training
    from keras_cnn_classics.weights import preprocessing_of

    spec = builder.spec
    facts, arguments = known_arguments(builder, Path(weights), classes=classes, options=options)
    known = facts.get("preprocessing") or preprocessing_of(spec, weights)
    fitted = facts.get("recipe", {}).get("resize") or training.recipe(spec, "quick").resize
    model = builder(weights=weights, **arguments)
    return Trained(model, preprocess or known, resize or fitted, facts)


def answers(model: Any, x: Any) -> Any:
    """What a network gives for a batch; one that gives no numbers is refused."""
    import numpy as np

    outputs = model.predict_on_batch(x)
    if not np.isfinite(outputs).all():
        raise ValueError("The network's answers are not finite: its weights are of no use.")
    return outputs


def probabilities(model: Any, x: Any) -> Any:
    """A classifier's answers for a batch as probabilities: scores go through a softmax."""
    import keras

    outputs = answers(model, x)
    if model.layers[-1].activation is keras.activations.linear:
        outputs = keras.ops.softmax(outputs, axis=-1)
    return keras.ops.convert_to_numpy(outputs)
