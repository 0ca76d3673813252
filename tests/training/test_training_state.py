"""A run that was killed goes on bit by bit as one that was not."""

import os
import random
import signal
import subprocess
import sys
import textwrap
import threading

import keras
import numpy as np
import pytest

from keras_cnn_classics.training import (
    EarlyStopping,
    FiniteLoss,
    PlateauDecay,
    TrainingState,
    WeightAveraging,
    _snapshot,
)
from tests.marks import slow, slow_compiled

RNG = np.random.default_rng(0)
X = RNG.normal(size=(40, 6)).astype("float32")
Y = RNG.integers(0, 3, 40)


def network(seed=1):
    """Dropout, batch normalization, an optimizer with slots: all that has a state."""
    keras.utils.set_random_seed(seed)
    model = keras.Sequential(
        [
            keras.Input((6,)),
            keras.layers.Dense(8, name="first"),
            keras.layers.BatchNormalization(name="norm"),
            keras.layers.Dropout(0.5, seed=7, name="dropout"),
            keras.layers.Dropout(0.1, name="torch_dropout"),  # of no seed: PyTorch draws it itself
            keras.layers.Dense(3, activation="softmax", name="last"),
        ]
    )
    model.compile(
        keras.optimizers.Adam(0.05), "sparse_categorical_crossentropy", metrics=["accuracy"]
    )
    return model


class Killed(Exception):
    """Stands for a kill."""


class Kill(keras.callbacks.Callback):
    """Ends a run after a step, or within validation, as hard as a process can survive."""

    def __init__(self, epoch, step=None, in_validation=False):
        super().__init__()
        self.place, self.in_validation, self.epoch = (epoch, step), in_validation, None

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch
        if self.place == (epoch, None) and not self.in_validation:
            raise Killed

    def on_train_batch_end(self, batch, logs=None):
        if self.place == (self.epoch, batch):
            raise Killed

    def on_test_batch_end(self, batch, logs=None):
        if self.in_validation and self.epoch == self.place[0]:
            raise Killed


def callbacks():
    return [
        WeightAveraging(decay=0.5),
        EarlyStopping(patience=9, restore_best_weights=True),
        PlateauDecay(patience=1, factor=0.5, restore_best_weights=True, warmup_epochs=1),
        FiniteLoss(),
    ]


def run(folder, kill=None, epochs=5, save_freq="epoch", model=None, **settings):
    model = model or network()
    state = TrainingState(folder, save_freq=save_freq)
    extra = [kill] if kill else []
    arguments = {
        "batch_size": 8,
        "shuffle": False,
        "verbose": 0,
        "validation_data": (X[::2], Y[::2]),
        **settings,
    }
    model.fit(X, Y, epochs=epochs, callbacks=[*extra, *callbacks(), state], **arguments)
    return model, state


def assert_same(one, other):
    for ours, theirs in zip(one[0].variables, other[0].variables, strict=True):
        np.testing.assert_array_equal(*map(keras.ops.convert_to_numpy, (ours, theirs)))
    for ours, theirs in zip(one[0].optimizer.variables, other[0].optimizer.variables, strict=True):
        np.testing.assert_array_equal(*map(keras.ops.convert_to_numpy, (ours, theirs)))
    assert one[0].history.history == other[0].history.history
    assert one[0].history.epoch == other[0].history.epoch


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return run(tmp_path_factory.mktemp("whole"))


@pytest.mark.parametrize(
    ("kill", "save_freq", "resumed"),
    [
        (Kill(2), "epoch", (2, 0)),
        slow_compiled(Kill(0, 4), 2, (0, 4)),
        (Kill(2, in_validation=True), 5, (2, 5)),
        slow(Kill(2, 3), "epoch", (2, 0)),
        slow(Kill(3, 3), 2, (3, 2)),
        slow(Kill(1, 4), 5, (1, 0)),
        slow(Kill(4, in_validation=True), 2, (4, 4)),
    ],
)
def test_goes_on_bit_by_bit(tmp_path, whole, kill, save_freq, resumed):
    with pytest.raises(Killed):
        run(tmp_path, kill, save_freq=save_freq)
    again = run(tmp_path, save_freq=save_freq)
    assert again[1].resumed == resumed
    assert_same(again, whole)


