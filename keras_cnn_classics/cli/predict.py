"""`predict`: what a network sees in a picture."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from keras_cnn_classics.cli import _common


def predict(
    name: _common.Name,
    images: Annotated[
        list[Path],
        typer.Argument(
            help="Pictures. The LeNets want bright ink on a dark ground, as MNIST has it.",
            metavar="IMAGE...",
        ),
    ],
    weights: Annotated[
        str | None,
        typer.Option(help="Weights: a tag, or a file such as best.keras. Default: imagenet."),
    ] = None,
    top: Annotated[int, typer.Option(min=1, help="How many classes to name.")] = 5,
    options: _common.Options = [],  # noqa: B006  Typer copies it
    classes: _common.Classes = None,
    preprocess: _common.Mode = None,
    resize: _common.ResizeOption = None,
    backend: _common.BackendOption = None,
    device: _common.Device = None,
    as_json: _common.Json = False,
) -> None:
    """Name what is in pictures."""
    builder = _common.find_image_builder(name)
    parsed = _common.parse_options(builder, options)
    _common.check_mode(builder, preprocess)
    weights = weights or builder.spec.default_weights
    if weights is None:
        raise typer.BadParameter(
            f"No weights of {builder.spec.name} are registered: name a file, such as the "
            "best.keras that `train` leaves.",
            param_hint="--weights",
        )
    trained = _common.load_trained(
        builder, weights, classes=classes, options=parsed, resize=resize, preprocess=preprocess
    )
    results: list[dict[str, Any]] = []
    problems = []
    for path in images:
        try:
            answers = _answers(trained, builder.spec.channels, path, top)
            results.append({"image": str(path), "predictions": answers})
        except (ValueError, OSError) as error:
            problems.append(str(error))
    if as_json:
        print(json.dumps(results))
    else:
        for result in results:
            print(result["image"])
            for answer in result["predictions"]:
                print(f"  {100 * answer['score']:6.2f} %  {answer['name']}")
    if problems:
        raise ValueError("; ".join(problems))


def _answers(trained: _common.Trained, channels: int, path: Path, top: int) -> list[dict[str, Any]]:
    import keras
    import numpy as np

    from keras_cnn_classics.data import decode_image, fit_image
    from keras_cnn_classics.preprocessing import decode_predictions, preprocess_input

    image = decode_image(path, channels)
    pixels = fit_image(image, trained.size, trained.resize, trained.resize_side)
    x = preprocess_input(pixels, trained.preprocess, data_format="channels_last")[None]
    if keras.config.image_data_format() == "channels_first":
        x = np.moveaxis(x, -1, 1)
    scores = _common.probabilities(trained.model, x)
    answers = decode_predictions(scores, top, trained.class_names)[0]
    return [answer._asdict() for answer in answers]
