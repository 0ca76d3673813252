"""`transfer`: a network learns another task, and the command says what came of it."""

import csv
import json
import re

import keras
import numpy as np
import pytest

import keras_cnn_classics as kcc
from keras_cnn_classics import cli, data


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    """A run of `train` on three of the digits."""
    folder = tmp_path_factory.mktemp("runs") / "first"
    with pytest.MonkeyPatch.context() as patch:
        command = ("train", "LeNet5", "--data", "digits", "--only", "0-2", "-o", "output=dense")
        options = ("--epochs", "4", "--batch-size", "16", "--output", str(folder))
        patch.setattr("sys.argv", ["keras-cnn-classics", *command, *options])
        with pytest.raises(SystemExit) as stop:
            cli.main()
    assert not stop.value.code
    return folder


@pytest.fixture
def compare(run, first, tmp_path):
    def call(*options, output="out"):
        return run(
            *("transfer", "--from", first / "best.keras", "--data", "digits", "--only", "7,8"),
            *("--epochs", 2, "--warmup", 1, "--batch-size", 16, "--seeds", 1),
            *("--output", tmp_path / output, *options),
        )

    return call


def accuracy(network, task, images):
    parts = [(network.predict_on_batch(x)[task].argmax(-1), y) for x, y in images]
    answers, labels = (np.concatenate(column) for column in zip(*parts, strict=True))
    return float(np.mean(answers == labels))


def test_train_and_evaluate_on_some_classes(run, first):
    summary = json.loads((first / "summary.json").read_text())
    assert summary["class_names"] == ["0", "1", "2"]
    weights = ("--weights", first / "best.keras", "--data", "digits", "--json")
    code, out, errors = run("evaluate", "LeNet5", *weights, "--only", "2,1,0")
    assert code == 0, errors
    found = json.loads(out)["top1_error"]
    assert found == pytest.approx(summary["test"]["error_percent"], abs=0.01)
    code, _, errors = run("evaluate", "LeNet5", *weights, "--only", "ten")
    assert code == 1
    assert "--only must" in errors


@pytest.mark.slow
def test_a_comparison_is_left_and_goes_on(compare, tmp_path):
    methods = ("--old-data", "digits", "--methods", "fine-tuning, joint_training")
    code, out, errors = compare(*methods)
    assert code == 0, errors
    folder = tmp_path / "out"
    found = json.loads((folder / "results.json").read_text())
    assert found["class_names"] == {"new": ["7", "8"], "old": ["0", "1", "2"]}
    assert found["sizes"]["old"]["test"] == 179
    rows = {row["method"]: row for row in found["rows"]}
    assert list(rows) == ["old_network", "fine_tuning", "joint_training"]
    options = {"image_size": 32, "resize": "pad", "preprocess": "lenet", "validation": 0}
    for name, task, chosen in (("fine_tuning", "new", "78"), ("joint_training", "old", "012")):
        network = keras.saving.load_model(folder / name / "model.keras")
        images = data.load("digits", only=list(chosen), **options).test
        measured = accuracy(network, task, images.as_numpy_iterator())
        assert rows[name][f"{task}_accuracy"] == pytest.approx(measured)
        assert f"{100 * measured:.2f}" in out
    with (folder / "table.csv").open() as file:
        assert [row["method"] for row in csv.DictReader(file)] == list(rows)
    assert "| joint training |" in (folder / "table.md").read_text()
    assert (folder / "plot.png").stat().st_size > 5000

    code, _, errors = compare(*methods)
    assert code == 1
    assert re.search(r"holds a comparison already.*--resume.*--overwrite", errors)
    code, out, errors = compare(*methods, "--resume", "--json")
    assert code == 0, errors
    again = json.loads(out)
    assert again["rows"][1:] == found["rows"][1:]  # not measured again
    code, _, errors = compare(*methods, "--resume", "--epochs", 3)
    assert code == 1
    assert "fine_tuning.epochs: 2 there, 3 here" in errors
    (folder / "notes.txt").write_text("mine")
    code, _, errors = compare("--methods", "feature_extraction", "--overwrite")
    assert code == 0, errors
    assert sorted(path.name for path in folder.iterdir()) == [
        *("feature_extraction", "notes.txt", "results.json", "run.json", "settings.json"),
        *("table.csv", "table.md", "versions.txt"),
    ]


