"""Weights that a single author keeps in a repository."""

from __future__ import annotations

from keras_cnn_classics.registry import WeightsFile, WeightsSource

# The CIFAR networks of "Deep residual learning" with shortcut A, trained by the paper's recipe.
_ROOT = "https://github.com/akamaster/pytorch_resnet_cifar10/raw/master/pretrained_models/"

#    model, file, top-1
_FILES = (
    ("ResNet20", "resnet20-12fca82f.th", 91.73),
    ("ResNet32", "resnet32-d509ac18.th", 92.63),
    ("ResNet44", "resnet44-014dd654.th", 93.1),
    ("ResNet56", "resnet56-4bfd9763.th", 93.39),
    ("ResNet110", "resnet110-1d1ed7c2.th", 93.68),
)

SOURCES = {
    model: {
        "cifar10/akamaster": WeightsSource(
            top=WeightsFile(_ROOT + name, f"sha256:{name[-11:-3]}"),
            classes=10,
            preprocessing="torch",
            top1=top1,
            license="BSD-2-Clause",
            origin="akamaster/pytorch_resnet_cifar10",
        )
    }
    for model, name, top1 in _FILES
}
