"""The tutorials run from top to bottom, and their notebooks are those of the sources."""

import ast
import importlib.util
import re
import runpy
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / "tutorials"
NAMES = sorted(path.stem for path in FOLDER.glob("[0-9]_*.py"))
LONGEST = 25  # lines of a cell


@pytest.fixture(scope="module")
def generate():
    pytest.importorskip("jupytext", reason="jupytext makes the notebooks")
    spec = importlib.util.spec_from_file_location("tutorials_generate", FOLDER / "generate.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def cells(name, kind="code"):
    """The cells of a notebook."""
    import nbformat

    made = nbformat.read(FOLDER / f"{name}.ipynb", as_version=4).cells
    return [cell.source for cell in made if cell.cell_type == kind]


def test_notebooks_are_up_to_date(generate):
    names = [path.name for path in generate.stale()]
    assert not names, f"run `make docs`: {names}"
    assert [path.stem for path in generate.sources()] == NAMES


def test_check_names_stale_notebooks_and_writing_mends_them(generate, tmp_path, capsys):
    source = tmp_path / "1_short.py"
    source.write_text("# %% [markdown]\n# # Short\n#\n# Text.\n\n# %%\nprint(1)\n")
    assert generate.main(["--check"], tmp_path) == 1
    assert "1_short.ipynb is out of date" in capsys.readouterr().out
    assert not source.with_suffix(".ipynb").exists()
    assert generate.main([], tmp_path) == 0
    assert generate.main(["--check"], tmp_path) == 0


@pytest.mark.parametrize("name", NAMES)
def test_form(generate, name):
    """A title, a badge, what to expect and how long it takes; an install cell; short cells."""
    first, *_ = cells(name, "markdown")
    title, badge = first.split("\n\n")[:2]
    assert re.fullmatch(r"# \w[^\n]+", title)
    assert badge.startswith("[![Open in Colab](https://colab.research.google.com/")
    assert badge.endswith(f"/{generate.REPOSITORY}/blob/main/tutorials/{name}.ipynb)")
    assert "**What to expect.**" in first
    assert re.search(r"\*\*How long\.\*\*.*\d (s|min)\b", first.replace("\n", " "))
    assert "GPU" in first
    code = cells(name)
    assert re.search(r'find_spec\("keras_cnn_classics"\) is None:\n    %pip install', code[0])
    assert max(len(cell.splitlines()) for cell in code) <= LONGEST


@pytest.mark.parametrize("name", NAMES)
def test_small_mode_changes_constants_only(generate, name):
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
    return {target.id for one in kept for target in one.targets}


@pytest.fixture
def small(monkeypatch, tmp_path):
    """An empty folder to run in, the small mode, and no windows."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KCC_SMALL", "1")
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "home"))
    from matplotlib import pyplot as plt

    figures = []

    def show():
        figures.extend(plt.get_fignums())
        plt.close("all")

    monkeypatch.setattr(plt, "show", show)
    yield figures
    plt.close("all")


def run(name):
    return runpy.run_path(str(FOLDER / f"{name}.py"))


def test_predict(small, capsys):
    found = run("1_predict")
    assert len(small) == 2
    assert found["fall"].shape == (3, 3)
    answers = re.findall(r"^ +\d+\.\d %  \w+$", capsys.readouterr().out, re.MULTILINE)
    assert len(answers) == 2 * (5 + 2 + 5)
