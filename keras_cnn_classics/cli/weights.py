"""`weights`: the published sets, the cache that they are kept in, and files of other formats."""

from __future__ import annotations

import difflib
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from keras_cnn_classics.cli import _common, _index

if TYPE_CHECKING:
    from keras_cnn_classics.registry import Builder, ModelSpec, WeightsFile, WeightsSource

# What a narrow window does without, first to last.
DISPENSABLE = ("origin", "preprocessing", "top-5", "cached", "top-1", "size")
ORIGIN_WIDTH = 20  # characters; longer ones go on in the next line

NoTop = Annotated[bool, typer.Option("--no-top", help="Without the classifier.")]


def list_sets(
    pattern: Annotated[
        str,
        typer.Argument(
            help="Name of a network, or a shell-style pattern such as 'VGG*'. Of a single one, "
            "every variant is shown.",
            metavar="[PATTERN]",
            autocompletion=_index.complete,
        ),
    ] = "*",
    as_json: _common.Json = False,
) -> None:
    """List the published weights."""
    _common.import_keras()
    import keras_cnn_classics as kcc

    single = not set("*?[") & set(pattern)
    if single:
        _common.find_builder(pattern)  # an unknown one is wrong usage
    elif not kcc.list_models(pattern):
        raise typer.BadParameter(
            f"No network has a name like that: `keras-cnn-classics list` shows all. "
            f"Received: {pattern!r}",
            param_hint="PATTERN",
        )
    specs = [kcc.get_builder(name).spec for name in kcc.list_models(pattern, pretrained=True)]
    rows = [row for spec in specs for row in _rows(spec, single)]
    if as_json:
        print(json.dumps(rows))
    elif rows:
        _print(rows, single)
    else:
        raise ValueError(
            f"No weights of {pattern} are published: `keras-cnn-classics weights list` shows all."
        )


def _rows(spec: ModelSpec, variants: bool) -> Iterator[dict[str, Any]]:
    """A row for each published set, and for each of its variants if asked."""
    tags: dict[int, list[str]] = {}
    for tag, source in spec.weights.items():  # the plain tag of a set comes before its own
        tags.setdefault(id(source), []).append(tag)
    for first, *others in tags.values():
        source = spec.weights[first]
        loaded = source.variant({}, spec.input_size)
        for one in (source, *(source.variants if variants else ())):
            yield {
                "name": spec.name,
                "tag": others[-1] if others else first,
                "plain_tag": None if "/" in first else first,
                "default": "/" not in first and one is loaded,
                **_facts(spec, one, source),
                "variants": len(source.variants),
            }


def _facts(spec: ModelSpec, one: WeightsSource, source: WeightsSource) -> dict[str, Any]:
    from keras_cnn_classics.weights import _files

    file = one.file(include_top=True)
    whole = _place(spec, file)
    trunk = _place(spec, one.no_top) if one.no_top else None
    if whole:
        size: int | None = whole.stat().st_size
    else:  # a wider or narrower network would have to be built to count its parameters
        size = _common.FLOAT32_BYTES * spec.params if one.options == source.options else None
    return {
        "bytes": size,
        "estimated": whole is None,
        "top1": one.top1,
        "top5": one.top5,
        "license": one.license,
        "noncommercial": one.noncommercial,
        "preprocessing": one.preprocessing,
        "origin": one.origin,
        "options": dict(one.options),
        "input_size": one.input_size or spec.input_size,
        "cached": "yes" if whole else "trunk" if trunk else "no",
        "url": file.url,
        "needs_torch": _files.needs_torch(file.name),
    }


def _place(spec: ModelSpec, file: WeightsFile) -> Path | None:
    """Where a file or its converted copy is cached; its hash is not looked at, which takes time."""
    from keras_cnn_classics.weights import _copies, _download, _hub

    for path in (_copies.find(file, spec.name), _download.cache_dir() / file.name):
        if path and path.is_file():
            return path
    return _hub.find(file) if file.hub else None


