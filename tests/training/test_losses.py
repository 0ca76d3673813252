"""LeNet-5's losses by hand-computed values."""

import keras
import numpy as np
import pytest

from keras_cnn_classics.training.losses import MaximumAPosteriori, MeanSquaredDistance

DISTANCES = np.array([[1.0, 4.0, 9.0], [2.0, 0.5, 3.0]], "float32")
LABELS = np.array([0, 2])


@pytest.mark.parametrize("labels", [LABELS, LABELS[:, None], np.eye(3)[LABELS]])
def test_mean_squared_distance(labels):
    assert float(MeanSquaredDistance()(labels, -DISTANCES)) == pytest.approx((1 + 3) / 2)
    none = keras.ops.convert_to_numpy(MeanSquaredDistance(reduction=None)(labels, -DISTANCES))
    np.testing.assert_allclose(none, [1, 3])
    weighted = MeanSquaredDistance()(labels, -DISTANCES, sample_weight=np.array([1.0, 0.0]))
    assert float(weighted) == pytest.approx(0.5)


@pytest.mark.parametrize("labels", [LABELS, LABELS[:, None], np.eye(3)[LABELS]])
def test_maximum_a_posteriori(labels):
    first = 1 + np.log(np.exp(-2) + np.exp(-1) + np.exp(-4) + np.exp(-9))
    second = 3 + np.log(np.exp(-2) + np.exp(-2) + np.exp(-0.5) + np.exp(-3))
    loss = MaximumAPosteriori(j=2.0)
    assert float(loss(labels, -DISTANCES)) == pytest.approx((first + second) / 2)


def test_without_the_rubbish_class_it_is_the_cross_entropy_of_a_softmax():
    entropy = keras.losses.SparseCategoricalCrossentropy(from_logits=True)(LABELS, -DISTANCES)
    assert float(MaximumAPosteriori(j=1e4)(LABELS, -DISTANCES)) == pytest.approx(float(entropy))


def test_far_classes_are_not_pushed_further():
    near = float(MaximumAPosteriori(j=5.0)([0], -np.array([[1.0, 300.0]])))
    far = float(MaximumAPosteriori(j=5.0)([0], -np.array([[1.0, 900.0]])))
    assert near == far
    assert np.isfinite(near)


@pytest.mark.parametrize("loss", [MeanSquaredDistance(name="a"), MaximumAPosteriori(j=3.0)])
def test_serialisation(loss):
    copy = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(loss))
    assert copy.get_config() == loss.get_config()


def test_errors():
    with pytest.raises(ValueError, match="Received: j=0"):
        MaximumAPosteriori(j=0)
