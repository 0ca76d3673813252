"""The documents say of the package what the package says of itself."""

import ast
import functools
import importlib.util
import inspect
import itertools
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

import keras_cnn_classics as kcc
from keras_cnn_classics.weights import deferred
from tests.marks import slow

ROOT = Path(__file__).parents[1]
DOCS = sorted(page.relative_to(ROOT).as_posix() for page in (ROOT / "docs").rglob("*.md"))


def text(name):
    return (ROOT / name).read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def generate():
    path = ROOT / "docs" / "generate.py"
    spec = importlib.util.spec_from_file_location("docs_generate", path)
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(path.parent)
        spec.loader.exec_module(module)
    return module


@pytest.fixture
def copy(tmp_path):
    """A folder with the files that are written, as they are now."""
    for name in ("docs", "tutorials"):
        (tmp_path / name).mkdir()
    shutil.copy(ROOT / "tutorials" / "1_predict.py", tmp_path / "tutorials")
    for name in ("README.md", "docs/models.md", "docs/fidelity.md"):
        shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path


def test_generated_files_are_up_to_date(generate):
    names = [str(path.relative_to(ROOT)) for path in generate.stale()]
    assert not names, f"run `make docs`: {names}"


def test_every_model_is_in_all_tables():
    for name in kcc.list_models():
        assert f"| `{name}` |" in text("docs/models.md")
        family = f"families/{kcc.get_builder(name).spec.family}.md"
        assert f"\n| `{name}` |" in text(f"docs/{family}")
        assert f": {family}\n" in text("mkdocs.yml")
        assert f"`{name}`" in text("README.md").partition("models:begin")[2]


def test_no_generated_page_is_left_over(generate):
    written = {path.relative_to(ROOT).as_posix() for path in generate.documents(ROOT)}
    folders = ("docs/families/", "docs/api/")
    assert {page for page in DOCS if page.startswith(folders)} <= written


def test_every_page_is_in_the_menu():
    in_menu = re.findall(r": ([\w/]+\.md)$", text("mkdocs.yml"), re.MULTILINE)
    assert sorted(f"docs/{page}" for page in in_menu) == DOCS


def test_every_model_has_a_proof(generate):
    proven = {name for proof in generate.PROOFS for name in proof.models}
    assert proven == set(kcc.list_models())
    assert len(set(generate.PROOFS)) == len(generate.PROOFS)


def plain(name):
    return re.sub("[_-]", "", name).lower()


def names_in(test):
    """What a test names: patterns of its strings, f-strings and attributes, for `plain` names."""
    file, _, name = test.partition("::")
    tree = ast.parse(text(f"tests/parity/{file}"))
    (function,) = (one for one in tree.body if getattr(one, "name", "") == name)
    for node in ast.walk(function):
        if isinstance(node, ast.JoinedStr):
            parts = (getattr(part, "value", None) for part in node.values)
            yield "".join(plain(p) if isinstance(p, str) else "[0-9]+" for p in parts)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield re.escape(plain(node.value))
        elif isinstance(node, ast.Attribute):
            yield re.escape(plain(node.attr))


def test_the_proofs_are_tests_that_name_the_models(generate):
    for proof in generate.PROOFS:
        patterns = set(names_in(proof.test))
        for name in proof.models:
            assert any(re.fullmatch(p, plain(name)) for p in patterns), (proof.test, name)


def test_what_is_said_of_keras(generate):
    """Families and arguments are Keras's; numbers of layers are those that are seen."""
    import keras

    shared = [name for name in kcc.list_models() if hasattr(keras.applications, name)]
    assert len(shared) == 26
    assert {kcc.get_builder(name).spec.family for name in shared} == set(generate.KERAS)
    others = [name for name in kcc.list_models() if name not in shared]
    for name in ("ResNet18", "ResNet34", "ResNet200V2", "DenseNet161", "InceptionResNetV1"):
        assert name in others

    def first(name):
        return next(iter(inspect.signature(getattr(keras.applications, name)).parameters))

    odd = {name for name in shared if first(name) != "include_top"}
    assert odd == {"MobileNet", "MobileNetV2", "NASNetMobile", "NASNetLarge"}
    with pytest.raises(ValueError, match="1000"):
        keras.applications.MobileNet(weights="imagenet", classes=5)
    pixels = np.full((1, 2, 2, 3), 255, "float32")
    keras.applications.mobilenet.preprocess_input(pixels)
    assert (pixels == 1).all()


def networks_of_both(name):
    """Keras's network and ours, without values."""
    import keras

    for package in (keras.applications, kcc):
        yield deferred.build_empty(functools.partial(getattr(package, name), weights=None))


@pytest.mark.parametrize(
    "name", ["MobileNetV2", "VGG16", *map(slow, ("InceptionResNetV2", "NASNetMobile"))]
)
def test_numbers_of_layers_are_those_that_are_stated(generate, name):
    theirs, ours = networks_of_both(name)
    assert ours.count_params() == theirs.count_params()
    said = " ".join([text("docs/migrating.md"), *itertools.chain(*generate.KERAS.values())])
    for model in (theirs, ours):
        assert re.search(rf"\b{len(model.layers)}\b", said), len(model.layers)


@pytest.mark.slow
def test_statistics_of_an_efficientnet_are_no_weights():
    theirs, ours = networks_of_both("EfficientNetB0")
    assert theirs.count_params() == ours.count_params() + 7


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
    assert "1_predict.ipynb is out of date" in named
    assert generate.main([], copy) == 0
    assert generate.main(["--check"], copy) == 0
    assert readme.read_text(encoding="utf-8") == text("README.md")


def targets(page):
    """The links of a page within the repository: the page and the anchor that each goes to."""
    code = re.compile(r"^ *```.*?^ *```$|`[^`]*`", re.MULTILINE | re.DOTALL)
    for link in re.findall(r"\]\(([^)\s]+)\)", code.sub("", text(page))):
        if not re.match("https?://|mailto:", link):
            path, _, anchor = link.partition("#")
            yield (ROOT / page).parent / path if path else ROOT / page, anchor


def anchors(page):
    """The anchors of a page's headings, as GitHub and MkDocs make them."""
    without = re.sub(r"^ *```.*?^ *```$", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
    for heading in re.findall(r"^#+ (.*)$", without, re.MULTILINE):
        yield re.sub(r"[^\w\s-]", "", heading.lower()).strip().replace(" ", "-")


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", *DOCS])
def test_links_within_the_repository_lead_somewhere(page):
    for path, anchor in targets(page):
        assert path.exists(), path
        assert not anchor or anchor in anchors(path), (path, anchor)


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
