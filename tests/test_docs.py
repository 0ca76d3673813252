"""The documents say of the package what the package says of itself."""

import importlib.util
import re
import shutil
from pathlib import Path

import pytest

import keras_cnn_classics as kcc

ROOT = Path(__file__).parents[1]


def text(name):
    return (ROOT / name).read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def generate():
    path = ROOT / "docs" / "generate.py"
    spec = importlib.util.spec_from_file_location("docs_generate", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def copy(tmp_path):
    """A folder with the files that are written, as they are now."""
    (tmp_path / "docs").mkdir()
    for name in ("README.md", "docs/models.md"):
        shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path


def test_generated_files_are_up_to_date(generate):
    names = [str(path.relative_to(ROOT)) for path in generate.stale()]
    assert not names, f"run `make docs`: {names}"


def test_every_model_is_in_both_tables():
    for name in kcc.list_models():
        assert f"| `{name}` |" in text("docs/models.md")
        assert f"`{name}`" in text("README.md").partition("models:begin")[2]


def test_every_layer_is_in_its_table(generate):
    """Ours by name, with a reference for each that comes from a paper; Keras's can be made."""
    import keras

    page = text("docs/layers.md")
    from_no_paper = {"EdgePadding2D", "OddPadding2D", "PreprocessInput"}
    from_no_paper |= {"CeilAveragePooling2D", "SameAveragePooling2D", "SamePadding2D"}
    for name in generate.our_layers():
        (row,) = re.findall(rf"^\| (.*) \| `{name}` \| .+ \| ours \|$", page, re.MULTILINE)
        assert re.search(r"\[[^\]]+, \d{4}\]\(https://", row) or name in from_no_paper, name
    assert "| `Maxout` |" in page
    for code, what, paper in generate.KERAS_LAYERS:
        made = eval(code, {"__builtins__": {}}, vars(keras.layers))
        assert isinstance(made, keras.layers.Layer)
        assert f"| {paper} | `{code}` | {what} | keras |" in page
        assert generate.year_of(paper) != "none"


def test_check_names_stale_files_and_writing_mends_them(generate, copy, capsys):
    (copy / "docs" / "models.md").unlink()
    readme = copy / "README.md"
    changed = text("README.md").replace(generate.BEGIN, f"{generate.BEGIN}\nan old table")
    readme.write_text(changed, encoding="utf-8")
    assert generate.main(["--check"], copy) == 1
    named = capsys.readouterr().out
    assert "models.md" in named
    assert "README.md" in named
    assert generate.main([], copy) == 0
    assert generate.main(["--check"], copy) == 0
    assert readme.read_text(encoding="utf-8") == text("README.md")


def test_a_readme_without_markers_is_refused(generate, copy):
    (copy / "README.md").write_text("no table here\n", encoding="utf-8")
    with pytest.raises(ValueError, match="models:begin"):
        generate.main([], copy)


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md"])
def test_documented_make_targets_exist(name):
    code = " ".join(re.findall(r"```.*?```|`[^`\n]+`", text(name), re.DOTALL))
    documented = set(re.findall(r"\bmake ([a-z][a-z-]*)", code))
    targets = set(re.findall(r"^([a-z][a-z-]*):", text("Makefile"), re.MULTILINE))
    assert {"test", "lint"} <= documented
    assert documented <= targets


def test_citation_and_changelog_state_the_version():
    stated = re.findall(r"^version: *['\"]?([^\s'\"]+)", text("CITATION.cff"), re.MULTILINE)
    released = re.findall(r"^## \[(\d[^\]]*)\]", text("CHANGELOG.md"), re.MULTILINE)
    assert {*stated, *released[:1]} <= {kcc.__version__}
