"""Weights of the packages tf2cv and pytorchcv: those that nobody else publishes.

Their source code states the SHA-1 of each file as it is unpacked. Those of tf2cv are in the layout
of TensorFlow, under the names that pytorchcv has too.
"""

from __future__ import annotations

from typing import Any

from keras_cnn_classics.registry import WeightsFile, WeightsSource

_ROOT = "https://github.com/osmr/imgclsmob/releases/download/"
_FIRST_INSIDE, _IN_3X3, _B = {"first_inside": True}, {"stride_in": "3x3"}, {"shortcut": "B"}

#    model, file, SHA-1, top-1, top-5, options
_IMAGENET: tuple[tuple[Any, ...], ...] = (
    (
        "BNInception",
        "v0.0.423/bninception-0865-4cab3cce.tf2.h5.zip",
        "4cab3cce0eb1b79b872b189f5b0d9e4bb20f5ff4",
        (73.38, 91.35),
        {},
    ),
    (
        "InceptionResNetV1",
        "v0.0.552/inceptionresnetv1-0480-e2968df0.tf2.h5.zip",
        "e2968df03fbb249e8dc32c48667c92b26ded27fb",
        (80.43, 95.2),
        {},
    ),
    (
        "ResNet200V2",
        "v0.0.529/preresnet200b-0448-94152aa3.tf2.h5.zip",
        "94152aa3e45bb3c923d3d09199dcde475058bbfe",
        (81.04, 95.52),
        {**_FIRST_INSIDE, **_IN_3X3},
    ),
)

#    model, file, SHA-1, top-1, options
_CIFAR: tuple[tuple[Any, ...], ...] = (
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
        "WideResNet28_10",
        "v0.0.166/wrn28_10_cifar10-0239-fe97dcd6.pth.zip",
        "fe97dcd6d0dd8dda8e9e38e6cfa320cffb9955ce",
        97.61,
        {},
    ),
)


def _source(name: str, digest: str, options: dict[str, Any], **facts: Any) -> WeightsSource:
    return WeightsSource(
        top=WeightsFile(f"{_ROOT}{name}", f"sha1:{digest}"),
        license="MIT",
        origin="tf2cv" if ".tf2." in name else "pytorchcv",
        options=options,
        **facts,
    )


def _tag(data: str, name: str) -> str:
    return f"{data}/{'tf2cv' if '.tf2.' in name else 'pytorchcv'}"


SOURCES = {
    model: {
        _tag("imagenet", name): _source(
            name, digest, options, preprocessing="torch", top1=accuracy[0], top5=accuracy[1]
        )
    }
    for model, name, digest, accuracy, options in _IMAGENET
} | {
    model: {
        _tag("cifar10", name): _source(
            name, digest, options, preprocessing="cifar10", classes=10, top1=top1
        )
    }
    for model, name, digest, top1, options in _CIFAR
}
