"""`train`: from data to a checkpoint."""

from __future__ import annotations

import dataclasses
import enum
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from keras_cnn_classics.cli import _common

if TYPE_CHECKING:
    from keras_cnn_classics.data import ImageData
    from keras_cnn_classics.registry import Builder
    from keras_cnn_classics.training import Recipe


class Optimizer(enum.StrEnum):
    """The methods of training."""

    adamw = "adamw"
    sgd = "sgd"


class BadImage(enum.StrEnum):
    """What to do with files that are no images."""

    skip = "skip"
    error = "error"


def train(
    name: _common.Name,
    data: _common.Source,
    output: Annotated[
        Path | None, typer.Option(help="Folder for the results. Default: runs/NAME-DATA.")
    ] = None,
    options: _common.Options = [],  # noqa: B006  Typer copies it
    weights: Annotated[
        str | None, typer.Option(help="Weights to start from: a tag or a file. Default: random.")
    ] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Passes through the images.")] = None,
    batch_size: Annotated[int | None, typer.Option(min=1, help="Images in a step.")] = None,
    optimizer: Annotated[Optimizer | None, typer.Option(help="Method.")] = None,
    learning_rate: Annotated[
        float | None, typer.Option(min=1e-12, help="Rate at the start; it falls along a cosine.")
    ] = None,
    weight_decay: Annotated[float | None, typer.Option(min=0.0, help="Weight decay.")] = None,
    size: _common.Size = None,
    resize: _common.ResizeOption = None,
    preprocess: _common.Mode = None,
    validation: Annotated[
        float,
        typer.Option(
            min=0.0,
            max=0.99,
            help="Share of the training images held out to choose the best epoch; 0 for none.",
        ),
    ] = 0.1,
    seed: Annotated[int, typer.Option(min=0, help="Decides weights, order and split.")] = 0,
    classes: _common.Classes = None,
    data_dir: _common.DataDir = None,
    on_bad_image: Annotated[
        BadImage, typer.Option(help="What to do with files that are no images.")
    ] = BadImage.skip,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace a run that the folder holds.")
    ] = False,
) -> None:
    """Train a network; what is not said comes from its recipe, which `show` names.

    The output folder gets last.keras and best.keras, history.csv, a TensorBoard log and
    summary.json. Ctrl-C keeps the network as it is at that moment in last.keras.
    """
    builder = _common.find_builder(name)
    parsed = _common.parse_options(builder, options)
    side = _common.check_size(builder, size)
    import keras

    from keras_cnn_classics import training
    from keras_cnn_classics.data import load
    from keras_cnn_classics.weights import preprocessing_of

    spec = builder.spec
    given: dict[str, Any] = {
        "epochs": epochs,
        "batch_size": batch_size,
        "optimizer": optimizer,
        "learning_rate": learning_rate,
        "weight_decay": weight_decay,
        "resize": resize,
    }
    given = {key: value for key, value in given.items() if value is not None}
    settings = dataclasses.replace(training.recipe(spec), **given)
    mode = _common.check_mode(builder, preprocess) or preprocessing_of(spec, weights)
    folder = output or Path("runs") / f"{spec.name}-{Path(data).name}".lower()
    training.check_folder(folder, overwrite=overwrite)
    keras.utils.set_random_seed(seed)
    images = load(
        data,
        image_size=side,
        channels=spec.channels,
        batch_size=settings.batch_size,
        validation=validation,
        seed=seed,
        resize=settings.resize,
        preprocess=mode,
        data_dir=data_dir,
        on_bad_image=on_bad_image,
    )
    summary = run(
        builder,
        images,
        settings,
        folder,
        seed=seed,
        validation=validation,
        preprocess=mode,
        options=parsed,
        weights=weights,
        classes=classes,
        overwrite=overwrite,
    )
    _print(summary, folder)


def run(
    builder: Builder,
    images: ImageData,
    settings: Recipe,
    folder: Path,
    *,
    seed: int,
    validation: float,
    preprocess: str,
    options: dict[str, Any],
    weights: str | None = None,
    classes: int | None = None,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Builds a network and trains it; on Ctrl-C says what is left and ends the command.

    Returns:
        The summary of the run.
    """
    from keras_cnn_classics import training

    # LeNet-5's own loss needs distances, which a softmax would hide.
    distances = builder.spec.name == "LeNet5" and options.get("output", "rbf") == "rbf"
    activation = None if distances else "softmax"
    model = builder(
        weights=weights,
        input_shape=images.image_shape,
        classes=classes or len(images.class_names),
        classifier_activation=activation,
        **options,
    )
    facts = {
        "model": builder.spec.name,
        "options": options,
        "preprocessing": preprocess,
        "seed": seed,
        "validation": validation,
        "recipe": dataclasses.asdict(settings),
    }
    try:
        return training.train(
            model,
            images,
            settings,
            folder,
            facts=facts,
            overwrite=overwrite,
            verbose=1 if sys.stdout.isatty() else 2,
        )
    except KeyboardInterrupt:
        print(f"Interrupted: {folder / 'last.keras'} holds the network as it was.", file=sys.stderr)
        raise typer.Exit(130) from None


def _print(summary: dict[str, Any], folder: Path) -> None:
    print(
        f"{summary['model']} on {summary['data']}: {summary['epochs']} epochs in "
        f"{summary['seconds']:.0f} s, best epoch {summary['best_epoch']}."
    )
    if "val_accuracy" in summary.get("best", {}):
        error = 100 * (1 - summary["best"]["val_accuracy"])
        print(f"Validation error {error:.2f} % ({summary['sizes']['validation']} images).")
    if "test" in summary:
        error = summary["test"]["error_percent"]
        print(f"Test error {error:.2f} % ({summary['sizes']['test']} images).")
    print(f"Results in {folder}")
