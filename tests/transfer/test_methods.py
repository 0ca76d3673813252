"""What each method trains, keeps, saves and gives."""

import shutil

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_cnn_classics.training import EarlyStopping, PlateauDecay, TrainingState
from keras_cnn_classics.transfer import (
    DuplicateAndFineTune,
    FeatureExtraction,
    FineTuning,
    JointTraining,
    LearningWithoutForgetting,
)
from tests.marks import slow, slow_compiled
from tests.transfer.networks import X_OLD, Y_OLD, X, Y, network, weights_of

TRUNK = ("block1_conv", "block2_conv", "fc1")
NORM = ("block1_bn",)
needs_groups = pytest.mark.skipif(
    not hasattr(keras.optimizers, "MultiOptimizer"), reason="this Keras has no MultiOptimizer"
)


MAKE = {
    "extraction": lambda model: FeatureExtraction(model, 3, cache=None),
    "extraction, through": lambda model: FeatureExtraction(model, 3, cache=False, hidden=10),
    "fine-tuning": lambda model: FineTuning(model, 3, warmup_epochs=1),
    "last block": lambda model: FineTuning(model, 3, warmup_epochs=1, train_from="last_block"),
    "with batch norm": lambda model: FineTuning(model, 3, warmup_epochs=1, freeze_batch_norm=False),
    "duplicate": lambda model: DuplicateAndFineTune(model, 3, warmup_epochs=1),
    "joint": lambda model: JointTraining(model, 3, warmup_epochs=1),
    "lwf": lambda model: LearningWithoutForgetting(model, 3, warmup_epochs=1),
    "lwf, live": lambda model: LearningWithoutForgetting(
        model, 3, warmup_epochs=1, responses="live"
    ),
}
# Of which the others are made.
QUICK = ("extraction, through", "last block", "lwf")
# Which of the old layers a method leaves as they are, bit by bit.
FROZEN = {
    "extraction": (*TRUNK, *NORM, "predictions"),
    "extraction, through": (*TRUNK, *NORM, "predictions"),
    "fine-tuning": (*NORM, "predictions"),
    "last block": ("block1_conv", "block2_conv", *NORM, "predictions"),
    "with batch norm": ("predictions",),
    "duplicate": (*TRUNK, *NORM, "predictions"),
    "joint": NORM,
    "lwf": NORM,
    "lwf, live": NORM,
}


def compiled(method, rate=0.05, **arguments):
    method.compile(keras.optimizers.SGD(rate, momentum=0.9), metrics=["accuracy"], **arguments)
    return method


def fit(method, epochs=3, **arguments):
    if isinstance(method, JointTraining):
        arguments["old_data"] = (X_OLD, Y_OLD)
    return method.fit(X, Y, batch_size=12, epochs=epochs, verbose=0, **arguments)


@pytest.mark.parametrize("name", [one if one in QUICK else slow_compiled(one) for one in MAKE])
def test_frozen_means_frozen_and_the_rest_learns(name):
    model = network()
    before = model.get_weights()
    method = compiled(MAKE[name](model))
    history = fit(method)
    assert history.epoch == [0, 1, 2]
    assert len(history.history["accuracy"]) == 3
    everything = (*TRUNK, *NORM, "predictions")
    for layer in everything:
        old, new = weights_of(model, layer), weights_of(method.network, layer)
        same = all(np.array_equal(old[key], new[key]) for key in old)
        assert same == (layer in FROZEN[name]), layer
    for one, other in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)  # the user's model is as it was


@pytest.mark.slow_compiled
@pytest.mark.parametrize("name", ["extraction, through", "lwf"])
def test_a_data_set_needs_no_more_arguments(name):
    """Keras warns that it does not shuffle one, unless it is told not to."""
    batches = tf.data.Dataset.from_tensor_slices((X, Y)).batch(12)
    history = compiled(MAKE[name](network())).fit(batches, verbose=0)
    assert np.isfinite(history.history["loss"]).all()


