"""`demo`: LeNet-5 learns handwritten digits before your eyes, and then some more."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from keras_cnn_classics.cli import _common, _report
from keras_cnn_classics.cli.train import run

if TYPE_CHECKING:
    from keras_cnn_classics.transfer import Comparison

SHOWN = 40
PICTURE, CHART, REPORT = "digits.png", "transfer.png", "report.html"
FIRST, TRANSFER = "digits-0-4", "transfer"  # folders
DIGITS = ("0 to 4", "5 to 9")
METHODS = ("fine_tuning", "learning_without_forgetting")
EPOCHS = {"all digits": 30, "0 to 4": 15, "5 to 9": 20}


def demo(
    output: Annotated[Path, typer.Option(help="Folder for the results.")] = Path("demo"),
    seed: _common.Seed = 0,
    backend: _common.BackendOption = None,
    device: _common.Device = None,
    as_json: _common.Json = False,
) -> None:
    """Train LeNet-5 of 1998 on 1,198 real handwritten digits; name 599 it has not seen.

    Then another one learns the digits 0 to 4 alone, and is taught 5 to 9 in two ways, of which one
    forgets the first. The results and pictures are in report.html. Takes about a minute on a
    laptop and needs no network. An earlier demo in the folder is replaced.
    """
    with _common.reporting(as_json):
        figures = _demonstrate(output, seed)
    if as_json:
        print(json.dumps(figures))


def _demonstrate(output: Path, seed: int) -> dict[str, Any]:
    """Trains, teaches, draws; gives what came of it."""
    builder = _common.find_builder("LeNet5")
    import keras
    import numpy as np

    from keras_cnn_classics import training
    from keras_cnn_classics.data import load

    spec = builder.spec
    settings = dataclasses.replace(
        training.recipe(spec, "quick"), epochs=EPOCHS["all digits"], batch_size=16
    )
    earlier = (output / PICTURE).exists()
    training.check_folder(output, overwrite=earlier)
    if earlier:
        (output / REPORT).unlink(missing_ok=True)
    keras.utils.set_random_seed(seed)
    how: dict[str, Any] = {
        "image_size": spec.input_size,
        "batch_size": settings.batch_size,
        "validation": 0,
        "seed": seed,
        "resize": settings.resize,
        "preprocess": spec.preprocessing,
    }
    data = load("digits", **how)
    parts = [_report.heading("Handwritten digits")]

    def tell(text: str) -> None:
        print(text)
        parts.append(_report.paragraph(text))

    tell(
        f"LeNet-5 (1998): {spec.params:,} parameters. It learns from {data.sizes['train']} "
        f"handwritten digits; {data.sizes['test']} others are kept for the test."
    )
    summary = run(
        builder,
        data,
        settings,
        output,
        seed=seed,
        validation=0.0,
        preprocess=spec.preprocessing,
        options={},
        overwrite=True,
    )

    again = keras.saving.load_model(output / "best.keras")
    assert data.test is not None  # the digits have one
    images, true, distances = (
        np.concatenate(parts)
        for parts in zip(
            *((x, y, -again.predict_on_batch(x)) for x, y in data.test.as_numpy_iterator()),
            strict=True,
        )
    )
    wrong = distances.argmin(1) != true
    tell(
        f"Saved, loaded again and asked about the {len(true)} digits it has not seen: "
        f"{wrong.sum()} wrong, a test error of {100 * wrong.mean():.2f} % "
        f"({summary['seconds']:.0f} s of training)."
    )
    picture = output / PICTURE
    _draw(images, true, distances, picture)
    parts.append(_report.picture(picture, "Digits that it has not seen, with its answers"))
    print(f"Look at {picture}; the network is {output / 'best.keras'}\n")
    parts.append(_report.heading("Half of the digits first"))
    tell("The same with the digits 0 to 4 alone, and a dense layer for output:")
    old, new = load("digits", only=range(5), **how), load("digits", only=range(5, 10), **how)
    run(
        builder,
        old,
        dataclasses.replace(settings, epochs=EPOCHS["0 to 4"]),
        output / FIRST,
        seed=seed,
        validation=0.0,
        preprocess=spec.preprocessing,
        options={"output": "dense"},
        overwrite=True,
    )
    taught, shown = _teach(output, old, new, seed, tell)
    _report.write(output / REPORT, "LeNet-5, trained and taught", [*parts, *shown])
    print(f"All of it is on one page: {output / REPORT}")
    return {
        "report": str(output / REPORT),
        "test_error_percent": round(100 * float(wrong.mean()), 3),
        "taught": [dataclasses.asdict(row) for row in taught.rows],
    }


def _teach(
    output: Path, old: Any, new: Any, seed: int, tell: Callable[[str], None]
) -> tuple[Comparison, tuple[str, ...]]:
    """Teaches the network of the first digits the others, and says what became of both.

    Returns:
        The results, and the table and the picture for the report.
    """
    import keras
    from rich.console import Console

    from keras_cnn_classics.transfer import FineTuning, accuracies, compare
    from keras_cnn_classics.transfer.comparison import clear

    tell(
        f"Now it is taught 5 to 9 by {new.sizes['train']} images, and sees none of 0 to 4 again: "
        "by fine-tuning, and by Learning without Forgetting."
    )
    clear(output / TRANSFER)
    model = keras.saving.load_model(output / FIRST / "best.keras")
    keras.utils.set_random_seed(seed)  # as `compare` does: the new head is the one it begins from
    untrained = FineTuning(model, len(new.class_names))
    before = accuracies(untrained, {"old": old.test, "new": new.test})
    results = compare(
        model,
        old,
        new,
        METHODS,
        [seed],
        epochs=EPOCHS["5 to 9"],
        optimizer=keras.optimizers.SGD(3e-3, momentum=0.9),
        folder=output / TRANSFER,
    )
    Console().print(results)
    head = ("method", *(f"{part}, {when}, %" for part in DIGITS for when in ("before", "after")))
    rows = []
    for row in (results[name] for name in METHODS):
        name, after = row.method.replace("_", " "), (row.old_accuracy, row.new_accuracy)
        shown = [
            f"{100 * share:.2f}"
            for pair in zip(before.values(), after, strict=True)
            for share in pair
            if share is not None
        ]
        rows.append((name, *shown, f"{row.seconds:.1f}", f"{row.parameters:,}"))
        print(
            f"After {name}: {shown[1]} % of 0 to 4 are right, of {shown[0]} % before, and "
            f"{shown[3]} % of 5 to 9, of {shown[2]} % with its new head untrained."
        )
    results.plot(output / CHART)
    print(f"Look at {output / CHART}; the networks are in {output / TRANSFER}")
    return results, (
        _report.table((*head, "s of training", "parameters"), rows),
        _report.paragraph(
            "Before is with the network of 0 to 4 and, for 5 to 9, a new head on it that has not "
            "learned. The shares are of test images, none of which was learned from."
        ),
        _report.picture(output / CHART, "The accuracy on 5 to 9 over that on 0 to 4"),
    )


def _draw(images: Any, true: Any, distances: Any, path: Path) -> None:
    """Draws every mistake, then digits in order until the picture is full."""
    import matplotlib as mpl
    import numpy as np

    mpl.use("agg")
    from matplotlib import pyplot as plt

    guesses = distances.argmin(1)
    wrong = guesses != true
    right = np.flatnonzero(~wrong)[:: max(1, len(true) // SHOWN)]
    order = np.concatenate([np.flatnonzero(wrong), right])
    figure, axes = plt.subplots(4, SHOWN // 4, figsize=(SHOWN // 4, 5.2), layout="constrained")
    for i, axis in zip(order, axes.flat, strict=False):
        axis.imshow(np.squeeze(images[i]), cmap="gray_r")
        title = f"{guesses[i]}   ({distances[i].min():.1f})"
        axis.set_title(title, fontsize=8, color="tab:red" if wrong[i] else "black")
        if wrong[i]:
            axis.set_xlabel(f"true: {true[i]}", fontsize=8, color="tab:red")
    for axis in axes.flat:
        axis.set_xticks([])
        axis.set_yticks([])
    figure.suptitle(
        "LeNet-5 on digits it has not seen: its answer (and the distance from the drawn digit), "
        f"mistakes first, {wrong.sum()} of {len(true)} wrong"
    )
    figure.savefig(path, dpi=150)
    plt.close(figure)
