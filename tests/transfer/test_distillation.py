"""Students learn from the answers of teachers."""

import keras
import numpy as np
import pytest
from keras import layers

from keras_cnn_classics.transfer import Distillation
from tests.transfer.networks import X_OLD, Y_OLD, network, weights_of

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
@pytest.mark.parametrize("squared", [True, False])
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


def test_a_teacher_of_another_size():
    teacher, small = network(), student(size=16)
    images = np.repeat(np.repeat(X, 2, 1), 2, 2)
    z, p = small.predict(images, verbose=0), teacher.predict(X, verbose=0)
    expected = soft_loss(softmax(np.log(p)), z, 1).mean()
    found = loss_of(Distillation(small, teacher, temperature=1, alpha=1.0), images, Y)
    assert found == pytest.approx(expected, rel=2e-2)  # averaging two equal pixels is the inverse


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
    expected = 0.5 * ((target - found["block2_conv"]) ** 2).mean()
    assert history["loss"][-1] == pytest.approx(expected, rel=0.2)
    regressor = weights_of(made.network, "block2_conv_regressor")
    made.fit(X, Y, epochs=10, initial_epoch=8, verbose=0)
    for key, value in weights_of(made.network, "block2_conv_regressor").items():
        np.testing.assert_array_equal(value, regressor[key])
    assert {layer.name for layer in made.export_model().layers} == {
        layer.name for layer in Distillation(small, teacher).export_model().layers
    }


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
        ({"student": student(classes=5)}, "must answer for the same classes"),
        ({"student": student("sigmoid")}, "cannot be compared"),
        ({"teacher": []}, "There must be a teacher"),
        ({"hints": {"block9": "small"}}, "'net' has no layer 'block9' for a hint.*block1_conv"),
        ({"hints": {"block2_conv": "averages"}}, "cannot be made to fit"),
        ({"hints": {"fc1": "averages"}, "responses": "recorded"}, "Hints are not recorded"),
    ],
)
def test_errors(arguments, message):
    given = {"student": student(), "teacher": network(), **arguments}
    with pytest.raises(ValueError, match=message):
        Distillation(given.pop("student"), given.pop("teacher"), **given)


def test_a_double_softmax_is_refused():
    made = Distillation(student("softmax"), network())
    with pytest.raises(ValueError, match="put a second softmax"):
        made.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