@pytest.mark.slow_compiled
@pytest.mark.parametrize("name", MAKE)
def test_the_warm_up_trains_the_new_head_alone(name):
    model = network()
    method = compiled(MAKE[name](model))
    head = method.head_layers("new")
    drawn = [w for layer in head for w in layer.get_weights()]
    fit(method, epochs=1)
    learned = [w for layer in head for w in layer.get_weights()]
    assert drawn
    assert not any(np.array_equal(a, b) for a, b in zip(drawn, learned, strict=True))
    for layer in (*TRUNK, *NORM, "predictions"):
        old, new = weights_of(model, layer), weights_of(method.network, layer)
        for key in old:
            np.testing.assert_array_equal(old[key], new[key])


OTHERS = ("extraction, through", "last block", "with batch norm", "lwf, live")
SOME = [slow(one) if one in OTHERS else slow_compiled(one) for one in MAKE if one != "lwf"]


@pytest.mark.parametrize("name", ["lwf", *SOME])
def test_what_is_exported_and_saved(name, tmp_path):
    method = compiled(MAKE[name](network()))
    fit(method, epochs=2)
    found = method.predict(X, verbose=0)
    exported = method.export_model()
    assert type(exported) is type(network())
    assert all(layer.trainable for layer in exported.layers)
    for task, answers in exported.predict(X, verbose=0).items():
        np.testing.assert_allclose(answers, found[task], atol=1e-6)
    alone = method.export_model("new", name="alone")
    assert (alone.name, alone.output_shape) == ("alone", (None, 3))
    np.testing.assert_allclose(alone.predict(X, verbose=0), found["new"], atol=1e-6)
    method.save(tmp_path / "method.keras")
    loaded = keras.saving.load_model(tmp_path / "method.keras")
    assert loaded.stage.name == method.stage.name
    for task, answers in loaded.predict(X, verbose=0).items():
        np.testing.assert_allclose(answers, found[task], atol=1e-6)
    np.testing.assert_allclose(
        loaded.evaluate(X, Y, verbose=0), method.evaluate(X, Y, verbose=0), rtol=1e-4
    )
    for one, other in zip(method.optimizer.variables, loaded.optimizer.variables, strict=True):
        np.testing.assert_allclose(
            keras.ops.convert_to_numpy(one), keras.ops.convert_to_numpy(other), atol=1e-6
        )
    with pytest.raises(ValueError, match=r"one of \['old', 'new'\]. Received: 'third'"):
        method.export_model("third")


class Killed(Exception):
    pass


class Kill(keras.callbacks.Callback):
    """Raises after a step."""

    def __init__(self, epoch, step):
        super().__init__()
        self.place = (epoch, step)

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        if (self.epoch, batch) == self.place:
            raise Killed


@pytest.mark.slow_compiled
@pytest.mark.parametrize(
    "name",
    [
        slow("fine-tuning"),
        "lwf",
        slow("joint"),
    ],
)
def test_a_killed_run_goes_on_in_its_stage(name, tmp_path):
    def run(folder, kill=None):
        method = compiled(MAKE[name](network()))
        callbacks = [TrainingState(folder, save_freq=2)]
        history = fit(
            method, callbacks=[*([kill] if kill else []), *callbacks], validation_data=(X, Y)
        )
        return method, history

    whole, expected = run(tmp_path / "whole")
    for kill in (Kill(1, 0), Kill(2, 2)):
        with pytest.raises(Killed):
            run(tmp_path / "part", kill)
        again, history = run(tmp_path / "part")
        for one, other in zip(whole.get_weights(), again.get_weights(), strict=True):
            np.testing.assert_array_equal(one, other)
        assert (history.epoch, history.history) == (expected.epoch, expected.history)
        shutil.rmtree(tmp_path / "part")


