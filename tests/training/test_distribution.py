"""Two devices give what one gives: the processor, split in two.

Tests with the fixture `two_devices` are run by `test_two_devices.py`.
"""

import functools
import json
import pathlib

import keras
import numpy as np
import pytest
from keras import layers, optimizers

import keras_cnn_classics as kcc
from keras_cnn_classics import training
from keras_cnn_classics.training import distribution
from keras_cnn_classics.training.distribution import devices, loop
from tests.marks import slow

BACKEND = keras.backend.backend()
needs_tensorflow = pytest.mark.skipif(BACKEND != "tensorflow", reason="about tf.distribute")
needs_jax = pytest.mark.skipif(BACKEND != "jax", reason="about keras.distribution")
BATCH = 16


@pytest.fixture
def scope(two_devices):
    """The scope of two devices."""
    with two_devices.scope():
        yield two_devices


@pytest.fixture
def images():
    random = np.random.default_rng(0)
    x = random.normal(size=(64, 8, 8, 3)).astype("float32")
    return x, random.integers(0, 4, len(x)).astype("int32")


def network(norm=False, dropout=0.0):
    """A network whose weights are equal each time."""
    keras.utils.set_random_seed(1)
    inputs = keras.Input((8, 8, 3))
    x = layers.Conv2D(8, 3, padding="same", kernel_regularizer="l2")(inputs)
    if norm:
        x = layers.BatchNormalization(momentum=0.8)(x)
    x = layers.GlobalAveragePooling2D()(layers.ReLU()(x))
    if dropout:
        x = layers.Dropout(dropout, seed=3)(x)
    return keras.Model(inputs, layers.Dense(4, activation="softmax", dtype="float32")(x))