@pytest.mark.slow_compiled
@pytest.mark.parametrize("kill", [Kill(1, 4), slow(Kill(2))])
def test_arrays_that_keras_shuffles(tmp_path, kill):
    whole = run(tmp_path / "whole", shuffle=True)
    with pytest.raises(Killed):
        run(tmp_path / "part", kill, save_freq=2, shuffle=True)
    assert_same(run(tmp_path / "part", save_freq=2, shuffle=True), whole)


@pytest.mark.slow_compiled
def test_killed_twice(tmp_path, whole):
    for kill in (Kill(1, 2), Kill(3, 1)):
        with pytest.raises(Killed):
            run(tmp_path, kill, save_freq=2)
    assert_same(run(tmp_path, save_freq=2), whole)


@pytest.mark.skipif(keras.backend.backend() == "torch", reason="Keras has it not on PyTorch")
def test_several_steps_in_one_call(tmp_path):
    def compiled():
        model = network()
        model.compile(
            keras.optimizers.SGD(0.05, momentum=0.9),
            "sparse_categorical_crossentropy",
            steps_per_execution=2,
        )
        return model

    whole = run(tmp_path / "whole", model=compiled())
    with pytest.raises(Killed):
        run(tmp_path / "part", Kill(2, 3), save_freq=2, model=compiled())
    again = run(tmp_path / "part", save_freq=2, model=compiled())
    assert again[1].resumed == (2, 2)
    assert_same(again, whole)


@pytest.mark.slow_compiled
def test_a_run_that_is_over_stays_as_it_is(tmp_path, whole):
    first = run(tmp_path)
    again = run(tmp_path)
    assert again[1].resumed == (5, 0)
    assert_same(again, first)
    longer = run(tmp_path, epochs=7)
    assert longer[0].history.epoch == list(range(7))


@pytest.mark.slow_compiled
def test_a_run_that_was_stopped_stays_stopped(tmp_path):
    def stopped():
        model = network()
        callbacks = [EarlyStopping(patience=1, min_delta=100, restore_best_weights=True)]
        callbacks.append(TrainingState(tmp_path))
        model.fit(
            X, Y, epochs=9, verbose=0, callbacks=callbacks, validation_data=(X, Y), shuffle=False
        )
        return model, callbacks[0]

    first, again = stopped(), stopped()
    assert first[1].stopped_epoch == again[1].stopped_epoch == 1
    assert first[1].reason == again[1].reason
    assert_same(first, again)


@pytest.mark.slow_compiled
def test_the_next_fit_begins_at_its_beginning(tmp_path):
    model, _ = run(tmp_path)
    model, _ = run(tmp_path)
    assert model.fit(X, Y, epochs=2, verbose=0).epoch == [0, 1]


@pytest.mark.slow_compiled
def test_random_numbers_of_a_shuffle_by_numpy(tmp_path):
    class Shuffled(keras.utils.PyDataset):
        """Draws its order from NumPy and Python when an epoch begins."""

        def __len__(self):
            return 4

        def __getitem__(self, at):
            if at == 0:
                self.order = np.random.permutation(40)  # noqa: NPY002
                self.shift = random.random()
            chosen = self.order[at * 10 : at * 10 + 10]
            return X[chosen] + self.shift, Y[chosen]

    def go(folder, kill=None):
        model = network()
        extra = [kill] if kill else []
        callbacks = [*extra, TrainingState(folder, save_freq=2)]
        model.fit(Shuffled(), epochs=3, verbose=0, callbacks=callbacks, shuffle=False)
        return model, callbacks[-1]

    whole = go(tmp_path / "whole")
    with pytest.raises(Killed):
        go(tmp_path / "part", Kill(1, 2))
    again = go(tmp_path / "part")
    assert again[1].resumed == (1, 2)
    assert_same(again, whole)


class Data:
    """A source of batches that can seek, and writes down what it gave."""

    def __init__(self):
        self.sought, self.position = [], self

    def seek(self, epoch, step=0, *, hold=False):
        self.sought.append((epoch, step, hold))


@pytest.mark.slow_compiled
def test_data_are_told_where_to_begin(tmp_path):
    for kill in (Kill(1, 3), None):
        data = Data()
        callbacks = [*([kill] if kill else []), TrainingState(tmp_path, data, save_freq=2)]
        fit = {"epochs": 3, "batch_size": 8, "shuffle": False, "verbose": 0}
        try:
            network().fit(X, Y, callbacks=callbacks, **fit)
        except Killed:
            assert data.sought == [(0, 0, True), (1, 0, True)]
    assert data.sought == [(1, 2, True), (2, 0, True), (3, 0, False)]