@pytest.mark.slow_compiled
def test_early_stopping_ends_a_stage():
    method = compiled(FineTuning(network(), 3, warmup_epochs=4), rate=1e-9)
    stop = EarlyStopping("loss", patience=0, min_delta=10.0)
    history = fit(method, epochs=8, callbacks=[stop])
    assert history.epoch == [0, 1, 4, 5]
    assert len(history.history["loss"]) == 4


@pytest.mark.slow_compiled
@needs_groups
def test_blocks_learn_one_by_one_and_at_their_own_rates():
    method = FineTuning(
        network(), 3, warmup_epochs=1, warmup_rate=4.0, layer_decay=0.5, unfreeze_every=2
    )
    compiled(method, rate=0.1)
    stages = method.stages()
    assert [stage.start for stage in stages] == [0, 1, 3, 5]
    names = [[layer.name for layer in stage.layers] for stage in stages]
    assert names[0] == ["new_predictions"]
    assert names[1] == ["fc1", "new_predictions"]
    assert names[2] == ["block2_conv", "fc1", "new_predictions"]
    assert float(method.optimizer.learning_rate) == pytest.approx(0.4)
    fit(method, epochs=6)
    rates = {round(float(one.learning_rate), 6) for one in method.optimizer.optimizers}
    assert rates == {0.1, 0.05, 0.025, 0.0125}
    trained = {v.path.split("/")[-2] for v in method.trainable_variables}
    assert trained == {*TRUNK, "new_predictions"}  # batch normalization is frozen


@pytest.mark.slow_compiled
@needs_groups
def test_shared_layers_at_a_lower_rate():
    method = compiled(
        LearningWithoutForgetting(network(), 3, warmup_epochs=0, shared_rate=0.1), rate=0.2
    )
    fit(method, epochs=1)
    rates = {
        tuple(sorted(v.path.split("/")[-2] for v in one._trainable_variables)): float(
            one.learning_rate
        )
        for one in method.optimizer.optimizers
    }
    assert sorted(round(rate, 6) for rate in rates.values()) == [0.02, 0.2]


@pytest.mark.slow_compiled
@pytest.mark.parametrize("saved", [slow(False), True])
def test_several_fits_are_as_one(saved, tmp_path):
    def method():
        made = LearningWithoutForgetting(network(dropout=0.0), 3, warmup_epochs=1, responses="live")
        made.compile(keras.optimizers.Adam(0.01), metrics=["accuracy"])
        return made

    whole, parts = method(), method()
    fit(whole, epochs=5, shuffle=False)
    fit(parts, epochs=3, shuffle=False)
    if saved:
        parts.save(tmp_path / "method.keras")
        parts = keras.saving.load_model(tmp_path / "method.keras")
    history = fit(parts, epochs=5, initial_epoch=3, shuffle=False)
    assert history.epoch == [3, 4]
    assert int(parts.optimizer.iterations) == 16  # of the joint optimisation
    for one, other in zip(whole.get_weights(), parts.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)


@pytest.mark.slow_compiled
def test_the_epochs_of_all_fits_count(caplog):
    method = compiled(FineTuning(network(), 3, warmup_epochs=2))
    stages = []
    for _ in range(4):
        history = fit(method, epochs=1)
        stages.append(method.stage.name)
        method.optimizer.learning_rate = 0.25
    assert stages == ["warm-up", "warm-up", "fine-tuning", "fine-tuning"]
    assert (history.epoch, float(method.optimizer.learning_rate)) == ([0], 0.25)
    assert int(method.optimizer.iterations) == 8
    said = [one.message for one in caplog.records if "ended in the stage" in one.message]
    assert len(said) == 2
    assert "'warm-up', after 1 epochs. The next one, 'fine-tuning', begins after 2" in said[0]


