"""Weights of the packages tf2cv and pytorchcv: those that nobody else publishes.

Their source code states the SHA-1 of each file as it is unpacked. Those of tf2cv are in the layout
of TensorFlow, under the names that pytorchcv has too.
"""

from __future__ import annotations

from typing import Any

from keras_cnn_classics.registry import WeightsFile, WeightsSource

_ROOT = "https://github.com/osmr/imgclsmob/releases/download/"
_FIRST_INSIDE, _IN_3X3, _B = {"first_inside": True}, {"stride_in": "3x3"}, {"shortcut": "B"}
_TF2CV = {"form": "tf2cv"}

#    model, file, SHA-1, top-1, top-5, options
_IMAGENET: tuple[tuple[Any, ...], ...] = (
    (
        "AlexNetSingle",
        "v0.0.481/alexnet-1609-8ae4618e.tf2.h5.zip",
        "8ae4618efdb64d4b2b74fc4346ff917b3d51e3b2",
        (61.94, 83.91),
        _TF2CV,
    ),
    (
        "ZFNet",
        "v0.0.422/zfnet-1717-9500db30.tf2.h5.zip",
        "9500db3008e9ca8bc8f8de8101ec760e5ac8c05a",
        (None, 82.83),
        _TF2CV,
    ),
    (
        "ZFNetWide",
        "v0.0.422/zfnetb-1480-47533f6a.tf2.h5.zip",
        "47533f6a367312c8b2f56202aeae0be366013116",
        (63.72, 85.2),
        _TF2CV,
    ),
    (
        "BNInception",
        "v0.0.405/bninception-0774-d79ba5f5.pth.zip",
        "d79ba5f573ba2da5fea5e4c9a7f67ddd526e234b",
        (74.63, 92.26),
        {},
    ),
    (
        "BNInception",
        "v0.0.423/bninception-0865-4cab3cce.tf2.h5.zip",
        "4cab3cce0eb1b79b872b189f5b0d9e4bb20f5ff4",
        (73.38, 91.35),
        _TF2CV,
    ),
    (
        "InceptionResNetV1",
        "v0.0.552/inceptionresnetv1-0480-e2968df0.tf2.h5.zip",
        "e2968df03fbb249e8dc32c48667c92b26ded27fb",
        (80.43, 95.2),
        {},
    ),
    (
        "PolyNet",
        "v0.0.96/polynet-0452-6a1b295d.pth.zip",
        "6a1b295dad3f261b48e845f1b283e4eef3ab5a0b",
        (80.9, 95.48),
        {},
    ),
    (
        "ResNet200V2",
        "v0.0.529/preresnet200b-0448-94152aa3.tf2.h5.zip",
        "94152aa3e45bb3c923d3d09199dcde475058bbfe",
        (81.04, 95.52),
        {**_FIRST_INSIDE, **_IN_3X3},
    ),
    (
        "CBAMResNet50",
        "v0.0.537/cbam_resnet50-0486-f4495a79.tf2.h5.zip",
        "f4495a7942b578bfeb4f2a4a221827e37124b094",
        (80.03, 95.14),
        {},
    ),
    (
        "CBAMResNet50",
        "v0.0.537/cbam_resnet50-0505-d8cf8488.pth.zip",
        "d8cf8488efb97afecd6b3287a3ca9fa093fc3127",
        (79.83, 94.95),
        {},
    ),
)

