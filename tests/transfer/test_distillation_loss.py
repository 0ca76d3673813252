"""The distillation loss against values by hand, NumPy and finite differences."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_cnn_classics.transfer import DistillationLoss


def softmax(z):
    e = np.exp(z - z.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def slow(teacher, student, temperature):
    """The loss as the paper writes it, on probabilities, image by image and class by class."""
    losses = []
    for y, z in zip(teacher, student, strict=True):
        p = softmax(z)
        soft_y = [v ** (1 / temperature) for v in y]
        soft_p = [v ** (1 / temperature) for v in p]
        total = 0.0
        for a, b in zip(soft_y, soft_p, strict=True):
            total -= a / sum(soft_y) * np.log(b / sum(soft_p))
        losses.append(total)
    return np.array(losses)


def test_a_value_by_hand():
    # p^(1/2) of (0.64, 0.36) is (0.8, 0.6), as shares (4/7, 3/7); equal answers are (1/2, 1/2).
    loss = DistillationLoss(temperature=2.0)
    found = float(loss(np.array([[0.64, 0.36]]), np.array([[0.5, 0.5]])))
    assert found == pytest.approx(np.log(2), rel=1e-5)
    found = float(loss(np.array([[0.5, 0.5]]), np.array([[0.64, 0.36]])))
    assert found == pytest.approx(-0.5 * (np.log(4 / 7) + np.log(3 / 7)), rel=1e-5)
    squared = DistillationLoss(temperature=2.0, squared=True)
    assert float(squared(np.array([[0.5, 0.5]]), np.array([[0.64, 0.36]]))) == pytest.approx(
        4 * found, rel=1e-5
    )


@pytest.mark.parametrize("temperature", [1.0, 2.0, 7.5])
@pytest.mark.parametrize("form", ["softmax", "linear"])
@pytest.mark.parametrize("teacher_form", ["softmax", "linear"])
def test_against_numpy(temperature, form, teacher_form):
    rng = np.random.default_rng(0)
    teacher, student = rng.normal(size=(2, 5, 4)) * 3
    expected = slow(softmax(teacher), student, temperature)
    weights = np.array([1.0, 0.0, 2.0, 0.5, 1.0])
    loss = DistillationLoss(temperature, False, form, teacher_form)
    y = softmax(teacher) if teacher_form == "softmax" else teacher
    z = softmax(student) if form == "softmax" else student
    args = [a.astype("float32") for a in (y, z)]
    assert float(loss(*args)) == pytest.approx(expected.mean(), rel=1e-4)
    assert float(loss(*args, weights)) == pytest.approx((expected * weights).mean(), rel=1e-4)
    again = type(loss).from_config(loss.get_config())
    assert float(again(*args)) == pytest.approx(expected.mean(), rel=1e-4)


def test_several_labels_at_once():
    teacher, student = np.array([[0.9, 0.2, 0.5]]), np.array([[0.6, 0.6, 0.1]])

    def soft(p, temperature=3.0):
        z = np.log(p / (1 - p)) / temperature
        return 1 / (1 + np.exp(-z))

    q, p = soft(teacher), soft(student)
    expected = -(q * np.log(p) + (1 - q) * np.log(1 - p)).sum()
    loss = DistillationLoss(3.0, form="sigmoid")
    assert float(loss(teacher, student)) == pytest.approx(expected, rel=1e-4)


def test_sure_answers_are_finite():
    answers = np.array([[1.0, 0.0, 0.0]], "float32")
    for form in ("softmax", "sigmoid"):
        assert np.isfinite(float(DistillationLoss(form=form)(answers, answers[:, ::-1])))


def test_the_temperature_can_be_changed():
    loss = DistillationLoss(1.0, form="linear")
    y, z = np.array([[2.0, 0.0]], "float32"), np.array([[0.0, 1.0]], "float32")
    before = float(loss(y, z))
    loss.temperature.assign(4.0)
    assert float(loss(y, z)) == pytest.approx(slow(softmax(y), z, 4.0)[0], rel=1e-4)
    assert float(loss(y, z)) != pytest.approx(before, rel=1e-2)
    assert loss.get_config()["temperature"] == 4.0


def test_in_the_limit_it_matches_scores():
    """Hinton et al., equation 4: at a high T, T^2 times the gradient is (z - v) / N."""
    rng = np.random.default_rng(1)
    v, z = (a - a.mean() for a in rng.normal(size=(2, 1, 6)))
    loss, step = DistillationLoss(100.0, True, "linear", dtype="float32"), 0.5
    gradient = [
        float(loss(v, z + step * unit) - loss(v, z - step * unit)) / (2 * step)
        for unit in np.eye(6)[:, None]
    ]
    np.testing.assert_allclose(gradient, (z - v)[0] / 6, atol=0.02)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"temperature": 0}, "`temperature` must be .* above 0. Received: 0"),
        ({"form": "tanh"}, "`form` must be one of"),
        ({"form": "softmax", "teacher_form": "sigmoid"}, "cannot be compared"),
    ],
)
def test_errors(arguments, message):
    with pytest.raises(ValueError, match=message):
        DistillationLoss(**arguments)


def test_it_is_saved_with_a_model(tmp_path):
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, "softmax")])
    model.compile("sgd", DistillationLoss(5.0, squared=True))
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert float(loaded.loss.temperature) == 5.0
    x, y = np.ones((2, 3)), np.array([[0.3, 0.7]] * 2)
    assert loaded.evaluate(x, y, verbose=0) == pytest.approx(model.evaluate(x, y, verbose=0))
    assert ops.convert_to_numpy(model(x)).sum() == pytest.approx(2)
