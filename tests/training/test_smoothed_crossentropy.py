"""Label smoothing by hand-computed values, by NumPy and by Keras."""

import keras
import numpy as np
import pytest

from keras_cnn_classics.training import Scalar, SmoothedCrossentropy

LABELS = np.array([0, 2, 1])
SCORES = np.array([[2.0, -1.0, 0.5], [0.0, 0.3, -0.2], [1.0, 1.0, -3.0]], "float32")
PROBABILITIES = np.exp(SCORES) / np.exp(SCORES).sum(-1, keepdims=True)
FORMS = [LABELS, LABELS[:, None], np.eye(3, dtype="int32")[LABELS], np.eye(3)[LABELS]]
# The probabilities of the true class and of each other one, by hand, for an epsilon of 0.3.
TARGETS = {"uniform": (0.8, 0.1), "others": (0.7, 0.15)}


def per_image(loss, labels, outputs, **kwargs):
    return keras.ops.convert_to_numpy(loss(labels, outputs, **kwargs))


@pytest.mark.parametrize("labels", FORMS)
@pytest.mark.parametrize("convention", TARGETS)
def test_hand_values(labels, convention):
    true, other = TARGETS[convention]
    target = np.where(np.eye(3)[LABELS] == 1, true, other)
    wanted = -(target * np.log(PROBABILITIES)).sum(-1)
    for outputs, logits in ((PROBABILITIES, False), (SCORES, True)):
        loss = SmoothedCrossentropy(0.3, logits, convention, reduction=None)
        np.testing.assert_allclose(per_image(loss, labels, outputs), wanted, rtol=1e-5)
        weights = np.array([1.0, 0.0, 2.0])
        weighted = per_image(loss, labels, outputs, sample_weight=weights)
        np.testing.assert_allclose(weighted, wanted * weights, rtol=1e-5)
        mean = SmoothedCrossentropy(0.3, logits, convention)(labels, outputs)
        assert float(mean) == pytest.approx(wanted.mean(), rel=1e-5)


@pytest.mark.parametrize("logits", [False, True])
def test_the_uniform_convention_is_that_of_keras(logits):
    rng = np.random.default_rng(0)
    outputs = rng.normal(size=(8, 10)).astype("float32") * 4
    outputs = outputs if logits else np.exp(outputs) / np.exp(outputs).sum(-1, keepdims=True)
    hot = np.eye(10)[rng.integers(10, size=8)]
    for epsilon in (0.0, 0.1, 0.9):
        keras_own = keras.losses.CategoricalCrossentropy(logits, label_smoothing=epsilon)
        ours = SmoothedCrossentropy(epsilon, logits)(hot, outputs)
        assert float(ours) == pytest.approx(float(keras_own(hot, outputs)), rel=1e-6)


@pytest.mark.parametrize(("classes", "factor"), [(2, 2.0), (10, 10 / 9), (1000, 1000 / 999)])
def test_one_convention_is_the_other_with_more_epsilon(classes, factor):
    rng = np.random.default_rng(0)
    scores = rng.normal(size=(4, classes)).astype("float32")
    labels = rng.integers(classes, size=4)
    others = SmoothedCrossentropy(0.1, True, "others", reduction=None)
    uniform = SmoothedCrossentropy(0.1 * factor, True, "uniform", reduction=None)
    same = SmoothedCrossentropy(0.1, True, "uniform", reduction=None)
    ours = per_image(others, labels, scores)
    np.testing.assert_allclose(ours, per_image(uniform, labels, scores), rtol=1e-6)
    assert np.abs(ours - per_image(same, labels, scores)).max() > 1e-5


@pytest.mark.parametrize("convention", TARGETS)
def test_mixed_labels_are_smoothed_in_proportion(convention):
    loss = SmoothedCrossentropy(0.2, True, convention, reduction=None)
    one, two = np.eye(3)[LABELS], np.eye(3)[LABELS[::-1]]
    mixed = per_image(loss, 0.3 * one + 0.7 * two, SCORES)
    apart = 0.3 * per_image(loss, one, SCORES) + 0.7 * per_image(loss, two, SCORES)
    np.testing.assert_allclose(mixed, apart, rtol=1e-5)


