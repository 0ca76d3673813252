"""The epsilon of each epoch, and that the compiled step reads it."""

import keras
import numpy as np
import pytest

import keras_cnn_classics as kcc
from keras_cnn_classics.training import LabelSmoothing, SmoothedCrossentropy
from tests.marks import slow_compiled

RNG = np.random.default_rng(0)
IMAGES = RNG.normal(size=(32, 6)).astype("float32")
LABELS = RNG.integers(4, size=32)


class Counted(SmoothedCrossentropy):
    """Counts how often Python runs it: at each trace, where steps are compiled."""

    calls = 0

    def call(self, y_true, y_pred):
        self.calls += 1
        return super().call(y_true, y_pred)


def dense(loss, outputs=1, **kwargs):
    """A model that does not learn, so that its loss shows the epsilon."""
    keras.utils.set_random_seed(0)
    image = keras.Input((6,))
    heads = {name: keras.layers.Dense(4, name=name)(image) for name in "abc"[:outputs]}
    model = keras.Model(image, heads if outputs > 1 else heads["a"])
    model.compile(keras.optimizers.SGD(0.0), loss, **kwargs)
    return model


def fit(model, callback, epochs=5, **kwargs):
    labels = dict.fromkeys(model.output, LABELS) if isinstance(model.output, dict) else LABELS
    kwargs = {"validation_data": (IMAGES, labels), **kwargs}
    return model.fit(
        IMAGES, labels, batch_size=8, epochs=epochs, verbose=0, callbacks=[callback], **kwargs
    ).history


def by_hand(model, epsilons):
    """The losses that belong to epsilons, by NumPy."""
    scores = model.predict(IMAGES, verbose=0)
    logs = scores - np.log(np.exp(scores).sum(-1, keepdims=True))
    target = [e / 4 + (1 - e) * np.eye(4)[LABELS] for e in epsilons]
    return [-(one * logs).sum(-1).mean() for one in target]


@pytest.mark.parametrize("jit_compile", [False, True])
def test_the_compiled_step_reads_the_epsilon_of_each_epoch(jit_compile):
    if jit_compile and keras.backend.backend() == "torch":
        pytest.skip("torch.compile is slow, and warns of gradients that Keras reads")
    loss = Counted(0.8, from_logits=True)
    model = dense(loss, jit_compile=jit_compile)
    history = fit(model, LabelSmoothing(schedule="linear"), epochs=1)
    loss.calls = 0
    longer = fit(model, LabelSmoothing(schedule="linear"), epochs=5)
    if keras.backend.backend() != "torch" and (jit_compile or keras.backend.backend() != "jax"):
        assert loss.calls == 0, "the step was compiled again"
    epsilons = [0.8, 0.6, 0.4, 0.2, 0.0]
    assert history["label_smoothing"] == pytest.approx([0.8])
    assert longer["label_smoothing"] == pytest.approx(epsilons)
    np.testing.assert_allclose(longer["loss"], by_hand(model, epsilons), rtol=1e-5)
    np.testing.assert_allclose(longer["val_loss"], longer["loss"], rtol=1e-5)
    assert sorted(longer) == ["label_smoothing", "loss", "val_loss"]
    # A later call reads the last value, without the callback.
    loss.epsilon.assign(0.5)
    alone = model.evaluate(IMAGES, LABELS, verbose=0)
    assert alone == pytest.approx(by_hand(model, [0.5])[0], rel=1e-5)


