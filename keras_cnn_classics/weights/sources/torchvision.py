"""torchvision's checkpoints, whose names have the first digits of their SHA-256."""

from __future__ import annotations

from typing import Any

from keras_cnn_classics.registry import WeightsFile, WeightsSource

_ROOT = "https://download.pytorch.org/models/"

#    model, file, top-1, top-5
_FILES = (
    ("AlexNetOWT", "alexnet-owt-7be5be79.pth", 56.522, 79.066),
    ("VGG11", "vgg11-8a719046.pth", 69.02, 88.628),
    ("VGG13", "vgg13-19584684.pth", 69.928, 89.246),
    ("VGG11BN", "vgg11_bn-6002323d.pth", 70.37, 89.81),
    ("VGG13BN", "vgg13_bn-abd245e5.pth", 71.586, 90.374),
    ("VGG16BN", "vgg16_bn-6c64b313.pth", 73.36, 91.516),
    ("VGG19BN", "vgg19_bn-c79401a0.pth", 74.218, 91.842),
    ("GoogLeNetBN", "googlenet-1378be20.pth", 69.778, 89.53),
    ("InceptionV3", "inception_v3_google-0cc3c7bd.pth", 77.294, 93.45),
    ("ResNet18", "resnet18-f37072fd.pth", 69.758, 89.078),
    ("ResNet34", "resnet34-b627a593.pth", 73.314, 91.42),
    ("ResNet50", "resnet50-0676ba61.pth", 76.13, 92.862),
    ("ResNet101", "resnet101-63fe2227.pth", 77.374, 93.546),
    ("ResNet152", "resnet152-394f9c45.pth", 78.312, 94.046),
    ("WideResNet50_2", "wide_resnet50_2-95faca4d.pth", 78.468, 94.086),
    ("WideResNet101_2", "wide_resnet101_2-32ee1156.pth", 78.848, 94.284),
    ("DenseNet121", "densenet121-a639ec97.pth", 74.434, 91.972),
    ("DenseNet161", "densenet161-8d451a50.pth", 77.138, 93.56),
    ("DenseNet169", "densenet169-b2777c0a.pth", 75.6, 92.806),
    ("DenseNet201", "densenet201-c1103571.pth", 76.896, 93.37),
    ("ResNeXt50_32x4d", "resnext50_32x4d-7cdf4587.pth", 77.618, 93.698),
    ("ResNeXt101_32x8d", "resnext101_32x8d-8ba56ff5.pth", 79.312, 94.526),
    ("ResNeXt101_64x4d", "resnext101_64x4d-173b62eb.pth", 83.246, 96.454),
    ("MobileNetV2", "mobilenet_v2-b0353104.pth", 71.878, 90.286),
    ("EfficientNetB0", "efficientnet_b0_rwightman-7f5810bc.pth", 77.692, 93.532),
    ("EfficientNetB1", "efficientnet_b1_rwightman-bac287d4.pth", 78.642, 94.186),
    ("EfficientNetB2", "efficientnet_b2_rwightman-c35c1473.pth", 80.608, 95.31),
    ("EfficientNetB3", "efficientnet_b3_rwightman-b3899882.pth", 82.008, 96.054),
    ("EfficientNetB4", "efficientnet_b4_rwightman-23ab8bcd.pth", 83.384, 96.594),
    ("EfficientNetB5", "efficientnet_b5_lukemelas-1a07897c.pth", 83.444, 96.628),
    ("EfficientNetB6", "efficientnet_b6_lukemelas-24a108a5.pth", 84.008, 96.916),
    ("EfficientNetB7", "efficientnet_b7_lukemelas-c5b4e57e.pth", 84.122, 96.908),
    ("SqueezeNet1_0", "squeezenet1_0-b66bff10.pth", 58.092, 80.42),
    ("SqueezeNet1_1", "squeezenet1_1-b8a52dc0.pth", 58.178, 80.624),
)

_V15 = {"stride_in": "3x3", "bias": False}
_SYMMETRIC = {"padding": "symmetric", "epsilon": 1e-5}

# What makes our networks those of PyTorch, where they differ.
GRAPHS: dict[str, dict[str, Any]] = {
    "ResNet50": _V15,
    "ResNet101": _V15,
    "ResNet152": _V15,
    "MobileNet": _SYMMETRIC,
    "MobileNetV2": _SYMMETRIC,
    "Xception": _SYMMETRIC,
    **{f"EfficientNetB{i}": _SYMMETRIC for i in range(5)},
    **{f"EfficientNetB{i}": {"padding": "symmetric"} for i in range(5, 8)},
    "InceptionV3": {"count_padding": True, "scale": True},
    "InceptionResNetV2": {"scale": True},
    "NASNetLarge": {"edge_zeros": "average"},
    "SENet154": {"ceil_mode": False},
    "SEResNet50": {"stride_in": "3x3", "ceil_mode": False},
    "SEResNeXt50_32x4d": {"ceil_mode": False},
    "SEResNeXt101_32x4d": {"ceil_mode": False},
}

# Modes other than PyTorch's own. EfficientNet prepares images itself.
PREPROCESSING = {
    **dict.fromkeys(("GoogLeNetBN", "InceptionV3", "InceptionV4", "InceptionResNetV2"), "tf"),
    **dict.fromkeys(("Xception", "NASNetLarge", "MobileNet"), "tf"),
    **dict.fromkeys(("DPN92", "DPN98", "DPN131"), "dpn"),
    **{f"EfficientNetB{i}": "none" for i in range(8)},
}


# Height and width of the images, where they are not the paper's.
_SIZES = {"EfficientNetB2": 288}


def _source(model: str, name: str, top1: float, top5: float) -> WeightsSource:
    digits = name.rpartition("-")[2].removesuffix(".pth")
    return WeightsSource(
        top=WeightsFile(f"{_ROOT}{name}", f"sha256:{digits}"),
        preprocessing=PREPROCESSING.get(model, "torch"),
        top1=top1,
        top5=top5,
        license="BSD-3-Clause",
        origin="torchvision",
        options=GRAPHS.get(model, {}),
        input_size=_SIZES.get(model),
    )


SOURCES = {row[0]: {"imagenet/torchvision": _source(*row)} for row in _FILES}
