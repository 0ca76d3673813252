"""Students learn from the answers of teachers."""

import keras
import numpy as np
import pytest
from keras import layers

from keras_cnn_classics.training import TrainingState
from keras_cnn_classics.training._layers import outputs_through
from keras_cnn_classics.transfer import Distillation
from tests.marks import slow_compiled
from tests.transfer.networks import SHAPE, X_OLD, Y_OLD, network, weights_of
from tests.transfer.test_methods import Kill, Killed

X, Y = X_OLD, Y_OLD


def student(activation=None, size=8, penalty=None, classes=4):
    keras.utils.set_random_seed(11)
    inputs = keras.Input((size, size, 3))
    x = layers.Conv2D(
        5, 3, padding="same", activation="relu", name="small", kernel_regularizer=penalty
    )(inputs)
    x = layers.GlobalAveragePooling2D(name="averages")(x)
    return keras.Model(inputs, layers.Dense(classes, activation, name="scores")(x), name="student")


def softmax(z):
    e = np.exp(z - z.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def soft_loss(target, z, temperature):
    return -(target * np.log(softmax(z / temperature))).sum(-1)


def still(distillation):
    """Compiled so that nothing moves."""
    distillation.compile(keras.optimizers.SGD(0.0))
    return distillation


def loss_of(distillation, *data, **arguments):
    arguments = {"batch_size": len(X), "verbose": 0, **arguments}
    return still(distillation).fit(*data, **arguments).history["loss"][0]


@pytest.mark.parametrize("how", ["recorded", "live"])
@pytest.mark.parametrize("squared", [True, slow_compiled(False)])
def test_the_loss_by_hand(how, squared):
    teacher, small = network(), student(penalty=keras.regularizers.L2(0.1))
    z, p = small.predict(X, verbose=0), teacher.predict(X, verbose=0)
    soft = soft_loss(softmax(np.log(p) / 5), z, 5) * (25 if squared else 1)
    hard = -np.log(softmax(z)[np.arange(len(Y)), Y])
    penalty = 0.1 * (weights_of(small, "small")["small/kernel"] ** 2).sum()
    expected = (0.7 * soft + 0.3 * hard).mean() + penalty

    def made():
        return Distillation(
            small, teacher, temperature=5, alpha=0.7, squared=squared, responses=how
        )

    assert loss_of(made(), X, Y) == pytest.approx(expected, rel=1e-4)
    # Sample weights count in both parts; images without labels have the soft part alone.
    weights = np.linspace(0, 2, len(Y))
    weighted = ((0.7 * soft + 0.3 * hard) * weights).mean() + penalty
    assert loss_of(made(), X, Y, sample_weight=weights) == pytest.approx(weighted, rel=1e-4)
    assert loss_of(made(), X) == pytest.approx(soft.mean() + penalty, rel=1e-4)


@pytest.mark.slow_compiled
@pytest.mark.parametrize("mean", ["probabilities", "logits"])
def test_an_ensemble(mean):
    teachers = [network(seed=1), network(seed=2, activation=None)]
    z = [np.log(teachers[0].predict(X, verbose=0)), teachers[1].predict(X, verbose=0)]
    if mean == "probabilities":
        target = (softmax(z[0] / 3) + softmax(z[1] / 3)) / 2
    else:
        z[0] -= z[0].mean(-1, keepdims=True)
        target = softmax((z[0] + z[1]) / 2 / 3)
    small = student()
    expected = soft_loss(target, small.predict(X, verbose=0), 3).mean()
    made = Distillation(small, teachers, temperature=3, alpha=1.0, squared=False, mean=mean)
    assert loss_of(made, X, Y) == pytest.approx(expected, rel=1e-4)


@pytest.mark.slow_compiled
@pytest.mark.parametrize("mean", ["probabilities", "logits"])
@pytest.mark.parametrize("how", ["recorded", "live"])
def test_steps_by_an_ensemble_by_hand(mean, how):
    """Descent of a linear student, with the gradients written out."""
    teachers = [network(seed=1), network(seed=2, activation=None)]
    inputs = keras.Input(SHAPE)
    outputs = layers.Dense(4, name="scores")(layers.Flatten()(inputs))
    small = keras.Model(inputs, outputs)
    kernel, bias = small.get_weights()
    each = [np.log(teachers[0].predict(X, verbose=0)), teachers[1].predict(X, verbose=0)]
    if mean == "probabilities":
        target = (softmax(each[0] / 3) + softmax(each[1] / 3)) / 2
    else:
        target = softmax((each[0] + each[1]) / 2 / 3)
    rate, alpha, flat = 0.1, 0.6, X.reshape(len(X), -1)
    for _ in range(2):
        for part in (slice(0, 16), slice(16, 32), slice(32, 40)):
            x = flat[part]
            z = x @ kernel + bias
            soft = (softmax(z / 3) - target[part]) / 3
            hard = softmax(z) - np.eye(4)[Y[part]]
            gradient = (alpha * 9 * soft + (1 - alpha) * hard) / len(x)
            kernel, bias = kernel - rate * x.T @ gradient, bias - rate * gradient.sum(0)
    made = Distillation(small, teachers, temperature=3, alpha=alpha, mean=mean, responses=how)
    made.compile(keras.optimizers.SGD(rate))
    made.fit(X, Y, batch_size=16, epochs=2, shuffle=False, verbose=0)
    found = weights_of(made.network, "scores")
    np.testing.assert_allclose(found["scores/kernel"], kernel, atol=1e-5)
    np.testing.assert_allclose(found["scores/bias"], bias, atol=1e-5)


def test_several_labels_at_once():
    teacher, small = network("sigmoid"), student("sigmoid")
    labels = np.random.default_rng(0).integers(0, 2, (len(X), 4)).astype("float32")
    t, s = (np.log(p / (1 - p)) for p in (m.predict(X, verbose=0) for m in (teacher, small)))

    def sigmoid(v):
        return 1 / (1 + np.exp(-v))

    q, p = sigmoid(t / 2), sigmoid(s / 2)
    soft = -(q * np.log(p) + (1 - q) * np.log(1 - p)).sum(1)
    hard = -(labels * np.log(sigmoid(s)) + (1 - labels) * np.log(1 - sigmoid(s))).mean(1)
    made = Distillation(small, teacher, temperature=2, alpha=0.5, squared=False)
    assert loss_of(made, X, labels) == pytest.approx((soft + hard).mean() / 2, rel=1e-3)


@pytest.mark.slow_compiled
def test_a_teacher_of_another_size():
    teacher, small = network(), student(size=16)
    images = np.repeat(np.repeat(X, 2, 1), 2, 2)
    z, p = small.predict(images, verbose=0), teacher.predict(X, verbose=0)
    expected = soft_loss(softmax(np.log(p)), z, 1).mean()
    found = loss_of(Distillation(small, teacher, temperature=1, alpha=1.0), images, Y)
    assert found == pytest.approx(expected, rel=2e-2)  # averaging two equal pixels is the inverse


@pytest.mark.slow_compiled
def test_hints_pull_a_layer_and_then_no_more():
    teacher, small = network(dropout=0.0), student()
    between = keras.Model(teacher.input, teacher.get_layer("block2_conv").output)
    made = Distillation(small, teacher, hints={"block2_conv": "small"}, hint_epochs=8)
    made.compile(keras.optimizers.Adam(0.02), metrics=["accuracy"])
    before = weights_of(made.network, "scores")
    history = made.fit(X, Y, epochs=8, verbose=0).history
    assert history["loss"][-1] < 0.7 * history["loss"][0]
    for key, value in weights_of(made.network, "scores").items():
        np.testing.assert_array_equal(value, before[key])  # it is behind the hint
    target, found = between.predict(X, verbose=0), made.network.predict(X, verbose=0)
    expected = 0.5 * ((target - found["block2_conv_regressor"]) ** 2).mean()
    assert history["loss"][-1] == pytest.approx(expected, rel=0.2)
    regressor = weights_of(made.network, "block2_conv_regressor")
    made.fit(X, Y, epochs=10, initial_epoch=8, verbose=0)
    for key, value in weights_of(made.network, "block2_conv_regressor").items():
        np.testing.assert_array_equal(value, regressor[key])
    assert {layer.name for layer in made.export_model().layers} == {
        layer.name for layer in Distillation(small, teacher).export_model().layers
    }


def nested(activation=None):
    """A model in a model, as the guides of Keras build them."""
    inner = student()
    trunk = keras.Model(inner.input, inner.get_layer("averages").output, name="trunk")
    inputs = keras.Input(SHAPE)
    x = layers.Rescaling(2.0, name="scale")(inputs)
    return keras.Model(inputs, layers.Dense(4, activation, name="last")(trunk(x)), name="outer")


def test_hints_on_models_in_a_model():
    made = Distillation(nested(), nested("softmax"), hints={"trunk": "trunk"}, hint_epochs=1)
    made.compile(keras.optimizers.SGD(0.5))
    before = weights_of(made.network, "small", "last")
    made.fit(X, Y, verbose=0)
    after = weights_of(made.network, "small", "last")
    moved = {key.split("/")[0] for key in before if not np.array_equal(before[key], after[key])}
    assert (made.stage.name, moved) == ("hints", {"small"})
    within = "'small' lies within 'trunk', out of reach of a hint.*x = trunk.output"
    for hints in ({"small": "scale"}, {"scale": "small"}):
        with pytest.raises(ValueError, match=within):
            Distillation(nested(), nested(), hints=hints)


def test_a_hint_of_a_layer_that_is_called_as_an_output_is():
    inputs = keras.Input(SHAPE)
    x = layers.Dense(6, name="answers")(layers.Flatten()(inputs))
    teacher = keras.Model(inputs, layers.Dense(4, "softmax")(x))
    made = Distillation(student(), teacher, hints={"answers": "averages"})
    made.compile("sgd")
    made.fit(X, Y, verbose=0)
    assert made.predict(X, verbose=0).shape == (len(X), 4)
    assert made.export_model().layers[-1].name == "scores"


def test_one_pass_of_the_teacher_gives_answers_and_hints():
    made = Distillation(student(), network(), hints={"block2_conv": "small"})
    still(made)
    calls = []

    def counted(layer, compute):
        calls.append(layer.name)
        return compute()

    guided = made(X, training=True)
    with outputs_through([made._teachers[0].get_layer("block1_conv")], counted):
        made.compute_loss(X, Y, guided)
    assert calls == ["block1_conv"]


@pytest.mark.slow_compiled
def test_images_without_labels_beside_some_with():
    made = Distillation(student(), network())
    made.compile(keras.optimizers.SGD(0.1), metrics=["accuracy"])
    history = made.fit(X, epochs=2, verbose=0, validation_data=(X, Y)).history
    losses = {"loss", "soft_loss"}
    assert set(history) == {*losses, "val_loss", "val_soft_loss", "val_accuracy"}
    right = (made.predict(X, verbose=0).argmax(1) == Y).mean()
    assert history["val_accuracy"][-1] == pytest.approx(right)
    assert set(made.evaluate(X, verbose=0, return_dict=True)) == losses
    assert made.evaluate(X, Y, verbose=0, return_dict=True)["accuracy"] == pytest.approx(right)
    assert set(made.fit(X, Y, verbose=0).history) == {*losses, "accuracy"}


HINTED = {"hints": {"block2_conv": "small"}, "hint_epochs": 1}


@pytest.mark.slow_compiled
@pytest.mark.parametrize("options", [{"responses": "recorded"}, HINTED], ids=["recorded", "hints"])
def test_a_killed_run_goes_on(options, tmp_path):
    def run(folder, kill=None):
        made = Distillation(student(), network(), **options)
        made.compile(keras.optimizers.SGD(0.05, momentum=0.9))
        callbacks = [*([kill] if kill else []), TrainingState(tmp_path / folder, save_freq=1)]
        history = made.fit(X, Y, batch_size=20, epochs=2, verbose=0, callbacks=callbacks)
        return made.get_weights(), (history.epoch, history.history)

    whole, expected = run("whole")
    with pytest.raises(Killed):
        run("part", Kill(1, 0))
    again, history = run("part")
    for one, other in zip(whole, again, strict=True):
        np.testing.assert_array_equal(one, other)
    assert history == expected


def test_teachers_stay_and_files_hold_the_hints(tmp_path):
    teachers, small = [network(seed=1), network(seed=2)], network(seed=3, dropout=0.0)
    made = Distillation(small, teachers, hints={"block2_conv": "block2_conv"})
    made.compile(keras.optimizers.SGD(0.05, momentum=0.9), metrics=["accuracy"])
    made.fit(X, Y, verbose=0)
    made.save(tmp_path / "made.keras")
    loaded = keras.saving.load_model(tmp_path / "made.keras")
    for one in (made, loaded):
        one.fit(X, Y, epochs=2, initial_epoch=1, verbose=0, shuffle=False)
    for one, other in zip(made.get_weights(), loaded.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)
    for given, *copies in zip(teachers, made._teachers, loaded._teachers, strict=True):
        for one, *others in zip(given.weights, *(copy.weights for copy in copies), strict=True):
            for other in others:
                np.testing.assert_array_equal(*map(keras.ops.convert_to_numpy, (one, other)))
    first, learnt = (weights_of(model, "block1_bn") for model in (small, made.network))
    assert not any(np.array_equal(first[key], learnt[key]) for key in first)


@pytest.mark.slow_compiled
def test_the_student_alone_learns(tmp_path):
    teacher, small = network(), student()
    before = teacher.get_weights(), small.get_weights()
    made = Distillation(small, [teacher], alpha=0.5)
    made.compile("adam", metrics=["accuracy"])
    made.fit(X, Y, epochs=2, verbose=0, validation_data=(X, Y))
    for model, weights in zip((teacher, small), before, strict=True):
        for one, other in zip(model.get_weights(), weights, strict=True):
            np.testing.assert_array_equal(one, other)
    statistics = weights_of(made._teachers[0], "block1_bn")
    for key, value in weights_of(teacher, "block1_bn").items():
        np.testing.assert_array_equal(value, statistics[key])
    made.save(tmp_path / "made.keras")
    loaded = keras.saving.load_model(tmp_path / "made.keras")
    np.testing.assert_allclose(
        loaded.evaluate(X, Y, verbose=0), made.evaluate(X, Y, verbose=0), rtol=1e-5
    )
    np.testing.assert_allclose(
        made.export_model().predict(X, verbose=0), loaded.predict(X, verbose=0), atol=1e-6
    )
    loaded.fit(X, Y, verbose=0)


@pytest.mark.slow_compiled
def test_alpha_and_temperature_can_be_changed():
    made = still(Distillation(student(), network(), alpha=1.0, squared=False))
    losses = []
    for alpha, temperature in ((1.0, 4.0), (1.0, 1.0), (0.0, 1.0)):
        made.alpha.assign(alpha)
        made.soft.temperature.assign(temperature)
        losses.append(made.fit(X, Y, verbose=0).history["loss"][0])
    assert len({round(loss, 4) for loss in losses}) == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"alpha": 1.5}, "`alpha` must be .* at least 0.* Received: 1.5"),
        ({"mean": "sum"}, "'probabilities' or 'logits'. Received: 'sum'"),
        ({"responses": "no"}, "Received: 'no'"),
        ({"student": {"classes": 5}}, "must answer for the same classes"),
        ({"student": {"activation": "sigmoid"}}, "cannot be compared"),
        ({"teacher": []}, "There must be a teacher"),
        ({"hints": {"block9": "small"}}, "'net' has no layer 'block9' for a hint.*block1_conv"),
        ({"hints": {"block2_conv": "averages"}}, "cannot be made to fit"),
        ({"hints": {"fc1": "averages"}, "responses": "recorded"}, "Hints are not recorded"),
    ],
)
def test_errors(arguments, message):
    given = {"teacher": network(), **arguments}
    small = student(**given.pop("student", {}))
    with pytest.raises(ValueError, match=message):
        Distillation(small, given.pop("teacher"), **given)


