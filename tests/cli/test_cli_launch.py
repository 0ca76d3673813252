"""`launch`, with workers that are small scripts."""

import os
import re
import signal
import subprocess
import sys
import time

import pytest

from tests.marks import slow

LAUNCH = [sys.executable, "-m", "keras_cnn_classics", "launch"]


@pytest.fixture
def script(tmp_path):
    """Makes a script for the workers, which know their `rank` and the number of `restarts`."""

    def make(body):
        path = tmp_path / "worker.py"
        path.write_text(
            "import json, os, pathlib, sys, time\n"
            "config = json.loads(os.environ['TF_CONFIG'])\n"
            "rank, restarts = config['task']['index'], int(os.environ['KCC_RESTARTS'])\n"
            f"{body}\n"
        )
        return str(path)

    return make


def launch(*arguments, **environment):
    done = subprocess.run(
        [*LAUNCH, *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, **environment},
    )
    assert "Traceback" not in done.stderr
    return done


def test_workers_find_each_other(script):
    path = script("print(sys.argv[1:], json.dumps(config)); print('no newline', end='')")
    done = launch("--workers", "3", path, "--data", "digits")
    assert done.returncode == 0, done.stderr
    found = re.findall(r"\[worker (\d)\] \['--data', 'digits'\] (\{.*\})", done.stdout)
    assert sorted(rank for rank, _ in found) == ["0", "1", "2"]
    assert done.stdout.count("no newline\n") == 3
    clusters = {re.search(r'"worker": \[(.*?)\]', config)[1] for _, config in found}
    assert len(clusters) == 1
    assert len(set(re.findall(r"127\.0\.0\.1:\d+", clusters.pop()))) == 3


def test_a_dead_worker_restarts_all(script):
    path = script(
        "print('run', restarts)\n"
        "if restarts: sys.exit()\n"
        "if rank: os.kill(os.getpid(), 9)\n"
        "time.sleep(60)"
    )
    start = time.monotonic()
    done = launch("--workers", "2", "--", path)
    assert done.returncode == 0, done.stderr
    assert time.monotonic() - start < 30  # the sleeping worker was not waited for
    assert sorted(re.findall(r"\[worker \d\] run \d", done.stdout)) == [
        "[worker 0] run 0",
        "[worker 0] run 1",
        "[worker 1] run 0",
        "[worker 1] run 1",
    ]
    assert "worker 1 was ended by SIGKILL" in done.stderr


@pytest.mark.parametrize(
    ("body", "code", "runs"),
    [
        ("sys.exit(3 * rank)", 3, 2),  # at once, twice in the same way
        slow("sys.exit(2)", 2, 1),  # wrong usage
        slow("sys.exit(3 + restarts)", 5, 3),  # each time in another way, up to --restarts
        slow("os.kill(os.getpid(), 9)", 137, 2),
    ],
)
def test_a_job_that_cannot_work_is_given_up(script, body, code, runs):
    done = launch("--restarts", "2", "--", script(f"print('run'); {body}"))
    assert done.returncode == code
    assert 1 <= done.stdout.count("[worker 0] run") <= runs
    assert done.stderr.count("all workers are stopped") == runs


def test_ctrl_c_ends_all_workers_and_the_job(script, tmp_path):
    path = script(
        "mark = pathlib.Path(sys.argv[1]) / str(rank)\n"
        "try:\n"
        "    mark.touch()\n"
        "    time.sleep(60)\n"
        "except KeyboardInterrupt:\n"
        "    print('saved')"
    )
    process = subprocess.Popen(
        [*LAUNCH, "--", path, str(tmp_path)], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    end = time.monotonic() + 30
    while not all((tmp_path / str(rank)).exists() for rank in (0, 1)):
        assert time.monotonic() < end
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    out, errors = process.communicate(timeout=30)
    assert process.returncode == 130
    assert sorted(out.decode().split("\n")) == ["", "[worker 0] saved", "[worker 1] saved"]
    # TensorFlow may have said something before, as it begins.
    assert errors.decode().strip().splitlines()[-1] == "Interrupted."
    assert "Traceback" not in errors.decode()


@pytest.mark.slow
def test_gpus_are_dealt_out(script):
    path = script("print(os.environ['CUDA_VISIBLE_DEVICES'])")
    done = launch("--", path, CUDA_VISIBLE_DEVICES="0,3,5,7")
    assert sorted(done.stdout.splitlines()) == ["[worker 0] 0,3", "[worker 1] 5,7"]
    done = launch("--workers", "3", "--", path, CUDA_VISIBLE_DEVICES="0,3,5,7")
    assert done.returncode == 2
    assert "names 4 GPUs" in done.stderr


@pytest.mark.slow
def test_launches_commands_of_this_program():
    done = launch("--", "--version")
    assert done.returncode == 0
    assert re.search(r"\[worker 1\] keras-cnn-classics \d", done.stdout)
