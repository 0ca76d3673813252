"""`weights` on the command line: the sets, the cache, and files of other formats."""

import hashlib
import json
import re
import shutil
import zipfile

import h5py
import keras
import numpy as np
import pytest
from safetensors.numpy import save_file
from test_cli import fails

import keras_cnn_classics as kcc
from keras_cnn_classics.applications import squeezenet
from keras_cnn_classics.cli import weights
from keras_cnn_classics.preprocessing import model_preprocessing
from keras_cnn_classics.registry import WeightsFile, WeightsSource
from keras_cnn_classics.weights import MismatchError, _copies, _download, _files

NAME = "SqueezeNet1_1"
SPEC = kcc.get_builder(NAME).spec
TAG = "imagenet/torchvision"
KEYS = {
    *("name", "tag", "plain_tag", "bytes", "estimated", "top1", "top5", "license", "origin"),
    *("noncommercial", "preprocessing", "options", "input_size", "cached", "url", "variants"),
    *("default", "needs_torch"),
}


@pytest.fixture(autouse=True)
def mirror(tmp_path, monkeypatch):
    """An empty cache, and a folder that serves in place of all publishers."""
    from huggingface_hub import constants

    folder = tmp_path / "mirror"
    folder.mkdir()
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("KCC_WEIGHTS_MIRROR", folder.as_uri())
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    for name in ("KCC_OFFLINE", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    return folder


@pytest.fixture(scope="module")
def model():
    return kcc.SqueezeNet1_1(weights=None)


def same(a, b):
    for x, y in zip(a.get_weights(), b.get_weights(), strict=True):
        np.testing.assert_array_equal(x, y)


def write_torch_layout(model, path):
    """A SqueezeNet as torchvision would have saved it."""
    tensors = {}
    for layer, (name,) in squeezenet._torch_names(**SPEC.config).items():
        kernel, bias = model.get_layer(layer).get_weights()
        tensors[f"{name}.weight"] = np.ascontiguousarray(kernel.transpose(3, 2, 0, 1))
        tensors[f"{name}.bias"] = bias
    save_file(tensors, path)


@pytest.fixture
def publish(mirror, model, monkeypatch):
    """Publishes a file of a SqueezeNet's weights as its only set."""

    def call(name):
        if name.endswith(".safetensors"):
            write_torch_layout(model, mirror / name)
        else:
            model.save_weights(mirror / name)
        digest = f"sha256:{hashlib.sha256((mirror / name).read_bytes()).hexdigest()}"
        source = WeightsSource(top=WeightsFile(f"https://example.invalid/{name}", digest))
        for tag in list(SPEC.weights):
            monkeypatch.setitem(SPEC.weights, tag, source)

    return call


def cache():
    """What the cache holds, but for locks."""
    folder = _download.cache_dir()
    return sorted(p.name for p in folder.iterdir() if p.is_file()) if folder.is_dir() else []


def put(name, content=b"anything"):
    path = _download.cache_dir() / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def test_help(run):
    for verb in ("list", "download", "verify", "convert"):
        code, out, _ = run("weights", verb, "--help")
        assert code == 0
        assert "--debug" in out
    fails(run("weights"), 2, "Missing command.*See keras-cnn-classics weights --help")
    fails(run("weights", "lits"), 2, "lits")


def test_list_is_the_registry(run):
    code, out, _ = run("weights", "list", "--json")
    assert code == 0
    rows = json.loads(out)
    assert all(row.keys() == KEYS for row in rows)
    sets = {row["name"]: [] for row in rows}
    for row in rows:
        sets[row["name"]].append(row)
    assert list(sets) == kcc.list_models(pretrained=True)
    for name, own in sets.items():
        weights = kcc.get_builder(name).spec.weights
        tags = [tag for row in own for tag in (row["tag"], row["plain_tag"]) if tag]
        assert sorted(tags) == sorted(weights)
        for row in own:
            source = weights[row["tag"]]
            assert row["plain_tag"] is None or weights[row["plain_tag"]] is source
            assert (row["top1"], row["license"]) == (source.top1, source.license)
            assert (row["cached"], row["estimated"]) == ("no", True)


def test_list_as_a_table(run):
    _, out, _ = run("weights", "list", "VGG16")
    first, second = out.splitlines()[1:3]
    form = r"VGG16 +imagenet/keras \* +~553 MB 71\.3 +90\.\d +no +CC BY 4\.0 +caffe +Simonyan"
    assert re.search(form, first)
    assert re.search(r"imagenet/timm-tv +~", second)
    assert "* is what weights='imagenet' loads" in out
    _, out, _ = run("weights", "list", "resnext*")
    assert out.count("CC BY-NC 4.0, non-commercial") == 2
    _, out, _ = run("weights", "list", "mobilenet*")
    assert "imagenet/keras * (1 of 16)" in out
    _, out, _ = run("weights", "list", "mobilenet")
    assert out.count("imagenet/keras") == 16
    (default,) = re.findall(r".*imagenet/keras \*.*", out)
    assert "alpha=1.0 size=224" in default
    assert "alpha=0.25 size=128" in out


def test_list_marks_what_needs_pytorch(run):
    _, out, _ = run("weights", "list", "VGG11")
    first, second = out.splitlines()[1:3]
    assert "imagenet/timm-tv * " in first
    assert "imagenet/torchvision + " in second
    assert "+ needs PyTorch" in out
    assert "+ needs PyTorch" not in run("weights", "list", "VGG16")[1]


@pytest.mark.parametrize("width", [40, 60, 80, 100, 140, 250])
def test_list_in_a_narrow_window(run, monkeypatch, width):
    """Columns go; none is cut."""
    import rich.console

    console = rich.console.Console
    monkeypatch.setattr(rich.console, "Console", lambda **kept: console(**{**kept, "width": width}))
    _, out, _ = run("weights", "list", "vgg*")
    assert max(map(len, out.splitlines())) <= width
    assert "…" not in out
    assert "BSD-3-Clause" in out or width < 60
    words = " ".join(out.split())
    dropped = re.search("A wider window shows (.*), too", words)
    header = out.splitlines()[0].split()
    shown = [*header, *(dropped[1].split(", ") if dropped else [])]
    assert sorted(shown) == sorted(weights._CELLS.keys() - {"for"})
    assert dropped is None or width < 250


def test_list_of_what_is_not_there(run):
    fails(run("weights", "list", "VGG17"), 2, "Did you mean VGG1")
    fails(run("weights", "list", "LeNet5"), 1, "No weights of LeNet5 are published")
    fails(run("weights", "list", "x*y"), 2, r"No network has a name like that.*'x\*y'")
    fails(run("weights", "list", "LeNet*"), 1, r"No weights of LeNet\* are published")
    assert json.loads(run("weights", "list", "LeNet5", "--json")[1]) == []


def test_list_neither_builds_nor_hashes(run, monkeypatch):
    def never(*args, **kwargs):
        raise AssertionError

    monkeypatch.setattr(keras.layers.Layer, "__call__", never)
    monkeypatch.setattr(_files, "digest_of", never)
    vgg16 = kcc.VGG16.spec.weights["imagenet"]
    put(vgg16.no_top.name)
    (row, _) = json.loads(run("weights", "list", "vgg16", "--json")[1])
    assert (row["cached"], row["estimated"]) == ("trunk", True)
    put(vgg16.top.name)
    (row, _) = json.loads(run("weights", "list", "vgg16", "--json")[1])
    assert (row["cached"], row["estimated"], row["bytes"]) == ("yes", False, 8)


@pytest.mark.parametrize("name", ["x.weights.h5", "x.safetensors"])
def test_download(run, publish, mirror, model, monkeypatch, name):
    publish(name)
    code, out, errors = run("weights", "download", NAME.lower())
    assert code == 0, errors
    source = SPEC.weights["imagenet"]
    path = _copies.find(source.top, NAME) or _download.cache_dir() / name
    assert path.is_file()
    assert out == f"{NAME}: {path.stat().st_size / 1e6:.1f} MB at {path}\n"
    (row,) = json.loads(run("weights", "list", NAME, "--json")[1])
    assert (row["cached"], row["bytes"]) == ("yes", path.stat().st_size)

    monkeypatch.setenv("KCC_OFFLINE", "1")
    before = {file: (_download.cache_dir() / file).stat().st_mtime_ns for file in cache()}
    for tag in (TAG, TAG.partition("/")[2]):
        assert run("weights", "download", NAME, "--tag", tag)[:2] == (0, out)
    assert {file: (_download.cache_dir() / file).stat().st_mtime_ns for file in cache()} == before
    same(kcc.SqueezeNet1_1(weights="imagenet"), model)


def test_download_of_a_variant(run, mirror):
    options = {"alpha": 0.25, "input_shape": (128, 128, 3)}
    trunk = kcc.MobileNet(weights=None, include_top=False, **options)
    trunk.save(mirror / "mobilenet_2_5_128_tf_no_top.h5")
    call = ("weights", "download", "MobileNet", "-o", "alpha=0.25", "--size", "128")
    assert run(*call, "--no-top")[0] == 0
    assert cache() == ["mobilenet_2_5_128_tf_no_top.h5"]
    rows = json.loads(run("weights", "list", "MobileNet", "--json")[1])
    kept = {(r["options"].get("alpha"), r["input_size"]): r["cached"] for r in rows}
    assert kept.pop((0.25, 128)) == "trunk"
    assert set(kept.values()) == {"no"}
    fails(run(*call), 1, "mobilenet_2_5_128_tf.h5 does not exist")
    fails(run(*call[:3], "-o", "alpha=0.3"), 1, "published weights of MobileNet are for alpha=1.0")
    fails(run(*call[:3], "-o", "beta=2"), 2, "takes alpha")
    fails(run(*call[:3], "--size", "8"), 2, "at least 32 pixels")


def test_options_go_to_the_networks_that_know_them(run, mirror):
    trunk = kcc.MobileNet(weights=None, include_top=False, alpha=0.5)
    trunk.save(mirror / "mobilenet_5_0_224_tf_no_top.h5")
    call = ("weights", "download", "LeNet5", "MobileNet", "--no-top", "-o")
    code, out, said = run(*call, "alpha=0.5")
    assert (code, out.partition(":")[0]) == (1, "MobileNet")
    assert "LeNet5: no weights of it" in said
    fails(run(*call, "beta=2"), 2, "beta=2")


def test_downloads_that_fail(run, publish):
    publish("x.weights.h5")
    code, out, said = run("weights", "download", "LeNet5", "VGG16", NAME)
    assert code == 1
    first, second, last = said.splitlines()
    assert re.match("LeNet5: no weights of it", first)
    assert re.match("VGG16: .* does not exist", second)
    assert last == "Error: 2 of 3 failed."
    assert out.startswith(f"{NAME}: ")
    assert cache() == ["x.weights.h5"]
    fails(run("weights", "download", "LeNet5"), 1, "^Error: LeNet5: no weights of it")
    fails(run("weights", "download", NAME, "--tag", "me"), 1, f"one of imagenet, {TAG}.*'me'")
    near = run("weights", "download", NAME, "--tag", "torchvison")
    fails(near, 1, rf"Did you mean {TAG}\? Received: 'torchvison'")
    shutil.rmtree(_download.cache_dir())
    fails(run("weights", "download", NAME, "SqueezeNet1_2"), 2, "Did you mean SqueezeNet1_")
    fails(run("weights", "download"), 2, "NAME")
    assert cache() == []


def test_a_download_of_something_else_leaves_nothing(run, publish, mirror):
    publish("x.weights.h5")
    (mirror / "x.weights.h5").write_text("<!DOCTYPE html>")
    fails(run("weights", "download", NAME), 1, "a page of text")
    (mirror / "x.weights.h5").write_bytes(b"cut")
    fails(run("weights", "download", NAME), 1, "its sha256 is")
    assert cache() == []


def test_verify_without_anything(run):
    code, out, _ = run("weights", "verify")
    assert code == 0
    assert "None of the published weights are cached" in out
    fails(run("weights", "verify", "VGG17"), 2, "Did you mean")


def test_verify(run, publish):
    publish("x.safetensors")
    assert run("weights", "download", NAME)[0] == 0
    code, out, _ = run("weights", "verify", NAME)
    copy = _copies.find(SPEC.weights["imagenet"].top, NAME)
    assert code == 0
    assert re.search(r"^OK  .*x\.safetensors: sha256:\w{64}$", out, re.M)
    assert f"OK  {copy}: {_copies.digest(copy)}" in out

    left = put("x.safetensors.part")
    whole = copy.read_bytes()
    copy.write_bytes(whole[:-9])
    bad = put("x.safetensors", b"other")
    other = put(kcc.VGG16.spec.weights["imagenet"].top.name)
    code, out, errors = run("weights", "verify", NAME)
    fails((code, out, errors), 1, "2 of 2; --delete removes")
    assert re.search(r"^BAD .*x\.safetensors: its sha256 is \w{64}, not \w{64}$", out, re.M)
    assert re.search(rf"^BAD {copy}: its sha256 is \w{{8}}", out, re.M)
    assert f"... {left}" in out
    assert other.name not in out
    code, out, _ = run("weights", "verify", "--delete")
    assert (code, out.splitlines()[-1]) == (0, "Bad files: 3 of 3, removed.")
    assert cache() == [left.name]
    assert not bad.exists()
    assert run("weights", "verify")[0] == 0


def test_verify_where_no_hash_is_published(run, tmp_path):
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["x"] = 1
    name = kcc.MobileNet.spec.weights["imagenet"].top.name
    put(name, (tmp_path / "x.h5").read_bytes())
    assert "no hash of it is published" in run("weights", "verify", "MobileNet")[1]
    put(name, b"<html>")
    fails(run("weights", "verify", "MobileNet"), 1, "Bad files: 1 of 1")
    save_file({"x": np.zeros(3)}, tmp_path / "x.safetensors")
    good = (tmp_path / "x.safetensors").read_bytes()
    name = kcc.VGG16.spec.weights["imagenet/timm-tv"].top.name  # as a mirror has it
    put(name, good)
    assert run("weights", "verify", "VGG16")[0] == 0
    put(name, good[:-1])
    fails(run("weights", "verify", "VGG16"), 1, "1 of 1")


def test_verify_the_hubs_cache(run, tmp_path):
    """Its files are links to what has the hash for a name; both are removed."""
    content = b"weights"
    repository, revision, name = kcc.VGG16.spec.weights["imagenet/timm-tv"].top.hub
    folder = tmp_path / "hub" / f"models--{repository.replace('/', '--')}"
    for part in ("blobs", "refs", "snapshots/abc"):
        (folder / part).mkdir(parents=True)
    (folder / "refs" / revision).write_text("abc")
    blob = folder / "blobs" / hashlib.sha256(content).hexdigest()
    blob.write_bytes(content)
    link = folder / "snapshots" / "abc" / name
    link.symlink_to(blob)
    assert f"OK  {link}: sha256:{blob.name}" in run("weights", "verify")[1]
    row = json.loads(run("weights", "list", "vgg16", "--json")[1])[-1]
    assert (row["cached"], row["bytes"]) == ("yes", len(content))
    blob.write_bytes(b"other")
    assert "Bad files: 1 of 1, removed." in run("weights", "verify", "--delete")[1]
    assert not blob.exists()
    assert not link.is_symlink()


def test_a_link_in_the_cache_leads_to_a_file_that_is_not_ours(run, tmp_path):
    path = put(kcc.VGG16.spec.weights["imagenet"].top.name)
    own = path.rename(tmp_path / "mine.h5")
    path.symlink_to(own)
    assert "Bad files: 1 of 1, removed." in run("weights", "verify", "--delete")[1]
    assert own.exists()
    assert cache() == []


def test_convert(run, model, tmp_path):
    path, out = tmp_path / "x.safetensors", tmp_path / "x.weights.h5"
    write_torch_layout(model, path)
    call = ("weights", "convert", path, "--to", NAME.lower(), "--output", out)
    code, text, _ = run(*call)
    assert code == 0
    counted = f"1,235,496 parameters are in {out}, for images in mode 'torch'. "
    assert text == counted + f'Use: {NAME}(weights="{out}")\n'
    again = kcc.SqueezeNet1_1(weights=out)
    same(again, model)
    assert model_preprocessing(again).keywords["mode"] == "torch"
    with pytest.raises(MismatchError, match="it is of SqueezeNet1_1"):
        kcc.SqueezeNet1_0(weights=out)
    fails(run(*call), 1, "x.weights.h5 exists.*--overwrite")
    before = out.stat().st_mtime_ns
    assert run(*call, "--no-top", "--overwrite")[0] == 0
    assert out.stat().st_mtime_ns > before
    trunk = kcc.SqueezeNet1_1(weights=out, include_top=False)
    same(trunk, keras.Model(model.input, model.get_layer("fire9_concat").output))
    assert sorted(p.name for p in tmp_path.glob("*.*")) == [path.name, out.name]


def test_convert_with_options(run, tmp_path):
    options = {"units": (32, 24), "width": 16, "classes": 5, "input_shape": (64, 64, 3)}
    model = kcc.VGG11(weights=None, **options)
    model.save(tmp_path / "x.keras")
    out = tmp_path / "x.weights.h5"
    call = ("weights", "convert", tmp_path / "x.keras", "--to", "VGG11", "--output", out)
    fails(run(*call), 1, "does not hold the weights of this VGG11")
    flags = ("-o", "units=(32, 24)", "-o", "width=16", "--classes", "5", "--size", "64")
    code, text, _ = run(*call, *flags)
    assert code == 0
    again = eval(text.partition("Use: ")[2], {"VGG11": kcc.VGG11})
    same(again, model)


def test_convert_what_training_left(run, tmp_path):
    model = kcc.LeNet5(classes=3, activation="relu")
    model.save(tmp_path / "best.keras")
    facts = {
        "model": "LeNet5",
        "options": {"activation": "relu"},
        "image_shape": [32, 32, 1],
        "classes": 3,
        "classifier_activation": "linear",
    }
    with zipfile.ZipFile(tmp_path / "best.keras", "a") as archive:
        archive.writestr("run.json", json.dumps(facts))
    out = tmp_path / "x.weights.h5"
    call = ("weights", "convert", tmp_path / "best.keras", "--output", out, "--to")
    code, _, errors = run(*call, "LeNet5")
    assert code == 0, errors
    same(kcc.LeNet5(classes=3, activation="relu", weights=out), model)
    fails(run(*call, "LeNet", "--overwrite"), 1, "a checkpoint of LeNet5, not of LeNet")


def test_conversions_that_fail(run, model, tmp_path):
    good = tmp_path / "x.safetensors"
    write_torch_layout(model, good)
    (tmp_path / "page.h5").write_text("<!DOCTYPE html>")
    (tmp_path / "cut.safetensors").write_bytes(good.read_bytes()[:-5])
    (tmp_path / "notes.txt").write_text("")
    files = sorted(tmp_path.iterdir())
    out = tmp_path / "y.weights.h5"
    for file, to, target, code, words in (
        (good, "SqueezeNet1_0", out, 1, "does not hold the weights of this SqueezeNet1_0"),
        (good, "LeNet5", out, 1, "no PyTorch checkpoint of this architecture is known"),
        (tmp_path / "page.h5", NAME, out, 1, "page.h5 does not hold the weights"),
        (tmp_path / "cut.safetensors", NAME, out, 1, "cut.safetensors does not hold"),
        (tmp_path / "notes.txt", NAME, out, 1, "must end in"),
        (tmp_path / "gone.h5", NAME, out, 1, "There is no file .*gone.h5"),
        (good, NAME, tmp_path / "gone" / "y.weights.h5", 1, "There is no folder .*gone"),
        (good, NAME, tmp_path / "y.h5", 2, r"must end in \.weights\.h5"),
        (good, "SqueezeNet1_2", out, 2, "Did you mean"),
    ):
        fails(run("weights", "convert", file, "--to", to, "--output", target), code, words)
    fails(run("weights", "convert", good, "--to", NAME), 2, "--output")
    assert sorted(tmp_path.iterdir()) == files


@pytest.mark.parity  # whose stage is the one that has PyTorch
def test_convert_runs_no_code(run, tmp_path):
    torch = pytest.importorskip("torch")

    class Evil:
        def __reduce__(self):
            return (tmp_path.joinpath("ran").touch, ())

    torch.save({"x": Evil()}, tmp_path / "evil.pth")
    call = ("weights", "convert", tmp_path / "evil.pth", "--to", NAME)
    fails(run(*call, "--output", tmp_path / "y.weights.h5"), 1, "may run code and was not read")
    assert [p.name for p in tmp_path.glob("*.*")] == ["evil.pth"]
    assert not (tmp_path / "ran").exists()


def test_a_full_disk_leaves_what_was_there(run, model, tmp_path, monkeypatch):
    path, out = tmp_path / "x.safetensors", tmp_path / "x.weights.h5"
    write_torch_layout(model, path)
    out.write_text("before")

    def full(self, path):
        path.write_text("half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(keras.Model, "save_weights", full)
    call = ("weights", "convert", path, "--to", NAME, "--output", out, "--overwrite")
    fails(run(*call), 1, "No space left")
    assert out.read_text() == "before"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["mirror", path.name, out.name]