@pytest.mark.slow_compiled
def test_what_stops_training_and_what_a_stage():
    class Stop(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            self.model.stop_training = True

    for callbacks in (
        [Stop()],
        [EarlyStopping("loss", time_budget=1e-9)],
        [keras.callbacks.EarlyStopping("loss", patience=5), Stop()],
    ):
        method = compiled(FineTuning(network(), 3, warmup_epochs=2))
        assert fit(method, epochs=4, callbacks=callbacks).epoch == [0]
        assert method.stage.name == "warm-up"
    for callback in (
        keras.callbacks.EarlyStopping("loss", patience=1, min_delta=10.0),
        PlateauDecay("loss", patience=1, min_delta=10.0, max_drops=0),
    ):
        method = compiled(FineTuning(network(), 3, warmup_epochs=3))
        assert fit(method, epochs=6, callbacks=[callback]).epoch == [0, 1, 3, 4]


@pytest.mark.slow_compiled
def test_callbacks_see_all_stages(tmp_path):
    method = compiled(FineTuning(network(), 3, warmup_epochs=1))
    mine = keras.callbacks.History()
    logger = keras.callbacks.CSVLogger(tmp_path / "log.csv")
    history = fit(method, epochs=3, callbacks=[mine, logger])
    assert mine.history == history.history
    assert len(history.history["loss"]) == 3
    rows = (tmp_path / "log.csv").read_text().splitlines()
    assert [row.split(",")[0] for row in rows] == ["epoch", "0", "1", "2"]
    with pytest.raises(ValueError, match=r"BackupAndRestore does not know.*TrainingState"):
        fit(method, callbacks=[keras.callbacks.BackupAndRestore(tmp_path / "backup")])
    with pytest.raises(ValueError, match=r"SwapEMAWeights belongs to one.*WeightAveraging"):
        fit(method, callbacks=[keras.callbacks.SwapEMAWeights()])


@pytest.mark.slow_compiled
def test_optimizers_that_hold_another_one():
    method = FineTuning(network(), 3, warmup_epochs=1, warmup_rate=4.0)
    method.compile(keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.1)))
    assert float(method.optimizer.inner_optimizer.learning_rate) == pytest.approx(0.4)
    fit(method, epochs=2)
    assert float(method.optimizer.inner_optimizer.learning_rate) == pytest.approx(0.1)


@needs_groups
def test_optimizers_of_several_rates_are_refused():
    method = FineTuning(network(), 3)
    several = keras.optimizers.MultiOptimizer(
        keras.optimizers.OptimizerMap(keras.optimizers.SGD(0.1))
    )
    with pytest.raises(ValueError, match=r"one learning rate.*Received: MultiOptimizer"):
        method.compile(several)


@pytest.mark.slow_compiled
def test_losses_of_the_warm_up_and_after_it_can_be_compared():
    """In the warm-up the old answers are the teacher's: their loss is these answers' entropy."""
    model = network(batch_norm=False, dropout=0.0)
    method = LearningWithoutForgetting(model, 3, warmup_epochs=1, old_weight=2.0, decay=0.0)
    compiled(method, rate=1e-9)
    history = fit(method, epochs=2, validation_data=(X, Y)).history
    soft = np.sqrt(model.predict(X, verbose=0))
    soft /= soft.sum(1, keepdims=True)
    entropy = -2.0 * (soft * np.log(soft)).sum(1).mean()
    np.testing.assert_allclose(history["old_loss"], entropy, rtol=1e-4)
    np.testing.assert_allclose(history["val_old_loss"], entropy, rtol=1e-4)
    np.testing.assert_allclose(*history["loss"], rtol=1e-4)


def test_one_step_of_lwf_by_hand():
    """The joint loss is that of the parts, with the decay of kernels that learn."""
    model = network(batch_norm=False, dropout=0.0)
    method = LearningWithoutForgetting(
        model, 3, warmup_epochs=0, temperature=3.0, old_weight=2.0, decay=0.01, responses="live"
    )
    compiled(method, rate=1e-9)
    found = method.network.predict(X, verbose=0)
    history = method.fit(X, Y, batch_size=len(X), verbose=0).history

    def soft(p):
        p = p ** (1 / 3)
        return p / p.sum(1, keepdims=True)

    old = model.predict(X, verbose=0)
    l_old = 2.0 * -(soft(old) * np.log(soft(found["old"]))).sum(1).mean()
    kernels = [w for w in method.network.get_weights() if w.ndim > 1]
    decay = 0.005 * sum((w**2).sum() for w in kernels)
    l_new = -np.log(found["new"][np.arange(len(Y)), Y]).mean() + decay
    assert history["old_loss"][0] == pytest.approx(l_old, rel=1e-4)
    assert history["new_loss"][0] == pytest.approx(l_new, rel=1e-4)
    assert history["loss"][0] == pytest.approx(l_old + l_new, rel=1e-4)


