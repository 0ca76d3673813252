"""The tables of published weights, against the packages that publish them."""

import csv
import functools
import importlib.metadata
import importlib.util
import math
import re
from pathlib import Path

import pytest

import keras_cnn_classics as kcc
from keras_cnn_classics.weights import deferred, sources

timm = pytest.importorskip("timm", reason="compares with timm")
pytestmark = pytest.mark.parity

MEANS = {"torch": (0.485, 0.456, 0.406), "tf": (0.5, 0.5, 0.5), "none": (0.485, 0.456, 0.406)}
MEANS["dpn"] = tuple(value / 255 for value in (124, 117, 104))
STDS = {"torch": (0.229, 0.224, 0.225), "tf": (0.5, 0.5, 0.5), "none": (0.229, 0.224, 0.225)}
STDS["dpn"] = (1 / (255 * 0.0167),) * 3


def published(*publishers):
    return [
        pytest.param(model, source, id=f"{model}-{tag}")
        for model in sources.models()
        for tag, source in sources.of(model).items()
        if "/" in tag and source.origin in publishers
    ]


# Where the names differ by more than letters of case and what stands between words.
THEIR_NAMES = {
    "GoogLeNetBN": "googlenet",
    "MobileNet": "mobilenetv1100",
    "NASNetLarge": "nasnetalarge",
}


def is_for(model, source, theirs):
    """Whether a name of theirs is for our model."""
    share = source.options.get("alpha")
    ours = THEIR_NAMES.get(model, model) + (f"{100 * share:.0f}" if share else "")
    theirs = re.sub("^tf_|_(google|rwightman|lukemelas)$|[-_]", "", theirs)
    return theirs == ours.lower().replace("_", "")


@pytest.mark.parametrize(("model", "source"), published("timm"))
def test_timm_knows_them(model, source):
    for one in (source, *source.variants):
        if one.top.hub:
            repository, _, _ = one.top.hub
            config = timm.get_pretrained_cfg(repository.removeprefix("timm/"))
            assert config.hf_hub_id in (repository, "timm/")
            assert is_for(model, one, config.architecture)
        else:
            config = timm.get_pretrained_cfg(f"legacy_{model.lower()}")
            assert config.url == one.top.url
        assert tuple(config.mean) == MEANS[one.preprocessing]
        assert tuple(config.std) == STDS[one.preprocessing]
        assert config.num_classes == one.classes
        assert not config.label_offset
        assert (config.license or "apache-2.0").lower() == one.license.lower()
        sizes = {size[1] for size in (config.input_size, config.test_input_size) if size}
        assert kcc.get_builder(model).spec.input_size in sizes


def without_hash(url):
    return url.rpartition("-")[0]


@pytest.fixture(scope="module")
def torchvisions():
    """The addresses of torchvision's files that timm states, by what stands before the hash."""
    found = {}
    for name in timm.list_pretrained():
        url = timm.get_pretrained_cfg(name).url or ""
        if url.startswith("https://download.pytorch.org/models/"):
            found.setdefault(without_hash(url), set()).add(url)
    return found


@pytest.mark.parametrize(("model", "source"), published("torchvision"))
def test_torchvisions_files(model, source, torchvisions):
    """torchvision itself is not here; timm states some of its addresses."""
    name = re.fullmatch(r"(.+)-[0-9a-f]{8}\.pth", source.top.name)[1]
    assert is_for(model, source, name)
    if model != "InceptionV3":  # timm states an older file
        assert source.top.url in torchvisions.get(without_hash(source.top.url), {source.top.url})


def test_timm_states_some_of_torchvisions_files(torchvisions):
    ours = {param.values[1].top.url for param in published("torchvision")}
    assert len(ours & set().union(*torchvisions.values())) >= 10


def folder(package):
    """The folder of a package that is not imported: tf2cv would bring Keras 2."""
    spec = importlib.util.find_spec(package)
    if spec is None:
        pytest.skip(f"compares with {package}")
    return Path(spec.submodule_search_locations[0])


@functools.cache
def store(package):
    """A package's list: error, SHA-1, release and data of each network's file."""
    if package == "tf2cv":
        text = (folder(package) / "models/model_store.py").read_text()
        row = r"\('(\w+)', '(\d{4})', '([0-9a-f]{40})', '([\w.]+)', '(\w+)'"
        return {name: rest for name, *rest in re.findall(row, text)}
    columns = ("error_value", "checksum", "repo_release_tag", "test_dataset")
    with (folder(package) / "models/common/model_metainfos.csv").open(newline="") as file:
        return {row["model_name"]: [row[c] for c in columns] for row in csv.DictReader(file)}


@functools.cache
def tables(package):
    """The numbers that a package's page of results has for each file: errors, then parameters."""
    page = importlib.metadata.metadata(package).get_payload()
    rows = re.findall(r"^\|[^|]+\| ([\d., |]+) \| [\d.,]+M \|.*/(.+)\.log\)", page, re.MULTILINE)
    return {name: [float(n.replace(",", "")) for n in row.split("|")] for row, name in rows}


@pytest.mark.parametrize(("model", "source"), published("tf2cv", "pytorchcv"))
def test_the_stores_of_tf2cv_and_pytorchcv(model, source):
    name = source.top.name.partition("-")[0]
    error, sha1, release, data = store(source.origin)[name]
    root = "https://github.com/osmr/imgclsmob/releases/download"
    suffix = {"tf2cv": "tf2.h5", "pytorchcv": "pth"}[source.origin]
    file = f"{name}-{error}-{sha1[:8]}.{suffix}"
    assert source.top.url == f"{root}/{release}/{file}.zip"
    assert source.top.digest == f"sha1:{sha1}"
    assert source.classes == {"in1k": 1000, "cf": 10}[data]
    *errors, parameters = tables(source.origin)[file]
    assert errors[-1] == int(error) / 100
    stated = [None if e > 100 else pytest.approx(100 - e) for e in errors]  # one is misprinted
    assert [source.top1, source.top5][: len(stated)] == stated
    network = deferred.build_empty(lambda: kcc.build(model, weights=None, **source.options))
    assert parameters == sum(math.prod(w.shape) for w in network.trainable_weights)