@pytest.mark.slow_compiled
@pytest.mark.parametrize(
    "damage",
    ["cut", "altered", *map(slow, ("empty", "html"))],
)
def test_a_damaged_state_is_left_out(tmp_path, whole, damage, caplog):
    with pytest.raises(Killed):
        run(tmp_path, Kill(3, 1))
    last, before = sorted(tmp_path.iterdir(), reverse=True)
    content = bytearray(last.read_bytes())
    middle = len(content) // 2
    altered = content[:middle] + bytes(64) + content[middle + 64 :]
    last.write_bytes(
        {"cut": content[:-100], "altered": altered, "empty": b"", "html": b"<html>"}[damage]
    )
    again = run(tmp_path)
    assert again[1].resumed == (2, 0)
    assert before.name.startswith("epoch-0002")
    assert "damaged" in caplog.text
    assert_same(again, whole)


def test_all_states_damaged(tmp_path):
    (tmp_path / "epoch-0001-step-0000000.npz").write_bytes(b"nothing")
    with pytest.raises(OSError, match=r"All states in .* are damaged .*Delete them"):
        run(tmp_path)


@pytest.mark.slow_compiled
def test_only_two_states_are_kept_and_nothing_else(tmp_path):
    run(tmp_path, save_freq=2)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "epoch-0004-step-0000004.npz",
        "epoch-0005-step-0000000.npz",
    ]


@pytest.mark.slow_compiled
def test_a_full_disk_does_not_end_training(tmp_path, monkeypatch, caplog):
    def fail(path, state):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(_snapshot, "write", fail)
    model, state = run(tmp_path)
    assert model.history.epoch == list(range(5))
    assert state.latest is None
    assert "No space left on device" in caplog.text


@pytest.mark.slow_compiled
def test_another_model_is_refused_and_not_changed(tmp_path):
    run(tmp_path, epochs=1)
    other = keras.Sequential([keras.Input((6,)), keras.layers.Dense(3, activation="softmax")])
    other.compile("sgd", "sparse_categorical_crossentropy")
    before = other.get_weights()
    with pytest.raises(ValueError, match="from another model: it has"):
        run(tmp_path, model=other)
    for one, two in zip(before, other.get_weights(), strict=True):
        np.testing.assert_array_equal(one, two)


@pytest.mark.slow_compiled
def test_other_callbacks_are_refused(tmp_path):
    run(tmp_path, epochs=1)
    with pytest.raises(ValueError, match=r"run with the callbacks.*Received: \[\]"):
        network().fit(X, Y, verbose=0, callbacks=[TrainingState(tmp_path)])


def test_it_must_be_the_last(tmp_path):
    with pytest.raises(ValueError, match=r"must be the last callback.*FiniteLoss"):
        network().fit(X, Y, verbose=0, callbacks=[TrainingState(tmp_path), FiniteLoss()])


@pytest.mark.slow_compiled
def test_callbacks_of_a_fit_that_failed_do_not_count(tmp_path):
    model = network()
    with pytest.raises(Killed):
        run(tmp_path / "one", Kill(1), model=model)
    stopping = EarlyStopping(patience=3)
    state = TrainingState(tmp_path / "two")
    model.fit(X, Y, epochs=1, verbose=0, validation_data=(X, Y), callbacks=[stopping, state])
    assert state.companions() == [stopping, state]
    assert state.latest is not None


@pytest.mark.parametrize("settings", [{"save_freq": 0}, {"save_freq": "batch"}, {"data": X}])
def test_wrong_arguments(tmp_path, settings):
    with pytest.raises(ValueError, match="Received"):
        TrainingState(tmp_path, **settings)


class Interrupt(keras.callbacks.Callback):
    """Presses Ctrl-C at a place."""

    def __init__(self, epoch, step=None, in_validation=False):
        super().__init__()
        self.place, self.in_validation, self.epoch = (epoch, step), in_validation, None

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_begin(self, batch, logs=None):
        if self.place == (self.epoch, batch) and not self.in_validation:
            os.kill(os.getpid(), signal.SIGINT)

    def on_test_batch_begin(self, batch, logs=None):
        if self.in_validation and self.place[0] == self.epoch:
            os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.slow_compiled
