"""The tutorials run from top to bottom, and their notebooks are those of the sources."""

import ast
import importlib.util
import re
import runpy
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

FOLDER = Path(__file__).parents[1] / "tutorials"
NAMES = sorted(path.stem for path in FOLDER.glob("[0-9]_*.py"))
LONGEST = 25  # lines of a cell


@pytest.fixture(scope="module")
def notebooks():
    path = FOLDER.parent / "docs" / "notebooks.py"
    spec = importlib.util.spec_from_file_location("docs_notebooks", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def cells(name, kind="code"):
    """The cells of a notebook."""
    import nbformat

    made = nbformat.read(FOLDER / f"{name}.ipynb", as_version=4).cells
    return [cell.source for cell in made if cell.cell_type == kind]


def test_each_source_has_a_notebook(notebooks):
    """That they are up to date is seen with the other generated files."""
    assert [path.stem for path in notebooks.notebooks(FOLDER)] == NAMES
    assert [path.stem for path in sorted(FOLDER.glob("*.ipynb"))] == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_form(notebooks, name):
    """A title, a badge, what to expect and how long it takes; an install cell; short cells."""
    first, *_ = cells(name, "markdown")
    title, badge = first.split("\n\n")[:2]
    assert re.fullmatch(r"# \w[^\n]+", title)
    assert badge.startswith("[![Open in Colab](https://colab.research.google.com/")
    assert badge.endswith(f"/{notebooks.REPOSITORY}/blob/main/tutorials/{name}.ipynb)")
    assert "**What to expect.**" in first
    assert re.search(r"\*\*How long\.\*\*.*\d (s|min)\b", first.replace("\n", " "))
    assert "GPU" in first
    code = cells(name)
    assert re.search(r'find_spec\("keras_cnn_classics"\) is None:\n    %pip install', code[0])
    assert max(len(cell.splitlines()) for cell in code) <= LONGEST


@pytest.mark.parametrize("name", NAMES)
def test_small_mode_changes_constants_only(notebooks, name):
    """One cell near the top, of nothing but values for constants of the cell before it."""
    code = cells(name)
    (place,) = [i for i, cell in enumerate(code) if "KCC_SMALL" in cell]
    assert place == 2
    (change,) = [one for one in ast.parse(code[place]).body if not _imports(one)]
    assert ast.unparse(change.test) == "os.environ.get('KCC_SMALL') == '1'"
    assert not change.orelse
    changed, known = _assigned(change.body), _assigned(ast.parse(code[place - 1]).body)
    assert changed <= known
    assert all(one.isupper() for one in known)


def _imports(statement):
    return isinstance(statement, (ast.Import, ast.ImportFrom))


def _assigned(statements):
    """The names that statements give values, which they must all do."""
    kept = [one for one in statements if not _imports(one)]
    assert all(isinstance(one, ast.Assign) for one in kept)
    targets = [name for one in kept for target in one.targets for name in ast.walk(target)]
    return {name.id for name in targets if isinstance(name, ast.Name)}


@pytest.fixture
def small(monkeypatch, tmp_path):
    """The small mode, in an empty folder and without windows; gives the figures that were shown."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KCC_SMALL", "1")
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "home"))
    from matplotlib import pyplot as plt

    shown = []

    def show():
        shown.extend(plt.gcf().axes)
        plt.close("all")

    monkeypatch.setattr(plt, "show", show)
    yield shown
    plt.close("all")


def run(name):
    """Everything that the cells of a source define, run in this process."""
    return runpy.run_path(str(FOLDER / f"{name}.py"))


@pytest.mark.slow_compiled
def test_predict(small, capsys):
    found = run("1_predict")
    assert found["fall"].shape == (3, 3)
    answers = re.findall(r"^ +\d+\.\d %  \w+$", capsys.readouterr().out, re.MULTILINE)
    assert len(answers) == 2 * (5 + 2 + 5)
    assert len(small) == 4 + 3


@pytest.mark.slow_compiled
def test_transfer_learning(small, tmp_path, capsys):
    found = run("2_transfer_learning")
    shares = re.findall(r"(\d+\.\d\d) % right", capsys.readouterr().out)
    assert len(shares) == 2 + 2
    assert max(map(float, shares)) > 20  # of ten classes
    assert (tmp_path / "photos.keras").is_file()
    np.testing.assert_allclose(found["scores"].sum(1), 1, rtol=1e-5)
    assert len(small) == 1 + 1 + 1 + 8


@pytest.mark.slow_compiled
def test_learning_without_forgetting(small, tmp_path):
    found = run("3_learning_without_forgetting")
    tuned, kept = found["tuned_course"][-1], found["kept_course"][-1]
    assert found["before"] > 0.9
    assert kept["old"] > tuned["old"]
    assert min(kept["new"], tuned["new"]) > 0.5
    assert (tmp_path / "both.keras").is_file()
    assert set(found["answers"]) == {"old", "new"}
    assert len(small) == 1 + 2 + 2 + 1


@pytest.mark.slow_compiled
def test_distillation(small):
    found = run("4_distillation")
    teacher, *students = found["errors"].values()
    assert teacher < 20
    assert teacher < min(students) < 80
    assert len(small) == 3 + 1


@pytest.mark.slow_compiled
def test_lenet_to_efficientnet(small, capsys):
    found = run("5_lenet_to_efficientnet")
    pairs = re.findall(r"(\d+) by the rule, (\d+) by the deconvnet", capsys.readouterr().out)
    assert pairs == [("5", "5"), ("14", "14"), ("40", "40")]
    assert set(found["losses"]) == {"plain", "residual"}
    assert np.isfinite(list(found["losses"].values())).all()
    assert len(small) == 2 + 1 + 1 + 2 + 1 + 2


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="it needs TensorFlow")
def test_several_gpus(small, tmp_path):
    """In a process of its own, since it splits the processor."""
    done = subprocess.run(
        [sys.executable, str(FOLDER / "6_several_gpus.py")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "2 replicas: each takes 32 images of a batch of 64" in done.stdout
    (difference,) = re.findall(r"2 replicas and one device differ by (\S+)", done.stdout)
    assert float(difference) < 1e-4
    assert "[worker 0] epochs so far: 1" in done.stdout
    assert (tmp_path / "state").is_dir()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["1_predict", "5_lenet_to_efficientnet"])
def test_as_a_notebook(notebooks, small, name, tmp_path, monkeypatch):
    """By a kernel of Jupyter, as in Colab, but for the package, which is installed."""
    nbclient = pytest.importorskip("nbclient", reason="nbclient runs notebooks")
    pytest.importorskip("ipykernel", reason="ipykernel is what it runs them with")
    import nbformat

    monkeypatch.setenv("MPLBACKEND", "module://matplotlib_inline.backend_inline")
    made = nbformat.reads(notebooks.notebook(FOLDER / f"{name}.py"), as_version=4)
    resources = {"metadata": {"path": str(tmp_path)}}
    nbclient.NotebookClient(made, timeout=600, resources=resources).execute()
    outputs = [one for cell in made.cells for one in cell.get("outputs", ())]
    assert not [one for one in outputs if one.output_type == "error"]
    assert [one for one in outputs if "image/png" in one.get("data", ())]
