"""The files of `keras.applications`, with the hashes that its source code states."""

from __future__ import annotations

import dataclasses

from keras_cnn_classics.registry import WeightsFile, WeightsSource

_ROOT = "https://storage.googleapis.com/tensorflow/keras-applications/"
_HOSTED = "Keras, hosted by Google"
_MSRA = "He, Zhang, Ren, Sun; converted by Keras"

#    model: folder/stem, hash with top, hash without, preprocessing, top-1, top-5, licence, origin
_FILES = {
    "VGG16": (
        "vgg16/vgg16",
        "64373286793e3c8b2b4e3219cbf3544b",
        "6d6bbae143d832006294945121d1f1fc",
        ("caffe", 71.268, 90.05, "CC BY 4.0", "Simonyan, Zisserman; converted by Keras"),
    ),
    "VGG19": (
        "vgg19/vgg19",
        "cbe5617147190e668d6c5d5026f83318",
        "253f8cb515780f3b799900260a226db6",
        ("caffe", 71.256, 89.988, "CC BY 4.0", "Simonyan, Zisserman; converted by Keras"),
    ),
    "ResNet50": (
        "resnet/resnet50",
        "2cb95161c43110f7111970584f804107",
        "4d473c1dd8becc155b73f8504c6f6626",
        ("caffe", 74.928, 92.06, "MIT", _MSRA),
    ),
    "ResNet101": (
        "resnet/resnet101",
        "f1aeb4b969a6efcfb50fad2f0c20cfc5",
        "88cf7a10940856eca736dc7b7e228a21",
        ("caffe", 76.42, 92.786, "MIT", _MSRA),
    ),
    "ResNet152": (
        "resnet/resnet152",
        "100835be76be38e30d865e96f2aaae62",
        "ee4c566cf9a93f14d82f913c2dc6dd0c",
        ("caffe", 76.604, 93.118, "MIT", _MSRA),
    ),
    "ResNet50V2": (
        "resnet/resnet50v2",
        "3ef43a0b657b3be2300d5770ece849e0",
        "fac2f116257151a9d068a22e544a4917",
        ("tf", 75.96, 93.034, "BSD-3-Clause", _HOSTED),
    ),
    "ResNet101V2": (
        "resnet/resnet101v2",
        "6343647c601c52e1368623803854d971",
        "c0ed64b8031c3730f411d2eb4eea35b5",
        ("tf", 77.234, 93.816, "BSD-3-Clause", _HOSTED),
    ),
    "ResNet152V2": (
        "resnet/resnet152v2",
        "a49b44d1979771252814e80f8ec446f9",
        "ed17cf2e0169df9d443503ef94b23b33",
        ("tf", 78.032, 94.162, "BSD-3-Clause", _HOSTED),
    ),
    "InceptionV3": (
        "inception_v3/inception_v3",
        "9a0d58056eeedaa3f26cb7ebd46da564",
        "bcbd6486424b2319ff4ef7d526e38f63",
        ("tf", 77.898, 93.72, "Apache-2.0", _HOSTED),
    ),
    "InceptionResNetV2": (
        "inception_resnet_v2/inception_resnet_v2",
        "e693bd0210a403b3192acc6073ad2e96",
        "d19885ff4a710c122648d3b5c3b684e4",
        ("tf", 80.256, 95.252, "Apache-2.0", _HOSTED),
    ),
    "Xception": (
        "xception/xception",
        "0a58e3b7378bc2990ea3b43d5981f1f6",
        "b0042744bf5b25fce3cb969f33bebb97",
        ("tf", 79.006, 94.452, "MIT", "Chollet"),
    ),
    "DenseNet121": (
        "densenet/densenet121",
        "9d60b8095a5708f2dcce2bca79d332c7",
        "30ee3e1110167f948a6b9946edeeb738",
        ("torch", 74.972, 92.258, "BSD-3-Clause", "Huang, Liu, van der Maaten, Weinberger; Keras"),
    ),
    "DenseNet169": (
        "densenet/densenet169",
        "d699b8f76981ab1b30698df4c175e90b",
        "b8c4d4c20dd625c148057b9ff1c1176b",
        ("torch", 76.176, 93.176, "BSD-3-Clause", "Huang, Liu, van der Maaten, Weinberger; Keras"),
    ),
    "DenseNet201": (
        "densenet/densenet201",
        "1ceb130c1ea1b78c3bf6114dbdfd8807",
        "c13680b51ded0fb44dff2d8f86ac8bb1",
        ("torch", 77.32, 93.62, "BSD-3-Clause", "Huang, Liu, van der Maaten, Weinberger; Keras"),
    ),
}

#    model: letter and number, hash with top, hash without, top-1
_EFFICIENTNETS = {
    "b0": ("902e53a9f72be733fc0bcb005b3ebbac", "50bc09e76180e00e4465e1a485ddc09d", 77.19),
    "b1": ("1d254153d4ab51201f1646940f018540", "74c4e6b3e1f6a1eea24c589628592432", 79.134),
    "b2": ("b15cce36ff4dcbd00b6dd88e7857a6ad", "111f8e2ac8aa800a7a99e3239f7bfb39", 80.18),
    "b3": ("ffd1fdc53d0ce67064dc6a9c7960ede0", "af6d107764bb5b1abb91932881670226", 81.578),
    "b4": ("18c95ad55216b8f92d7e70b3a046e2fc", "ebc24e6d6c33eaebbd558eafbeedf1ba", 82.96),
    "b5": ("ace28f2a6363774853a83a0b21b9421a", "38879255a25d3c92d5e44e04ae6cec6f", 83.702),
    "b6": ("165f6e37dce68623721b423839de8be5", "9ecce42647a20130c1f39a5d4cb75743", 84.082),
    "b7": ("8c03f828fec3ef71311cd463b6759d99", "cbcfe4450ddf6f3ad90b1b398090fe4a", 84.43),
}

