"""`evaluate`: how often a trained network is wrong."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from keras_cnn_classics.cli import _common

SPLITS = ("train", "validation", "test")


def evaluate(
    name: _common.Name,
    data: _common.Source,
    weights: Annotated[
        str, typer.Option(help="Weights: a tag such as imagenet, or a file such as best.keras.")
    ],
    split: Annotated[str, typer.Option(help="train, validation or test.")] = "test",
    options: _common.Options = [],  # noqa: B006  Typer copies it
    resize: Annotated[str | None, typer.Option(help="crop, stretch or pad.")] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Images in a step.")] = 64,
    data_dir: _common.DataDir = None,
    as_json: _common.Json = False,
) -> None:
    """Measure the top-1 and top-5 error of a network on a data set."""
    if split not in SPLITS:
        raise typer.BadParameter(
            f"Must be {', '.join(SPLITS)}. Received: {split!r}", param_hint="--split"
        )
    builder = _common.find_builder(name)
    parsed = _common.parse_options(builder, options)
    from keras_cnn_classics import training
    from keras_cnn_classics.data import load

    spec = builder.spec
    model, facts = _common.load_model(builder, weights, None, parsed)
    settings = facts.get("recipe", {})
    images = load(
        data,
        image_size=_size(model),
        channels=spec.channels,
        batch_size=batch_size,
        # The split of the run, so that what it has learned from is not what it is measured on.
        seed=facts.get("seed", 0),
        validation=facts.get("validation", 0.1),
        resize=resize or settings.get("resize") or training.recipe(spec).resize,
        preprocess=facts.get("preprocessing", spec.preprocessing),
        data_dir=data_dir,
        class_names=facts.get("class_names"),
    )
    training.check_classes(model, images)
    batches = getattr(images, split)
    if batches is None:
        raise ValueError(f"{data} has no {split} split.")
    results = _measure(model, batches)
    results = {"model": spec.name, "data": images.name, "split": split, **results}
    if as_json:
        print(json.dumps(results))
        return
    print(f"{spec.name} on the {split} split of {images.name}, {results['images']} images:")
    print(f"  top-1 error {results['top1_error']:.2f} %")
    if "top5_error" in results:
        print(f"  top-5 error {results['top5_error']:.2f} %")


def _size(model: Any) -> tuple[int, int]:
    import keras

    shape = model.input_shape[1:]
    last = keras.config.image_data_format() == "channels_last"
    return tuple(shape[:2] if last else shape[1:])


def _measure(model: Any, batches: Any) -> dict[str, Any]:
    import numpy as np

    ranks: list[int] = []
    for x, labels in batches.as_numpy_iterator():
        scores = model.predict_on_batch(x)
        true = np.take_along_axis(scores, labels[:, None], axis=1)
        ranks.extend(np.sum(scores > true, axis=1))
    placed = np.array(ranks)
    results = {"images": len(placed), "top1_error": round(100 * float(np.mean(placed > 0)), 3)}
    if scores.shape[1] > 5:
        results["top5_error"] = round(100 * float(np.mean(placed >= 5)), 3)
    return results
