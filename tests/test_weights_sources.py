"""The tables of published weights, against the source code of those who publish them."""

import importlib
import inspect
import re
from urllib.parse import urlsplit

import keras
import pytest

import keras_cnn_classics as kcc
from keras_cnn_classics.preprocessing import MODES
from keras_cnn_classics.weights import sources
from tests.marks import slow

ALL = [
    pytest.param(model, tag, source, id=f"{model}-{tag}")
    for model in sources.models()
    for tag, source in sources.of(model).items()
]
LENGTHS = {"md5": 32, "sha1": 40, "sha256": 64}


def files(source):
    return [f for one in (source, *source.variants) for f in (one.top, one.no_top) if f]


@pytest.mark.parametrize(("model", "tag", "source"), ALL)
def test_form(model, tag, source):
    spec = kcc.get_builder(model).spec
    assert spec.weights[tag] == source
    assert source.preprocessing in MODES
    assert source.license
    assert source.origin
    assert set(source.options) <= set(inspect.signature(kcc.get_builder(model)).parameters)
    assert source.classes == {"imagenet": 1000, "cifar10": 10}[tag.partition("/")[0]]
    assert source.top1 is None or 50 < source.top1 < (source.top5 or 100)
    names = [file.name for file in files(source)]
    assert len(set(names)) == len(names)
    for file in files(source):
        assert urlsplit(file.url).scheme == "https"
        algorithm, _, digits = file.digest.partition(":")
        if digits:
            short = algorithm == "sha256" and file.name.endswith((".pth", ".th"))
            assert re.fullmatch("[0-9a-f]+", digits)
            assert len(digits) == LENGTHS[algorithm] or (short and len(digits) >= 8)
        else:
            assert file.hub or source.options.keys() >= {"alpha"}  # Keras's MobileNets


def test_names_of_files_are_their_own():
    """Two files of one name would push each other out of the cache."""
    urls = {}
    for model in sources.models():
        for source in sources.of(model).values():
            for file in files(source):
                assert urls.setdefault(file.name, file.url) == file.url


def test_weights_for_non_commercial_use_are_no_default():
    marked = {(p.values[0], p.values[1]) for p in ALL if p.values[2].noncommercial}
    assert marked == {
        ("ResNeXt50_32x4d", "imagenet/keras"),
        ("ResNeXt101_32x4d", "imagenet/keras"),
    }


HOSTED = [model for model in sources.models() if "imagenet/keras" in sources.of(model)]
KERAS = [
    # The largest say nothing that the others do not; building them takes long.
    slow(name) if re.search("B[1-7]$|NASNet|InceptionRes|DenseNet|101|152|19$|50V2", name) else name
    for name in HOSTED
    if hasattr(keras.applications, name)
]


def test_keras_states_the_hashes_of_networks_that_it_dropped():
    text = inspect.getsource(importlib.import_module("keras.src.applications.resnet"))
    hashes = re.findall(r'"(resnext\d+)": \(\s*"([0-9a-f]{32})",\s*"([0-9a-f]{32})"', text)
    ours = [sources.of(name)["imagenet/keras"] for name in HOSTED if name.startswith("ResNeXt")]
    assert len(ours) == 2
    for source, (name, *digits) in zip(ours[::-1], hashes, strict=True):
        assert [file.digest for file in files(source)] == [f"md5:{one}" for one in digits]
        assert all(f"/resnet/{name}_weights" in file.url for file in files(source))


def asked_by(monkeypatch, build):
    """The address and the hash that a builder of Keras asks for."""
    asked = {}

    class Asked(Exception):
        pass

    def get_file(name, url, file_hash=None, **kwargs):
        asked.update(url=url, digest=file_hash)
        raise Asked

    monkeypatch.setattr("keras.src.utils.file_utils.get_file", get_file)
    with pytest.raises(Asked):
        build()
    return asked


@pytest.mark.filterwarnings("ignore:`input_shape` is undefined")
@pytest.mark.parametrize("include_top", [True, slow(False)])
@pytest.mark.parametrize("name", KERAS)
def test_keras_asks_for_the_same_files(name, include_top, monkeypatch):
    theirs = getattr(keras.applications, name)
    asked = asked_by(monkeypatch, lambda: theirs(weights="imagenet", include_top=include_top))
    file = sources.of(name)["imagenet/keras"].file(include_top=include_top)
    assert (file.url, file.digest.removeprefix("md5:") or None) == (asked["url"], asked["digest"])


@pytest.mark.parametrize("include_top", [True, slow(False)])
@pytest.mark.parametrize("size", [128, slow(224)])
@pytest.mark.parametrize(("name", "alpha"), [("MobileNet", 0.25), ("MobileNetV2", 1.3)])
def test_keras_asks_for_the_same_variant(name, alpha, size, include_top, monkeypatch):
    theirs = getattr(keras.applications, name)
    options = {"alpha": alpha, "input_shape": (size, size, 3), "include_top": include_top}
    asked = asked_by(monkeypatch, lambda: theirs(weights="imagenet", **options))
    source = sources.of(name)["imagenet"].variant({"alpha": alpha}, size)
    assert source.file(include_top=include_top).url == asked["url"]
