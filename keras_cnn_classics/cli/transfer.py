"""`transfer`: a trained network learns another task, by each of the methods."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from keras_cnn_classics.cli import _common, _index

if TYPE_CHECKING:
    from keras_cnn_classics.data import ImageData
    from keras_cnn_classics.transfer import Comparison

RESULTS, TABLE, MARKDOWN, PLOT = "results.json", "table.csv", "table.md", "plot.png"
RUN = "run.json"


def transfer(
    origin: Annotated[
        str,
        typer.Option(
            "--from",
            metavar="MODEL",
            help="What has learned the old task: a .keras file such as the best.keras that "
            "`train` leaves, or the name of a network, with --weights.",
            autocompletion=_index.complete,
        ),
    ],
    data: Annotated[
        str,
        typer.Option(
            help="The new task's images: `digits`, a TFDS name, or a folder as `train` takes it."
        ),
    ],
    old_data: Annotated[
        str | None,
        typer.Option(
            help="The old task's images, to measure what is forgotten, and for joint training. "
            "Of their classes those count that the network knows."
        ),
    ] = None,
    methods: Annotated[
        str, typer.Option(help="all, or some by name, such as fine_tuning,joint_training.")
    ] = "all",
    weights: Annotated[
        str | None, typer.Option(help="Weights of a network: a tag such as imagenet, or a file.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option(help="Folder for the results. Default: runs/transfer-DATA.")
    ] = None,
    task: Annotated[
        str | None,
        typer.Option(help="Of a network that answers to several tasks, the one to begin from."),
    ] = None,
    options: _common.Options = [],  # noqa: B006  Typer copies it
    only: _common.Only = None,
    epochs: Annotated[
        int, typer.Option(min=1, help="Passes through the new images, with the warm-up.")
    ] = 25,
    warmup: Annotated[
        int, typer.Option(min=0, help="How many of them are for the new head alone.")
    ] = 5,
    learning_rate: Annotated[
        float,
        typer.Option(
            min=1e-12,
            help="Of SGD with a momentum of 0.9. Feature extraction has 5 times as much, and the "
            "warm-up 10 times.",
        ),
    ] = 1e-3,
    weight_decay: Annotated[float, typer.Option(min=0.0, help="Weight decay.")] = 5e-4,
    batch_size: Annotated[int, typer.Option(min=1, help="Images in a step.")] = 32,
    seeds: Annotated[int, typer.Option(min=1, help="How often each method is trained.")] = 3,
    seed: _common.Seed = 0,
    head: Annotated[
        str | None,
        typer.Option(
            help="First layer that is the old task's own. Default: the last with weights."
        ),
    ] = None,
    preprocess: _common.Mode = None,
    resize: _common.ResizeOption = None,
    data_dir: _common.DataDir = None,
    backend: _common.BackendOption = None,
    device: _common.Device = None,
    overwrite: _common.Overwrite = False,
    resume: Annotated[
        bool,
        typer.Option("--resume", help="Go on with that in the folder, or begin if there is none."),
    ] = False,
    as_json: _common.Json = False,
) -> None:
    """Teach a network a new task by several methods, and compare what they give and cost.

    The output folder gets the table as table.csv, table.md, results.json and, with --old-data,
    plot.png; METHOD/model.keras, the network of the first seed, with an output for each task;
    run.json, with the commands, the machine and the versions; and versions.txt for pip.
    """
    if overwrite and resume:
        raise typer.BadParameter("--overwrite and --resume contradict each other.")
    trained = _for_task(_trained(origin, weights, options, resize, preprocess), origin, task)
    import keras

    from keras_cnn_classics import training
    from keras_cnn_classics import transfer as methods_of
    from keras_cnn_classics.training.environment import VERSIONS
    from keras_cnn_classics.transfer.comparison import METHODS, SETTINGS, clear

    chosen = [name.strip().replace("-", "_") for name in methods.split(",")]
    if unknown := [name for name in chosen if name not in (*METHODS, "all")]:
        raise typer.BadParameter(
            f"It must be all, or some of {', '.join(METHODS)}. Received: {unknown[0]!r}",
            param_hint="--methods",
        )
    folder = output or Path("runs") / f"transfer-{Path(data).name}".lower()
    training.check_folder(folder)
    if (folder / SETTINGS).exists() and not (overwrite or resume):
        raise FileExistsError(
            f"{folder} holds a comparison already: name another folder, go on with it by "
            "--resume, or replace it by --overwrite."
        )
    new = _load(data, trained, _common.parse_only(only), batch_size, data_dir)
    known = trained.facts.get("class_names")
    old = None if old_data is None else _load(old_data, trained, known, batch_size, data_dir)
    outputs = trained.model.output_shape[-1]
    if old is not None and outputs != len(old.class_names):
        raise ValueError(
            f"{old_data} has {len(old.class_names)} classes, but the network has {outputs} "
            "outputs, and nothing says which belong together."
        )
    if overwrite:
        clear(folder)
        for name in (RESULTS, TABLE, MARKDOWN, PLOT, RUN, VERSIONS):
            (folder / name).unlink(missing_ok=True)
    try:
        with _common.reporting(as_json):
            table = methods_of.compare(
                trained.model,
                old,
                new,
                "all" if chosen == ["all"] else chosen,
                list(range(seed, seed + seeds)),
                epochs=epochs,
                warmup_epochs=warmup,
                optimizer=keras.optimizers.SGD(learning_rate, momentum=0.9),
                decay=weight_decay,
                options={name: {"head": head} for name in METHODS},
                folder=folder,
            )
    except KeyboardInterrupt:
        _remember(folder)
        print(
            f"Interrupted: {folder} holds what is finished. The same command with --resume goes on "
            "from there.",
            file=sys.stderr,
        )
        raise typer.Exit(130) from None
    found = {
        "from": origin,
        "data": new.name,
        "old_data": None if old is None else old.name,
        "class_names": {"new": new.class_names, "old": known or (old and old.class_names)},
        "sizes": {"new": new.sizes, "old": None if old is None else old.sizes},
        "preprocessing": trained.preprocess,
        "rows": [asdict(row) for row in table.rows],
    }
    _leave(table, found, folder)
    _remember(folder)
    if as_json:
        print(json.dumps(found))
        return
    from rich.console import Console

    Console().print(table)
    print(f"Accuracies are of {new.sizes['test']} new test images. Results in {folder}")


def _trained(
    origin: str,
    weights: str | None,
    options: list[str],
    resize: _common.Resize | None,
    preprocess: str | None,
) -> _common.Trained:
    """The network that has learned the old task."""
    keras = _common.import_keras()
    from keras_cnn_classics import training
    from keras_cnn_classics._files import reading

    path = Path(origin)
    if not path.is_file():
        if path.suffix == ".keras":
            raise FileNotFoundError(f"There is no file {path}.")
        builder = _common.find_image_builder(origin)
        parsed = _common.parse_options(builder, options)
        _common.check_mode(builder, preprocess)
        weights = weights or builder.spec.default_weights
        if weights is None:
            raise typer.BadParameter(
                f"No weights of {builder.spec.name} are registered: name a file, such as the "
                "best.keras that `train` leaves.",
                param_hint="--weights",
            )
        return _common.load_trained(
            builder, weights, classes=None, options=parsed, resize=resize, preprocess=preprocess
        )
    if weights or options:
        raise typer.BadParameter(
            f"{path} is a network with its weights: --weights and --option are for a name.",
            param_hint="--from",
        )
    with reading(path, "name a whole .keras file."):
        model = keras.saving.load_model(path, compile=False)
    facts = training.read_facts(path)
    mode = preprocess or facts.get("preprocessing")
    if mode is None:
        raise typer.BadParameter(
            f"{path} does not say how its images are prepared: name caffe, tf, torch, lenet or "
            "unit.",
            param_hint="--preprocess",
        )
    fitted = resize or facts.get("recipe", {}).get("resize", "crop")
    return _common.Trained(model, mode, fitted, facts)


def _for_task(trained: _common.Trained, origin: str, task: str | None) -> _common.Trained:
    """The network with its answers for one task alone."""
    outputs = trained.model.output
    tasks = sorted(outputs) if isinstance(outputs, dict) else []
    if not tasks and task is None:
        return trained
    if task not in tasks:
        says = f"the tasks {', '.join(tasks)}: name one" if tasks else "one task: leave it out"
        raise typer.BadParameter(f"{origin} answers to {says}.", param_hint="--task")
    import keras

    return replace(trained, model=keras.Model(trained.model.input, outputs[task]))


def _load(
    source: str,
    trained: _common.Trained,
    only: list[str | int] | None,
    batch_size: int,
    data_dir: Path | None,
) -> ImageData:
    """Images as the network wants them."""
    import keras

    from keras_cnn_classics.data import load

    channels = -1 if keras.config.image_data_format() == "channels_last" else 1
    return load(
        source,
        image_size=trained.size,
        channels=trained.model.input_shape[channels],
        batch_size=batch_size,
        validation=0,
        # The test images of the run, if it has drawn them.
        seed=trained.facts.get("seed", 0),
        resize=trained.resize,
        resize_side=trained.resize_side,
        preprocess=trained.preprocess,
        data_dir=data_dir,
        only=only,
    )


def _leave(table: Comparison, found: dict[str, Any], folder: Path) -> None:
    """Writes what was found, each file whole or not at all."""
    from keras_cnn_classics._files import write_json, written

    write_json(folder / RESULTS, found)
    table.to_csv(folder / TABLE)
    with written(folder / MARKDOWN) as scratch:
        scratch.write_text(table.to_markdown())
    if found["old_data"] is not None:
        with written(folder / PLOT) as scratch:
            table.plot(scratch)


def _remember(folder: Path) -> None:
    """Writes what the comparison was made with, and by which commands it went on."""
    from keras_cnn_classics._files import write_json
    from keras_cnn_classics.training import provenance, write_versions

    commands = []
    if (folder / RUN).exists():
        commands = json.loads((folder / RUN).read_text())["commands"]
    write_json(folder / RUN, {"commands": [*commands, _common.command_line()], **provenance()})
    write_versions(folder)
