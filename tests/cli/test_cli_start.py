"""How the command line starts, what it takes everywhere, and how shells complete it."""

import json
import os
import subprocess
import sys
from importlib.util import find_spec

import pytest
import typer

import keras_cnn_classics as kcc
from keras_cnn_classics import cli
from keras_cnn_classics.cli import _common, _index

HEAVY = {"keras", "tensorflow", "numpy", "jax", "torch", "asyncio"}


def commands():
    """Every command, by the words that name it."""

    def walk(group, words):
        for name, command in sorted(group.commands.items()):
            if hasattr(command, "commands"):
                yield from walk(command, (*words, name))
            else:
                yield (*words, name), command

    return dict(walk(typer.main.get_command(cli.app), ()))


COMMANDS = commands()


@pytest.mark.parametrize("arguments", [("--help",), ("list",), ("train", "--help")])
def test_it_starts_without_keras(arguments):
    """What takes time in a start is modules."""
    code = f"""
import sys
sys.argv = ["keras-cnn-classics", *{arguments!r}]
from keras_cnn_classics import cli
try:
    cli.main()
except SystemExit as stop:
    assert not stop.code
print("loaded:", *sorted({HEAVY!r} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "loaded:"
    assert not done.stderr


def test_the_index_is_the_registry():
    names = kcc.list_models()
    index = {spec.name: spec for spec in _index.read()}
    assert list(index) == names
    for name in names:
        spec = kcc.get_builder(name).spec
        assert list(index[name].weights) == list(spec.weights)
        for fact in ("params", "macs", "input_shape", "min_size", "year", "family", "classes"):
            assert getattr(index[name], fact) == getattr(spec, fact), (name, fact)


def test_options_have_one_name_and_one_meaning():
    """An option of two commands is of one kind in both; reports can be had as JSON."""
    kinds = {}
    flags = {}
    for words, command in COMMANDS.items():
        flags[words] = {flag for option in command.params for flag in option.opts}
        for option in command.params:
            for flag in option.opts:
                if flag.startswith("--"):
                    kind = getattr(option, "is_flag", False)
                    assert kinds.setdefault(flag, kind) == kind, (words, flag)
    for words, own in flags.items():
        assert words == ("launch",) or "--json" in own, words
    for words in [("train",), ("evaluate",), ("predict",), ("transfer",), ("demo",)]:
        assert {"--backend", "--device"} <= flags[words], words
    for words in [("train",), ("transfer",), ("demo",), ("data", "preview")]:
        assert {"--seed", "--output"} <= flags[words], words
    assert not {"--out", "--force"} & set(kinds)


@pytest.fixture
def environment(monkeypatch):
    """The variables that options set, put back afterwards."""
    for name in ("KERAS_BACKEND", "CUDA_VISIBLE_DEVICES", "JAX_PLATFORMS"):
        monkeypatch.setenv(name, os.environ.get(name, ""))
    return monkeypatch


@pytest.mark.parametrize("backend", ["tensorflow", "torch"])
def test_the_backend_is_chosen_before_keras_is_imported(backend):
    """Also against what the environment says: CI runs it where that is PyTorch."""
    if find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed")
    code = """
import os, sys
sys.argv = ["kcc", "show", "LeNet", "--json", "--backend", sys.argv[1]]
from keras_cnn_classics import cli
try:
    cli.main()
except SystemExit as stop:
    assert not stop.code
import keras
print(keras.backend.backend(), file=sys.stderr)
"""
    done = subprocess.run(
        [sys.executable, "-c", code, backend], capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout)["name"] == "LeNet"
    assert done.stderr == f"{backend}\n"


def test_a_backend_that_is_not_there(run, environment):
    environment.setattr(_common, "find_spec", lambda name: None)
    code, _, errors = run("show", "LeNet", "--backend", "jax")
    assert code == 2
    assert "jax is not installed: pip install jax" in errors
    code, _, errors = run("show", "LeNet", "--backend", "theano")
    assert code == 2
    assert "theano" in errors


def test_another_backend_than_the_one_at_work(run, environment):
    import keras

    other = {"tensorflow": "torch", "torch": "tensorflow", "jax": "tensorflow"}
    environment.setattr(_common, "find_spec", lambda name: True)
    code, _, errors = run("show", "LeNet", "--backend", other[keras.backend.backend()])
    assert code == 2
    assert "imported in this process, with another backend" in errors


@pytest.mark.parametrize(
    ("visible", "chosen", "left"),
    [
        (None, "gpu", "0"),
        (None, "gpu:2", "2"),
        ("4,7", "gpu:1", "7"),
        ("GPU-a,GPU-b", "GPU:0", "GPU-a"),
        ("0,1", "cpu", "-1"),
    ],
)
def test_one_device_is_left(environment, visible, chosen, left):
    environment.setattr(_common, "_gpus", lambda: True)
    if visible is None:
        environment.delenv("CUDA_VISIBLE_DEVICES")
    else:
        environment.setenv("CUDA_VISIBLE_DEVICES", visible)
    _common._choose_device(typer.Context(typer.main.get_command(cli.app)), chosen)
    assert os.environ["CUDA_VISIBLE_DEVICES"] == left


@pytest.mark.parametrize("chosen", ["tpu", "gpu:x", "gpu:-1", "1"])
def test_devices_are_spelt_in_one_way(run, environment, chosen):
    code, _, errors = run("demo", "--device", chosen)
    assert code == 2
    assert "cpu, gpu, or the number of a GPU" in errors


@pytest.mark.parametrize(("visible", "chosen"), [("0,1", "gpu:2"), ("", "gpu"), ("-1", "gpu:0")])
def test_a_gpu_that_is_not_there(run, environment, visible, chosen):
    environment.setattr(_common, "_gpus", lambda: True)
    environment.setenv("CUDA_VISIBLE_DEVICES", visible)
    code, _, errors = run("demo", "--device", chosen)
    assert code == 2
    assert "There is no such GPU" in errors


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        ("", {"list", "show", "train", "weights"}),
        ("show VGG1", {"VGG11", "VGG16", "VGG19BN"}),
        ("train LeNet5 --bac", {"--backend"}),
        ("weights ver", {"verify"}),
        ("weights download Res", {"ResNet50"}),
        ("train LeNet5 --augment cut", {"cutout", "cutmix"}),
        ("train LeNet5 --device gpu --back", {"--backend"}),
    ],
)
def test_completion(words, wanted):
    """As bash asks for it."""
    line = f"keras-cnn-classics {words}"
    environment = {
        **os.environ,
        "_KERAS_CNN_CLASSICS_COMPLETE": "complete_bash",
        "COMP_WORDS": line,
        "COMP_CWORD": str(len(line.split()) - 1 + line.endswith(" ")),
    }
    command = [sys.executable, "-c", "from keras_cnn_classics import cli; cli.main()"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert not done.stderr  # TensorFlow was not there, which has always something to say
    found = set(done.stdout.split())
    assert wanted <= found
    assert all(one.startswith(line.split(" ")[-1]) for one in found)
