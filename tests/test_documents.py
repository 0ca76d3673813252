"""Every block of Python in the documents runs, and every command in them is one.

The blocks of a page run in their order, in one namespace and in a folder of their own, without
network: what they read is there, small and made up. `fit` ends after two steps of one epoch.
Weights to download come from a mirror, whose files hold zeros but for their small arrays.
"""

import dataclasses
import re
import shlex
import shutil
import textwrap
from functools import partial
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest
import tensorflow as tf
import typer

import keras_cnn_classics as kcc
from keras_cnn_classics import cli, registry
from keras_cnn_classics.registry import WeightsFile
from keras_cnn_classics.weights import deferred

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
# Pages that train or have large networks, which CI has on PyTorch.
LONG = ("README.md", "docs/quickstart.md", "docs/training.md", "docs/transfer.md", "docs/using.md")
LONG += ("docs/distribution.md", "docs/api/distribution.md")
# What the reader has: photographs of five kinds.
COUNT, SIDE, CLASSES = 4, 96, 5
STEPS = 2


def text(page):
    return page.read_text(encoding="utf-8")


def blocks(page, *languages):
    """The fenced blocks of these languages: the number of the first line, and the text."""
    fences = re.finditer(r"^( *)```(\w*)[^\n]*\n(.*?)^\1```$", text(page), re.MULTILINE | re.DOTALL)
    for fence in fences:
        if fence[2] in languages:
            yield text(page)[: fence.start(3)].count("\n"), textwrap.dedent(fence[3])


def with_python():
    for page in PAGES:
        if any(blocks(page, "python")):
            name = page.relative_to(ROOT).as_posix()
            marks = [pytest.mark.slow_compiled] if name in LONG else []
            yield pytest.param(page, id=name, marks=marks)


def pictures(folder, classes, each, side):
    rng = np.random.default_rng(0)
    for kind in range(classes):
        (folder / f"kind{kind}").mkdir(parents=True)
        for i in range(each):
            pixels = rng.integers(0, 256, (side, side, 3), "uint8")
            keras.utils.save_img(folder / f"kind{kind}" / f"{i}.png", pixels, scale=False)


def weights_of(builder, source, folder):
    """A file of published weights as Keras writes them, in which only small arrays have values."""
    names = "-".join(f"{key}={value}" for key, value in sorted(source.options.items()))
    path = folder / f"{builder.spec.name}-{names}-{source.classes}.h5"
    if path.is_file():
        return path
    options = {**source.options, "classes": source.classes, "weights": None}
    model = deferred.build_empty(partial(builder, **options))
    rng = np.random.default_rng(0)
    with h5py.File(path, "w") as file:
        layers = [layer for layer in model.layers if layer.weights]
        file.attrs["layer_names"] = [layer.name for layer in layers]
        for layer in layers:
            group = file.create_group(layer.name)
            group.attrs["weight_names"] = [str(i) for i in range(len(layer.weights))]
            for i, weight in enumerate(layer.weights):
                values = group.create_dataset(str(i), weight.shape, "float32")
                if np.prod(weight.shape) < 2000:
                    values[...] = rng.uniform(0.5, 1.5, weight.shape)
    return path


@pytest.fixture(scope="module")
def things(tmp_path_factory):
    """A folder with what a reader has: photographs, and the network that was trained first."""
    folder = tmp_path_factory.mktemp("things")
    for name in ("photos", "flowers", "flowers5"):
        pictures(folder / name, CLASSES, 8, SIDE)
    pictures(folder / "small", 10, 10, 32)
    photo = np.random.default_rng(0).integers(0, 256, (300, 400, 3), "uint8")
    keras.utils.save_img(folder / "photo.jpg", photo, scale=False)
    keras.utils.save_img(folder / "digit.png", photo[:28, :28, :1], scale=False)
    (folder / "runs" / "first").mkdir(parents=True)
    first = kcc.LeNet5(weights=None, classes=5, output="dense")
    first.save(folder / "runs" / "first" / "best.keras")
    return folder


@pytest.fixture(scope="module")
def mirror(tmp_path_factory):
    return tmp_path_factory.mktemp("mirror")