@pytest.mark.slow_compiled
def test_a_sequence_of_tasks_keeps_all_heads():
    first = compiled(LearningWithoutForgetting(network(), 3, "second", warmup_epochs=1))
    fit(first, epochs=2)
    model = first.export_model()
    second = LearningWithoutForgetting(
        model, 2, "third", warmup_epochs=1, old_weight={"old": 1.0, "second": 0.5}
    )
    compiled(second)
    assert second.tasks == ["old", "second", "third"]
    second.fit(X, (Y > 0).astype(int), epochs=2, verbose=0)
    assert set(second.old_losses) == {"old", "second"}
    shapes = {task: out.shape for task, out in second.predict(X, verbose=0).items()}
    assert shapes == {"old": (48, 4), "second": (48, 3), "third": (48, 2)}
    with pytest.raises(ValueError, match=r"old tasks \['old', 'second'\] as keys"):
        LearningWithoutForgetting(model, 2, "third", old_weight={"old": 1.0})


@pytest.mark.slow_compiled
def test_the_weight_of_the_old_task_can_be_changed():
    method = compiled(LearningWithoutForgetting(network(), 3, warmup_epochs=0))
    losses = []
    for weight in (1.0, 0.0):
        method.old_weights["old"].assign(weight)
        losses.append(method.fit(X, Y, verbose=0).history["old_loss"][0])
    assert losses[0] > 0
    assert losses[1] == 0


def test_class_and_sample_weights_count():
    method = compiled(FineTuning(network(dropout=0.0), 3, warmup_epochs=0), rate=0.0)
    method.compile(keras.optimizers.SGD(0.0))
    answers = method.network.predict(X, verbose=0)["new"]
    losses = -np.log(answers[np.arange(len(Y)), Y])
    weights = np.linspace(0, 2, len(Y))
    found = method.fit(X, Y, sample_weight=weights, batch_size=48, verbose=0).history["loss"][0]
    assert found == pytest.approx((losses * weights).mean(), rel=1e-4)
    by_class = {0: 1.0, 1: 0.0, 2: 3.0}
    found = method.fit(X, Y, class_weight=by_class, batch_size=48, verbose=0).history["loss"][0]
    expected = (losses * np.array([by_class[y] for y in Y])).mean()
    assert found == pytest.approx(expected, rel=1e-4)


class Batches(keras.utils.PyDataset):
    def __init__(self, labels):
        super().__init__()
        self.labels = labels

    def __len__(self):
        return 1

    def __getitem__(self, index):
        return X, self.labels


