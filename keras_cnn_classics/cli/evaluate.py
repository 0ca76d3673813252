"""`evaluate`: how often a trained network is wrong."""

from __future__ import annotations

import enum
import json
from typing import Annotated, Any

import typer

from keras_cnn_classics.cli import _common


class Split(enum.StrEnum):
    """The parts of a data set."""

    train = "train"
    validation = "validation"
    test = "test"


def evaluate(
    name: _common.Name,
    data: _common.Source,
    weights: Annotated[
        str, typer.Option(help="Weights: a tag such as imagenet, or a file such as best.keras.")
    ],
    split: Annotated[Split, typer.Option(help="Which part of the data.")] = Split.test,
    options: _common.Options = [],  # noqa: B006  Typer copies it
    classes: _common.Classes = None,
    only: _common.Only = None,
    preprocess: _common.Mode = None,
    resize: _common.ResizeOption = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Images in a step.")] = 64,
    data_dir: _common.DataDir = None,
    backend: _common.BackendOption = None,
    device: _common.Device = None,
    as_json: _common.Json = False,
) -> None:
    """Measure the top-1 and top-5 error of a network on a data set."""
    builder = _common.find_image_builder(name)
    parsed = _common.parse_options(builder, options)
    _common.check_mode(builder, preprocess)
    from keras_cnn_classics.data import load

    spec = builder.spec
    trained = _common.load_trained(
        builder, weights, classes=classes, options=parsed, resize=resize, preprocess=preprocess
    )
    facts = trained.facts
    images = load(
        data,
        image_size=trained.size,
        channels=spec.channels,
        batch_size=batch_size,
        # The split of the run, so that what it has learned from is not what it is measured on.
        seed=facts.get("seed", 0),
        validation=facts.get("validation", 0.1),
        resize=trained.resize,
        resize_side=trained.resize_side,
        preprocess=trained.preprocess,
        data_dir=data_dir,
        class_names=facts.get("class_names"),
        only=_common.parse_only(only),
    )
    outputs = trained.model.output_shape[-1]
    if not facts and outputs != len(images.class_names):
        raise ValueError(
            f"{data} has {len(images.class_names)} classes, but the network with these weights has "
            f"{outputs} outputs, and nothing says which belong together."
        )
    batches = getattr(images, split)
    if batches is None:
        raise ValueError(f"{data} has no {split} split.")
    results = measure(trained.model, batches)
    results = {"model": spec.name, "data": images.name, "split": split, **results}
    if as_json:
        print(json.dumps(results))
        return
    print(f"{spec.name} on the {split} split of {images.name}, {results['images']} images:")
    print(f"  top-1 error {results['top1_error']:.2f} %")
    if "top5_error" in results:
        print(f"  top-5 error {results['top5_error']:.2f} %")


def measure(model: Any, batches: Any) -> dict[str, Any]:
    """Counts in how many images the true class is not the best, or among the best five."""
    import numpy as np

    ranks: list[int] = []
    for x, labels in batches.as_numpy_iterator():
        scores = _common.answers(model, x)
        true = np.take_along_axis(scores, labels[:, None], axis=1)
        ranks.extend(np.sum(scores >= true, axis=1) - 1)  # whoever ties is counted as better
    placed = np.array(ranks)
    results = {"images": len(placed), "top1_error": round(100 * float(np.mean(placed > 0)), 3)}
    if scores.shape[1] > 5:
        results["top5_error"] = round(100 * float(np.mean(placed >= 5)), 3)
    return results