def compiled(optimizer=None, **options):
    model = network(**options)
    optimizer = optimizer or optimizers.SGD(0.1, momentum=0.9)
    model.compile(optimizer, "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def fit(model, x, y, **options):
    given = {"batch_size": BATCH, "epochs": 2, "shuffle": False, "verbose": 0, **options}
    return model.fit(x, y, **given).history


def batches(x, y, **options):
    import tensorflow as tf

    return tf.data.Dataset.from_tensor_slices((x, y)).batch(BATCH, **options)


def assert_same(model, one, atol=3e-7):
    for ours, theirs in zip(model.get_weights(), one.get_weights(), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=atol)


def groups():
    rest = optimizers.SGD(0.1, global_clipnorm=0.02)
    head = optimizers.Adam(0.01, clipvalue=0.001)
    return optimizers.MultiOptimizer(optimizers.OptimizerMap(rest, {"dense.*": head}))


CASES = {
    "momentum": (None, {}),
    "batch-norm": (None, {"norm": True}),
    "clipnorm": (lambda: optimizers.SGD(0.1, clipnorm=0.02), {}),
    "global-clipnorm": (lambda: optimizers.Adam(0.01, global_clipnorm=0.02), {}),
    "clipvalue": (lambda: optimizers.SGD(0.1, clipvalue=0.005), {"norm": True}),
    "average": (lambda: optimizers.AdamW(0.01, use_ema=True, ema_momentum=0.5), {}),
    "loss-scale": (lambda: optimizers.LossScaleOptimizer(optimizers.SGD(0.1, clipnorm=0.02)), {}),
    "groups": (groups, {}),
}
# What the others do one by one.
TOGETHER = ("batch-norm", "global-clipnorm", "average")


@pytest.mark.parametrize(
    "case",
    [one if one in TOGETHER else slow(one) for one in CASES],
)
def test_training_equals_that_of_one_device(two_devices, images, case):
    optimizer, options = CASES[case]
    if case == "groups" and not hasattr(optimizers, "MultiOptimizer"):
        pytest.skip("this Keras has no MultiOptimizer")
    one = compiled(optimizer and optimizer(), **options)
    expected = fit(one, *images, validation_data=images)
    with two_devices.scope():
        model = distribution.prepare(compiled(optimizer and optimizer(), **options))
        history = fit(model, *images, validation_data=images)
    # Adam's first steps are the signs of gradients, which enlarge rounding errors.
    assert_same(model, one, atol=3e-6 if "Adam" in str(optimizer and optimizer()) else 3e-7)
    assert history.keys() == expected.keys()
    for name, values in history.items():
        np.testing.assert_allclose(values, expected[name], atol=2e-6, err_msg=name)


def in_double(layer):
    return type(layer).from_config({**layer.get_config(), "dtype": "float64"})


@pytest.mark.slow
def test_a_network_of_ours_on_one_iterator(two_devices):
    """All that a classic has, on one iterator for the run.

    In a deep network, normalization and ReLUs make rounding errors grow from step to step. In
    double precision they stay far below what any mistake would make.
    """
    double = BACKEND == "tensorflow"  # JAX has none unless its whole process is set to it
    random = np.random.default_rng(0)
    x = random.normal(size=(32, 32, 32, 3))
    y = random.integers(0, 4, 32).astype("int32")

    def train():
        keras.utils.set_random_seed(1)
        model = kcc.ResNet20(weights=None, classes=4)
        if double:
            model = keras.models.clone_model(model, clone_function=in_double)
        model.compile(optimizers.SGD(0.1, global_clipnorm=1.0), "sparse_categorical_crossentropy")
        distribution.prepare(model)
        endless = batches(x if double else x.astype("float32"), y).repeat()
        model.fit(endless, steps_per_epoch=2, epochs=2, shuffle=False, verbose=0)
        return model

    one = train()
    with two_devices.scope():
        model = train()
    assert_same(model, one, atol=1e-10 if double else 1e-3)


@needs_tensorflow
def test_uneven_batches_are_left_out_of_training_only(two_devices, images):
    x, y = images
    one = compiled(norm=True)
    expected = fit(one, x[:48], y[:48])
    with two_devices.scope():
        model = distribution.prepare(compiled(norm=True))
    history = fit(model, x[:59], y[:59])  # the last batch is one of 11 images
    assert_same(model, one)
    np.testing.assert_allclose(history["loss"], expected["loss"], atol=1e-6)
    rest = {"batch_size": BATCH, "verbose": 0}
    found = model.evaluate(x[:59], y[:59], **rest)
    np.testing.assert_allclose(found, one.evaluate(x[:59], y[:59], **rest), atol=1e-6)
    np.testing.assert_allclose(
        model.predict(x[:59], **rest), one.predict(x[:59], **rest), atol=1e-6
    )
    one, model = compiled(), None
    fit(one, x[:54], y[:54])
    with two_devices.scope():
        model = distribution.prepare(compiled())
    fit(model, x[:54], y[:54])  # the last one has 6 images, which divide by 2
    assert_same(model, one)


def test_batches_that_do_not_divide_are_refused(scope, images):
    model = distribution.prepare(compiled())
    with pytest.raises(ValueError, match="must divide by the 2"):
        fit(model, *images, batch_size=15)


@needs_jax
def test_jax_evaluates_uneven_batches(two_devices, images):
    x, y = images
    one = compiled(norm=True)
    expected = fit(one, x, y, validation_data=(x[:59], y[:59]))
    with two_devices.scope():
        model = distribution.prepare(compiled(norm=True))
        history = fit(model, x, y, validation_data=(x[:59], y[:59]))
        predicted = model.predict(x[:59], batch_size=BATCH, verbose=0)
    assert_same(model, one)
    np.testing.assert_allclose(history["val_loss"], expected["val_loss"], atol=1e-6)
    answers = one.predict(x[:59], batch_size=BATCH, verbose=0)
    np.testing.assert_allclose(predicted, answers, atol=1e-6)


@needs_tensorflow
def test_each_replica_draws_for_itself(scope):
    def masks(prepared):
        inputs = keras.Input((100,))
        outputs = layers.Dropout(0.5, seed=3)(layers.GaussianNoise(1.0, seed=4)(inputs))
        model = keras.Model(inputs, outputs)
        if prepared:
            distribution.prepare(model)
        call = scope.run
        draws = [
            [np.array(one) for one in scope.experimental_local_results(found)]
            for found in (call(lambda: model(np.ones((1, 100)), training=True)) for _ in range(2))
        ]
        states = [v for v in model.variables if "seed_generator" in v.path]
        assert len(states) == 2
        for state in states:  # they are saved and restored as on one device
            values = [np.array(one) for one in state.value.values]
            np.testing.assert_array_equal(values[0], values[1])
        return draws

    first, second = masks(prepared=True)
    assert not np.array_equal(first[0] == 0, first[1] == 0)
    assert not np.array_equal(first[0], second[0])
    assert 20 < np.sum(first[1] == 0) < 80
    again, _ = masks(prepared=True)
    np.testing.assert_array_equal(first, again)
    alone, _ = masks(prepared=False)
    np.testing.assert_array_equal(alone[0], first[0])
    np.testing.assert_array_equal(alone[0], alone[1])  # what is wrong in Keras


@needs_tensorflow
@pytest.mark.parametrize("bad", [2, 12])
def test_float16_overflow_on_any_replica_skips_the_step(scope, bad):
    keras.config.set_dtype_policy("mixed_float16")
    try:
        inputs = keras.Input((4,))
        x = layers.Dense(3, activation="softmax", dtype="float32")(layers.Dense(8)(inputs))
        model = keras.Model(inputs, x)
        model.compile("sgd", "sparse_categorical_crossentropy")
    finally:
        keras.config.set_dtype_policy("float32")
    distribution.prepare(model)
    x = np.random.default_rng(0).normal(size=(BATCH, 4)).astype("float32")
    y = np.zeros(BATCH, "int32")
    before = model.get_weights()
    spoilt = x.copy()
    spoilt[bad] = 6e4  # 12 is in the share of the second replica
    fit(model, spoilt, y, epochs=1)
    np.testing.assert_array_equal(model.get_weights()[0], before[0])
    scale = model.optimizer.dynamic_scale
    assert [float(one) for one in scale.value.values] == [2.0**14, 2.0**14]
    fit(model, x, y, epochs=1)
    assert not np.array_equal(model.get_weights()[0], before[0])


REFUSED = {
    "steps_per_execution": ({"steps_per_execution": 2}, {}),
    "jit_compile": ({"jit_compile": True}, {}),
    "larger batch": ({}, {"gradient_accumulation_steps": 2}),
    "SwapEMAWeights": ({}, {"use_ema": True, "ema_overwrite_frequency": 3}),
}


@needs_tensorflow
@pytest.mark.parametrize("words", REFUSED)
def test_what_keras_cannot_do_is_refused(scope, images, words):
    settings, options = REFUSED[words]
    model = distribution.prepare(network())
    model.compile(optimizers.SGD(0.1, **options), "sparse_categorical_crossentropy", **settings)
    with pytest.raises(ValueError, match=words):
        distribution.check(model)
    with pytest.raises(ValueError, match=words):
        fit(model, *images)
    if "optimizer" not in words:
        wrapped = optimizers.LossScaleOptimizer(optimizers.SGD(0.1, **options))
        model.compile(wrapped, "sparse_categorical_crossentropy", **settings)
        with pytest.raises(ValueError, match=words):
            distribution.prepare(model)


def test_what_is_made_outside_of_the_scope_is_refused(two_devices):
    outside = compiled()
    optimizer = optimizers.SGD(0.1)
    with two_devices.scope():
        for model in (outside, compiled(optimizer)):
            with pytest.raises(ValueError, match="in the scope"):
                distribution.prepare(model)
        inside = network()
    inside.compile("sgd", "sparse_categorical_crossentropy")
    if BACKEND == "tensorflow":
        with pytest.raises(ValueError, match="in the scope"):
            distribution.check(inside)


@needs_tensorflow
def test_keras_distribution_is_refused_on_tensorflow():
    model = compiled()
    ignored = keras.distribution.DataParallel(devices=["cpu:0", "cpu:1"]).scope()
    with ignored, pytest.raises(ValueError, match=r"ignores keras\.distribution"):
        distribution.prepare(model)


def test_a_prepared_model_is_saved_as_any(scope, images, tmp_path):
    model = distribution.prepare(distribution.prepare(compiled(norm=True, dropout=0.5)))
    fit(model, *images)
    model.save(tmp_path / "model.keras")
    with keras.saving.custom_object_scope({}):
        loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert_same(model, loaded, atol=0)
    assert not any(getattr(layer, "synchronized", False) for layer in loaded.layers)


@needs_tensorflow
def test_batch_norm_by_replica_is_a_choice(two_devices, images):
    one = compiled(norm=True)
    fit(one, *images)
    with two_devices.scope():
        model = distribution.prepare(compiled(norm=True), synchronize_batch_norm=False)
    fit(model, *images)
    with pytest.raises(AssertionError):
        assert_same(model, one, atol=1e-3)


class Recorder(keras.callbacks.Callback):
    """Writes down what happens, and stops in an epoch."""

    def __init__(self, stop):
        super().__init__()
        self.events, self.stop = [], stop

    def __getattribute__(self, name):
        if name.startswith("on_"):
            return lambda *args, **kwargs: self.record(name, *args, **kwargs)
        return super().__getattribute__(name)

    def record(self, name, step=None, logs=None):
        logs = step if isinstance(step, dict) else logs
        numbered = step if isinstance(step, int) else None
        self.events.append((name, numbered, sorted(logs or ())))
        if (name, numbered) == ("on_epoch_end", self.stop):
            self.model.stop_training = True


@needs_tensorflow
@pytest.mark.parametrize("steps", [slow(None), 3])
def test_the_plain_loop_does_as_fit_does(two_devices, images, steps):
    """The same weights, history and calls of callbacks."""
    results = []
    for own_loop in (False, True):
        with two_devices.scope():
            model = distribution.prepare(compiled(norm=True))
        data = batches(*images, drop_remainder=True)
        recorder = Recorder(stop=2)
        options = {
            "epochs": 5,
            "initial_epoch": 1,
            "verbose": 0,
            "steps_per_epoch": steps,
            "callbacks": [recorder],
            "validation_data": batches(images[0][:59], images[1][:59]),
        }
        if steps:
            data = data.repeat()
        if own_loop:
            history = distribution.fit(model, data, **options)
        else:
            history = model.fit(data, shuffle=False, **options)
        results.append((model, history.history, recorder.events))
    (model, history, events), (ours, our_history, our_events) = results
    assert_same(ours, model, atol=1e-7)
    assert our_history.keys() == history.keys()
    for name, values in history.items():
        np.testing.assert_allclose(our_history[name], values, rtol=1e-6)
    assert our_events == events
    assert sum(name == "on_epoch_end" for name, *_ in our_events) == 2


@needs_tensorflow
@pytest.mark.parametrize("own_loop", [slow(False), True])
def test_the_share_of_a_worker_is_dealt_out_to_its_replicas(
    two_devices, images, monkeypatch, own_loop
):
    """A worker with two devices, whose share is, for want of another one, the whole batch."""
    one = compiled(norm=True)
    fit(one, *images)
    monkeypatch.setattr(loop, "workers", lambda: 2)
    with two_devices.scope():
        model = distribution.prepare(compiled(norm=True))
    data = batches(*images, drop_remainder=True).repeat()
    shared = distribution.shares(model, lambda worker, workers: data)
    if own_loop:
        train = functools.partial(distribution.fit, model)
    else:
        train = functools.partial(model.fit, shuffle=False)
    train(shared, steps_per_epoch=4, epochs=2, verbose=0)
    assert_same(model, one)
    odd = data.map(lambda x, y: (x[:15], y[:15]))
    with pytest.raises(ValueError, match="must divide by its 2 replicas"):
        distribution.shares(model, lambda worker, workers: odd)


def test_strategy_by_name(monkeypatch):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    for name in ("auto", "none"):
        with distribution.strategy(name).scope():
            assert distribution.replicas() == 1
            model = compiled()
            assert distribution.prepare(model) is model
            assert "fit" not in vars(model)
    with pytest.raises(ValueError, match="must be one of 'auto'"):
        distribution.strategy("tpu")
    with pytest.raises(ValueError, match="like 'cpu:2'"):
        distribution.strategy("mirrored", devices="cpu:0")
    with pytest.raises(ValueError, match="without `devices`"):
        distribution.strategy("none", devices="cpu:2")


def test_strategy_of_two_devices(two_devices):
    with two_devices.scope():
        assert distribution.replicas() == 2
    assert distribution.replicas() == 1
    with distribution.strategy("auto", devices="cpu:2").scope():
        assert distribution.replicas() == 2
    with pytest.raises(RuntimeError, match="at the start of the program"):
        distribution.strategy("mirrored", devices="cpu:5")
    for options in ({}, {"devices": "gpu:2"}):
        with pytest.raises(ValueError, match="0 GPUs"):
            distribution.strategy("mirrored", **options)


@pytest.mark.skipif(BACKEND != "torch", reason="about PyTorch")
def test_pytorch_has_one_device():
    for name in ("mirrored", "multi-worker"):
        with pytest.raises(ValueError, match="one device only with torch"):
            distribution.strategy(name)
    with pytest.raises(ValueError, match="one device only with torch"):
        distribution.strategy("auto", devices="cpu:2")


def place(monkeypatch, kind="worker", index=0, **cluster):
    config = {"cluster": cluster, "task": {"type": kind, "index": index}}
    monkeypatch.setenv("TF_CONFIG", json.dumps(config))


def test_only_the_chief_writes(monkeypatch, tmp_path):
    stops = keras.callbacks.EarlyStopping()
    csv = keras.callbacks.CSVLogger(tmp_path / "log.csv")
    own = keras.callbacks.LambdaCallback()
    own.chief_only = True
    every = [stops, csv, own]
    monkeypatch.delenv("TF_CONFIG", raising=False)
    assert (distribution.workers(), distribution.is_chief()) == (1, True)
    assert distribution.on_chief(every) == every
    assert distribution.on_chief(None) == []
    two = {"worker": ["a:1", "b:1"]}
    place(monkeypatch, **two)
    assert (distribution.workers(), distribution.is_chief()) == (2, True)
    assert distribution.on_chief(every) == every
    place(monkeypatch, index=1, **two)
    assert (distribution.workers(), distribution.is_chief()) == (2, False)
    assert distribution.on_chief(every) == [stops]
    saves = keras.callbacks.ModelCheckpoint(tmp_path / "{epoch}.keras")
    assert distribution.on_chief([saves]) == [saves]  # all workers must save at once
    assert not pathlib.Path(saves.filepath).is_relative_to(tmp_path)
    place(monkeypatch, chief=["a:1"], **two)
    assert (distribution.workers(), distribution.is_chief()) == (3, False)
    place(monkeypatch, kind="chief", chief=["a:1"], **two)
    assert distribution.is_chief()
    with pytest.raises(ValueError, match="TrainingState"):
        distribution.on_chief([keras.callbacks.BackupAndRestore(tmp_path)])
    with pytest.raises(ValueError, match="names 3 workers"):
        distribution.strategy("none")


@pytest.mark.parametrize("text", ["{", "[]", '{"cluster": {"ps": ["a:1"]}}', '{"task": 3}'])
def test_a_strange_tf_config_is_refused(monkeypatch, text):
    monkeypatch.setenv("TF_CONFIG", text)
    with pytest.raises(ValueError, match="TF_CONFIG must be like"):
        distribution.is_chief()


def test_a_strange_tf_config_is_refused_before_the_first_step(monkeypatch, tmp_path, images):
    place(monkeypatch, kind="evaluator", worker=["a:1"])
    with pytest.raises(ValueError, match="TF_CONFIG must be like"):
        fit(compiled(), *images, callbacks=[training.TrainingState(tmp_path / "state")])
    assert not list(tmp_path.iterdir())


def test_multi_worker_needs_workers(monkeypatch):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    words = {"tensorflow": "two or more workers", "jax": "backend tensorflow"}
    with pytest.raises(ValueError, match=words.get(BACKEND, "one device only")):
        distribution.strategy("multi-worker")


@needs_tensorflow
def test_slurm_names_the_workers(monkeypatch):
    for name, value in {
        "PROCID": "2",
        "STEP_NUM_TASKS": "4",
        "STEP_NODELIST": "node[07-08]",
        "STEP_TASKS_PER_NODE": "2(x2)",
    }.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    assert devices._slurm() == {
        "cluster": {"worker": ["node07:8888", "node07:8889", "node08:8888", "node08:8889"]},
        "task": {"type": "worker", "index": 2},
    }