def test_ctrl_c(compare, tmp_path, monkeypatch):
    from keras_cnn_classics.transfer import comparison

    def interrupted(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(comparison, "_run", interrupted)
    code, _, errors = compare("--old-data", "digits")
    assert code == 130
    assert re.search(r"Interrupted: \S+ holds what is finished.*--resume", errors)
    assert "Traceback" not in errors
    assert not (tmp_path / "out" / "results.json").exists()


def test_a_network_by_name(run, tmp_path):
    options = {"input_shape": (32, 32, 3), "classes": 4, "weights": None, "units": (8, 8)}
    model = kcc.VGG11(**options)
    model.save(tmp_path / "vgg.keras")
    arguments = ("--data", "digits", "--only", "0,1", "--epochs", 1, "--warmup", 0, "--seeds", 1)
    arguments += ("--methods", "feature_extraction", "--output", tmp_path / "out", "--json")
    code, _, errors = run("transfer", "--from", tmp_path / "vgg.keras", *arguments)
    assert code == 2
    assert "does not say how its images are prepared" in errors
    code, out, errors = run(
        "transfer", "--from", tmp_path / "vgg.keras", *arguments, "--preprocess", "tf"
    )
    assert code == 0, errors
    assert json.loads(out)["rows"][1]["parameters"] == model.count_params() + 8 * 2 + 2
    made = json.loads((tmp_path / "out" / "run.json").read_text())
    (command,) = made["commands"]
    assert command.startswith("keras-cnn-classics transfer --from")
    assert made["versions"]["keras"] == keras.__version__
    assert (tmp_path / "out" / "versions.txt").is_file()


def test_from_what_the_command_has_left(compare, tmp_path):
    methods = ("--methods", "feature_extraction")
    code, _, errors = compare(*methods)
    assert code == 0, errors
    left = tmp_path / "out" / "feature_extraction" / "model.keras"
    more = (*methods, "--from", left, "--preprocess", "lenet", "--only", "3,4,5", "--json")
    code, _, errors = compare(*more, output="next")
    assert code == 2
    assert "answers to the tasks new, old: name one" in errors
    code, out, errors = compare(*more, "--task", "new", output="next")
    assert code == 0, errors
    assert json.loads(out)["class_names"]["new"] == ["3", "4", "5"]
    network = keras.saving.load_model(tmp_path / "next" / "feature_extraction" / "model.keras")
    assert {task: one.shape[-1] for task, one in network.output.items()} == {"old": 2, "new": 3}
    left.write_bytes(left.read_bytes()[:5000])
    code, _, errors = compare(*more, "--task", "new", output="third")
    assert code == 1
    assert re.search("model.keras is damaged .*name a whole .keras file", errors)
    assert len(errors.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (("--methods", "lwf"), 2, "It must be all, or some of feature_extraction.*'lwf'"),
        (("--methods", "joint_training"), 1, "joint_training needs --old-data"),
        (("--overwrite", "--resume"), 2, "contradict"),
        (("--weights", "imagenet"), 2, "--weights and --option are for a name"),
        (("--from", "VGG61"), 2, "VGG"),
        (("--from", "none.keras"), 1, "no file none.keras"),
        (("--from", "LeNet5"), 2, "No weights of LeNet5 are registered"),
        (("--task", "old"), 2, "answers to one task: leave it out"),
        (("--head", "tail"), 1, "No layer 'tail'.*predictions, f6_act, f6"),
        (("--only", "5-99"), 1, "must have classes of 'digits'"),
        (("--old-data", "nowhere"), 1, "'nowhere'"),
    ],
)
def test_wrong_usage(compare, tmp_path, options, code, said):
    got, _, errors = compare(*options)
    assert got == code, errors
    assert re.search(said, errors), errors
    assert len(errors.strip().splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_a_folder_of_another_run_is_refused(run, first):
    before = (first / "best.keras").read_bytes()
    code, _, errors = run(
        *("transfer", "--from", first / "best.keras", "--data", "digits"),
        *("--output", first, "--overwrite"),
    )
    assert code == 1
    assert "holds a run already" in errors
    assert (first / "best.keras").read_bytes() == before
