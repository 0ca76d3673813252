"""The scripts behind docs/results.md: what their figures rest on."""

import importlib.util
import re
from pathlib import Path
from types import SimpleNamespace

import keras
import numpy as np
import pytest

from keras_cnn_classics.training.optimizers import scaled
from keras_cnn_classics.transfer.comparison import METHODS
from tests.marks import slow

FOLDER = Path(__file__).parents[2] / "benchmarks"


def script(name):
    spec = importlib.util.spec_from_file_location(f"benchmark_{name}", FOLDER / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def forgetting():
    return script("forgetting")


def some(images, classes=2, shape=(8, 8, 1)):
    rng = np.random.default_rng(images)
    return rng.normal(size=(images, *shape)).astype("float32"), np.arange(images) % classes


SAME = [  # as fine_tuning
    slow(name) for name in ("duplicate_and_fine_tune", "learning_without_forgetting")
]


@pytest.mark.slow_compiled
@pytest.mark.parametrize(
    "name",
    ["feature_extraction", "fine_tuning", "fine_tuning_without_warmup", "joint_training", *SAME],
)
def test_all_methods_lower_their_rate_after_three_quarters_of_their_epochs(forgetting, name):
    epochs, warmup, (x, y) = 6, 2, some(130)
    method, rates = METHODS[name], []
    arguments = {} if name in forgetting.WITHOUT_WARMUP else {"warmup_epochs": warmup}
    learner = method.kind(forgetting.network((8, 8, 1), (4,), 2), 2, **method.options, **arguments)
    schedule = forgetting.rate(1e-3, forgetting.steps_of(name, len(x), epochs, warmup))
    learner.compile(scaled(keras.optimizers.SGD(schedule), method.rate))
    arguments = {"old_data": some(200)} if method.old_data else {}
    note = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: rates.append(float(learner.optimizer.learning_rate))
    )
    learner.fit(
        x, y, batch_size=forgetting.BATCH, epochs=epochs, verbose=0, callbacks=[note], **arguments
    )
    warm = 0 if name in forgetting.WITHOUT_WARMUP else warmup
    drop = warm + (epochs - warm) * 3 // 4
    high = method.rate * 1e-3
    expected = [10 * high] * warm + [high] * (drop - warm) + [high / 10] * (epochs - drop)
    assert rates == pytest.approx(expected)


def test_demands_are_on_the_means_of_the_seeds_whose_differences_are_shown(forgetting, capsys):
    old, new = "learning_without_forgetting", "fine_tuning"
    found = {("old", old): [75.0, 77.0], ("old", new): [74.5, 74.5]}
    assert forgetting.demanded(found)
    out = capsys.readouterr().out
    assert f"old: {old} - {new} = 1.50 ± 1.41 (+0.50, +2.50; at least +1)" in out
    found["old", new] = [75.5, 75.5]
    assert not forgetting.demanded(found)


@pytest.mark.slow_compiled
def test_the_order_of_methods_goes_on_from_a_folder(forgetting, monkeypatch, tmp_path, capsys):
    parts = {forgetting.OLD: (some(20), some(10)), forgetting.NEW: (some(24), some(12))}
    monkeypatch.setattr(forgetting, "images_of", lambda name, only, count, **how: parts[only])
    made = []
    monkeypatch.setattr(forgetting, "trained", lambda model, *_: made.append(model) or model)
    small = forgetting.network
    monkeypatch.setattr(forgetting, "network", lambda shape, *_: small(shape, (4,), 2))
    methods = ["feature_extraction"]
    asked = SimpleNamespace(data_dir=None, seeds=[0, 1], methods=methods, output=tmp_path)
    forgetting.cifar10(asked)
    first = capsys.readouterr().out
    forgetting.cifar10(asked)
    assert len(made) == 2
    assert capsys.readouterr().out == first
    for name in ("old network", "feature extraction"):
        assert re.search(rf"\| {name} \| .*\d+\.\d\d ± \d+\.\d\d \|", first)


@pytest.mark.slow
def test_a_sequence_has_transfer_in_both_directions(forgetting, monkeypatch, capsys):
    monkeypatch.setattr(forgetting, "images_of", lambda *given, **how: (some(16), some(8)))
    monkeypatch.setattr(forgetting, "TASKS", 2)
    forgetting.sequence(SimpleNamespace(data_dir=None, seeds=[0]))
    out = capsys.readouterr().out
    for name in ("FineTuning", "LearningWithoutForgetting"):
        (row,) = re.findall(rf"\| {name} \| (.*) \|", out)
        assert all(np.isfinite(float(cell)) for cell in row.split(" | "))
        assert row.count("|") == 3


def test_the_bias_of_a_digit_is_chosen_without_test_images(monkeypatch, capsys):
    knowledge = script("dark_knowledge")
    x, y = some(60, classes=10)
    # A student that answers the digit in the corner, and 2 instead of 3, unless 3 has 1.6 more.
    scores = 5.0 * np.eye(10)
    scores[3] = 5.0 * np.eye(10)[2] + 3.4 * np.eye(10)[3]
    seen = []

    def distilled(teacher, seed, epochs, images):
        seen.append(images)
        return scores

    monkeypatch.setattr(knowledge, "distilled", distilled)
    monkeypatch.setattr(knowledge, "scores", lambda student, images: student[images[:, 0, 0, 0]])
    x = np.broadcast_to(y[:, None, None, None], (60, 2, 2, 1))
    wrong = np.where(y == 3, 2, y)  # test labels by which no raise would be best
    for test in (y, wrong):
        knowledge.without_a_digit(None, 0, 1, (x, y), (x, test), held_out=20)
    biases = re.findall(r"raised by ([\d.]+): (\d+) errors", capsys.readouterr().out)
    assert biases == [("0", "6"), ("2", "0"), ("0", "0"), ("2", "6")]
    assert len(seen[0]) == 36  # 40 without the threes among them
    assert 3 not in seen[0][:, 0, 0, 0]
