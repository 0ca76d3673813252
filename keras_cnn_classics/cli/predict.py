"""`predict`: what a network sees in a picture."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from keras_cnn_classics.cli import _common
from keras_cnn_classics.cli.evaluate import _size


def predict(
    name: _common.Name,
    images: Annotated[list[Path], typer.Argument(help="Pictures.", metavar="IMAGE...")],
    weights: Annotated[
        str | None,
        typer.Option(help="Weights: a tag, or a file such as best.keras. Default: imagenet."),
    ] = None,
    top: Annotated[int, typer.Option(min=1, help="How many classes to name.")] = 5,
    options: _common.Options = [],  # noqa: B006  Typer copies it
    classes: Annotated[
        int | None, typer.Option(min=1, help="Classes of the weights, if they do not say.")
    ] = None,
    resize: Annotated[str | None, typer.Option(help="crop, stretch or pad.")] = None,
    as_json: _common.Json = False,
) -> None:
    """Name what is in pictures."""
    builder = _common.find_builder(name)
    parsed = _common.parse_options(builder, options)
    weights = weights or builder.spec.default_weights
    if weights is None:
        raise typer.BadParameter(
            f"No weights of {builder.spec.name} are published: name a file, such as the "
            "best.keras that `train` leaves.",
            param_hint="--weights",
        )
    from keras_cnn_classics import training

    model, facts = _common.load_model(builder, weights, classes, parsed)
    resize = resize or facts.get("recipe", {}).get("resize") or training.recipe(builder.spec).resize
    results: list[dict[str, Any]] = []
    problems = []
    for path in images:
        try:
            answers = _answers(builder.spec, model, facts, path, resize, top)
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


def _answers(
    spec: Any, model: Any, facts: dict[str, Any], path: Path, resize: str, top: int
) -> list[dict[str, Any]]:
    import keras
    import numpy as np

    from keras_cnn_classics.data import decode_image, fit_image
    from keras_cnn_classics.preprocessing import decode_predictions, preprocess_input

    pixels = fit_image(decode_image(path, spec.channels), _size(model), resize)
    mode = facts.get("preprocessing", spec.preprocessing)
    x = preprocess_input(pixels, mode, data_format="channels_last")[None]
    if keras.config.image_data_format() == "channels_first":
        x = np.moveaxis(x, -1, 1)
    scores = _common.probabilities(model, model.predict_on_batch(x))
    names = facts.get("class_names")
    if names is None and scores.shape[1] != 1000:
        names = [str(i) for i in range(scores.shape[1])]
    answers = decode_predictions(scores, min(top, scores.shape[1]), names)[0]
    return [answer._asdict() for answer in answers]