def test_keras_ignores_a_change_of_its_own_label_smoothing():
    if keras.backend.backend() == "torch":
        pytest.skip("PyTorch runs Python's code at each step")
    loss = keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=0.8)
    model = dense(loss)

    def change(epoch, logs=None):
        loss._fn_kwargs["label_smoothing"] = [0.8, 0.0][epoch]

    callback = keras.callbacks.LambdaCallback(on_epoch_begin=change)
    history = model.fit(
        IMAGES, np.eye(4)[LABELS], batch_size=8, epochs=2, verbose=0, callbacks=[callback]
    ).history
    np.testing.assert_allclose(history["loss"], by_hand(model, [0.8, 0.8]), rtol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "epsilons"),
    [
        slow_compiled({}, [0.4] * 5),
        slow_compiled({"off_for_last": 2}, [0.4, 0.4, 0.4, 0, 0]),
        slow_compiled({"schedule": "linear", "final": 0.2}, [0.4, 0.35, 0.3, 0.25, 0.2]),
        ({"schedule": "linear", "off_for_last": 2}, [0.4, 0.2, 0, 0, 0]),
        slow_compiled({"schedule": "cosine"}, [0.4, 0.341421, 0.2, 0.058579, 0]),
        slow_compiled(
            {"schedule": lambda epoch: 0.1 * epoch, "off_for_last": 1}, [0, 0.1, 0.2, 0.3, 0]
        ),
        slow_compiled(
            {"schedule": keras.optimizers.schedules.ExponentialDecay(0.8, 1, 0.5)},
            [0.8, 0.4, 0.2, 0.1, 0.05],
        ),
    ],
)
def test_schedules(arguments, epsilons):
    loss = SmoothedCrossentropy(0.4, True)
    history = fit(dense(loss), LabelSmoothing(**arguments))
    np.testing.assert_allclose(history["label_smoothing"], epsilons, atol=1e-6)
    assert float(loss.epsilon) == pytest.approx(epsilons[-1], abs=1e-6)


@pytest.mark.slow_compiled
def test_a_second_run_starts_where_the_loss_was_made():
    loss = SmoothedCrossentropy(0.4, True)
    callback = LabelSmoothing(schedule="linear")
    for _ in range(2):
        assert fit(dense(loss), callback, 3)["label_smoothing"] == pytest.approx([0.4, 0.2, 0])


def test_one_epoch():
    history = fit(dense(SmoothedCrossentropy(0.4, True)), LabelSmoothing(schedule="cosine"), 1)
    assert history["label_smoothing"] == pytest.approx([0.4])


@pytest.mark.slow_compiled
def test_every_output_has_its_own():
    same, other = SmoothedCrossentropy(0.4, True), SmoothedCrossentropy(0.2, True)
    model = dense({"a": same, "b": other, "c": same}, outputs=3)
    history = fit(model, LabelSmoothing(schedule="linear"), 3)
    assert history["label_smoothing"] == pytest.approx([0.4, 0.2, 0])
    assert history["label_smoothing_1"] == pytest.approx([0.2, 0.1, 0])
    assert "label_smoothing_2" not in history
    only = fit(model, LabelSmoothing(other, schedule=lambda epoch: 0.5), 1)
    assert only["label_smoothing"] == pytest.approx([0.5])
    assert (float(same.epsilon), float(other.epsilon)) == (0.0, 0.5)