def _print(rows: list[dict[str, Any]], single: bool) -> None:
    from rich.console import Console
    from rich.table import Table

    # Not cut off when it goes to a file.
    console = Console(width=None if sys.stdout.isatty() else 250, markup=False, highlight=False)
    columns = {name: [cell(row, single) for row in rows] for name, cell in _CELLS.items()}
    if not single:
        del columns["for"]
    widths = {name: max(map(len, [name, *cells])) + 1 for name, cells in columns.items()}
    widths["origin"] = ORIGIN_WIDTH
    dropped = []
    for name in DISPENSABLE:
        if sum(widths[name] for name in columns) > console.width:
            del columns[name]
            dropped.append(name)
    table = Table(box=None, padding=(0, 1, 0, 0), header_style="bold")
    for name in columns:
        numbers = name == "size"
        table.add_column(name, justify="right" if numbers else "left", overflow="fold")
    for cells in zip(*columns.values(), strict=True):
        table.add_row(*cells)
    console.print(table)
    notes = [
        f"* is what weights={tag!r} loads."
        for tag in sorted({row["plain_tag"] for row in rows if row["default"]})
    ]
    if any(row["needs_torch"] for row in rows):
        notes.append("+ needs PyTorch to be converted.")
    if "size" in columns:
        notes.append(
            f"~ is an estimate, {_common.FLOAT32_BYTES} bytes a parameter; other sizes are those "
            "of cached files."
        )
    if "cached" in columns:
        notes.append("`trunk` is the file without the classifier.")
    if not single and any(row["variants"] for row in rows):
        notes.append("With the name of one network, all its variants are shown.")
    if dropped:
        notes.append(f"A wider window shows {', '.join(reversed(dropped))}, too.")
    console.print(" ".join(notes))


def _tag(row: dict[str, Any], single: bool) -> str:
    marks = " *" * row["default"] + " +" * row["needs_torch"]
    some = row["variants"] and not single
    return row["tag"] + marks + (f" (1 of {row['variants'] + 1})" if some else "")


def _built(row: dict[str, Any], single: bool) -> str:
    options = [f"{key}={value!r}" for key, value in row["options"].items()]
    return " ".join([*options, f"size={row['input_size']}"])


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"


# How each column of the table is written, from a row and whether variants have rows of their own.
_CELLS: dict[str, Callable[[dict[str, Any], bool], str]] = {
    "network": lambda row, _: row["name"],
    "tag": _tag,
    "size": lambda row, _: _size(row["bytes"], row["estimated"]),
    "top-1": lambda row, _: _percent(row["top1"]),
    "top-5": lambda row, _: _percent(row["top5"]),
    "cached": lambda row, _: row["cached"],
    "licence": lambda row, _: row["license"] + ", non-commercial" * row["noncommercial"],
    "preprocessing": lambda row, _: row["preprocessing"],
    "origin": lambda row, _: row["origin"],
    "for": _built,
}


def _size(size: int | None, estimated: bool = False) -> str:
    if size is None:
        return "-"
    return f"{'~' * estimated}{size / 1e6:,.{1 if size < 1e7 else 0}f} MB"


def download(
    names: Annotated[
        list[str],
        typer.Argument(
            help="Names of networks; `weights list` shows them.",
            metavar="NAME...",
            autocompletion=_index.complete,
        ),
    ],
    tag: Annotated[
        str | None,
        typer.Option(
            help="Tag of the set, or what follows its slash. Default: imagenet, or cifar10."
        ),
    ] = None,
    no_top: NoTop = False,
    options: _common.Options = [],  # noqa: B006  Typer copies it
    size: _common.Size = None,
    backend: _common.BackendOption = None,
    as_json: _common.Json = False,
) -> None:
    """Download published weights, to be used offline.

    Of several networks, each takes the options that it knows.
    """
    builders = [_common.find_builder(name) for name in names]
    known = [{option.name for option in _common.options_of(builder)} for builder in builders]
    # What none knows is left to all, and the first one complains.
    foreign = [{key for other in known for key in other} - own for own in known]
    parsed = [
        _common.parse_options(builder, [o for o in options if o.partition("=")[0] not in keys])
        for builder, keys in zip(builders, foreign, strict=True)
    ]
    for builder in builders:
        _common.check_size(builder, size)
    from keras_cnn_classics.weights import WeightsError

    found: list[dict[str, Any]] = []
    for builder, arguments in zip(builders, parsed, strict=True):
        name = builder.spec.name
        try:
            path = _bring(builder, tag, size, include_top=not no_top, options=arguments)
            found.append({"name": name, "path": str(path), "bytes": path.stat().st_size})
            if not as_json:
                print(f"{name}: {_size(path.stat().st_size)} at {path}")
        except (WeightsError, ValueError, OSError, ImportError) as error:
            if len(builders) == 1:
                raise ValueError(f"{name}: {error}") from error
            print(f"{name}: {_common.one_line(error)}", file=sys.stderr)
    if as_json:
        print(json.dumps(found))
    if failed := len(builders) - len(found):
        raise ValueError(f"{failed} of {len(builders)} failed.")


