"""`train`: from data to a checkpoint."""

from __future__ import annotations

import dataclasses
import enum
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from keras_cnn_classics.cli import _common
from keras_cnn_classics.cli.launch import JOB, RESTARTS

if TYPE_CHECKING:
    from keras_cnn_classics.data import ImageData
    from keras_cnn_classics.registry import Builder
    from keras_cnn_classics.training import Recipe


class Optimizer(enum.StrEnum):
    """The methods of training."""

    adamw = "adamw"
    sgd = "sgd"
    nesterov = "nesterov"
    rmsprop = "rmsprop"


class Kind(enum.StrEnum):
    """Whose settings."""

    quick = "quick"
    paper = "paper"


class Strategy(enum.StrEnum):
    """What to train on."""

    auto = "auto"
    none = "none"
    mirrored = "mirrored"
    multi_worker = "multi-worker"


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
    recipe: Annotated[
        Kind, typer.Option(help="Settings: quick ones, or the paper's, which `show` prints.")
    ] = Kind.quick,
    scale: Annotated[
        float,
        typer.Option(min=1e-6, max=1e6, help="Factor on the recipe's epochs and all such lengths."),
    ] = 1.0,
    epochs: Annotated[
        int | None,
        typer.Option(min=1, help="Passes through the images; the paper's decay shrinks with them."),
    ] = None,
    batch_size: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Images in a step, on all devices together. The paper's learning rate changes "
            "with it by the linear rule.",
        ),
    ] = None,
    optimizer: Annotated[Optimizer | None, typer.Option(help="Method.")] = None,
    learning_rate: Annotated[
        float | None, typer.Option(min=1e-12, help="Rate at the start; the recipe says its fall.")
    ] = None,
    weight_decay: Annotated[float | None, typer.Option(min=0.0, help="Weight decay.")] = None,
    label_smoothing: Annotated[
        float | None, typer.Option(min=0.0, max=0.99, help="Share of a label for all classes.")
    ] = None,
    auxiliary: Annotated[
        float | None,
        typer.Option(min=0.0, help="Weight of each auxiliary classifier's loss; 0 for none."),
    ] = None,
    augment: Annotated[
        list[str] | None,
        typer.Option(
            help="Augmentation by name, as `data preview` shows it; repeat for several. none for "
            "none where the recipe has some.",
            autocompletion=_common.augmentations,
        ),
    ] = None,
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
    seed: _common.Seed = 0,
    classes: _common.Classes = None,
    only: _common.Only = None,
    data_dir: _common.DataDir = None,
    on_bad_image: Annotated[
        BadImage, typer.Option(help="What to do with files that are no images.")
    ] = BadImage.skip,
    strategy: Annotated[
        Strategy,
        typer.Option(help="One device, all of this machine, or the machines of TF_CONFIG."),
    ] = Strategy.auto,
    devices: Annotated[
        str | None, typer.Option(help="How many: gpu:4, or cpu:2 to try it without GPUs.")
    ] = None,
    backend: _common.BackendOption = None,
    device: _common.Device = None,
    save_every: Annotated[
        int | None, typer.Option(min=1, help="Keep the state also after so many steps of an epoch.")
    ] = None,
    profile: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Take down what TensorFlow does in so many steps, after the first ten, for "
            "TensorBoard's profiler.",
        ),
    ] = None,
    overwrite: _common.Overwrite = False,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume", help="Go on with the run in the folder, or begin if there is none."
        ),
    ] = False,
    as_json: _common.Json = False,
) -> None:
    """Train a network; what is not said comes from its recipe.

    The output folder gets last.keras and best.keras, history.csv, a TensorBoard log, summary.json
    with all that a repetition needs, versions.txt for pip, and the state that --resume goes on
    from. Ctrl-C ends training after the step and keeps the network in last.keras.
    """
    builder = _common.find_image_builder(name)
    parsed = _common.parse_options(builder, options)
    side = _common.check_size(builder, size)
    if overwrite and resume:
        raise typer.BadParameter("--overwrite and --resume contradict each other.")
    import keras

    from keras_cnn_classics import training
    from keras_cnn_classics.data import load
    from keras_cnn_classics.weights import preprocessing_of

    if profile and keras.backend.backend() != "tensorflow":
        raise typer.BadParameter(
            "Only TensorFlow is profiled: add --backend tensorflow.", param_hint="--profile"
        )
    spec = builder.spec
    paper = recipe is Kind.paper
    if paper and epochs is not None:
        if scale != 1.0:
            raise typer.BadParameter("--epochs and --scale contradict each other.")
        scale, epochs = epochs / training.recipe(spec).epochs, None
    given: dict[str, Any] = {
        "epochs": epochs,
        "batch_size": batch_size,
        "optimizer": optimizer,
        "learning_rate": learning_rate,
        "weight_decay": weight_decay,
        "resize": resize,
        "label_smoothing": label_smoothing,
        "auxiliary": auxiliary,
        "augmentation": tuple(one for one in augment if one != "none") if augment else None,
    }
    given = {key: value for key, value in given.items() if value is not None}
    settings = training.recipe(spec, recipe, batch_size=batch_size if paper else None, scale=scale)
    settings = dataclasses.replace(settings, **given)
    if auxiliary and not spec.aux_taps:
        raise typer.BadParameter(
            f"{spec.name} has no auxiliary classifiers.", param_hint="--auxiliary"
        )
    mode = _common.check_mode(builder, preprocess) or preprocessing_of(spec, weights)
    folder = output or Path("runs") / f"{spec.name}-{Path(data).name}".lower()
    if int(os.environ.get(RESTARTS, 0)) and _was_begun_here(folder):
        overwrite, resume = False, True
    if not resume:
        training.check_folder(folder, overwrite=overwrite)
    # Before anything else uses the devices.
    try:
        chosen = training.distribution.strategy(strategy, devices)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--strategy, --devices") from error
    keras.utils.set_random_seed(seed)
    images = load(
        data,
        image_size=side,
        channels=spec.channels,
        validation=validation,
        seed=seed,
        preprocess=mode,
        data_dir=data_dir,
        on_bad_image=on_bad_image,
        only=_common.parse_only(only),
        **settings.load_options(side or spec.input_size),
    )
    with _common.reporting(as_json), chosen.scope():
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
            resume=resume,
            save_freq=save_every or "epoch",
            auxiliary=bool(settings.auxiliary and spec.aux_taps),
            profile=profile,
        )
    if not training.distribution.is_chief():
        return
    if as_json:
        print(json.dumps({**summary, "output": str(folder)}))
    else:
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
    resume: bool = False,
    save_freq: str | int = "epoch",
    auxiliary: bool = False,
    profile: int | None = None,
) -> dict[str, Any]:
    """Builds a network and trains it; on Ctrl-C says what is left and ends the command.

    Returns:
        The summary of the run.
    """
    from keras_cnn_classics import training

    side = sorted(images.image_shape)[1]  # whether channels come first or last
    if auxiliary and side < builder.spec.aux_min_size:
        auxiliary = False
        print(
            f"Images of {side} pixels are too small for the auxiliary classifiers, which take "
            f"{builder.spec.aux_min_size}: it is trained without them.",
            file=sys.stderr,
        )
    # LeNet-5's own loss needs distances, which a softmax would hide.
    distances = builder.spec.name == "LeNet5" and options.get("output", "rbf") == "rbf"
    activation = None if distances else "softmax"
    arguments: dict[str, Any] = {**options, **({"aux": True} if auxiliary else {})}
    model = builder(
        weights=weights,
        input_shape=images.image_shape,
        classes=classes or len(images.class_names),
        classifier_activation=activation,
        **arguments,
    )
    if auxiliary:
        model = training.with_auxiliary_targets(model)
    facts = {
        "model": builder.spec.name,
        "options": options,
        "preprocessing": preprocess,
        "seed": seed,
        "validation": validation,
        "weights": weights,
        "job": os.environ.get(JOB),
        "command": _common.command_line(),
    }
    try:
        return training.train(
            model,
            images,
            settings,
            folder,
            facts=facts,
            overwrite=overwrite,
            resume=resume,
            fresh=weights is None,
            save_freq=save_freq,
            profile_steps=(11, 10 + profile) if profile else None,
            verbose=1 if sys.stdout.isatty() else 2,
        )
    except KeyboardInterrupt:
        print(
            f"Interrupted: {folder / 'last.keras'} holds the network as it was. The same command "
            "with --resume goes on from there.",
            file=sys.stderr,
        )
        raise typer.Exit(130) from None


def _was_begun_here(folder: Path) -> bool:
    """Whether the run in a folder was begun by the job of `launch` that this process is of."""
    from keras_cnn_classics.training.run import SUMMARY

    try:
        begun = json.loads((folder / SUMMARY).read_text())
    except (OSError, ValueError):
        return False
    return bool(begun.get("job") == os.environ.get(JOB))


def _print(summary: dict[str, Any], folder: Path) -> None:
    print(
        f"{summary['model']} on {summary['data']}: {summary['epochs']} epochs in "
        f"{summary['seconds']:.0f} s, best epoch {summary['best_epoch']}."
    )
    best = summary.get("best", {})
    validated = best.get("val_accuracy", best.get("val_predictions_accuracy"))
    if validated is not None:
        error = 100 * (1 - validated)
        print(f"Validation error {error:.2f} % ({summary['sizes']['validation']} images).")
    if "test" in summary:
        error = summary["test"]["error_percent"]
        print(f"Test error {error:.2f} % ({summary['sizes']['test']} images).")
    print(f"Results in {folder}")