@pytest.mark.parametrize(
    ("place", "resumed"),
    [
        (Interrupt(1, 2), (1, 3)),
        slow(Interrupt(0, 0), (0, 1)),
        (Interrupt(2, in_validation=True), (2, 5)),
    ],
)
def test_ctrl_c_finishes_the_step_and_saves(tmp_path, whole, place, resumed):
    handler = signal.getsignal(signal.SIGINT)
    step = resumed[1]
    with pytest.raises(KeyboardInterrupt, match=f"epoch {resumed[0] + 1} after step {step}.*run"):
        run(tmp_path, place)
    assert signal.getsignal(signal.SIGINT) is handler
    again = run(tmp_path)
    assert again[1].resumed == resumed
    assert_same(again, whole)


def test_ctrl_c_in_the_middle_of_a_step(tmp_path, whole):
    class Within(keras.callbacks.Callback):
        """Presses Ctrl-C while a step is under way; on JAX the variables are then empty."""

        def on_train_begin(self, logs=None):
            original, self.calls = self.model.train_function, 0

            def step(*arguments):
                self.calls += 1
                result = original(*arguments)
                if self.calls == 8:
                    signal.raise_signal(signal.SIGINT)
                return result

            self.model.train_function = step

    with pytest.raises(KeyboardInterrupt, match="epoch 2 after step 3"):
        run(tmp_path, Within())
    assert_same(run(tmp_path), whole)


@pytest.mark.slow_compiled
def test_a_state_within_an_epoch_that_is_shorter_now(tmp_path):
    with pytest.raises(Killed):
        run(tmp_path, Kill(1, 4), save_freq=1)
    with pytest.raises(ValueError, match=r"saved after step 4 of an epoch, and this epoch has 2"):
        run(tmp_path, save_freq=1, batch_size=20)


@pytest.mark.skipif(keras.backend.backend() == "torch", reason="Keras has it not on PyTorch")
@pytest.mark.slow
def test_the_last_call_has_fewer_steps(tmp_path):
    def compiled():
        model = network()
        model.compile("sgd", "sparse_categorical_crossentropy", steps_per_execution=3)
        return model

    whole = run(tmp_path / "whole", model=compiled())
    with pytest.raises(Killed):
        run(tmp_path / "part", Kill(1, in_validation=True), save_freq=2, model=compiled())
    again = run(tmp_path / "part", save_freq=2, model=compiled())
    assert again[1].resumed == (1, 5)
    assert_same(again, whole)


@pytest.mark.slow_compiled
def test_what_a_killed_process_has_left_half_written_is_taken_away(tmp_path):
    left = tmp_path / ".writing-1-epoch-0001-step-0000000.npz"
    left.write_bytes(b"half")
    run(tmp_path, epochs=1)
    assert not left.exists()


@pytest.mark.slow_compiled
def test_ctrl_c_after_a_fit_that_failed_is_pythons_own(tmp_path):
    handler = signal.getsignal(signal.SIGINT)
    with pytest.raises(Killed):
        run(tmp_path, Kill(1))
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is handler


@pytest.mark.slow_compiled
def test_training_in_a_thread(tmp_path):
    seen = []
    thread = threading.Thread(target=lambda: seen.append(run(tmp_path, epochs=1)))
    thread.start()
    thread.join()
    assert seen[0][0].history.epoch == [0]


def test_a_loss_that_is_not_finite(tmp_path):
    model = network()
    x = X.copy()
    x[30] = np.nan
    state = TrainingState(tmp_path, save_freq=2)
    with pytest.raises(
        FloatingPointError,
        match=r"nan in epoch 1, step 4, at a learning rate of 0\.05.*0000002",
    ):
        model.fit(x, Y, batch_size=8, shuffle=False, verbose=0, callbacks=[FiniteLoss(), state])
    assert state.latest.name == "epoch-0000-step-0000002.npz"