#    model, file, SHA-1, top-1, options
_CIFAR: tuple[tuple[Any, ...], ...] = (
    (
        "NINCIFAR",
        "v0.0.175/nin_cifar10-0743-795b0824.pth.zip",
        "795b082470b58c1aa94e2f861514b7914f6e2f58",
        92.57,
        {"form": "pytorchcv"},
    ),
    (
        "ResNet20",
        "v0.0.438/resnet20_cifar10-0597-451230e9.tf2.h5.zip",
        "451230e98c5da3cd24e364b76995cdf5bdd36b73",
        94.03,
        _B,
    ),
    (
        "ResNet56",
        "v0.0.438/resnet56_cifar10-0452-a39ad94a.tf2.h5.zip",
        "a39ad94af7aad7adf21f41436cb8d86a948c7e90",
        95.48,
        _B,
    ),
    (
        "ResNet110",
        "v0.0.438/resnet110_cifar10-0369-c625643a.tf2.h5.zip",
        "c625643a3c10909cdfc6c955418f0fca174b8d01",
        96.31,
        _B,
    ),
    (
        "ResNet110V2",
        "v0.0.439/preresnet110_cifar10-0386-287a4b0c.tf2.h5.zip",
        "287a4b0cdd424fdf29d862b411f556f3d8f57f98",
        96.14,
        _FIRST_INSIDE,
    ),
    (
        "ResNet164V2",
        "v0.0.439/preresnet164bn_cifar10-0364-29a459fa.tf2.h5.zip",
        "29a459fad0f60028b48f1908970d3947728d76b0",
        96.36,
        _IN_3X3,
    ),
    (
        "ResNet1001V2",
        "v0.0.439/preresnet1001_cifar10-0265-978844c1.tf2.h5.zip",
        "978844c1315a0a3f6261393bcc954cecb85c199a",
        97.35,
        _IN_3X3,
    ),
    (
        "DenseNetBC100_12",
        "v0.0.445/densenet100_k12_bc_cifar10-0416-66beb8fc.tf2.h5.zip",
        "66beb8fc89f7e40d2b529e0f3270549324b5b784",
        95.84,
        {},
    ),
    (
        "PyramidNet110",
        "v0.0.444/pyramidnet110_a48_cifar10-0372-3b6ab160.tf2.h5.zip",
        "3b6ab16073fb0ff438d4376d320be9b119aee362",
        96.28,
        {},
    ),
    (
        "PyramidNet110_270",
        "v0.0.444/pyramidnet110_a270_cifar10-0251-983d9983.tf2.h5.zip",
        "983d99830e7bb23ca0123ec47dfa05143eb8a37e",
        97.49,
        {},
    ),
    (
        "WideResNet16_10",
        "v0.0.166/wrn16_10_cifar10-0293-ce810d8a.pth.zip",
        "ce810d8a17a2deb73eddb5bec8709f93278bc53e",
        97.07,
        {},
    ),
    (
        "WideResNet28_10",
        "v0.0.166/wrn28_10_cifar10-0239-fe97dcd6.pth.zip",
        "fe97dcd6d0dd8dda8e9e38e6cfa320cffb9955ce",
        97.61,
        {},
    ),
    (
        "WideResNet40_8",
        "v0.0.166/wrn40_8_cifar10-0237-8dc84ec7.pth.zip",
        "8dc84ec730f35c4b8968a022bc045c0665410840",
        97.63,
        {},
    ),
)


def _source(name: str, digest: str, **facts: Any) -> tuple[str, WeightsSource]:
    publisher = "tf2cv" if ".tf2." in name else "pytorchcv"
    file = WeightsFile(f"{_ROOT}{name}", f"sha1:{digest}")
    return publisher, WeightsSource(top=file, license="MIT", origin=publisher, **facts)


def _sources() -> dict[str, dict[str, WeightsSource]]:
    found: dict[str, dict[str, WeightsSource]] = {}
    for model, name, digest, (top1, top5), options in _IMAGENET:
        publisher, source = _source(
            name,
            digest,
            top1=top1,
            top5=top5,
            options=options,
            input_size=224 if model == "AlexNetSingle" else None,
        )
        found.setdefault(model, {})[f"imagenet/{publisher}"] = source
    for model, name, digest, top1, options in _CIFAR:
        publisher, source = _source(
            name, digest, classes=10, preprocessing="cifar10", top1=top1, options=options
        )
        found.setdefault(model, {})[f"cifar10/{publisher}"] = source
    return found


SOURCES = _sources()