def _bring(
    builder: Builder, tag: str | None, size: int | None, *, include_top: bool, options: Any
) -> Path:
    """Builds a network with published weights, which brings them; gives the path of the file."""
    from keras_cnn_classics.blocks.core import image_shape

    spec = builder.spec
    if not spec.weights:
        raise ValueError("no weights of it are published.")
    tag = _full_tag(spec, tag) if tag else next((t for t in spec.weights if "/" not in t), "")
    # Not `deferred.build_empty`: in its thread, Ctrl-C would wait for the end of a download.
    shape = image_shape(size, spec.channels, spec.frames) if size else None
    builder(include_top=include_top, weights=tag, input_shape=shape, **options)
    source = spec.weights[tag].variant(options, size or spec.input_size)
    path = _place(spec, source.file(include_top=include_top))
    assert path
    return path


def _full_tag(spec: ModelSpec, tag: str) -> str:
    """A tag of a network's weights, for itself or for what follows its slash."""
    short = {full.partition("/")[2] or full: full for full in spec.weights}
    found = [full for full in spec.weights if tag in (full, full.partition("/")[2])]
    if len(found) == 1:
        return found[0]
    near = difflib.get_close_matches(tag, [*spec.weights, *short], n=1)
    guess = f" Did you mean {short.get(near[0], near[0])}?" if near else ""
    raise ValueError(f"--tag must be one of {', '.join(spec.weights)}.{guess} Received: {tag!r}")


def verify(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            help="Only these networks.", metavar="[NAME...]", autocompletion=_index.complete
        ),
    ] = None,
    delete: Annotated[bool, typer.Option("--delete", help="Remove the bad files.")] = False,
    as_json: _common.Json = False,
) -> None:
    """Compare cached weights with their published hashes."""
    _common.import_keras()
    import keras_cnn_classics as kcc
    from keras_cnn_classics.weights import _download, _hub

    names = names or kcc.list_models(pretrained=True)
    files, broken_off = _cached(_common.find_builder(name).spec for name in names)
    problems = _problems(files)
    with _common.reporting(as_json):
        for file, problem in zip(files, problems, strict=True):
            said = problem or file.digest or "no hash of it is published, but it can be opened"
            print(f"{'BAD' if problem else 'OK '} {file.path}: {said}")
        for path in broken_off:
            print(f"... {path}: what arrived of a download that broke off")
        if not files:
            print(f"None of the published weights are cached in {_download.cache_dir()}.")
    if as_json:
        checked = [
            {"path": str(file.path), "digest": file.digest or None, "problem": problem or None}
            for file, problem in zip(files, problems, strict=True)
        ]
        print(json.dumps({"files": checked, "broken_off": [str(path) for path in broken_off]}))
    bad = [file for file, problem in zip(files, problems, strict=True) if problem]
    if delete:
        for file in bad:
            # A link in the other cache is somebody's own, and so is what it leads to.
            if file.hub:
                _hub.remove(file.path)
            else:
                file.path.unlink()
    if bad and not delete:
        raise ValueError(f"Bad files: {len(bad)} of {len(files)}; --delete removes them.")
    if bad:
        with _common.reporting(as_json):
            print(f"Bad files: {len(bad)} of {len(files)}, removed.")


class _Cached(NamedTuple):
    path: Path
    digest: str = ""
    hub: bool = False