@pytest.mark.slow_compiled
@pytest.mark.parametrize("behind", ["nothing", "linear", "reshape", "operation"])
def test_a_double_softmax_is_refused(behind):
    small = student(None if behind == "operation" else "softmax")
    outputs = {
        "nothing": lambda x: x,
        "linear": layers.Activation("linear", dtype="float32"),
        "reshape": layers.Reshape((4,)),
        "operation": keras.ops.softmax,
    }[behind](small.output)
    small = keras.Model(small.input, outputs)
    teacher = network()
    made = Distillation(small, teacher, temperature=3, alpha=0.5, squared=False)
    with pytest.raises(ValueError, match="put a second softmax"):
        made.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    z, p = (np.log(model.predict(X, verbose=0)) for model in (small, teacher))
    soft, hard = soft_loss(softmax(p / 3), z, 3), -z[np.arange(len(Y)), Y]
    assert loss_of(made, X, Y) == pytest.approx((soft + hard).mean() / 2, rel=1e-4)


def test_answers_of_a_kind_that_is_not_known():
    small = student()
    unknown = keras.Model(small.input, layers.Lambda(keras.ops.softmax, name="own")(small.output))
    for pair in ((unknown, network()), (small, unknown)):
        with pytest.raises(ValueError, match=r"'own' .Lambda. gives .* keras.layers.Softmax"):
            Distillation(*pair)