def test_images_of_any_size_and_labels_of_every_pixel():
    model = keras.Sequential([keras.Input((None, None, 3)), keras.layers.Activation("linear")])
    model.compile(loss=SmoothedCrossentropy(0.1, True))
    pixels = np.stack([SCORES, SCORES * 2])[None]
    value = model.evaluate(pixels, np.stack([LABELS, LABELS])[None], verbose=0)
    one, two = (SmoothedCrossentropy(0.1, True)(LABELS, SCORES * i) for i in (1, 2))
    assert value == pytest.approx((float(one) + float(two)) / 2, rel=1e-6)


def test_labels_of_every_pixel():
    labels = np.stack([LABELS, LABELS[::-1]])[None]
    scores = np.stack([SCORES, SCORES * 2])[None]
    loss = SmoothedCrossentropy(0.1, True, reduction=None)
    wanted = [per_image(loss, LABELS, SCORES), per_image(loss, LABELS[::-1], SCORES * 2)]
    for form in (labels, labels[..., None], np.eye(3)[labels]):
        np.testing.assert_allclose(per_image(loss, form, scores)[0], wanted, rtol=1e-6)


def test_large_scores_and_hard_probabilities_stay_finite():
    far = np.array([[1e4, -1e4, 0.0]], "float32")
    assert float(SmoothedCrossentropy(0.3, True)([1], far)) == pytest.approx(0.8 * 2e4 + 0.1 * 1e4)
    hard = float(SmoothedCrossentropy(0.3)([1], np.array([[1.0, 0.0, 0.0]], "float32")))
    assert hard == pytest.approx(-0.9 * np.log(1e-7), rel=1e-3)


def test_dtypes():
    half = SmoothedCrossentropy(0.3, True)(LABELS, SCORES.astype("float16"))
    assert keras.backend.standardize_dtype(half.dtype) == "float32"
    scores = np.zeros((1, 300), "float32")
    scores[0, 257] = 8.0
    loss = SmoothedCrossentropy(0.0, True, dtype="bfloat16")
    value = loss(np.array([257]), scores)
    assert keras.backend.standardize_dtype(value.dtype) == "bfloat16"
    assert float(value) == pytest.approx(np.log(1 + 299 * np.exp(-8)), rel=0.05)


def test_a_label_beyond_the_classes_is_seen():
    for label in (-1, 3):
        values = per_image(SmoothedCrossentropy(reduction=None), [0, label], PROBABILITIES[:2])
        assert np.isfinite(values[0])
        assert np.isnan(values[1])


def test_saving_keeps_the_present_value():
    loss = SmoothedCrossentropy(0.3, True, "others", name="a", dtype="float16")
    loss.epsilon.assign(0.25)
    config = keras.saving.serialize_keras_object(loss)
    copy = keras.saving.deserialize_keras_object(config)
    assert copy.get_config() == loss.get_config()
    assert (float(copy.epsilon), copy.epsilon.initial) == (0.25, 0.25)
    assert isinstance(copy.epsilon, Scalar)
    assert (copy.from_logits, copy.convention, copy.dtype) == (True, "others", "float16")


@pytest.mark.parametrize("epsilon", [-0.1, 1.0, float("nan"), "0.1"])
def test_epsilon_out_of_range(epsilon):
    with pytest.raises(ValueError, match=r"below 1. Received: "):
        SmoothedCrossentropy(epsilon)


@pytest.mark.parametrize(
    ("labels", "outputs"),
    [
        (np.zeros(2), SCORES),
        (np.zeros((3, 2)), SCORES),
        (np.zeros((3, 3, 1)), SCORES),
        (np.zeros((3, 1)), np.ones((3, 1))),
    ],
)
def test_shapes_that_do_not_fit(labels, outputs):
    with pytest.raises(ValueError, match=r"Received: outputs of shape \(3, .*labels of shape"):
        SmoothedCrossentropy()(labels, outputs)


def test_an_unknown_convention():
    with pytest.raises(ValueError, match="Received: 'wrong'"):
        SmoothedCrossentropy(convention="wrong")
