"""timm's checkpoints, most of them on the Hugging Face hub.

Licences and accuracies are those of timm's model cards and of its table of results. The hub tells
the SHA-256 of each file; those that timm keeps elsewhere have its first digits in their names.
"""

from __future__ import annotations

import dataclasses

from keras_cnn_classics.registry import WeightsFile, WeightsSource
from keras_cnn_classics.weights.sources.torchvision import GRAPHS, PREPROCESSING

_HUB = "https://huggingface.co/timm/"
_RELEASES = "https://github.com/rwightman/pytorch-image-models/releases/download/"

# Those that came from torchvision have its licence, where the model card says so.
_BSD = (
    *("vgg", "wide_resnet", "resnext50_32x4d.tv", "resnext101_32x8d"),
    *(f"resnet{depth}.tv" for depth in (18, 34, 50, 101, 152)),
)

#    model, model of timm and its recipe, top-1, top-5
_CHECKPOINTS = (
    ("VGG11", "vgg11.tv_in1k", 69.05, 88.63),
    ("VGG13", "vgg13.tv_in1k", 69.95, 89.262),
    ("VGG16", "vgg16.tv_in1k", 71.594, 90.398),
    ("VGG19", "vgg19.tv_in1k", 72.4, 90.878),
    ("VGG11BN", "vgg11_bn.tv_in1k", 70.374, 89.802),
    ("VGG13BN", "vgg13_bn.tv_in1k", 71.56, 90.372),
    ("VGG16BN", "vgg16_bn.tv_in1k", 73.354, 91.49),
    ("VGG19BN", "vgg19_bn.tv_in1k", 74.23, 91.848),
    ("InceptionV3", "inception_v3.tf_in1k", 77.866, 93.644),
    ("InceptionV3", "inception_v3.tv_in1k", 77.472, 93.468),
    ("InceptionV4", "inception_v4.tf_in1k", 80.144, 94.982),
    ("InceptionResNetV2", "inception_resnet_v2.tf_in1k", 80.434, 95.312),
    ("ResNet18", "resnet18.tv_in1k", 69.752, 89.082),
    ("ResNet18", "resnet18.a1_in1k", 71.504, 90.086),
    ("ResNet34", "resnet34.tv_in1k", 73.298, 91.422),
    ("ResNet34", "resnet34.a1_in1k", 76.42, 92.896),
    ("ResNet50", "resnet50.tv_in1k", 76.156, 92.866),
    ("ResNet50", "resnet50.a1_in1k", 80.382, 94.598),
    ("ResNet101", "resnet101.tv_in1k", 77.404, 93.552),
    ("ResNet101", "resnet101.a1_in1k", 81.494, 95.164),
    ("ResNet152", "resnet152.tv_in1k", 78.33, 94.046),
    ("ResNet152", "resnet152.a1_in1k", 81.998, 95.294),
    ("WideResNet50_2", "wide_resnet50_2.tv_in1k", 78.486, 94.084),
    ("WideResNet50_2", "wide_resnet50_2.tv2_in1k", 80.442, 95.076),
    ("WideResNet101_2", "wide_resnet101_2.tv_in1k", 78.862, 94.312),
    ("WideResNet101_2", "wide_resnet101_2.tv2_in1k", 80.494, 94.978),
    ("DenseNet121", "densenet121.tv_in1k", 74.75, 92.158),
    ("DenseNet161", "densenet161.tv_in1k", 77.384, 93.656),
    ("DenseNet169", "densenet169.tv_in1k", 75.922, 92.976),
    ("DenseNet201", "densenet201.tv_in1k", 77.284, 93.48),
    ("ResNeXt50_32x4d", "resnext50_32x4d.tv_in1k", 77.632, 93.674),
    ("ResNeXt50_32x4d", "resnext50_32x4d.a1_in1k", 80.526, 94.458),
    ("ResNeXt101_32x4d", "resnext101_32x4d.gluon_in1k", 80.336, 94.908),
    ("ResNeXt101_32x8d", "resnext101_32x8d.tv_in1k", 79.308, 94.53),
    ("ResNeXt101_32x8d", "resnext101_32x8d.tv2_in1k", 81.99, 95.716),
    ("ResNeXt101_64x4d", "resnext101_64x4d.gluon_in1k", 80.64, 95.0),
    ("SEResNet50", "seresnet50.a1_in1k", 80.012, 94.704),
    ("SEResNeXt50_32x4d", "seresnext50_32x4d.gluon_in1k", 79.916, 94.816),
    ("SEResNeXt101_32x4d", "seresnext101_32x4d.gluon_in1k", 80.886, 95.268),
    ("SENet154", "senet154.gluon_in1k", 81.258, 95.358),
    ("DPN92", "dpn92.mx_in1k", 80.032, 94.876),
    ("DPN98", "dpn98.mx_in1k", 79.664, 94.644),
    ("DPN131", "dpn131.mx_in1k", 79.836, 94.708),
    ("NASNetLarge", "nasnetalarge.tf_in1k", 82.638, 96.066),
    ("MobileNet", "mobilenetv1_100.ra4_e3600_r224_in1k", 75.388, 92.31),
    ("MobileNetV2", "mobilenetv2_100.ra_in1k", 72.91, 91.0),
    ("EfficientNetB0", "tf_efficientnet_b0.aa_in1k", 76.882, 93.27),
    ("EfficientNetB0", "tf_efficientnet_b0.in1k", 76.542, 93.008),
    ("EfficientNetB1", "tf_efficientnet_b1.aa_in1k", 78.84, 94.202),
    ("EfficientNetB1", "tf_efficientnet_b1.in1k", 78.546, 94.096),
    ("EfficientNetB2", "tf_efficientnet_b2.aa_in1k", 80.074, 94.906),
    ("EfficientNetB2", "tf_efficientnet_b2.in1k", 79.612, 94.714),
    ("EfficientNetB3", "tf_efficientnet_b3.aa_in1k", 81.648, 95.724),
    ("EfficientNetB3", "tf_efficientnet_b3.in1k", 80.878, 95.308),
    ("EfficientNetB4", "tf_efficientnet_b4.aa_in1k", 83.04, 96.298),
    ("EfficientNetB4", "tf_efficientnet_b4.in1k", 82.598, 96.132),
    ("EfficientNetB5", "tf_efficientnet_b5.aa_in1k", 83.696, 96.712),
    ("EfficientNetB5", "tf_efficientnet_b5.in1k", 83.17, 96.534),
    ("EfficientNetB6", "tf_efficientnet_b6.aa_in1k", 84.124, 96.89),
    ("EfficientNetB7", "tf_efficientnet_b7.aa_in1k", 84.424, 96.908),
)

