"""`compare`: what its table says, what it keeps, what it refuses."""

import csv
import dataclasses
import io
import json
import shutil

import keras
import numpy as np
import pytest
from keras import layers
from rich.console import Console

from keras_cnn_classics import transfer
from keras_cnn_classics.transfer import comparison as module
from tests.marks import slow

SHAPE = (6, 6, 1)


def images_of(classes, count, seed):
    """Images with a bright row, whose number is the class."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % classes
    images = rng.normal(0, 0.3, (count, *SHAPE)).astype("float32")
    images[np.arange(count), labels] += 1
    return images, labels.astype("int32")


def task(classes, seed):
    return images_of(classes, 48, seed), images_of(classes, 32, seed + 1)


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(5)
    inputs = keras.Input(SHAPE)
    x = layers.Dense(12, "relu", name="hidden")(layers.Flatten()(inputs))
    model = keras.Model(inputs, layers.Dense(3, "softmax", name="answers")(x))
    model.compile("adam", "sparse_categorical_crossentropy")
    model.fit(*task(3, 0)[0], epochs=60, verbose=0)
    return model


@pytest.fixture(scope="module")
def data():
    """The old task, and a new one whose rows are the last first."""
    (x, y), (tx, ty) = task(4, 7)
    return task(3, 0), ((x[:, ::-1].copy(), y), (tx[:, ::-1].copy(), ty))


def named(optimizer, rate):
    """An optimizer by its config: made at import, it would be before there are two devices."""
    return {"class_name": optimizer, "config": {"learning_rate": rate}}


SETTINGS = {
    "epochs": 3,
    "warmup_epochs": 1,
    "batch_size": 16,
    "optimizer": named("SGD", 0.1),
}


@pytest.fixture(scope="module")
def whole(model, data, tmp_path_factory):
    """All methods, and the folder."""
    folder = tmp_path_factory.mktemp("compare")
    return transfer.compare(model, *data, seeds=[3], folder=folder, **SETTINGS), folder


def accuracy(answers, labels):
    return float(np.mean(answers.argmax(-1) == labels))


@pytest.mark.slow_compiled
def test_each_row_is_what_its_runs_have_measured(whole, model, data):
    table, folder = whole
    assert [row.method for row in table.rows] == ["old_network", *module.METHODS]
    (_, (old_x, old_y)), (_, (new_x, new_y)) = data
    for row in table.rows[1:]:
        run = json.loads((folder / row.method / "seed-3.json").read_text())
        assert (row.old_accuracy, row.new_accuracy) == (run["old_accuracy"], run["new_accuracy"])
        assert (row.old_spread, row.new_spread, row.seeds) == (None, None, 1)
        assert row.seconds > 2 * row.seconds_per_epoch > 0
        network = keras.saving.load_model(folder / row.method / "model.keras")
        answers = network.predict(old_x, verbose=0), network.predict(new_x, verbose=0)
        assert accuracy(answers[0]["old"], old_y) == row.old_accuracy
        assert accuracy(answers[1]["new"], new_y) == row.new_accuracy
        assert row.parameters == network.count_params()
    before = table["old_network"]
    assert before.old_accuracy == accuracy(model.predict(old_x, verbose=0), old_y) > 0.8
    assert before.new_accuracy is None
    assert before.parameters == model.count_params() == 36 * 12 + 12 + 12 * 3 + 3


def test_what_the_methods_must_cost_and_keep(whole, model):
    table, folder = whole
    before = table["old_network"]
    head = 12 * 4 + 4
    assert table["fine_tuning"].parameters == before.parameters + head
    twice = before.parameters + (36 * 12 + 12) + head
    assert table["duplicate_and_fine_tune"].parameters == twice
    for kept in ("feature_extraction", "duplicate_and_fine_tune"):
        assert table[kept].old_accuracy == before.old_accuracy
    hidden = model.get_layer("hidden").kernel
    for name in module.METHODS:
        network = keras.saving.load_model(folder / name / "model.keras")
        same = np.array_equal(network.get_layer("hidden").kernel, hidden)
        assert same == (name in ("feature_extraction", "duplicate_and_fine_tune"))
    assert [row.method for row in table.rows if row.old_data] == ["joint_training"]
    assert all(0 < row.prediction_ms < 1000 for row in table.rows)


@pytest.mark.slow_compiled
def test_the_table_as_csv_markdown_rich_and_picture(whole, tmp_path):
    table, _ = whole
    table.to_csv(tmp_path / "table.csv")
    with (tmp_path / "table.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["method"] for row in rows] == [row.method for row in table.rows]
    assert float(rows[2]["new_accuracy"]) == table.rows[2].new_accuracy
    assert rows[0]["new_accuracy"] == ""
    lines = table.to_markdown().splitlines()
    assert len(lines) == 2 + len(table.rows)
    assert {line.count("|") for line in lines} == {9}
    row = table["joint_training"]
    wanted = f"| {100 * row.new_accuracy:.2f} | {100 * row.old_accuracy:.2f} |"
    assert any("joint training" in line and wanted in line for line in lines)
    console = Console(width=160, record=True, file=io.StringIO())
    console.print(table)
    shown = console.export_text()
    assert f"{100 * row.new_accuracy:.2f} " in shown
    assert "needed" in shown
    figure = table.plot(tmp_path / "plot.png")
    assert (tmp_path / "plot.png").stat().st_size > 5000
    labels = figure.axes[0].get_legend_handles_labels()[1]
    assert labels == ["old network", *(name.replace("_", " ") for name in module.METHODS)]
    assert [box.get_children()[0].get_xdata()[0] for box in figure.axes[0].containers] == [
        row.old_accuracy for row in table.rows[1:]
    ]


@pytest.mark.slow_compiled
def test_what_is_done_is_not_done_again_and_more_seeds_are_added(whole, model, data, monkeypatch):
    table, folder = whole

    def refused(*args, **kwargs):
        raise AssertionError("trained again")

    with monkeypatch.context() as patch:
        patch.setattr(module, "_run", refused)
        again = transfer.compare(model, *data, seeds=[3], folder=folder, **SETTINGS)
    assert again.rows[1:] == table.rows[1:]
    more = transfer.compare(model, *data, ["fine_tuning"], (3, 8), folder=folder, **SETTINGS)
    row, before = more["fine_tuning"], table["fine_tuning"]
    added = json.loads((folder / "fine_tuning" / "seed-8.json").read_text())
    assert row.seeds == 2
    for task in ("old", "new"):
        one, two = getattr(before, f"{task}_accuracy"), added[f"{task}_accuracy"]
        assert getattr(row, f"{task}_accuracy") == pytest.approx((one + two) / 2)
        assert getattr(row, f"{task}_spread") == pytest.approx(abs(one - two) / 2**0.5)
    assert f" ± {100 * row.new_spread:.2f} |" in more.to_markdown()


def test_what_the_folder_has_of_other_methods_comes_along(whole, model, data):
    table, folder = whole
    methods = ["joint_training"]
    again = transfer.compare(model, *data, methods, [3], folder=folder, **SETTINGS)
    assert [row.method for row in again.rows[:2]] == ["old_network", "joint_training"]
    assert {row.method for row in again.rows} == {row.method for row in table.rows}
    assert again["fine_tuning"] == table["fine_tuning"]
    # Of other settings, it is no row of the same table.
    options = {"fine_tuning": {"epochs": 4}}
    again = transfer.compare(model, *data, methods, [3], folder=folder, options=options, **SETTINGS)
    assert "fine_tuning" not in [row.method for row in again.rows]


@pytest.mark.slow_compiled
def test_a_folder_that_somebody_has_changed(whole, model, data, tmp_path):
    methods = ["fine_tuning"]

    def compare(folder):
        return transfer.compare(model, *data, methods, [3], folder=folder, **SETTINGS)

    for name in ("damaged", "other", "bare", "without"):
        shutil.copytree(whole[1], tmp_path / name)
    run = "fine_tuning/seed-3.json"
    (tmp_path / "damaged" / run).write_text('{"old_accuracy": 0.')
    (tmp_path / "other" / run).write_text("[1, 2]")
    for name in ("damaged", "other"):
        with pytest.raises(ValueError, match=rf"{run} is damaged .*delete it, and it is measured"):
            compare(tmp_path / name)
    (tmp_path / "bare" / "settings.json").unlink()
    with pytest.raises(ValueError, match=r"finished trainings, but no settings.json"):
        compare(tmp_path / "bare")
    network = tmp_path / "without" / "fine_tuning" / "model.keras"
    network.unlink()
    row = compare(tmp_path / "without")["fine_tuning"]
    assert row.new_accuracy == whole[0]["fine_tuning"].new_accuracy
    assert keras.saving.load_model(network).count_params() == row.parameters


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"epochs": 4}, r"fine_tuning\.epochs: 3 there, 4 here"),
        ({"optimizer": named("Adam", 0.5)}, "optimizer: SGD there, Adam here.*_rate: 0.1"),
        (
            {"optimizer": named("SGD", 0.5)},
            r"\(optimizer\.learning_rate: 0.1\d* there, 0.5",
        ),
        ({"options": {"fine_tuning": {"train_from": "last_block"}}}, "train_from: all there"),
        ({"new": True}, "new_data: "),
        ({"model": True}, "model: "),
    ],
)
def test_a_folder_of_another_comparison_is_refused(whole, model, data, change, said):
    _, folder = whole
    old, new = data
    settings = dict(change)
    if settings.pop("new", False):
        new = (new[0], (new[1][0] + 1, new[1][1]))
    if settings.pop("model", False):
        model = keras.models.clone_model(model)
    before = (folder / "settings.json").read_text()
    with pytest.raises(ValueError, match=f"begun with other settings.*{said}"):
        transfer.compare(
            model, old, new, ["fine_tuning"], [3], folder=folder, **{**SETTINGS, **settings}
        )
    assert (folder / "settings.json").read_text() == before


@pytest.mark.slow_compiled
@pytest.mark.parametrize(
    "method",
    ["learning_without_forgetting", slow("feature_extraction")],
)
def test_a_comparison_that_was_interrupted_goes_on(model, data, tmp_path, monkeypatch, method):
    methods = ["fine_tuning", method]

    def compare(folder):
        return transfer.compare(model, *data, methods, [2], folder=folder, **SETTINGS)

    whole = compare(tmp_path / "whole")
    ends = module._Watch.on_epoch_end
    killed = []

    def killing(self, epoch, logs=None):
        if (tmp_path / "part" / methods[0] / "seed-2.json").exists() and epoch == 2:
            killed.append(epoch)
            raise KeyboardInterrupt
        ends(self, epoch, logs)

    with monkeypatch.context() as patch:
        patch.setattr(module._Watch, "on_epoch_end", killing)
        with pytest.raises(KeyboardInterrupt):
            compare(tmp_path / "part")
    assert len(list((tmp_path / "part" / method / "state-2").glob("epoch-0002-*"))) == 1
    trained = []

    def counting(self, epoch, logs=None):
        trained.append(epoch)
        ends(self, epoch, logs)

    monkeypatch.setattr(module._Watch, "on_epoch_end", counting)
    table = compare(tmp_path / "part")
    assert trained == [2]
    for row, wanted in zip(table.rows[1:], whole.rows[1:], strict=True):
        assert row.new_accuracy == wanted.new_accuracy
        assert row.seconds > row.seconds_per_epoch > 0
    one, two = (
        keras.saving.load_model(tmp_path / name / method / "model.keras").get_weights()
        for name in ("part", "whole")
    )
    for ours, theirs in zip(one, two, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert not list(tmp_path.rglob("state-*"))


@pytest.mark.slow_compiled
def test_without_old_data(model, data):
    table = transfer.compare(
        model, None, data[1], seeds=1, **{**SETTINGS, "epochs": 1, "warmup_epochs": 0}
    )
    assert "joint_training" not in [row.method for row in table.rows]
    assert {row.old_accuracy for row in table.rows} == {None}
    assert {row.new_spread for row in table.rows} == {None}
    assert "| - |" in table.to_markdown()
    with pytest.raises(ValueError, match="Without `old_data`"):
        table.plot()


@pytest.mark.slow_compiled
def test_options_of_a_method_are_heeded(model, data, monkeypatch):
    made = []

    class Seen(transfer.LearningWithoutForgetting):
        def compile(self, optimizer, *args, **kwargs):
            made.append((self, float(optimizer.learning_rate)))
            super().compile(optimizer, *args, **kwargs)

    method = dataclasses.replace(module.METHODS["learning_without_forgetting"], kind=Seen)
    monkeypatch.setitem(module.METHODS, "learning_without_forgetting", method)
    monkeypatch.setattr(Seen, "__init__", transfer.LearningWithoutForgetting.__init__)
    options = {"learning_without_forgetting": {"temperature": 3.0, "rate": 0.5, "epochs": 2}}
    optimizer = keras.optimizers.SGD(0.02)
    transfer.compare(
        model,
        *data,
        ["learning_without_forgetting"],
        1,
        **{**SETTINGS, "optimizer": optimizer, "decay": 0.25},
        options=options,
    )
    learner, rate = made[0]
    assert rate == pytest.approx(0.01)
    assert learner.settings()["temperature"] == 3
    assert len(learner.history.epoch) == 2
    assert learner.network.get_layer("hidden").kernel_regularizer.l2 == 0.125


def test_the_model_and_the_random_state_stay_as_they_are(model, data):
    before = [w.copy() for w in model.get_weights()]
    np.random.seed(4)  # noqa: NPY002
    wanted = np.random.random()  # noqa: NPY002
    np.random.seed(4)  # noqa: NPY002
    transfer.compare(model, *data, ["fine_tuning"], 1, **{**SETTINGS, "epochs": 2})
    assert np.random.random() == wanted  # noqa: NPY002
    for ours, theirs in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.slow_compiled
def test_what_data_load_gives(tmp_path):
    from keras_cnn_classics import data

    options = {"image_size": 16, "batch_size": 64, "validation": 0, "preprocess": "unit"}
    old = data.load("digits", only=range(3), **options)
    new = data.load("digits", only=["9", "8"], **options)
    inputs = keras.Input(old.image_shape)
    model = keras.Model(inputs, layers.Dense(3, "softmax")(layers.Flatten()(inputs)))
    table = transfer.compare(
        model,
        old,
        new,
        ["joint_training", "feature_extraction"],
        [1],
        **{**SETTINGS, "warmup_epochs": 0, "epochs": 6},
        folder=tmp_path,
        options={"feature_extraction": {"rate": 1.0}},
    )
    assert table["joint_training"].new_accuracy > 0.8
    assert table["feature_extraction"].new_accuracy > 0.6
    with pytest.raises(ValueError, match=r"new_data: .*'9', '8'"):
        transfer.compare(model, new, old, folder=tmp_path, **SETTINGS)
    other = data.load("digits", only=["9", "8"], **{**options, "preprocess": "tf"})
    with pytest.raises(ValueError, match=r"new_data: .*'first'"):
        transfer.compare(model, old, other, folder=tmp_path, **SETTINGS)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"methods": ["lwf"]}, "`methods` must be 'all' or some of.*'lwf'"),
        ({"methods": []}, "`methods` must be"),
        ({"methods": None}, "`methods` must be"),
        ({"methods": "distillation"}, "Distillation makes another network for the old task"),
        ({"seeds": 0}, "`seeds` must be an integer, at least 1"),
        ({"seeds": []}, "`seeds` must be a number above 0"),
        ({"seeds": 3.0}, "`seeds` must be an integer, at least 1"),
        ({"seeds": True}, "`seeds` must be an integer, at least 1"),
        ({"seeds": [1, 1]}, "`seeds` must be"),
        ({"seeds": [-1]}, "`seeds` must be an integer, at least 0"),
        ({"epochs": 0}, "`epochs` must be an integer, at least 1"),
        ({"epochs": 1}, r"\w+ would end in its warm-up: .* Received: 1 and 1"),
        ({"decay": -1}, "`decay` must be"),
        ({"options": {"fine_tuning": {"head": "tail"}}}, "No layer 'tail'"),
        ({"options": {"tuning": {}}}, "`options` must have dicts .*'tuning'"),
        ({"options": {"fine_tuning": 3}}, "`options` must have dicts of arguments"),
        ({"options": {"fine_tuning": {"multi_label": True}}}, "must be of.*'multi_label'"),
        ({"options": {"fine_tuning": {"temperature": 2}}}, "`options` of fine_tuning.*temperature"),
        ({"new_data": None}, "`new_data` must have images to learn from"),
        ({"new_data": (images_of(1, 8, 0),) * 2}, "two classes at least.*Received: 1 classes"),
        ({"new_data": images_of(4, 8, 0)}, r"`new_data` must be \(\(x, y\), \(x_test, y_test\)\)"),
        (
            {"new_data": ((np.zeros((2, *SHAPE)), np.array(["a", "b"])),) * 2},
            "labels of `new_data` must be numbers",
        ),
        (
            {"new_data": ((np.zeros((2, *SHAPE)), np.array([0.0, np.nan])),) * 2},
            "labels of `new_data` must be numbers",
        ),
        ({"old_data": (None, None)}, "`old_data` must be"),
        ({"old_data": (None, images_of(3, 9, 0)), "methods": "joint_training"}, "needs `old_data`"),
        ({"old_data": (None, images_of(4, 9, 0))}, "labels of 'old' must be from 0 to 2"),
        ({"old_data": (None, (np.zeros((3, 9, 9, 1)), np.zeros(3)))}, "must have the shape"),
    ],
)
def test_wrong_arguments(model, data, tmp_path, change, said):
    given = {"old_data": data[0], "new_data": data[1], "folder": tmp_path / "out", **SETTINGS}
    with pytest.raises(ValueError, match=said):
        transfer.compare(model, **{**given, **change})
    assert not (tmp_path / "out").exists()


def test_a_model_of_several_tasks_is_refused(data):
    inputs = keras.Input(SHAPE)
    x = layers.Flatten()(inputs)
    several = keras.Model(inputs, {"a": layers.Dense(2)(x), "b": layers.Dense(2)(x)})
    with pytest.raises(ValueError, match=r"one task.*\['a', 'b'\]"):
        transfer.compare(several, *data)


def test_weights_that_run_away_are_said(model, data, tmp_path):
    with pytest.raises(FloatingPointError):
        transfer.compare(
            model,
            *data,
            ["fine_tuning_without_warmup"],
            1,
            **{**SETTINGS, "optimizer": keras.optimizers.SGD(1e30)},
            folder=tmp_path,
        )
    assert not list(tmp_path.rglob("seed-*.json"))