@pytest.fixture
def reader(things, mirror, tmp_path, monkeypatch):
    """A folder with all that, in which the blocks run; gives the names that are there."""
    shutil.copytree(things, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KERAS_HOME", str(mirror / "home"))
    monkeypatch.setenv("KCC_WEIGHTS_MIRROR", mirror.as_uri())
    monkeypatch.delenv("KCC_OFFLINE")
    # A page adds a network.
    kcc.list_models()
    monkeypatch.setattr(registry, "_BUILDERS", dict(registry._BUILDERS))
    offer_weights(monkeypatch, mirror)
    offer_data(monkeypatch)
    shorten_fit(monkeypatch)
    images = np.random.default_rng(0).normal(size=(COUNT, SIDE, SIDE, 3)).astype("float32")
    return {"__name__": "__main__", "images": images, "labels": np.arange(COUNT) % CLASSES}


def offer_weights(monkeypatch, folder):
    """Makes a file when a set of weights is first looked up."""
    from keras_cnn_classics.applications import _arguments

    published = _arguments.published

    def small(spec, source, *args):
        source, options = published(spec, source, *args)
        path = weights_of(kcc.get_builder(spec.name), source, folder)
        file = WeightsFile(f"https://example.invalid/{path.name}")
        return dataclasses.replace(source, top=file, no_top=None, variants=()), options

    monkeypatch.setattr(_arguments, "published", small)


def offer_data(monkeypatch):
    """Data sets with names are the small pictures."""
    load = kcc.data.load
    named = {
        "cifar10": {"image_size": 32},
        "digits": {"image_size": 32, "channels": 1, "resize": "pad"},
        "mnist": {"image_size": 28, "channels": 1},
        "fashion_mnist": {"image_size": 28, "channels": 1},
    }

    def small(source, batch_size=8, **options):
        if source in named:
            options = {**named[source], **options, "data_dir": None}
            source = "small/"
        return load(source, batch_size=min(batch_size, 8), **options)

    monkeypatch.setattr(kcc.data, "load", small)


def shorten_fit(monkeypatch):
    fit = keras.Model.fit

    def once(self, x, *args, epochs=1, initial_epoch=0, **kwargs):
        kwargs["epochs"] = min(epochs, initial_epoch + 1)
        kwargs["initial_epoch"] = initial_epoch
        if kwargs.get("steps_per_epoch"):
            kwargs["steps_per_epoch"] = STEPS
        elif isinstance(x, tf.data.Dataset):
            x = x.take(STEPS)
        if isinstance(kwargs.get("validation_data"), tf.data.Dataset):
            kwargs["validation_data"] = kwargs["validation_data"].take(STEPS)
        return fit(self, x, *args, **kwargs)

    monkeypatch.setattr(keras.Model, "fit", once)


@pytest.mark.parametrize("page", with_python())
@pytest.mark.filterwarnings("ignore::UserWarning")  # Keras's, of data that end
def test_python_runs(page, reader, capsys):
    """What a line prints is what a comment behind it says."""
    for line, code in blocks(page, "python"):
        # With the lines before it, so that a traceback shows the line of the page.
        exec(compile("\n" * line + code, page, "exec"), reader)
        printed = iter(capsys.readouterr().out.splitlines())
        for said in re.findall(r"^ *print\(.*\)  # (.*)$", code, re.MULTILINE):
            assert said in printed, said


def commands(page):
    """The commands of a page: lines of blocks without a language or of a shell's, and in prose."""
    for _, block in blocks(page, "", "bash", "console", "sh"):
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line.removeprefix("$ "), comments=True)
            if words:
                yield words
    prose = re.sub(r"^ *```.*?^ *```$", "", text(page), flags=re.MULTILINE | re.DOTALL)
    for code in re.findall(r"`(keras-cnn-classics\s[^`]+)`", prose):
        yield shlex.split(code)


# What starts processes, trains its own network or asks for files of others has tests of its own.
ELSEWHERE = ("launch", "demo", "weights", "tensorboard")
SHORTER = {"transfer": ["--epochs", "2", "--warmup", "1", "--seeds", "1"]}
SMALLER = {"ResNet50": "MobileNet"}


def to_run(page):
    """The commands of a page, but for results, which take the machine named there for hours."""
    for words in commands(page):
        if words[0] == "keras-cnn-classics" and words[1] not in ELSEWHERE:
            yield [SMALLER.get(word, word) for word in words[1:]] + SHORTER.get(words[1], [])


def with_commands():
    for page in PAGES:
        if page.name != "results.md" and any(to_run(page)):
            name = page.relative_to(ROOT).as_posix()
            # Its commands are those of other pages, but for one that takes three minutes.
            marks = pytest.mark.slow if name == "README.md" else pytest.mark.slow_compiled
            yield pytest.param(page, id=name, marks=marks)


@pytest.mark.parametrize("page", with_commands())
def test_commands_run(page, reader, run):
    """In their order, and each on what those before it left."""
    shutil.rmtree("runs")
    for words in to_run(page):
        code, _, errors = run(*words)
        assert code == 0, (words, errors)


def parse(words, command=None, context=None):
    """Parses a command line as the command does, without running it."""
    command = command or typer.main.get_command(cli.app)
    context = typer.Context(command, parent=context)
    if not hasattr(command, "resolve_command") or words[0].startswith("-"):
        command.make_parser(context).parse_args(list(words))
        return
    _, inner, rest = command.resolve_command(context, words)
    assert inner is not None, words
    parse(rest, inner, context)


@pytest.mark.parametrize(
    "words",
    [["train", "LeNet5", "--nope"], ["trane"], ["weights", "lst"], ["--versoin"], ["show", "-x"]],
)
def test_what_is_no_command_does_not_parse(words):
    with pytest.raises(typer.BadParameter.__mro__[1]):  # wrong usage, whose module is private
        parse(words)


@pytest.mark.parametrize(
    "page",
    [pytest.param(p, id=p.relative_to(ROOT).as_posix()) for p in PAGES if any(commands(p))],
)
def test_commands_parse(page):
    for words in commands(page):
        if words[0] == "keras-cnn-classics":
            # What stands behind `--` is for the command that this one starts.
            own, _, started = " ".join(words[1:]).partition(" -- ")
            parse(own.replace("--debug", "").split())
            if started and ".py" not in started:
                parse(started.split())
        elif words[0] == "python" and words[1].endswith(".py") and "/" in words[1]:
            script = text(ROOT / words[1])
            for option in re.findall(r"--[a-z-]+", " ".join(words[2:])):
                assert f'"{option}"' in script, (words, option)
