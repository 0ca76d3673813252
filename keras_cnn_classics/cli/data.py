"""`data`: what the images look like."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from keras_cnn_classics.cli import _common


def preview(
    data: _common.Source,
    augment: Annotated[
        list[str],
        typer.Option(
            metavar="NAME",
            help="Augmentation; may be repeated, and they follow one another. An unknown name is "
            "told which there are.",
            autocompletion=_common.augmentations,
        ),
    ] = [],  # noqa: B006  Typer copies it
    size: Annotated[
        int | None,
        typer.Option(
            min=1, help="Height and width, pixels. Default: the images', or 224 for a folder."
        ),
    ] = None,
    rows: Annotated[int, typer.Option(min=1, help="Images.")] = 6,
    columns: Annotated[
        int, typer.Option(min=1, help="Pictures of each image; the first is not augmented.")
    ] = 8,
    output: Annotated[Path, typer.Option(help="File of the picture.")] = Path("sheet.png"),
    seed: _common.Seed = 0,
    data_dir: _common.DataDir = None,
    overwrite: _common.Overwrite = False,
    as_json: _common.Json = False,
) -> None:
    """Draw images of a data set, each beside what augmentation makes of it.

    Without --augment, more images of the data set take those places.
    """
    keras = _common.import_keras()
    from keras_cnn_classics.data import augmentation, contact_sheet, load

    _common.check_picture(output)
    _common.check_free(output, overwrite=overwrite)
    try:
        augmentation.named(augment, size or 1)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--augment") from error
    loaded = load(
        data,
        image_size=size,
        batch_size=rows if augment else rows * columns,
        validation=0,
        seed=seed,
        data_dir=data_dir,
    )
    assert loaded.train is not None
    images, labels = next(loaded.train.as_numpy_iterator())
    if keras.config.image_data_format() == "channels_first":
        images = images.transpose(0, 2, 3, 1)
    images = images.astype("uint8")
    pictures = [(images, labels)]
    if augment:
        operations = augmentation.named(augment, images.shape[1:3])
        classes = len(loaded.class_names)
        pictures = _variants(images, labels, operations, columns, seed, classes)
        rows = len(images)
    contact_sheet(pictures, rows, columns, loaded.class_names).save(output)
    if as_json:
        found = {"output": str(output), "data": loaded.name, "images": len(images)}
        print(json.dumps({**found, "class_names": list(loaded.class_names)}))
        return
    print(f"Look at {output}: {len(images)} images of {loaded.name}.")


def _variants(
    images: Any, labels: Any, operations: tuple[Any, ...], columns: int, seed: int, classes: int
) -> list[Any]:
    """Each image and its label, followed by what the operations make of them."""
    import tensorflow as tf

    from keras_cnn_classics.data.augmentation import apply

    fold_in = tf.random.experimental.stateless_fold_in
    mixers = [operation for operation in operations if getattr(operation, "mixes", False)]
    single = operations[: len(operations) - len(mixers)]
    if mixers:
        labels = tf.one_hot(labels, classes)
    grid = [list(zip(images, labels, strict=True))]
    for column in range(1, columns):
        start = tf.constant([seed % 2**31, column])
        changed: Any = [apply(x, single, fold_in(start, row)) for row, x in enumerate(images)]
        marks = labels
        for i, mixer in enumerate(mixers):
            changed, marks = mixer(tf.stack(changed), marks, fold_in(start, len(images) + i))
        grid.append(list(zip(changed, marks, strict=True)))
    return [column[row] for row in range(len(images)) for column in grid]
