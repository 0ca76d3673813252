"""Published weights on the way that users go: from a tag and pixels to the publishers' answers."""

import keras
import numpy as np
import pytest

import keras_cnn_classics as kcc
from keras_cnn_classics.preprocessing import model_preprocessing
from keras_cnn_classics.weights import _faults

pytestmark = pytest.mark.parity

timm = pytest.importorskip("timm", reason="the parity tests compare with timm")
torch = pytest.importorskip("torch", reason="the parity tests compare with PyTorch")
safetensors = pytest.importorskip("safetensors.torch")

from reference import answers, pytorchcv, randomize  # noqa: E402
from rough import assert_near  # noqa: E402
from test_residual import CifarResNet  # noqa: E402

from tests.marks import slow  # noqa: E402

# Mean and standard deviation of the data by which those prepare images who are not timm.
IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CIFAR10 = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)


@pytest.fixture
def mirror(monkeypatch, tmp_path):
    """A folder that stands for all hosts; files of random weights have nobody's hash."""
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("KCC_WEIGHTS_MIRROR", tmp_path.as_uri())
    monkeypatch.delenv("KCC_OFFLINE")
    monkeypatch.setattr(_faults, "of_file", lambda path, digest, name="": "")
    return tmp_path


def compare(mirror, module, model, tag, side, statistics, options, state=None):
    """Publishes a module's weights in place of those of a tag, and compares the answers.

    With `state`, that is published.
    """
    state = state or module.state_dict()
    name = kcc.get_builder(model).spec.weights[tag].variant(options, side).top.name
    if name.endswith(".safetensors"):
        safetensors.save_file(state, mirror / name)
    else:
        torch.save(state, mirror / name)
    shape = (side, side, 3)
    ours = kcc.build(model, weights=tag, input_shape=shape, classifier_activation=None, **options)
    pixels = np.random.default_rng(0).uniform(0, 255, (2, *shape)).astype("float32")
    pixels[1] /= 4  # a dark image, for deep networks make little of the difference of two noises
    mean, std = statistics
    theirs = answers(module, ((pixels / 255 - mean) / std).astype("float32"))
    theirs = theirs["predictions"] if isinstance(theirs, dict) else theirs
    got = ours(model_preprocessing(ours)(pixels), training=False)
    assert_near(keras.ops.convert_to_numpy(got), theirs.numpy())


@pytest.mark.parametrize(
    ("model", "tag", "theirs", "side", "options"),
    [
        slow("ResNet18", "timm-tv", "resnet18.tv_in1k", 64, {}),
        ("ResNet50", "timm-a1", "resnet50.a1_in1k", 64, {}),
        ("SEResNet50", "timm-a1", "seresnet50.a1_in1k", 96, {}),
        slow("SEResNet50", "timm-legacy", "legacy_seresnet50.in1k", 96, {}),
        slow("SEResNeXt50_32x4d", "timm-gluon", "seresnext50_32x4d.gluon_in1k", 96, {}),
        slow("DenseNet121", "timm-tv", "densenet121.tv_in1k", 64, {}),
        slow("InceptionV3", "timm-tv", "inception_v3.tv_in1k", 299, {}),
        ("MobileNet", "timm-ra4", "mobilenetv1_100.ra4_e3600_r224_in1k", 64, {}),
        slow("MobileNetV2", "timm-ra", "mobilenetv2_140.ra_in1k", 64, {"alpha": 1.4}),
        ("EfficientNetB0", "timm-aa", "tf_efficientnet_b0.aa_in1k", 64, {}),
        slow("Xception", "timm-legacy", "legacy_xception.tf_in1k", 96, {}),
        ("InceptionV3", "timm-tf", "inception_v3.tf_in1k", 97, {}),
        slow("MobileNetV2", "timm-ra", "mobilenetv2_100.ra_in1k", 64, {}),
        slow("VGG16", "timm-tv", "vgg16.tv_in1k", 224, {}),
        slow("InceptionV4", "timm-tf", "inception_v4.tf_in1k", 97, {}),
        slow("InceptionResNetV2", "timm-tf", "inception_resnet_v2.tf_in1k", 97, {}),
        slow("NASNetLarge", "timm-tf", "nasnetalarge.tf_in1k", 96, {}),
        slow("ResNeXt50_32x4d", "timm-a1", "resnext50_32x4d.a1_in1k", 64, {}),
        slow("WideResNet50_2", "timm-tv2", "wide_resnet50_2.tv2_in1k", 64, {}),
        slow("SENet154", "timm-gluon", "senet154.gluon_in1k", 97, {}),
        slow("SENet154", "timm-legacy", "legacy_senet154.in1k", 96, {}),
        slow("EfficientNetB5", "timm-aa", "tf_efficientnet_b5.aa_in1k", 64, {}),
    ],
)
def test_timm(model, tag, theirs, side, options, mirror):
    # With 1, rounding is seen in the answers of these.
    gain = 0.8 if "se" in theirs else 0.9 if "b5" in theirs else 1.0
    # The file that came from torchvision has its auxiliary classifier.
    more = {"aux_logits": True} if theirs == "inception_v3.tv_in1k" else {}
    module = randomize(timm.create_model(theirs, **more), gain)
    config = timm.get_pretrained_cfg(theirs)
    statistics = config.mean, config.std
    compare(mirror, module, model, f"imagenet/{tag}", side, statistics, options)


@pytest.mark.parametrize(
    ("model", "tag", "file", "theirs", "side", "statistics"),
    [
        ("BNInception", "imagenet", "bninception", "bninception", 224, IMAGENET),
        slow("WideResNet16_10", "cifar10", "wrn_cifar", "wrn16_10_cifar10", 32, CIFAR10),
    ],
)
def test_pytorchcv(model, tag, file, theirs, side, statistics, mirror):
    module = randomize(getattr(pytorchcv(file), theirs)(pretrained=False))
    compare(mirror, module, model, f"{tag}/pytorchcv", side, statistics, {})


@pytest.mark.parametrize("depth", [20, slow(110)])
def test_akamaster(depth, mirror):
    """As its trainer writes it, from several GPUs and beside the accuracy."""
    module = randomize(CifarResNet(depth))
    tensors = {f"module.{key}": value for key, value in module.state_dict().items()}
    state = {"state_dict": tensors, "best_prec1": 91.73}
    model, tag = f"ResNet{depth}", "cifar10/akamaster"
    compare(mirror, module, model, tag, 32, IMAGENET, {}, state)