def _cached(specs: Iterable[ModelSpec]) -> tuple[list[_Cached], list[Path]]:
    """All files of published weights that are cached, and what broken downloads have left."""
    from keras_cnn_classics.weights import _copies, _download, _hub

    folder = _download.cache_dir()
    found: dict[Path, _Cached] = {}
    broken_off: dict[Path, None] = {}
    for spec in specs:
        for file in _published(spec):
            copy = _copies.find(file, spec.name)
            both = [_Cached(folder / file.name, file.digest)]
            both += [_Cached(copy, _copies.digest(copy))] if copy else []
            found |= {one.path: one for one in both if one.path.is_file()}
            hub = _hub.find(file) if file.hub else None
            if hub:
                found[hub] = _Cached(hub, _hub.digest(hub), hub=True)
            parts = (folder / f"{file.name}{suffix}" for suffix in (".part", ".zip.part"))
            broken_off |= dict.fromkeys(part for part in parts if part.is_file())
    return list(found.values()), list(broken_off)


def _published(spec: ModelSpec) -> Iterator[WeightsFile]:
    for source in spec.weights.values():
        for one in (source, *source.variants):
            yield from (file for file in (one.top, one.no_top) if file)


def _problems(files: Sequence[_Cached]) -> list[str]:
    """What is wrong with each file, or nothing."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn

    from keras_cnn_classics.weights import _faults

    console = Console(stderr=True)
    columns = TextColumn("{task.description}"), BarColumn(), DownloadColumn()
    problems = []
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as bar:
        task = bar.add_task("", total=sum(file.path.stat().st_size for file in files))
        for file in files:
            bar.update(task, description=file.path.name)
            problems.append(_faults.of_file(file.path, file.digest))
            bar.advance(task, file.path.stat().st_size)
    return problems


def convert(
    file: Annotated[
        Path,
        typer.Argument(
            help="File of any format that the networks read: .keras, .h5, .safetensors, .pth...",
            metavar="FILE",
        ),
    ],
    to: Annotated[
        str,
        typer.Option(help="Name of the network.", metavar="NAME", autocompletion=_index.complete),
    ],
    output: Annotated[Path, typer.Option(help="The .weights.h5 to write.", metavar="FILE")],
    options: _common.Options = [],  # noqa: B006  Typer copies it
    classes: _common.Classes = None,
    size: _common.Size = None,
    no_top: NoTop = False,
    backend: _common.BackendOption = None,
    overwrite: _common.Overwrite = False,
    as_json: _common.Json = False,
) -> None:
    """Convert a file of weights to .weights.h5."""
    builder = _common.find_builder(to)
    if not output.name.endswith(".weights.h5"):
        raise typer.BadParameter(
            f"The name must end in .weights.h5. Received: {output}", param_hint="--output"
        )
    parsed = _common.parse_options(builder, options)
    side = _common.check_size(builder, size)
    if not file.is_file():
        raise FileNotFoundError(f"There is no file {file}.")
    if not output.parent.is_dir():
        raise FileNotFoundError(f"There is no folder {output.parent}.")
    _common.check_free(output, overwrite=overwrite)
    import h5py

    from keras_cnn_classics import preprocessing
    from keras_cnn_classics.applications._arguments import lasting
    from keras_cnn_classics.blocks.core import image_shape
    from keras_cnn_classics.weights import _files

    facts, arguments = _common.known_arguments(builder, file, classes=classes, options=parsed)
    if size:
        arguments["input_shape"] = image_shape(side, builder.spec.channels, builder.spec.frames)
    if no_top:
        arguments["include_top"] = False
    model = builder(weights=file, **arguments)
    prepare: Any = preprocessing.model_preprocessing(model)
    mode = facts.get("preprocessing") or prepare.keywords["mode"]
    values = {o.name: arguments.get(o.name, o.default) for o in _common.options_of(builder)}
    about = {"model": builder.spec.name, "options": lasting(values), "preprocessing": mode}
    scratch = output.with_name(f".{os.getpid()}.{output.name}")  # Keras wants the name to end so
    try:
        model.save_weights(scratch)
        with h5py.File(scratch, "a") as written:
            _files.write_about(written, about)
        os.replace(scratch, output)
    finally:
        scratch.unlink(missing_ok=True)
    if as_json:
        print(json.dumps({**about, "output": str(output), "parameters": model.count_params()}))
        return
    call = ", ".join([f'weights="{output}"', *(f"{k}={v!r}" for k, v in arguments.items())])
    print(
        f"{model.count_params():,} parameters are in {output}, for images in mode {mode!r}. "
        f"Use: {builder.spec.name}({call})"
    )
