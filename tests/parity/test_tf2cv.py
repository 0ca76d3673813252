"""The same outputs as tf2cv, through the files that it writes, with random weights."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from rough import assert_near

import keras_cnn_classics as kcc
from keras_cnn_classics.weights import sources
from tests.marks import slow

pytestmark = [
    pytest.mark.parity,
    pytest.mark.skipif(
        not all(map(importlib.util.find_spec, ("tf2cv", "tf_keras"))),
        reason="compares with tf2cv, which needs tf_keras",
    ),
]

SCRIPT = Path(__file__).with_name("tf2cv_network.py")
X = np.random.default_rng(0).normal(size=(2, 299, 299, 3)).astype("float32")
# So large that the normalization of responses has an effect.
LARGE = 60 * X


@pytest.mark.parametrize(
    ("theirs", "ours", "side", "gain", "start"),
    [
        ("resnet20_cifar10", "ResNet20", 32, 1.0, "build"),
        slow("resnet56_cifar10", "ResNet56", 32, 1.0, "build"),
        slow("resnet110_cifar10", "ResNet110", 32, 1.0, "build"),
        slow("preresnet110_cifar10", "ResNet110V2", 32, 1.0, "build"),
        ("preresnet164bn_cifar10", "ResNet164V2", 32, 1.0, "call"),
        slow("preresnet1001_cifar10", "ResNet1001V2", 32, 0.6, "build"),
        slow("densenet100_k12_bc_cifar10", "DenseNetBC100_12", 32, 1.0, "build"),
        slow("pyramidnet110_a48_cifar10", "PyramidNet110", 32, 1.0, "build"),
        slow("pyramidnet110_a270_cifar10", "PyramidNet110_270", 32, 1.0, "build"),
        slow("alexnet", "AlexNetSingle", 224, 1.0, "build"),
        slow("zfnet", "ZFNet", 224, 1.0, "build"),
        slow("zfnetb", "ZFNetWide", 224, 1.0, "build"),
        slow("bninception", "BNInception", 224, 1.0, "build"),
        slow("inceptionresnetv1", "InceptionResNetV1", 299, 1.0, "build"),
        slow("cbam_resnet50", "CBAMResNet50", 224, 0.8, "build"),
        slow("preresnet200b", "ResNet200V2", 224, 0.8, "build"),
    ],
)
def test_tf2cv(theirs, ours, side, gain, start, tmp_path):
    x = (LARGE if theirs.startswith(("alexnet", "zfnet")) else X)[:, :side, :side]
    np.save(tmp_path / "images.npy", x)
    script = [sys.executable, SCRIPT, tmp_path, theirs, str(gain), start]
    subprocess.run(script, check=True, timeout=600)
    source = next(s for tag, s in sources.of(ours).items() if tag.endswith("/tf2cv"))
    model = getattr(kcc, ours)(
        weights=tmp_path / f"{theirs}.tf2.h5",
        classifier_activation=None,
        input_shape=(side, side, 3),
        **source.options,
    )
    got = keras.ops.convert_to_numpy(model(x, training=False))
    assert_near(got, np.load(tmp_path / "answers.npy"))
