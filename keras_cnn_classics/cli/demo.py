"""`demo`: LeNet-5 learns handwritten digits before your eyes, and then some more."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated, Any

import typer

from keras_cnn_classics.cli import _common
from keras_cnn_classics.cli.train import run

SHOWN = 40
PICTURE, CHART = "digits.png", "transfer.png"
FIRST, TRANSFER = "digits-0-4", "transfer"  # folders
METHODS = ("fine_tuning", "learning_without_forgetting")


def demo(
    output: Annotated[Path, typer.Option(help="Folder for the results.")] = Path("demo"),
    seed: Annotated[int, typer.Option(min=0, help="Decides weights, order and split.")] = 0,
) -> None:
    """Train LeNet-5 of 1998 on 1,198 real handwritten digits; name 599 it has not seen.

    Then another one learns the digits 0 to 4 alone, and is taught 5 to 9 in two ways, of which one
    forgets the first. Takes about a minute on a laptop and needs no network. An earlier demo in
    the folder is replaced.
    """
    builder = _common.find_builder("LeNet5")
    import keras
    import numpy as np

    from keras_cnn_classics import training
    from keras_cnn_classics.data import load

    spec = builder.spec
    settings = dataclasses.replace(training.recipe(spec, "quick"), epochs=30, batch_size=16)
    training.check_folder(output, overwrite=(output / PICTURE).exists())
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
    print(
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
    print(
        f"Saved, loaded again and asked about the {len(true)} digits it has not seen: "
        f"{wrong.sum()} wrong, a test error of {100 * wrong.mean():.2f} % "
        f"({summary['seconds']:.0f} s of training)."
    )
    picture = output / PICTURE
    _draw(images, true, distances, picture)
    print(f"Look at {picture}; the network is {output / 'best.keras'}")
    print("\nThe same with the digits 0 to 4 alone, and a dense layer for output:")
    parts = load("digits", only=range(5), **how), load("digits", only=range(5, 10), **how)
    run(
        builder,
        parts[0],
        dataclasses.replace(settings, epochs=15),
        output / FIRST,
        seed=seed,
        validation=0.0,
        preprocess=spec.preprocessing,
        options={"output": "dense"},
        overwrite=True,
    )
    _teach(output, *parts, seed)


def _teach(output: Path, old: Any, new: Any, seed: int) -> None:
    """Teaches the network of the first digits the others, and says what became of both."""
    import keras
    from rich.console import Console

    from keras_cnn_classics.transfer import compare
    from keras_cnn_classics.transfer.comparison import clear

    print(
        f"Now it is taught 5 to 9 by {new.sizes['train']} images, and sees none of 0 to 4 again: "
        "by fine-tuning, and by Learning without Forgetting."
    )
    clear(output / TRANSFER)
    table = compare(
        keras.saving.load_model(output / FIRST / "best.keras"),
        old,
        new,
        METHODS,
        [seed],
        epochs=20,
        optimizer=keras.optimizers.SGD(3e-3, momentum=0.9),
        folder=output / TRANSFER,
    )
    Console().print(table)
    first, *others = [dataclasses.asdict(row) for row in table.rows]
    for row in others:
        print(
            f"After {row['method'].replace('_', ' ')}: {100 * row['old_accuracy']:.2f} % of 0 to 4 "
            f"are right, of {100 * first['old_accuracy']:.2f} % before, and "
            f"{100 * row['new_accuracy']:.2f} % of 5 to 9, of which it knew nothing."
        )
    print(f"Look at {output / CHART}; the networks are in {output / TRANSFER}")
    table.plot(output / CHART)


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
