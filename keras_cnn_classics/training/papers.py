"""The papers' recipes.

A number without a section is not in the paper; it is ours, and `departures` says so where it
matters. Results are those that the papers print.
"""

from __future__ import annotations

import dataclasses

from keras_cnn_classics.training.settings import Plateau, Recipe, Staircase, Steps

_HE = ("he", {"mode": "fan_in"})
_256 = 256 / 224
_CENTRE = "one crop: the centre 224 x 224 of an image with a shorter side of 256"

_LENET = Recipe(
    name="lenet",
    source="LeCun et al., 1998, https://doi.org/10.1109/5.726791",
    optimizer="sgd",
    momentum=0.0,
    learning_rate=0.01,
    decay=Steps(at=(2, 5, 8, 12), factor=0.4),
    batch_size=1,
    epochs=20,
    weight_decay=0.0,
    resize="pad",
    augmentation=("mnist",),
    protocol="the 10,000 test images",
    result="0.95 % of the test images wrong; 0.8 % with distorted training images",
    sections={
        "epochs": "III-B",
        "decay": "III-B: the rate falls after 2, 5, 8 and 12 passes",
        "batch_size": "appendix C: one image at a time",
        "augmentation": "III-B: translation, scaling, squeezing, horizontal shearing",
        "protocol": "III-A",
        "result": "III-B",
    },
    departures=(
        "The paper's diagonal Levenberg-Marquardt method gives each weight a rate of its own, "
        "from second derivatives. Here all weights have one rate, which falls at the paper's "
        "passes by a factor near the paper's (0.4, 0.5, 0.5, 0.2)."
    ),
    measured=(
        "not run. `train LeNet5 --data mnist --validation 0 --augment mnist`, with the quick "
        "recipe: 0.65, 0.77 and 0.72 % in 30 epochs, seeds 0 to 2"
    ),
)
_ALEXNET = Recipe(
    name="alexnet",
    source="Krizhevsky et al., 2012, https://papers.nips.cc/paper/4824",
    optimizer="sgd",
    learning_rate=0.01,
    decay=Plateau(drops=3),
    batch_size=128,
    epochs=90,
    weight_decay=5e-4,
    initialization=(
        "gaussian",
        {"std": 0.01, "ones": ("conv2", "conv4", "conv5", "fc6", "fc7")},
    ),
    resize="crop",
    resize_side=_256,
    augmentation=("alexnet",),
    dropout="0.5 in the two hidden dense layers",
    protocol="5 crops of 224 x 224 out of 256 x 256 and their mirror images, mean of the softmax",
    result=(
        "ILSVRC-2010 test: top-1 37.5 %, top-5 17.0 %; ILSVRC-2012 validation: 40.7 % and 18.2 %"
    ),
    sections={
        "dropout": "4.2",
        "optimizer": "5",
        "momentum": "5",
        "learning_rate": "5",
        "decay": "5: divided by 10 three times, by hand, when the validation error stood still",
        "batch_size": "5",
        "epochs": "5: roughly 90",
        "weight_decay": "5",
        "initialization": "5: deviation 0.01; these layers' biases begin at 1",
        "augmentation": "4.1",
        "protocol": "4.1",
        "result": "6, tables 1 and 2",
    },
    departures="Kernels alone decay.",
)
_ZFNET = Recipe(
    name="zfnet",
    source="Zeiler and Fergus, 2013, https://arxiv.org/abs/1311.2901",
    optimizer="sgd",
    learning_rate=0.01,
    decay=Plateau(drops=3),
    batch_size=128,
    epochs=70,
    weight_decay=0.0,
    filter_rms=0.1,
    initialization=("gaussian", {"std": 0.01}),
    resize="crop",
    resize_side=_256,
    augmentation=("alexnet",),
    dropout="0.5 in the two hidden dense layers",
    protocol="10 crops, as AlexNet's",
    result="one network, ILSVRC-2012 validation: top-1 38.4 %, top-5 16.5 %",
    sections={
        "dropout": "3",
        "optimizer": "3",
        "momentum": "3",
        "learning_rate": "3",
        "decay": "3: by hand, when the validation error stood still",
        "batch_size": "3",
        "epochs": "3",
        "filter_rms": "3: filters above 0.1 are scaled back to it",
        "initialization": "3: all weights 0.01",
        "augmentation": "3: crops and mirror images",
        "result": "5.1, table 2",
    },
    departures=(
        "Weights that are all 0.01 would make all filters alike; that is read as a deviation. The "
        "number of drops is AlexNet's."
    ),
)
_VGG = Recipe(
    name="vgg",
    source="Simonyan and Zisserman, 2014, https://arxiv.org/abs/1409.1556",
    optimizer="sgd",
    learning_rate=0.01,
    decay=Plateau(drops=3),
    batch_size=256,
    epochs=74,
    weight_decay=5e-4,
    initialization=("glorot", {}),
    resize="crop",
    resize_side=384 / 224,
    augmentation=("vgg",),
    dropout="0.5 in the two hidden dense layers",
    protocol="the network slid over images of several sizes, and of their mirror images; mean",
    result="ILSVRC-2012 validation, one network: VGG16 24.8 % and 7.5 %, VGG19 24.8 % and 7.5 %",
    sections={
        "dropout": "3.1",
        "optimizer": "3.1",
        "momentum": "3.1",
        "learning_rate": "3.1",
        "decay": "3.1: divided by 10 three times, when the validation accuracy stood still",
        "batch_size": "3.1",
        "epochs": "3.1: 370,000 steps",
        "weight_decay": "3.1",
        "initialization": "3.1: Glorot's makes training a shallower net first unnecessary",
        "augmentation": "3.1: a shorter side from 256 to 512, mirror images, shift of the colour",
        "protocol": "3.2",
        "result": "4.2, table 4",
    },
    departures=(
        "The authors themselves drew net A's weights with a variance of 0.01, and began the deeper "
        "ones with 4 of its convolutions and its 3 dense layers: "
        "`training.initialization.from_shallower`. With that variance the first loss is far too "
        "large to train. Of the tests, the centre crop is here."
    ),
)
_NIN = Recipe(
    name="nin",
    source="Lin et al., 2013, https://arxiv.org/abs/1312.4400",
    optimizer="sgd",
    learning_rate=0.1,
    decay=Plateau(drops=2),
    batch_size=128,
    epochs=200,
    weight_decay=1e-4,
    initialization=("gaussian", {"std": 0.05}),
    resize="crop",
    augmentation=("cifar",),
    dropout="0.5 after all mlpconv layers but the last",
    protocol="one view",
    result="CIFAR-10: 10.41 % wrong; 8.81 % with translated and mirrored training images",
    sections={
        "dropout": "4",
        "optimizer": "4",
        "decay": "4: by 10 twice, when the training accuracy stands still",
        "batch_size": "4",
        "augmentation": "4.2: translation and mirror images",
        "result": "4.2, table 1",
    },
    departures=(
        "The paper gives no rate, momentum, decay, deviation or number of passes. Its whitened "
        "images are left to the user; the rate falls by the validation accuracy."
    ),
)
_GOOGLENET = Recipe(
    name="googlenet",
    source="Szegedy et al., 2014, https://arxiv.org/abs/1409.4842",
    optimizer="sgd",
    learning_rate=0.01,
    decay=Staircase(0.96, every=8),
    batch_size=32,
    epochs=250,
    weight_decay=2e-4,
    average="polyak",
    auxiliary=0.3,
    resize="crop",
    resize_side=_256,
    augmentation=("googlenet",),
    dropout="0.4 before the classifier, 0.7 in the auxiliary ones",
    protocol="144 crops of 4 sizes, mean of the softmax; 7 networks",
    result="ILSVRC-2014 validation, top-5: 10.07 % with one crop, 6.67 % with 144 and 7 networks",
    sections={
        "dropout": "5",
        "momentum": "6",
        "decay": "6: by 4 % every 8 epochs",
        "average": "6",
        "auxiliary": "5",
        "augmentation": "6: 8 to 100 % of the area, aspects of 3:4 to 4:3, photometric distortions",
        "protocol": "7",
        "result": "7, tables 2 and 3",
    },
    departures=(
        "The paper trained asynchronously and gives no rate, batch, decay of weights or number of "
        "passes."
    ),
)
_INCEPTION_V3 = Recipe(
    name="inception-v3",
    source="Szegedy et al., 2015, https://arxiv.org/abs/1512.00567",
    optimizer="rmsprop",
    learning_rate=0.045,
    decay=Staircase(0.94, every=2),
    epsilon=1.0,
    clipnorm=2.0,
    batch_size=32,
    epochs=100,
    weight_decay=4e-5,
    label_smoothing=0.1,
    average=0.9999,
    auxiliary=0.3,
    resize="crop",
    resize_side=8 / 7,
    augmentation=("googlenet",),
    protocol="144 crops, 4 networks",
    result=(
        "ILSVRC-2012 validation: top-1 21.2 %, top-5 5.6 % with one crop; 17.2 % and 3.58 % with "
        "144 crops and 4 networks"
    ),
    sections={
        "optimizer": "8",
        "learning_rate": "8",
        "decay": "8: by 0.94 every 2 epochs",
        "epsilon": "8",
        "clipnorm": "8",
        "batch_size": "8: of each of 50 replicas",
        "epochs": "8",
        "label_smoothing": "7",
        "average": "8: a running average",
        "result": "10, tables 3 to 5",
    },
    departures=(
        "50 replicas trained asynchronously. The decays of the weights and of their average, the "
        "auxiliary weight and the augmentation are not in the paper."
    ),
)
_HIGHWAY = Recipe(
    name="highway",
    source="Srivastava et al., 2015, https://arxiv.org/abs/1505.00387",
    optimizer="sgd",
    learning_rate=0.05,
    decay=Staircase(0.95, every=1),
    batch_size=128,
    epochs=50,
    weight_decay=0.0,
    initialization=_HE,
    resize="crop",
    protocol="one view",
    result="CIFAR-10: 7.54 % wrong with 19 layers, 8.80 % with 32 (as He et al., 2015, table 6)",
    sections={
        "optimizer": "3",
        "decay": "3: exponential, found by random search",
        "initialization": "3",
    },
    departures="The paper found its numbers by random search and gives none.",
)
_RESNET = Recipe(
    name="resnet",
    source="He et al., 2015, https://arxiv.org/abs/1512.03385",
    optimizer="sgd",
    learning_rate=0.1,
    decay=Plateau(drops=3),
    batch_size=256,
    epochs=120,
    weight_decay=1e-4,
    initialization=_HE,
    resize="crop",
    resize_side=_256,
    augmentation=("resnet",),
    dropout="none",
    protocol="10 crops; for the best results the network slid over images of 5 sizes",
    result=(
        "ILSVRC-2012 validation, 10 crops, top-1 and top-5: ResNet34 24.52 % and 7.46 %, ResNet50 "
        "22.85 % and 6.71 %, ResNet101 21.75 % and 6.05 %, ResNet152 21.43 % and 5.71 %"
    ),
    sections={
        "dropout": "3.4",
        "optimizer": "3.4",
        "momentum": "3.4",
        "learning_rate": "3.4",
        "decay": "3.4: divided by 10 when the error stands still",
        "batch_size": "3.4",
        "epochs": "3.4: 600,000 steps",
        "weight_decay": "3.4",
        "initialization": "3.4",
        "augmentation": "3.4: a shorter side from 256 to 480, mirror images, colour",
        "protocol": "3.4",
        "result": "4.1, table 3",
    },
    departures="The number of drops is AlexNet's.",
)
_RESNET_CIFAR = Recipe(
    name="resnet-cifar",
    source="He et al., 2015, https://arxiv.org/abs/1512.03385",
    optimizer="sgd",
    learning_rate=0.1,
    decay=Steps(at=(91, 136.5)),
    batch_size=128,
    epochs=182,
    weight_decay=1e-4,
    initialization=_HE,
    resize="crop",
    augmentation=("cifar",),
    protocol="one view",
    result=(
        "CIFAR-10: ResNet20 8.75 % wrong, ResNet32 7.51 %, ResNet44 7.17 %, ResNet56 6.97 %, "
        "ResNet110 6.43 %"
    ),
    sections={
        "optimizer": "3.4",
        "momentum": "4.2",
        "learning_rate": "4.2",
        "decay": "4.2: after 32,000 and 48,000 steps, of 45,000 images",
        "batch_size": "4.2",
        "epochs": "4.2: 64,000 steps",
        "weight_decay": "4.2",
        "initialization": "4.2",
        "augmentation": "4.2: padded by 4 and cropped, mirror images",
        "protocol": "4.2",
        "result": "4.2, table 6",
    },
    departures=(
        "ResNet110 began at a rate of 0.01 until less than 80 % of the training images were wrong, "
        "after about 400 steps (4.2); here it begins at 0.1. The paper subtracts the mean image, "
        "here a mean colour is subtracted, and the padding has CIFAR-10's."
    ),
    measured=(
        "not run in full. `train ResNet20 --data cifar10 --recipe paper --scale 0.03`: 28.72 % "
        "wrong after 5 of the epochs, on a JPEG copy of CIFAR-10, seed 0"
    ),
)
_STOCHASTIC_DEPTH = Recipe(
    name="stochastic-depth",
    source="Huang et al., 2016, https://arxiv.org/abs/1603.09382",
    optimizer="nesterov",
    learning_rate=0.1,
    decay=Steps(at=(250, 375)),
    batch_size=128,
    epochs=500,
    weight_decay=1e-4,
    initialization=_HE,
    resize="crop",
    augmentation=("cifar",),
    protocol="one view, of the epoch with the best validation error",
    result="CIFAR-10: 5.25 % wrong (6.41 % with all layers); CIFAR-100: 24.98 % (27.22 %)",
    sections={
        "optimizer": "4",
        "momentum": "4",
        "learning_rate": "4",
        "decay": "4",
        "batch_size": "4",
        "epochs": "4",
        "weight_decay": "4",
        "augmentation": "4",
        "protocol": "4",
        "result": "4, table 1",
    },
)
_DENSENET = Recipe(
    name="densenet",
    source="Huang et al., 2016, https://arxiv.org/abs/1608.06993",
    optimizer="nesterov",
    learning_rate=0.1,
    decay=Steps(at=(30, 60)),
    batch_size=256,
    epochs=90,
    weight_decay=1e-4,
    initialization=_HE,
    resize="crop",
    resize_side=_256,
    augmentation=("imagenet",),
    protocol=_CENTRE,
    result=(
        "ILSVRC-2012 validation, top-1 and top-5: DenseNet121 25.02 % and 7.71 %, DenseNet169 "
        "23.80 % and 6.85 %, DenseNet201 22.58 % and 6.34 %"
    ),
    sections={
        "optimizer": "4.2",
        "momentum": "4.2",
        "learning_rate": "4.2",
        "decay": "4.2",
        "batch_size": "4.2",
        "epochs": "4.2",
        "weight_decay": "4.2",
        "initialization": "4.2",
        "augmentation": "4.1",
        "protocol": "4.1",
        "result": "4.4, table 3",
    },
)
_DENSENET_CIFAR = dataclasses.replace(
    _DENSENET,
    name="densenet-cifar",
    decay=Steps(at=(150, 225)),
    batch_size=64,
    epochs=300,
    resize_side=None,
    augmentation=("cifar",),
    protocol="one view",
    result="CIFAR-10: DenseNet40_12 5.24 % wrong, DenseNetBC100_12 4.51 %",
    sections={**_DENSENET.sections, "result": "4.3, table 2"},
    departures="Without augmentation the paper has a dropout of 0.2.",
)
_RESNEXT = Recipe(
    name="resnext",
    source="Xie et al., 2016, https://arxiv.org/abs/1611.05431",
    optimizer="sgd",
    learning_rate=0.1,
    decay=Steps(at=(30, 60, 90)),
    batch_size=256,
    epochs=100,
    weight_decay=1e-4,
    initialization=_HE,
    resize="crop",
    resize_side=_256,
    augmentation=("imagenet",),
    protocol=_CENTRE,
    result=(
        "ILSVRC-2012 validation, top-1: ResNeXt50_32x4d 22.2 %, ResNeXt101_32x4d 21.2 %, "
        "ResNeXt101_64x4d 20.4 %"
    ),
    sections={
        "optimizer": "4",
        "momentum": "4",
        "learning_rate": "4",
        "decay": "4: by 10 three times, as fb.resnet.torch",
        "batch_size": "4",
        "weight_decay": "4",
        "initialization": "4",
        "augmentation": "4: as fb.resnet.torch",
        "protocol": "4",
        "result": "5.1, tables 3 and 4",
    },
    departures="The paper points to fb.resnet.torch for when the rate falls; the epochs are ours.",
)
_SENET = Recipe(
    name="senet",
    source="Hu et al., 2017, https://arxiv.org/abs/1709.01507",
    optimizer="sgd",
    learning_rate=0.6,
    decay=Steps(at=(30, 60, 90)),
    batch_size=1024,
    epochs=100,
    weight_decay=1e-4,
    initialization=_HE,
    resize="crop",
    resize_side=_256,
    augmentation=("imagenet",),
    protocol=_CENTRE,
    result=(
        "ILSVRC-2012 validation, top-1 and top-5: SEResNet50 23.29 % and 6.62 %, SEResNet101 "
        "22.38 % and 6.07 %"
    ),
    sections={
        "optimizer": "5.1",
        "momentum": "5.1",
        "learning_rate": "5.1",
        "decay": "5.1: by 10 every 30 epochs",
        "batch_size": "5.1",
        "epochs": "5.1",
        "initialization": "5.1",
        "augmentation": "5.1: random cropping and mirror images",
        "protocol": "5.1",
        "result": "5.1, table 2",
    },
    departures="The decay of the weights and the colour noise are ResNet's.",
)
_MOBILENET = Recipe(
    name="mobilenet",
    source="Howard et al., 2017, https://arxiv.org/abs/1704.04861",
    optimizer="rmsprop",
    learning_rate=0.045,
    decay=Staircase(0.94, every=2),
    epsilon=1.0,
    batch_size=96,
    epochs=100,
    weight_decay=4e-5,
    depthwise_decay=False,
    resize="crop",
    resize_side=_256,
    augmentation=("random-resized-crop", "flip"),
    protocol=_CENTRE,
    result="ILSVRC-2012 validation, top-1: 29.4 %",
    sections={
        "optimizer": "3.2: asynchronous RMSProp, as Inception v3",
        "depthwise_decay": "3.2: very little or none on depthwise filters",
        "augmentation": "3.2: less than Inception v3",
        "result": "4.1, table 4",
    },
    departures=(
        "The paper trained asynchronously and points to Inception v3, without label smoothing and "
        "side heads. Batch and decay of the weights are MobileNetV2's."
    ),
)
_MOBILENET_V2 = Recipe(
    name="mobilenet-v2",
    source="Sandler et al., 2018, https://arxiv.org/abs/1801.04381",
    optimizer="rmsprop",
    learning_rate=0.045,
    decay=Staircase(0.98, every=1),
    epsilon=1.0,
    batch_size=96,
    epochs=300,
    weight_decay=4e-5,
    resize="crop",
    resize_side=_256,
    augmentation=("random-resized-crop", "flip"),
    protocol=_CENTRE,
    result="ILSVRC-2012 validation, top-1: 28.0 %; 25.3 % with alpha=1.4",
    sections={
        "optimizer": "6.1",
        "momentum": "6.1",
        "learning_rate": "6.1",
        "decay": "6.1: by 0.98 every epoch",
        "batch_size": "6.1: of each of 16 workers",
        "weight_decay": "6.1",
        "result": "6.1, table 4",
    },
    departures="16 workers trained asynchronously. The epsilon, the epochs and the crops are ours.",
)
_EFFICIENTNET = Recipe(
    name="efficientnet",
    source="Tan and Le, 2019, https://arxiv.org/abs/1905.11946",
    optimizer="rmsprop",
    learning_rate=0.256,
    decay=Staircase(0.97, every=2.4),
    warmup=5,
    epsilon=1e-3,
    batch_size=4096,
    epochs=350,
    weight_decay=1e-5,
    label_smoothing=0.1,
    average=0.9999,
    resize="crop",
    resize_side=8 / 7,
    augmentation=("random-resized-crop", "flip", "randaugment"),
    dropout="0.2 for B0 to 0.5 for B7",
    protocol="one crop of the centre",
    result="ILSVRC-2012 validation, top-1: EfficientNetB0 22.9 %, EfficientNetB7 15.7 %",
    sections={
        "dropout": "5.2",
        "optimizer": "5.2",
        "momentum": "5.2",
        "learning_rate": "5.2",
        "decay": "5.2: by 0.97 every 2.4 epochs",
        "weight_decay": "5.2",
        "result": "5.2, table 2",
    },
    departures=(
        "RandAugment stands for the paper's AutoAugment. Batch, warm-up, epochs, epsilon, "
        "smoothing and the average are not in the paper."
    ),
)

# Each by its name.
PAPERS = {
    one.name: one
    for one in (
        _LENET,
        _ALEXNET,
        _ZFNET,
        _VGG,
        _NIN,
        _GOOGLENET,
        _INCEPTION_V3,
        _HIGHWAY,
        _RESNET,
        _RESNET_CIFAR,
        _STOCHASTIC_DEPTH,
        _DENSENET,
        _DENSENET_CIFAR,
        _RESNEXT,
        _SENET,
        _MOBILENET,
        _MOBILENET_V2,
        _EFFICIENTNET,
    )
}