# The authors' own weights, converted by Cadene's package, and kept by timm.
#    model, file, top-1, top-5
_LEGACY = (
    ("SEResNet50", "v0.1-cadene/se_resnet50-ce0d4300.pth", 77.65, 93.732),
    ("SEResNet101", "v0.1-cadene/se_resnet101-7e38fcc6.pth", 78.37, 94.264),
    ("SEResNet152", "v0.1-cadene/se_resnet152-d17c99b7.pth", 78.662, 94.37),
    ("SEResNeXt50_32x4d", "v0.1-weights/legacy_se_resnext50_32x4d-f3651bad.pth", 79.08, 94.428),
    ("SEResNeXt101_32x4d", "v0.1-weights/legacy_se_resnext101_32x4d-37725eac.pth", 80.274, 95.032),
    ("SENet154", "v0.1-weights/legacy_senet154-e9eb9fe6.pth", 81.32, 95.502),
    ("Xception", "v0.1-cadene/xception-43020ad28.pth", 79.058, 94.396),
)

_WIDER = WeightsFile(f"{_HUB}mobilenetv2_140.ra_in1k/resolve/main/model.safetensors")


def _source(file: WeightsFile, model: str, key: str, top1: float, top5: float) -> WeightsSource:
    # timm has networks of their own, which pad as TensorFlow does, for its EfficientNets.
    options = {} if key.startswith("tf_") else GRAPHS.get(model, {})
    return WeightsSource(
        top=file,
        preprocessing=PREPROCESSING.get(model, "torch"),
        top1=top1,
        top5=top5,
        license="BSD-3-Clause" if key.startswith(_BSD) else "Apache-2.0",
        origin="timm",
        options=options,
    )


def _sources() -> dict[str, dict[str, WeightsSource]]:
    found: dict[str, dict[str, WeightsSource]] = {}
    for model, key, top1, top5 in _CHECKPOINTS:
        file = WeightsFile(f"{_HUB}{key}/resolve/main/model.safetensors")
        # `resnet50.a1_in1k` is the recipe a1; some have none.
        recipe = key.partition(".")[2].removesuffix("in1k").partition("_")[0]
        tag = f"imagenet/timm-{recipe}".removesuffix("-")
        found.setdefault(model, {})[tag] = _source(file, model, key, top1, top5)
    for model, key, top1, top5 in _LEGACY:
        digits = key.rpartition("-")[2].removesuffix(".pth")
        file = WeightsFile(f"{_RELEASES}{key}", f"sha256:{digits}")
        source = _source(file, model, key, top1, top5)
        if model != "Xception":  # the authors' form, which is the network's own
            source = dataclasses.replace(source, options={})
        found.setdefault(model, {})["imagenet/timm-legacy"] = source
    first = found["MobileNetV2"]["imagenet/timm-ra"]
    first = dataclasses.replace(first, options={**first.options, "alpha": 1.0})
    wider = {**first.options, "alpha": 1.4}
    other = dataclasses.replace(first, top=_WIDER, options=wider, top1=76.528, top5=93.008)
    found["MobileNetV2"]["imagenet/timm-ra"] = dataclasses.replace(first, variants=(other,))
    return found


SOURCES = _sources()