@pytest.mark.slow_compiled
def test_weights_that_are_not_finite_are_no_good_state(tmp_path, caplog):
    model = network()

    class Ruin(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            if epoch == 1:
                self.model.set_weights([np.full(w.shape, np.inf) for w in self.model.weights])

    state = TrainingState(tmp_path)
    with pytest.raises(FloatingPointError, match=r"epoch 3, step 1, .*epoch-0001-step-0000000"):
        model.fit(X, Y, epochs=5, shuffle=False, verbose=0, callbacks=[Ruin(), FiniteLoss(), state])
    assert "not finite" in caplog.text


@pytest.mark.slow_compiled
def test_a_loss_that_is_looked_at_now_and_then():
    x = X.copy()
    x[10] = np.nan
    with pytest.raises(FloatingPointError, match="epoch 1, step 4"):
        network().fit(x, Y, batch_size=8, shuffle=False, verbose=0, callbacks=[FiniteLoss(4)])
    with pytest.raises(FloatingPointError, match="epoch 1, step 5"):
        network().fit(x, Y, batch_size=8, shuffle=False, verbose=0, callbacks=[FiniteLoss(9)])


@pytest.mark.skipif(keras.backend.backend() == "torch", reason="Keras has it not on PyTorch")
def test_a_frequency_that_steps_in_one_call_skip(tmp_path):
    model = network()
    model.compile("sgd", "sparse_categorical_crossentropy", steps_per_execution=2)
    seen = []

    class Seen(TrainingState):
        def _save(self):
            seen.append((self._epoch, self._steps))
            super()._save()

    model.fit(
        X[:36], Y[:36], batch_size=4, shuffle=False, verbose=0, callbacks=[Seen(tmp_path, None, 3)]
    )
    assert seen == [(0, 4), (0, 8), (1, 0)]


def test_a_snapshot_keeps_every_bit(tmp_path):
    import ml_dtypes

    state = {
        "floats": [0.1, 1e-320, float("inf")],
        "arrays": {"half": np.array([[1.5, -2]], ml_dtypes.bfloat16), "none": None},
        "scalar": np.array(3, "int64"),
        "bfloat16": np.array(2.5, ml_dtypes.bfloat16),
        "numpy": np.float32(0.1),
        "text": "é",
    }
    _snapshot.write(tmp_path / "a.npz", state)
    back = _snapshot.read(tmp_path / "a.npz")
    assert back["floats"] == state["floats"]
    assert back["numpy"] == float(np.float32(0.1))
    assert back["text"] == "é"
    for name in ("scalar", "bfloat16"):
        assert back[name].dtype == state[name].dtype
        assert back[name] == state[name]
    np.testing.assert_array_equal(back["arrays"]["half"], state["arrays"]["half"])
    assert back["arrays"]["none"] is None


@pytest.mark.slow_compiled
def test_no_flipped_bit_goes_unseen(tmp_path):
    path = tmp_path / "a.npz"
    state = {"array": RNG.normal(size=50), "number": 0.5}
    _snapshot.write(path, state)
    content = path.read_bytes()
    seen = 0
    for at in range(8 * len(content)):
        altered = bytearray(content)
        altered[at // 8] ^= 1 << at % 8
        path.write_bytes(altered)
        try:
            back = _snapshot.read(path)
        except _snapshot.DamagedError:
            seen += 1
        else:  # it was in what nobody reads
            assert back["number"] == state["number"]
            np.testing.assert_array_equal(back["array"], state["array"])
    assert seen > 4 * len(content)


SCRIPT = """
import os, sys, time
import keras, numpy as np
import tests.conftest
tests.conftest.leave_graphs_as_they_are()
from tests.training.test_training_state import X, Y, callbacks, network
from keras_cnn_classics.training import TrainingState

class Slow(keras.callbacks.Callback):
    def on_train_batch_end(self, batch, logs=None):
        print("step", flush=True)
        time.sleep(0.01)

model = network()
state = TrainingState(sys.argv[1], save_freq=2)
model.fit(X, Y, epochs=5, batch_size=8, shuffle=False, verbose=0,
          validation_data=(X[::2], Y[::2]), callbacks=[Slow(), *callbacks(), state])
np.savez(sys.argv[2], *model.get_weights(), history=repr(model.history.history))
"""


@pytest.mark.slow
def test_sigkill(tmp_path, whole):
    """A process that is killed at some moment, as the system does it, twice."""
    command = [sys.executable, "-c", textwrap.dedent(SCRIPT), tmp_path / "run", tmp_path / "w.npz"]
    for steps in (7, 9):
        process = subprocess.Popen(
            command, cwd=os.path.dirname(__file__) + "/../..", stdout=subprocess.PIPE
        )
        for _ in range(steps):
            process.stdout.readline()
        process.kill()
        process.wait()
        process.stdout.close()
    subprocess.run(command, check=True, cwd=os.path.dirname(__file__) + "/../..", timeout=300)
    with np.load(tmp_path / "w.npz") as file:
        assert str(file["history"]) == repr(whole[0].history.history)
        for at, weight in enumerate(whole[0].get_weights()):
            np.testing.assert_array_equal(file[f"arr_{at}"], weight)