def test_data_that_do_not_fit():
    method = FineTuning(network(), 3)
    with pytest.raises(ValueError, match="Compile the model before"):
        method.fit(X, Y)
    compiled(method)
    with pytest.raises(ValueError, match=r"from 0 to 2, as its head has 3 classes.*1 to 3"):
        method.fit(X, Y + 1)
    with pytest.raises(ValueError, match=r"shape \(8, 8, 3\).*Received: \(4, 8, 3\)"):
        method.fit(X[:, ::2], Y)
    with pytest.raises(ValueError, match=r"from 0 to 2, as its head.*1 to 3"):
        method.fit(X, Y, validation_data=(X, Y + 1))
    with pytest.raises(ValueError, match=r"from 0 to 2, as its head.*1 to 3"):
        method.fit(Batches(Y + 1))
    with pytest.raises(ValueError, match=r"48 images, 5 labels"):
        method.fit(X, Y[:5])
    with pytest.raises(ValueError, match=r"integers or have 3 columns.*\(48, 7\)"):
        method.fit(X, np.zeros((48, 7)))
    with pytest.raises(ValueError, match=r"whole numbers. Received: 0.5"):
        method.fit(X, Y * 0.5)
    with pytest.raises(ValueError, match=r"must be numbers. Received: such as [012]"):
        method.fit(X, Y.astype(str))
    with pytest.raises(ValueError, match=r"add up to 1. Received: from 0.0 to 1.0.* 2.0"):
        method.fit(X, np.tile([0.0, 1.0, 1.0], (48, 1)))
    with pytest.raises(ValueError, match="must be images"):
        method.fit(X[:0], Y[:0])
    with pytest.raises(ValueError, match="must be images"):
        method.fit()
    with pytest.raises(ValueError, match=r"images of 'new' need labels"):
        method.fit(X)
    with pytest.raises(ValueError, match=r"`y` must be an array. Received: a list"):
        method.fit(X, list(Y))
    for loss in ("sparse_categorical_crossentropy", keras.losses.CategoricalCrossentropy()):
        method.compile("sgd", loss)
    with pytest.raises(ValueError, match="put a second softmax"):
        method.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    scores = FineTuning(network(activation=None), 3)
    with pytest.raises(ValueError, match="gives scores: the loss needs from_logits=True"):
        scores.compile("sgd", "sparse_categorical_crossentropy")


def test_the_new_head_is_like_the_deepest_one():
    model = network()
    side = keras.layers.Dense(2, "softmax", name="side_answers")(
        keras.layers.Flatten()(model.get_layer("block1_conv").output)
    )
    both = keras.Model(model.input, {"main": model.output, "side": side})
    method = FineTuning(both, np.int64(3))
    head = method.network.get_layer("new_predictions")
    assert head.kernel.shape == (12, 3)
    with pytest.raises(ValueError, match=r"as export_model\(\). Received: FineTuning"):
        FineTuning(method, 3)


@pytest.mark.slow_compiled
def test_one_callback_needs_no_list(tmp_path):
    method = compiled(FineTuning(network(), 3, warmup_epochs=1))
    fit(method, epochs=2, callbacks=keras.callbacks.CSVLogger(tmp_path / "log.csv"))
    assert len((tmp_path / "log.csv").read_text().splitlines()) == 3


def test_a_task_whose_names_are_taken():
    model = network()
    layer = keras.layers.Dense(2, "softmax", name="block1_predictions")
    both = keras.Model(model.input, {"a": layer(model.get_layer("fc1").output), "b": model.output})
    with pytest.raises(ValueError, match=r"begin with 'block1'.*: block1_predictions. Choose"):
        FineTuning(both, 3, "block1")


def test_a_task_called_as_layers_begin():
    method = compiled(FineTuning(network(), 3, "block1"))
    assert [layer.name for layer in method.head_layers("block1")] == ["block1_predictions"]
    again = FineTuning(method.export_model("block1"), 4, "block1")
    assert again.tasks == ["old", "block1"]
    assert len(again.head_layers("block1")) == 1
    assert again.network.output["block1"].shape == (None, 4)


def test_a_data_set_that_gives_no_batch():
    tf = pytest.importorskip("tensorflow")
    method = compiled(FineTuning(network(), 3))
    data = tf.data.Dataset.from_tensor_slices((X, Y)).batch(100, drop_remainder=True)
    with pytest.raises(ValueError, match="fewer images than in one batch"):
        method.fit(data)


def test_dropout_of_the_trunk_is_off_in_feature_extraction():
    method = FeatureExtraction(network(dropout=0.9), 3, cache=False)
    method.compile(keras.optimizers.SGD(0.0))
    loss = method.evaluate(X, Y, verbose=0)
    assert fit(method, epochs=1).history["loss"][0] == pytest.approx(loss, rel=1e-5)