#    model: name of the file, hash with top, hash without, top-1, top-5
_NASNETS = {
    "NASNetMobile": (
        "NASNet-mobile",
        "020fb642bf7360b370c678b08e0adf61",
        "1ed92395b5b598bdda52abe5c0dbfd63",
        (74.366, 91.854),
    ),
    "NASNetLarge": (
        "NASNet-large",
        "11577c9a518f0070763c2b964a382f17",
        "d81d89dc07e6e56530c4e77faddd61b5",
        (82.498, 96.004),
    ),
}

_MOBILENET_SIZES = (224, 192, 160, 128)
_MOBILENET_ALPHAS = {1.0: "1_0", 0.75: "7_5", 0.5: "5_0", 0.25: "2_5"}
_MOBILENET_V2_SIZES = (224, 192, 160, 128, 96)
_MOBILENET_V2_ALPHAS = (1.0, 1.4, 1.3, 0.75, 0.5, 0.35)

# Kept by Keras after it dropped the networks. The convolutions are stored as depthwise ones.
_RESNEXTS = {
    "ResNeXt50_32x4d": (
        "resnet/resnext50",
        "67a5b30d522ed92f75a1f16eef299d1a",
        "62527c363bdd9ec598bed41947b379fc",
        ("torch", 77.74, 93.81, "CC BY-NC 4.0", "Xie, Girshick, Dollár, Tu, He; Keras"),
    ),
    "ResNeXt101_32x4d": (
        "resnet/resnext101",
        "34fb605428fcc7aa4d62f44404c11509",
        "0f678c91647380debd923963594981b3",
        ("torch", 78.73, 94.294, "CC BY-NC 4.0", "Xie, Girshick, Dollár, Tu, He; Keras"),
    ),
}


def _pair(
    stem: str, top: str, no_top: str, facts: tuple[str, float, float, str, str]
) -> WeightsSource:
    preprocessing, top1, top5, licence, origin = facts
    kernels = f"{_ROOT}{stem}_weights_tf_dim_ordering_tf_kernels"
    return WeightsSource(
        top=WeightsFile(f"{kernels}.h5", f"md5:{top}"),
        no_top=WeightsFile(f"{kernels}_notop.h5", f"md5:{no_top}"),
        preprocessing=preprocessing,
        top1=top1,
        top5=top5,
        license=licence,
        origin=origin,
    )


def _efficientnet(name: str, top: str, no_top: str, top1: float) -> WeightsSource:
    stem = f"https://storage.googleapis.com/keras-applications/efficientnet{name}"
    return WeightsSource(
        top=WeightsFile(f"{stem}.h5", f"md5:{top}"),
        no_top=WeightsFile(f"{stem}_notop.h5", f"md5:{no_top}"),
        preprocessing="none",
        top1=top1,
        license="Apache-2.0",
        origin="Tan, Le, with AutoAugment; converted by Keras",
    )


def _nasnet(stem: str, top: str, no_top: str, accuracy: tuple[float, float]) -> WeightsSource:
    return WeightsSource(
        top=WeightsFile(f"{_ROOT}nasnet/{stem}.h5", f"md5:{top}"),
        no_top=WeightsFile(f"{_ROOT}nasnet/{stem}-no-top.h5", f"md5:{no_top}"),
        preprocessing="tf",
        top1=accuracy[0],
        top5=accuracy[1],
        license="Apache-2.0",
        origin="Zoph, Vasudevan, Shlens, Le; converted by Keras",
    )


def _family(sources: list[WeightsSource]) -> WeightsSource:
    """One set of files for several widths and sizes of image, the published one first."""
    first, *others = sources
    return dataclasses.replace(first, variants=tuple(others))


def _mobilenet(stem: str, alpha: float, size: int, accuracy: tuple[float, float]) -> WeightsSource:
    """Keras states no hashes for these."""
    published = alpha == 1.0 and size == 224
    return WeightsSource(
        top=WeightsFile(f"{_ROOT}{stem}.h5"),
        no_top=WeightsFile(f"{_ROOT}{stem}_no_top.h5"),
        preprocessing="tf",
        top1=accuracy[0] if published else None,
        top5=accuracy[1] if published else None,
        license="Apache-2.0",
        origin="Google; converted by Keras",
        options={"alpha": alpha},
        input_size=size,
    )


_SETS = {
    **{name: _pair(*row) for name, row in (_FILES | _RESNEXTS).items()},
    **{f"EfficientNet{n.upper()}": _efficientnet(n, *row) for n, row in _EFFICIENTNETS.items()},
    **{name: _nasnet(*row) for name, row in _NASNETS.items()},
    "MobileNet": _family(
        [
            _mobilenet(f"mobilenet/mobilenet_{text}_{size}_tf", alpha, size, (70.424, 89.504))
            for alpha, text in _MOBILENET_ALPHAS.items()
            for size in _MOBILENET_SIZES
        ]
    ),
    "MobileNetV2": _family(
        [
            _mobilenet(
                f"mobilenet_v2/mobilenet_v2_weights_tf_dim_ordering_tf_kernels_{alpha}_{size}",
                alpha,
                size,
                (71.336, 90.142),
            )
            for alpha in _MOBILENET_V2_ALPHAS
            for size in _MOBILENET_V2_SIZES
        ]
    ),
}

SOURCES = {name: {"imagenet/keras": source} for name, source in _SETS.items()}
