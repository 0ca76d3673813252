"""Two workers of this machine, one of which is killed."""

import csv
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import time
import zipfile

import keras
import numpy as np
import pytest

pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="several workers need TensorFlow"
)
SCRIPT = pathlib.Path(__file__).with_name("workers.py")


def weights(folder, name):
    with np.load(folder / f"{name}.npz") as file:
        return [file[key] for key in file]


def two_workers_give_what_one_process_gives(two, one, name):
    for ours, theirs in zip(weights(two, name), weights(one, "fit"), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=3e-7)
    found, expected = (
        json.loads(path.read_text()) for path in (two / f"{name}.json", one / "fit.json")
    )
    assert found.keys() == expected.keys()
    *evaluated, predicted = found.pop("evaluated")
    *known, answers = expected.pop("evaluated")
    np.testing.assert_allclose(evaluated, known, atol=1e-6)
    np.testing.assert_allclose(predicted, answers, atol=1e-6)
    for key, values in found.items():
        np.testing.assert_allclose(values, expected[key], atol=1e-6, err_msg=key)


def a_job_whose_worker_was_killed_ends_as_if_it_was_not(folder, launched):
    assert re.search(r"worker \d (was ended|failed)", launched.stderr)
    begun = re.findall(r"\[worker 0\] epoch (\d) begins", launched.stdout)
    assert begun == ["0", "1", "1", "2"]  # the second epoch was begun again
    for ours, theirs in zip(weights(folder, "killed"), weights(folder, "fit"), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    found, expected = (json.loads((folder / f"{n}.json").read_text()) for n in ("killed", "fit"))
    assert found == expected


def ctrl_c_on_one_worker_stops_all_in_one_step(folder, launched, one):
    stops = re.findall(
        r"\[worker (\d)\] Interrupted in epoch (\d) after step (\d)", launched.stdout
    )
    assert sorted(stops) == [("0", "2", "2"), ("1", "2", "2")]
    for ours, theirs in zip(weights(folder, "interrupted"), weights(folder, "fit"), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    for ours, theirs in zip(weights(one, "interrupted"), weights(one, "fit"), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def only_the_chief_writes(folder):
    with (folder / "fit.csv").open() as file:
        assert [row["epoch"] for row in csv.DictReader(file)] == ["0", "1", "2"]


def models_are_saved(two):
    """In the scope of the strategy, by stock `ModelCheckpoint` too."""
    folder = two / "checkpoints"
    assert sorted(path.name for path in folder.iterdir()) == [
        *(f"{epoch}{ending}" for epoch in (1, 2, 3) for ending in (".keras", ".weights.h5")),
        "best.weights.h5",
    ]
    model = keras.saving.load_model(folder / "3.keras")
    for path in (None, folder / "3.weights.h5", folder / "best.weights.h5"):
        if path:
            model.set_weights([0 * value for value in model.get_weights()])
            model.load_weights(path)
        for saved, trained in zip(model.get_weights(), weights(two, "fit"), strict=True):
            np.testing.assert_array_equal(saved, trained)


@pytest.mark.slow
def test_two_workers(tmp_path):
    """All that is said of them below; one test, since starting them is what takes the time."""
    two, one = tmp_path / "two", tmp_path / "one"
    two.mkdir()
    one.mkdir()
    plain = {name: value for name, value in os.environ.items() if name != "TF_CONFIG"}
    alone = subprocess.Popen([sys.executable, SCRIPT, one], env={**plain, "KCC_RESTARTS": "0"})
    command = [sys.executable, "-m", "keras_cnn_classics", "launch", "--workers", "2", "--", SCRIPT]
    done = subprocess.run(
        [*command, two], capture_output=True, text=True, check=False, timeout=300, env=plain
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr
    assert alone.wait(timeout=300) == 0
    for name in ("fit", "loop"):
        two_workers_give_what_one_process_gives(two, one, name)
    a_job_whose_worker_was_killed_ends_as_if_it_was_not(two, done)
    ctrl_c_on_one_worker_stops_all_in_one_step(two, done, one)
    only_the_chief_writes(two)
    models_are_saved(two)


@pytest.mark.skipif(sys.platform != "linux", reason="finds the workers in /proc")
@pytest.mark.slow
def test_train_whose_worker_was_killed_ends_as_if_it_was_not(tmp_path):
    """The command, its folder, its checkpoint."""
    environment = {name: value for name, value in os.environ.items() if name != "TF_CONFIG"}

    def start(folder):
        command = [sys.executable, "-m", "keras_cnn_classics", "launch", "--", "train", "LeNet5"]
        command += ["--data", "digits", "--epochs", "2", "--batch-size", "16", "--save-every", "5"]
        return subprocess.Popen(
            [*command, "--output", folder],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=environment,
        )

    plain, killed = (start(tmp_path / name) for name in ("plain", "killed"))
    first = tmp_path / "killed" / "state" / "epoch-0000-step-0000005.npz"
    while killed.poll() is None and not first.exists():
        time.sleep(0.001)
    if killed.poll() is None:
        workers = pathlib.Path(f"/proc/{killed.pid}/task/{killed.pid}/children").read_text()
        os.kill(int(workers.split()[1]), signal.SIGKILL)
    said = [process.communicate(timeout=200)[0] for process in (plain, killed)]
    assert [process.returncode for process in (plain, killed)] == [0, 0], said
    assert ("restart 1" in said[0], "restart 1" in said[1]) == (False, True)
    for path in ("history.csv", "best.keras", "last.keras"):
        one, two = (read(tmp_path / name / path) for name in ("plain", "killed"))
        assert one == two, path
    assert len(list((tmp_path / "killed").iterdir())) == 6  # no state, no scratch file


def read(path):
    """The text of a table, and the part of a checkpoint that has the weights."""
    if path.suffix == ".csv":
        return path.read_text()
    with zipfile.ZipFile(path) as archive:
        return archive.read("model.weights.h5")