@pytest.mark.slow_compiled
def test_a_run_from_a_file_goes_on(tmp_path):
    whole = fit(dense(SmoothedCrossentropy(0.8, True)), LabelSmoothing(schedule="linear"))
    callback = LabelSmoothing(schedule="linear")
    model = dense(SmoothedCrossentropy(0.8, True))
    state = {}

    class Killed(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if self.epoch == 2 and batch == 1:
                assert callback.companions() == [callback]
                state.update(callback.get_state())
                self.model.save(tmp_path / "model.keras")
                raise InterruptedError

        def on_epoch_begin(self, epoch, logs=None):
            self.epoch = epoch

    with pytest.raises(InterruptedError):
        model.fit(IMAGES, LABELS, 8, 5, 0, [callback, Killed()])
    assert state == {"initial": {"label_smoothing": 0.8}}

    copy = keras.saving.load_model(tmp_path / "model.keras")
    assert float(copy.loss.epsilon) == pytest.approx(0.4)
    callback = LabelSmoothing(schedule="linear")
    callback.set_model(copy)
    callback.set_state(state)
    history = fit(copy, callback, initial_epoch=2)
    assert history["label_smoothing"] == whole["label_smoothing"][2:]
    np.testing.assert_allclose(history["loss"], whole["loss"][2:], rtol=1e-6)


@pytest.mark.slow_compiled
def test_a_run_that_broke_off_is_followed_by_another():
    loss = SmoothedCrossentropy(0.4, True)
    model = dense(loss)

    def stop(epoch, logs=None):
        raise InterruptedError

    callback = LabelSmoothing(schedule="linear")
    with pytest.raises(InterruptedError):
        model.fit(
            IMAGES,
            LABELS,
            epochs=3,
            verbose=0,
            callbacks=[callback, keras.callbacks.LambdaCallback(on_epoch_end=stop)],
        )
    history = fit(model, callback, 3)
    assert history["label_smoothing"] == pytest.approx([0.4, 0.2, 0])
    np.testing.assert_allclose(history["loss"], by_hand(model, [0.4, 0.2, 0]), rtol=1e-5)


def test_errors():
    with pytest.raises(ValueError, match="Received: 'quadratic'"):
        LabelSmoothing(schedule="quadratic")
    with pytest.raises(ValueError, match=r"Received: 1\.5"):
        LabelSmoothing(final=1.5)
    with pytest.raises(ValueError, match="Received: -1"):
        LabelSmoothing(off_for_last=-1)
    with pytest.raises(ValueError, match=r"SmoothedCrossentropy\. Received: 'mse'"):
        LabelSmoothing("mse")
    keras_own = dense(keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    with pytest.raises(ValueError, match="Received: loss=<LossFunctionWrapper"):
        fit(keras_own, LabelSmoothing())
    model = dense(SmoothedCrossentropy(0.1, True))
    with pytest.raises(ValueError, match="the `loss` given here"):
        fit(model, LabelSmoothing(SmoothedCrossentropy()))
    with pytest.raises(ValueError, match="Received: epochs=5"):
        fit(model, LabelSmoothing(off_for_last=5))
    with pytest.raises(ValueError, match=r"Received: \[0\.0\]"):
        fit(dense(SmoothedCrossentropy(0.0, True)), LabelSmoothing(schedule="cosine"))
    with pytest.raises(ValueError, match=r"below 1. Received: 1\.0"):
        fit(model, LabelSmoothing(schedule=lambda epoch: 1.0))
    with pytest.raises(ValueError, match=r"gave no number for epoch 0\. Received: None"):
        fit(model, LabelSmoothing(schedule=lambda epoch: None))


@pytest.mark.slow_compiled
def test_smoothing_acts_on_a_real_run():
    data = kcc.data.load("digits", batch_size=256, image_size=8, preprocess=None, seed=0)
    sure, losses = {}, {}
    for off in (0, 12):
        keras.utils.set_random_seed(0)
        image = keras.Input(data.image_shape)
        x = keras.layers.Flatten()(keras.layers.Rescaling(1 / 255)(image))
        x = keras.layers.Dense(64, "relu")(x)
        model = keras.Model(image, keras.layers.Dense(10, "softmax")(x))
        model.compile(keras.optimizers.Adam(0.01), SmoothedCrossentropy(0.4), metrics=["accuracy"])
        history = model.fit(
            data.train,
            epochs=24,
            shuffle=False,  # the data is shuffled already
            verbose=0,
            callbacks=[LabelSmoothing(off_for_last=off)],
        ).history
        assert history["accuracy"][-1] > 0.93
        losses[off] = np.array(history["loss"])
        sure[off] = model.predict(data.train, verbose=0).max(-1).mean()
    best = 0.64  # the probability of the true class that is right with an epsilon of 0.4
    entropy = -best * np.log(best) - 9 * 0.04 * np.log(0.04)
    assert losses[0].min() > entropy
    assert losses[12][:12].min() > entropy
    assert losses[12][-1] < 0.3 < entropy
    assert sure[0] < best
    assert sure[12] > 0.85
