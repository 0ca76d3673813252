"""The command line: what it prints, what it leaves behind, how it fails."""

import base64
import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from importlib import metadata

import keras
import numpy as np
import pytest
from PIL import Image

import keras_cnn_classics as kcc
from keras_cnn_classics import cli
from keras_cnn_classics.cli.evaluate import measure

COMMANDS = (
    *("list", "show", "train", "evaluate", "transfer", "predict", "demo", "launch", "weights"),
    "data",
)


def fails(result, code, words):
    """The command failed with one clear line, without a traceback."""
    got, _, errors = result
    assert got == code, errors
    assert re.search(words, errors), errors
    assert "Traceback" not in errors
    assert len(errors.strip().splitlines()) == 1


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run of two epochs, made by the command itself in a process of its own."""
    folder = tmp_path_factory.mktemp("runs") / "lenet5"
    command = [sys.executable, "-m", "keras_cnn_classics", "train", "LeNet5", "--data", "digits"]
    done = subprocess.run(
        [*command, "--epochs", "2", "--profile", "2", "--output", folder],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert re.search(r"Test error \d+\.\d+ % \(599 images\)", done.stdout)
    return folder


@pytest.fixture
def digit(tmp_path):
    from sklearn.datasets import load_digits

    image = Image.fromarray((load_digits().images[1] * 15).astype("uint8"))
    path = tmp_path / "one.png"
    image.resize((28, 28)).save(path)
    return path


def test_help_is_complete(run):
    code, out, _ = run("--help")
    assert code == 0
    assert run()[1] == out
    for command in COMMANDS:
        assert command in out
        code, text, _ = run(command, "--help")
        assert code == 0
        assert "--debug" in text
        lines = text.splitlines()
        options = [i for i, line in enumerate(lines) if re.match(r"^  (-\w, )?--", line)]
        assert options
        for i in options:  # each option is described beside its name or in the next line
            beside = re.search(r"  +[A-Z].*$", lines[i][3:])
            assert beside or re.match(r"^ {10,}\S", lines[i + 1]), lines[i]


def test_list(run):
    code, out, _ = run("list", "vgg1*", "--pretrained")
    assert code == 0
    assert "VGG16 " in out
    assert "138,357,544" in out
    assert "VGG16C" not in out
    _, out, _ = run("list", "--year", "1998", "--json")
    assert [row["name"] for row in json.loads(out)] == ["LeNet5", "LeNet"]
    fails(run("list", "nothing"), 1, "No network")


def test_networks_of_clips(run):
    code, out, _ = run("list", "C3D")
    assert code == 0
    assert "16x112x112x3" in out
    code, out, _ = run("show", "C3D", "-o", "width=16")
    assert code == 0
    assert "Input: 16x112x112x3." in out
    assert re.search(r"pool5 .*1x4x4x128", out)
    fails(run("train", "C3D", "--data", "digits"), 2, "clips of 16 frames.*and this command images")


def test_show_prints_the_papers_table(run):
    code, out, _ = run("show", "LeNet5")
    assert code == 0
    for numbers in (
        r"c1 .*156 .*122,304",
        r"s2 .*12 .*5,880",
        r"c3 .*1,516 .*151,600",
        r"s4 .*32 .*2,000",
        r"c5 .*48,120 .*48,120",
        r"f6 .*10,164 .*10,164",
        r"total .*60,000 .*340,908",
    ):
        assert re.search(numbers, out), numbers
    _, out, _ = run("show", "lenet5", "-o", "connections=dense", "-o", "output=dense", "--json")
    assert json.loads(out)["params"] == 61_750  # 61,706 of the common form, and S2's and S4's 44
    _, out, _ = run("show", "VGG11", "--size", "64", "-o", "units=(16, 16)", "--json")
    assert json.loads(out)["layers"][0]["output_shape"] == [64, 64, 3]


def test_train_leaves_everything(trained):
    assert sorted(p.name for p in trained.iterdir()) == [
        "best.keras",
        "history.csv",
        "last.keras",
        "summary.json",
        "tensorboard",
        "versions.txt",
    ]
    summary = json.loads((trained / "summary.json").read_text())
    assert summary["model"] == "LeNet5"
    assert summary["epochs"] == 2
    assert summary["class_names"] == list("0123456789")
    assert summary["sizes"]["test"] == 599
    assert summary["finished"]
    assert summary["classifier_activation"] == "linear"
    assert summary["classes"] == 10
    assert list((trained / "tensorboard").rglob("events*"))
    (profile,) = (trained / "tensorboard").rglob("*.xplane.pb")
    assert profile.stat().st_size
    with (trained / "history.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["0", "1"]
    best = summary["best_epoch"] - 1
    assert float(rows[best]["val_accuracy"]) == max(float(row["val_accuracy"]) for row in rows)
    assert keras.saving.load_model(trained / "last.keras").count_params() == 60_840


def test_only_tensorflow_is_profiled(run, tmp_path, monkeypatch):
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    options = ("--data", "digits", "--profile", "2", "--output", tmp_path / "run")
    fails(run("train", "LeNet5", *options), 2, "add --backend tensorflow")
    assert not (tmp_path / "run").exists()


def test_a_run_says_what_it_was_made_with(trained):
    summary = json.loads((trained / "summary.json").read_text())
    (command,) = summary["commands"]
    assert re.fullmatch(r"keras-cnn-classics train LeNet5 --data digits --epochs 2 .*", command)
    versions = (trained / "versions.txt").read_text()
    for name in ("keras", "tensorflow", "numpy"):
        version = metadata.version(name)
        assert summary["versions"][name] == version
        assert f"\n{name}=={version.partition('+')[0]}" in versions
    assert "\nkeras-cnn-classics==" not in versions  # which is here from a folder
    assert summary["environment"]["backend"] == keras.backend.backend()
    assert summary["environment"]["devices"]
    assert summary["seed"] == 0
    assert summary["earlier"] == []


def test_json_is_alone_on_the_standard_output(run, trained, tmp_path):
    """What a run prints while it goes on comes out beside it; a finished run does not go on."""
    train = ("train", "LeNet5", "--data", "digits", "--epochs", "2", "--output")
    again = shutil.copytree(trained, tmp_path / "again")
    code, out, errors = run(*train, again, "--resume", "--json")
    assert code == 0, errors
    assert json.loads(out)["test"] == json.loads((trained / "summary.json").read_text())["test"]
    code, out, errors = run(*train, tmp_path / "new", "--json")
    assert code == 0, errors
    assert json.loads(out)["output"] == str(tmp_path / "new")
    assert "Epoch 2/2" in errors
    picture = tmp_path / "sheet.png"
    preview = ("data", "preview", "--data", "digits", "--output", picture)
    code, out, errors = run(*preview, "--json")
    assert code == 0, errors
    assert json.loads(out)["output"] == str(picture)
    fails(run(*preview), 1, "sheet.png exists.*--overwrite")
    assert run(*preview, "--overwrite")[0] == 0


def test_show_prints_the_papers_recipe(run):
    _, out, _ = run("show", "ResNet20")
    assert "The paper's recipe" in out
    assert "batch size: 128 (section 4.2)" in out
    assert "times 0.1 after epochs 91, 136.5" in out
    _, out, _ = run("show", "SqueezeNet1_0")
    assert "The paper's recipe" not in out


@pytest.mark.slow
def test_a_run_that_was_killed_goes_on(tmp_path):
    command = [sys.executable, "-m", "keras_cnn_classics", "train", "LeNet5", "--data", "digits"]
    command += ["--epochs", "3", "--batch-size", "16", "--augment", "affine", "--save-every", "3"]
    whole = subprocess.run([*command, "--output", tmp_path / "whole"], check=False)
    assert whole.returncode == 0
    part = [*command, "--output", tmp_path / "part"]
    process = subprocess.Popen(part, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not (list((tmp_path / "part").glob("state/epoch-0001-step-*[1-9].npz"))):
        assert process.poll() is None
        time.sleep(0.02)
    process.kill()
    process.wait()
    again = subprocess.run([*part, "--resume"], check=False)
    assert again.returncode == 0
    one, two = ((tmp_path / name / "history.csv").read_text() for name in ("whole", "part"))
    assert one == two
    one, two = (
        keras.saving.load_model(tmp_path / name / "last.keras").get_weights()
        for name in ("whole", "part")
    )
    for ours, theirs in zip(one, two, strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.slow
def test_the_papers_recipe_with_auxiliary_classifiers(run, tmp_path):
    folder = tmp_path / "run"
    options = ["-o", "width=0.25", "--size", "96", "--scale", "0.001", "--batch-size", "16"]
    command = ["train", "GoogLeNet", "--data", "digits", "--recipe", "paper", *options]
    code, _, errors = run(*command, "--output", folder)
    assert code == 0, errors
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["recipe"]["auxiliary"] == 0.3
    assert "aux" not in summary["options"]
    assert "val_predictions_accuracy" in summary["best"]
    best = keras.saving.load_model(folder / "best.keras")
    assert best.output_shape == (None, 10)
    weights = ["--weights", folder / "best.keras", "--data", "digits", "--json"]
    code, out, errors = run("evaluate", "GoogLeNet", *weights)
    assert code == 0, errors
    error = json.loads(out)["top1_error"]
    assert error == pytest.approx(summary["test"]["error_percent"], abs=0.2)


def test_devices_that_cannot_be(run, tmp_path):
    command = ["train", "LeNet5", "--data", "digits", "--output", tmp_path / "run"]
    fails(run(*command, "--devices", "tpu:3"), 2, "--devices")
    fails(run(*command, "--strategy", "none", "--devices", "cpu:2"), 2, "one device")
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_two_devices(tmp_path):
    command = [sys.executable, "-m", "keras_cnn_classics", "train", "LeNet5", "--data", "digits"]
    command += ["--epochs", "1", "--devices", "cpu:2", "--output", tmp_path / "run"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["replicas"] == 2
    assert summary["finished"]


def test_a_worker_that_was_started_again(run, trained, tmp_path, monkeypatch):
    folder = shutil.copytree(trained, tmp_path / "run")
    summary = folder / "summary.json"
    before = summary.read_text()
    command = ["train", "LeNet5", "--data", "digits", "--epochs", "2", "--output", folder]
    monkeypatch.setenv("KCC_RESTARTS", "1")
    monkeypatch.setenv("KCC_JOB", "this")
    fails(run(*command), 1, "holds a run already")  # of another job
    assert summary.read_text() == before
    summary.write_text(json.dumps({**json.loads(before), "job": "this"}))
    code, out, errors = run(*command)
    assert code == 0, errors
    assert "2 epochs" in out


def test_train_refuses_what_contradicts(run, tmp_path):
    command = ["train", "LeNet5", "--data", "digits", "--output", tmp_path / "run"]
    fails(run(*command, "--overwrite", "--resume"), 2, "contradict")
    fails(run(*command, "--augment", "rotate"), 1, "An augmentation is one of")
    fails(run(*command, "--auxiliary", "0.3"), 2, "LeNet5 has no auxiliary classifiers")
    fails(run(*command, "--label-smoothing", "0.1"), 1, "knows no label smoothing")
    assert not (tmp_path / "run").exists()
    fails(run("train", "Xception", "--data", "digits", "--recipe", "paper"), 1, "is not here")


def test_evaluate_agrees_with_the_summary(run, trained):
    best = trained / "best.keras"
    code, out, _ = run("evaluate", "LeNet5", "--weights", best, "--data", "digits", "--json")
    assert code == 0
    results = json.loads(out)
    summary = json.loads((trained / "summary.json").read_text())
    assert results["images"] == 599
    assert results["top1_error"] == pytest.approx(summary["test"]["error_percent"], abs=0.01)
    assert results["top5_error"] <= results["top1_error"]
    _, out, _ = run("evaluate", "LeNet5", "--weights", best, "--data", "digits", "--split", "train")
    assert "train split of digits, 1078 images" in out


def test_predict(run, trained, digit):
    best = trained / "best.keras"
    code, out, _ = run("predict", "LeNet5", digit, "--weights", best, "--json")
    assert code == 0
    (result,) = json.loads(out)
    assert result["image"] == str(digit)
    answers = result["predictions"]
    assert len(answers) == 5
    assert {a["name"] for a in answers} <= set("0123456789")
    assert 0.5 < sum(a["score"] for a in answers) <= 1.0001
    _, out, _ = run("predict", "LeNet5", digit, digit, "--weights", best, "--top", "1")
    assert out.count("%") == 2


def test_predict_with_published_names(run, monkeypatch, tmp_path):
    model = kcc.VGG11(width=16, units=(8,), input_shape=(32, 32, 3), weights=None)
    model.save_weights(tmp_path / "w.weights.h5")
    Image.new("RGB", (50, 40), "red").save(tmp_path / "red.jpg")
    options = ("-o", "width=16", "-o", "units=(8,)")
    code, _, errors = run(
        "predict", "VGG11", tmp_path / "red.jpg", "--weights", tmp_path / "w.weights.h5", *options
    )
    assert code == 1  # the classifier was made for 32x32 pixels
    assert "does not hold the weights of this VGG11" in errors
    kcc.VGG11(width=16, units=(8,), weights=None).save_weights(tmp_path / "w.weights.h5")
    code, out, _ = run(
        "predict",
        "VGG11",
        tmp_path / "red.jpg",
        "--weights",
        tmp_path / "w.weights.h5",
        *options,
        "--json",
    )
    assert code == 0
    wnids = {wnid for wnid, _ in kcc.preprocessing.imagenet_classes()}
    assert {a["id"] for a in json.loads(out)[0]["predictions"]} <= wnids


def test_wrong_usage(run, trained, digit):
    fails(run("show", "LeNet6"), 2, r"Did you mean LeNet")
    fails(run("show", "LeNet5", "-o", "colour=red"), 2, r"takes connections, subsampling")
    fails(run("predict", "LeNet5", digit), 2, r"No weights of LeNet5 are registered")
    fails(run("show", "VGG11", "--size", "-3"), 2, "size")
    fails(
        run("evaluate", "LeNet5", "--data", "digits", "--weights", "x", "--split", "dev"), 2, "dev"
    )
    fails(run("train", "LeNet5"), 2, "--data")
    fails(run("train", "LeNet5", "--data", "digits", "--epochs", "0"), 2, "epochs")
    fails(run("trian"), 2, "trian")


def test_options_with_wrong_values(run, tmp_path):
    train = ("train", "LeNet5", "--data", "digits", "--output", tmp_path / "out")
    for option, value, words in (
        ("-o", "subsampling=median", "'trainable'.* Received: subsampling='median'"),
        ("-o", "activation=reluu", "Received: activation='reluu'"),
        ("-o", "dropout=much", "must be a number from 0.*Received: dropout='much'"),
        ("--optimizer", "adam2", "adamw"),
        ("--learning-rate", "-1", "learning-rate"),
        ("--resize", "squash", "crop"),
        ("--preprocess", "cafe", "caffe"),
        ("--preprocess", "caffe", "for 3 channels"),
        ("--validation", "1.5", "validation"),
        ("--on-bad-image", "shrug", "skip"),
    ):
        fails(run(*train, option, value), 2, words)
        assert not list(tmp_path.iterdir())
    fails(run("show", "VGG11", "-o", "depths=3"), 2, r"must be several integers.*depths=3")


def test_debug_shows_the_traceback(run, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["kcc", "list", "nothing", "--debug"])
    with pytest.raises(ValueError, match="No network"):
        cli.main()


def test_bad_weights(run, trained, digit, tmp_path):
    content = (trained / "best.keras").read_bytes()
    (tmp_path / "cut.keras").write_bytes(content[:5000])
    for weights, words in (
        (tmp_path / "cut.keras", "cut.keras does not hold the weights of this LeNet5"),
        (tmp_path / "missing.keras", "the path of a file that exists"),
        (trained / "history.csv", "must end in"),
    ):
        fails(run("predict", "LeNet5", digit, "--weights", weights), 1, words)
    fails(
        run("evaluate", "LeNet", "--data", "digits", "--weights", trained / "best.keras"),
        1,
        "a checkpoint of LeNet5, not of LeNet",
    )
    kcc.LeNet5().save(tmp_path / "of_nobody.keras")
    fails(
        run("predict", "LeNet", digit, "--weights", tmp_path / "of_nobody.keras"),
        1,
        "does not hold the weights of this LeNet",
    )


def test_bad_images(run, trained, digit, tmp_path):
    text = tmp_path / "letter.png"
    text.write_text("Dear network,")
    good_and_bad = run(
        "predict", "LeNet5", text, digit, tmp_path / "gone.png", "--weights", trained / "best.keras"
    )
    fails(good_and_bad, 1, r"letter\.png.*There is no image file '.*gone\.png'")
    assert str(digit) in good_and_bad[1]


def make_folder(path, names=("cat", "dog"), images=4):
    for name in names:
        (path / name).mkdir(parents=True)
        for i in range(images):
            pixels = np.random.default_rng(i).integers(0, 255, (40, 30, 3), "uint8")
            Image.fromarray(pixels).save(path / name / f"{i}.png")
    return path


def test_bad_data(run, trained, tmp_path, monkeypatch):
    monkeypatch.setenv("KCC_OFFLINE", "1")
    out = tmp_path / "out"
    train = ("train", "LeNet5", "--output", out, "--epochs", "1", "--data")
    folder = make_folder(tmp_path / "pets")
    (folder / "fish").mkdir()
    fails(run(*train, folder), 1, "fish")
    fails(run(*train, tmp_path / "nowhere"), 1, "nowhere")
    fails(run(*train, "mnits"), 1, "Did you mean .*mnist")
    fails(run(*train, "cifar100", "--data-dir", tmp_path / "tfds"), 1, "cifar100")
    empty = ("--data-dir", tmp_path / "tfds")
    fails(run(*train, "mnist", *empty), 1, "mnist.*--data-dir")
    assert not (tmp_path / "tfds").exists() or not list((tmp_path / "tfds").iterdir())
    fails(run(*train, "digits", "--classes", "3"), 1, r"The labels go up to 9 .* has 3 outputs")
    best = trained / "best.keras"
    (folder / "fish").rmdir()
    fails(run("evaluate", "LeNet5", "--weights", best, "--data", folder), 1, "cat")
    assert not out.exists()


def test_a_folder_of_pictures(run, tmp_path):
    folder = make_folder(tmp_path / "pets", images=10)
    (folder / "cat" / "notes.jpg").write_text("not a picture")
    code, out, errors = run(
        "train",
        "LeNet5",
        "--data",
        folder,
        "--output",
        tmp_path / "out",
        "--epochs",
        "1",
        "-o",
        "output=dense",
        "-o",
        "activation=relu",
    )
    assert code == 0, errors
    assert "Test error" in out
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["class_names"] == ["cat", "dog"]
    best = tmp_path / "out" / "best.keras"
    assert keras.saving.load_model(best).output_shape == (None, 2)
    code, out, _ = run("predict", "LeNet5", folder / "dog" / "0.png", "--weights", best, "--json")
    assert code == 0
    assert {a["name"] for a in json.loads(out)[0]["predictions"]} == {"cat", "dog"}


def test_output_that_cannot_be_written(run, trained, tmp_path):
    (tmp_path / "file").write_text("")
    train = ("train", "LeNet5", "--data", "digits", "--output")
    fails(run(*train, tmp_path / "file"), 1, "cannot be written to")
    fails(run(*train, tmp_path / "file" / "below"), 1, "cannot be written to")
    before = (trained / "best.keras").read_bytes()
    fails(run(*train, trained), 1, "holds a run already")
    assert (trained / "best.keras").read_bytes() == before


def test_a_failed_command_keeps_the_run_that_it_was_to_replace(run, trained):
    files = {p.name: p.read_bytes() for p in trained.iterdir() if p.is_file()}
    train = ("train", "LeNet5", "--overwrite", "--output", trained)
    fails(run(*train, "--data", "mnits"), 1, "mnist")
    fails(run(*train, "--data", "digits", "--classes", "3"), 1, "has 3 outputs")
    assert {p.name: p.read_bytes() for p in trained.iterdir() if p.is_file()} == files


def test_a_folder_of_ones_own_is_not_touched(run, tmp_path):
    (tmp_path / "mine" / "tensorboard").mkdir(parents=True)
    notes = tmp_path / "mine" / "tensorboard" / "notes.txt"
    notes.write_text("precious")
    train = ("train", "LeNet5", "--data", "digits", "--epochs", "1", "--output", tmp_path / "mine")
    fails(run(*train), 1, r"holds a run already \(tensorboard\).*--overwrite")
    assert run(*train, "--overwrite")[0] == 0
    assert notes.read_text() == "precious"
    fails(run("demo", "--output", tmp_path / "mine"), 1, "holds a run already")


def test_a_checkpoint_knows_its_run_wherever_it_is(run, digit, tmp_path):
    options = ("-o", "activation=relu", "-o", "output=dense", "--preprocess", "unit")
    train = ("train", "LeNet5", "--data", "digits", "--epochs", "2", *options)
    assert run(*train, "--output", tmp_path / "out")[0] == 0
    (tmp_path / "out" / "best.keras").rename(tmp_path / "moved.keras")
    weights = ("--weights", tmp_path / "moved.keras", "--data", "digits", "--json")
    results = json.loads(run("evaluate", "LeNet5", *weights)[1])
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert results["top1_error"] == pytest.approx(summary["test"]["error_percent"], abs=0.01)


@pytest.mark.parametrize("value", [np.nan, 0.0])
def test_a_network_without_answers(run, digit, tmp_path, value):
    model = kcc.LeNet()
    model.set_weights([np.full(w.shape, value) for w in model.weights])
    model.save_weights(tmp_path / "w.weights.h5")
    weights = ("--weights", tmp_path / "w.weights.h5")
    result = run("evaluate", "LeNet", "--data", "digits", *weights, "--json")
    if np.isnan(value):
        fails(result, 1, "not finite")
        fails(run("predict", "LeNet", digit, *weights), 1, "not finite")
    else:  # all classes tie, which is no answer
        assert json.loads(result[1])["top1_error"] == 100.0


def test_a_run_that_diverges_can_be_tried_again(run, tmp_path):
    train = ("train", "LeNet5", "--data", "digits", "--epochs", "1", "--output", tmp_path / "out")
    fails(run(*train, "--learning-rate", "1e30"), 1, "No network was saved")
    assert not (tmp_path / "out").exists()
    assert run(*train)[0] == 0


def test_version(run):
    assert run("--version")[:2] == (0, f"keras-cnn-classics {kcc.__version__}\n")


def test_more_outputs_than_classes(run, digit, tmp_path):
    train = ("train", "LeNet5", "--data", "digits", "--epochs", "1", "--output", tmp_path / "out")
    assert run(*train, "--classes", "12")[0] == 0
    best = tmp_path / "out" / "best.keras"
    code, out, _ = run("evaluate", "LeNet5", "--data", "digits", "--weights", best)
    assert code == 0
    assert "599 images" in out
    code, out, _ = run("predict", "LeNet5", digit, "--weights", best, "--top", "12", "--json")
    names = [answer["name"] for answer in json.loads(out)[0]["predictions"]]
    assert sorted(names, key=int) == [str(i) for i in range(12)]


def test_data_of_other_classes_than_the_weights(run, tmp_path):
    folder = make_folder(tmp_path / "pets")
    kcc.LeNet5().save_weights(tmp_path / "w.weights.h5")
    result = run("evaluate", "LeNet5", "--data", folder, "--weights", tmp_path / "w.weights.h5")
    fails(result, 1, "has 2 classes, but the network with these weights has 10 outputs")


def test_top_5_is_top_5():
    class Fixed:
        def predict_on_batch(self, x):
            return np.tile(np.arange(10.0)[::-1], (len(x), 1))  # class 0 is best, 9 worst

    images = kcc.data.load("digits", batch_size=64).test
    labels = np.concatenate([y for _, y in images.as_numpy_iterator()])
    results = measure(Fixed(), images)
    assert results["top1_error"] == pytest.approx(100 * np.mean(labels > 0), abs=1e-3)
    assert results["top5_error"] == pytest.approx(100 * np.mean(labels >= 5), abs=1e-3)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no signal for one process group")
def test_ctrl_c_leaves_a_usable_checkpoint(tmp_path):
    out = tmp_path / "out"
    command = [sys.executable, "-m", "keras_cnn_classics", "train", "LeNet5", "--data", "digits"]
    process = subprocess.Popen(
        [*command, "--epochs", "1000", "--output", out],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    deadline = time.monotonic() + 120
    while not (out / "last.keras").exists():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Interrupted" in errors
    assert "Traceback" not in errors
    assert keras.saving.load_model(out / "last.keras").count_params() == 60_840
    summary = json.loads((out / "summary.json").read_text())
    assert summary["interrupted"] is True
    assert summary["finished"] is False
    assert not list(out.glob(".writing*"))


@pytest.fixture
def demonstrate(run, tmp_path):
    """Runs the demo; gives its figures once page and files are known to say the same."""

    def call():
        folder = tmp_path / "demo"
        code, out, errors = run("demo", "--output", folder)
        assert code == 0, errors
        error = float(re.search(r"a test error of (\d+\.\d+) %", out)[1])
        with Image.open(folder / "digits.png") as picture:
            assert picture.size[0] > 1000
        summary = json.loads((folder / "summary.json").read_text())
        assert summary["test"]["error_percent"] == pytest.approx(error, abs=0.01)
        for name in ("fine_tuning", "learning_without_forgetting"):
            network = keras.saving.load_model(folder / "transfer" / name / "model.keras")
            assert sorted(network.output) == ["new", "old"]
        page = (folder / "report.html").read_text(encoding="utf-8")
        assert f"a test error of {error:.2f} %" in page
        after = (
            r"After {}: (\d+\.\d+) % of 0 to 4 are right, of (\d+\.\d+) % before, and "
            r"(\d+\.\d+) % of 5 to 9, of (\d+\.\d+) % with its new head untrained"
        )
        results = []
        for name in ("fine tuning", "learning without forgetting"):
            figures = re.search(after.format(name), out).groups()
            old_after, old_before, new_after, new_before = figures
            cells = "".join(
                f"<td>{value}</td>" for value in (old_before, old_after, new_before, new_after)
            )
            assert f"<tr><td>{name}</td>{cells}<td>" in page
            results.append([float(value) for value in figures])
        pictures = re.findall(r'src="data:image/png;base64,([^"]+)"', page)
        assert [base64.b64decode(one) for one in pictures] == [
            (folder / name).read_bytes() for name in ("digits.png", "transfer.png")
        ]
        assert page.count("src=") == 2  # and it needs no other file
        assert "href=" not in page
        forgot, kept = results
        assert forgot[1] == kept[1]  # both begin from one network and one head
        assert 0 < forgot[3] == kept[3] < 50
        return error, forgot, kept

    return call


def test_a_short_demo(demonstrate, monkeypatch):
    from keras_cnn_classics.cli import demo

    short = {"all digits": 2, "0 to 4": 2, "5 to 9": 6}
    monkeypatch.setattr(demo, "EPOCHS", short)
    error, forgot, kept = demonstrate()
    assert error < 30
    assert kept[1] > 80
    assert min(forgot[2], kept[2]) > kept[3]  # of 5 to 9, something was learned


@pytest.mark.slow
def test_demo(demonstrate):
    error, (forgot, before, new, _), (kept, _, new_too, _) = demonstrate()
    assert error <= 2.5
    assert before > 97
    assert forgot < before - 5 < kept
    assert min(new, new_too) > 93
