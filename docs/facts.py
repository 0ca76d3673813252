"""What the pages of the families say that the registry does not know: proofs, and Keras.

`tests/test_docs.py` holds these tables to the code: each network has a proof, each test named is
there and names the networks, and what is said of Keras is what Keras does.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Proof:
    """A test that compares the outputs of networks with those of something else.

    Attributes:
        test: The test's name, in `tests/parity/`.
        peer: What the networks are compared with.
        models: Their names.
    """

    test: str
    peer: str
    models: tuple[str, ...]


def proof(test: str, peer: str, models: str) -> Proof:
    return Proof(test, peer, tuple(models.split()))


KERAS_FILE = "`keras.applications`, through a file of its weights; names of layers too"
TIMM = "timm, through its checkpoint"
PYTORCHCV = "pytorchcv, through its checkpoint"
TF2CV = "tf2cv, through the file that it writes"
RENDERED = "a rendering of the paper in PyTorch's functions, with our weights"

PROOFS = (
    proof(
        "test_keras.py::test_parity",
        KERAS_FILE,
        "VGG16 VGG19 ResNet50 ResNet101 ResNet152 ResNet50V2 ResNet101V2 ResNet152V2 DenseNet121 "
        "DenseNet169 DenseNet201 MobileNet MobileNetV2 InceptionV3 InceptionResNetV2",
    ),
    proof(
        "test_keras.py::test_parity_of_widths_and_sizes",
        "`keras.applications`, other widths and odd sizes of image",
        "MobileNet MobileNetV2",
    ),
    proof(
        "test_keras.py::test_efficientnet",
        KERAS_FILE,
        "EfficientNetB0 EfficientNetB1 EfficientNetB2 EfficientNetB3 EfficientNetB4 EfficientNetB5 "
        "EfficientNetB6 EfficientNetB7",
    ),
    proof(
        "test_keras.py::test_networks_with_counted_names",
        KERAS_FILE,
        "Xception NASNetMobile NASNetLarge",
    ),
    proof(
        "test_keras_files.py::test_the_hosted_resnexts",
        "ResNeXt as Keras had it, rendered in Keras's layers, through a file of its weights",
        "ResNeXt50_32x4d",
    ),
    proof("test_lenet.py::test_lenets", RENDERED, "LeNet5 LeNet"),
    proof(
        "test_torch.py::test_timm",
        TIMM,
        "VGG11 VGG13 VGG16 VGG19 VGG11BN VGG13BN VGG16BN VGG19BN",
    ),
    proof(
        "test_torch.py::test_timm_others",
        TIMM,
        "ResNet18 ResNet34 ResNet50 ResNet101 ResNet152 ResNeXt50_32x4d ResNeXt101_32x4d "
        "ResNeXt101_32x8d ResNeXt101_64x4d WideResNet50_2 WideResNet101_2 DenseNet121 DenseNet161 "
        "DenseNet169 DenseNet201 MobileNet MobileNetV2 Xception EfficientNetB0 EfficientNetB2 "
        "EfficientNetB3 EfficientNetB4 EfficientNetB5 EfficientNetB6 EfficientNetB7",
    ),
    proof(
        "test_torch.py::test_mobile_networks_in_torchvisions_layout",
        "timm, through its checkpoint under torchvision's names",
        "MobileNetV2 EfficientNetB1",
    ),
    proof(
        "test_torch.py::test_torchvision_layout",
        "torchvision's layers and names, rendered in PyTorch, through its checkpoint",
        "AlexNetOWT VGG11BN",
    ),
    proof(
        "test_torch.py::test_squeezenet",
        "torchvision's layers and names, rendered in PyTorch, through its checkpoint",
        "SqueezeNet1_0 SqueezeNet1_1",
    ),
    proof("test_torch.py::test_alexnet", RENDERED, "AlexNet AlexNetSingle"),
    proof(
        "test_torch.py::test_zfnet",
        "a rendering of the paper's figure 3 in PyTorch's functions, with our weights",
        "ZFNet ZFNetWide",
    ),
    proof(
        "test_torch.py::test_pytorchcvs_form",
        PYTORCHCV + ', with `form="pytorchcv"`',
        "AlexNetSingle ZFNet ZFNetWide",
    ),
    proof(
        "test_torch.py::test_columns_of_vgg",
        "a rendering of the columns of the paper's table 1 in PyTorch's functions",
        "VGG11LRN VGG16C",
    ),
    proof("test_torch.py::test_nasnet", TIMM + ', with `edge_zeros="average"`', "NASNetLarge"),
    proof(
        "test_tf2cv.py::test_tf2cv",
        TF2CV,
        "AlexNetSingle ZFNet ZFNetWide BNInception ResNet20 ResNet56 ResNet110 ResNet200V2 "
        "ResNet110V2 ResNet164V2 ResNet1001V2 DenseNetBC100_12 PyramidNet110 PyramidNet110_270 "
        "InceptionResNetV1 CBAMResNet50",
    ),
    proof(
        "test_early_parity.py::test_nin_of_pytorchcv",
        PYTORCHCV + ', with `form="pytorchcv"`',
        "NINCIFAR",
    ),
    proof(
        "test_early_parity.py::test_nin_of_caffe",
        "the authors' Caffe model, rendered in PyTorch, through its checkpoint",
        "NIN",
    ),
    proof(
        "test_early_parity.py::test_a_rendering_of_the_paper",
        RENDERED,
        "NINCIFAR OverFeatFast OverFeatAccurate PReLUNetA PReLUNetB PReLUNetC HighwayFC10 "
        "HighwayFC20 HighwayFC50 HighwayFC100 Highway10_16 Highway10_32 Highway11 Highway19 "
        "Highway32",
    ),
    proof(
        "test_beyond_parity.py::test_c3d",
        "a rendering of the paper's figure 3 in PyTorch, narrower, through its checkpoint",
        "C3D",
    ),
    proof(
        "test_beyond_parity.py::test_deepface",
        "a rendering of the paper's table in PyTorch's functions, with our weights",
        "DeepFace",
    ),
    proof(
        "test_beyond_parity.py::test_deepfaces_file_of_keras_2",
        "the same layers of Keras 2, which had locally connected ones, through its file",
        "DeepFace",
    ),
    proof("test_inception.py::test_googlenet_of_2014", RENDERED, "GoogLeNet"),
    proof(
        "test_inception.py::test_torchvisions_googlenet",
        "torchvision's layers and names, rendered in PyTorch, through its checkpoint",
        "GoogLeNetBN",
    ),
    proof(
        "test_inception.py::test_pytorchcv",
        PYTORCHCV,
        "BNInception InceptionResNetV1",
    ),
    proof(
        "test_inception.py::test_inception_v2",
        "a rendering of the paper's table 1 and its figures in PyTorch's functions, whose maps "
        "have the table's sizes",
        "InceptionV2",
    ),
    proof(
        "test_inception.py::test_timm_inceptions",
        TIMM,
        "InceptionV3 InceptionV4 InceptionResNetV2",
    ),
    proof(
        "test_inception.py::test_auxiliary_classifier_of_inception_v3",
        "timm, with the auxiliary classifier, under torchvision's names",
        "InceptionV3",
    ),
    proof(
        "test_inception.py::test_se_bn_inception",
        "pytorchcv's BN-Inception, whose modules are weighed as the paper says",
        "SEBNInception",
    ),
    proof(
        "test_inception.py::test_se_inception_resnet",
        "timm's Inception-ResNet v2, whose modules are weighed as the paper says",
        "SEInceptionResNetV2",
    ),
    proof(
        "test_residual.py::test_pytorchcv",
        PYTORCHCV,
        "ResNet200V2 ResNet110V2 ResNet164V2 ResNet1001V2 WideResNet16_10 WideResNet28_10 "
        "WideResNet40_8 ResNet20 ResNet110 DenseNetBC100_12",
    ),
    proof(
        "test_residual.py::test_identity_mappings",
        "a rendering of the paper and its authors' code in PyTorch's functions, with our weights",
        "ResNet200V2 ResNet110V2 ResNet164V2 ResNet1001V2",
    ),
    proof(
        "test_residual.py::test_cifar_networks",
        "a rendering of the paper's section 4.2 in PyTorch, through its checkpoint",
        "ResNet20 ResNet32 ResNet44 ResNet56 ResNet110 PlainNet20 PlainNet32 PlainNet44 PlainNet56 "
        "StochasticDepthResNet110",
    ),
    proof(
        "test_residual.py::test_plain_networks",
        "a rendering of the paper's table 1 in PyTorch, through its checkpoint",
        "PlainNet18 PlainNet34",
    ),
    proof(
        "test_residual.py::test_shortcuts",
        "a rendering of the paper's table 1 with the shortcuts A and C of section 4.1, through its "
        "checkpoint",
        "ResNet18 ResNet34",
    ),
    proof(
        "test_residual.py::test_densenet264", "timm's layers, through its checkpoint", "DenseNet264"
    ),
    proof(
        "test_residual.py::test_densenet40",
        "a rendering of the paper's section 3 in PyTorch, through its checkpoint",
        "DenseNet40_12",
    ),
    proof(
        "test_residual.py::test_timm_squeeze_and_excitation",
        TIMM,
        "SEResNet50 SEResNeXt50_32x4d",
    ),
    proof(
        "test_residual.py::test_timm_large_squeeze_and_excitation",
        TIMM,
        "SEResNet101 SEResNet152 SEResNeXt101_32x4d SENet154",
    ),
    proof(
        "test_residual.py::test_se_vgg",
        "a rendering of the paper's table 2 in PyTorch's functions, with our weights",
        "SEVGG16",
    ),
    proof("test_challengers_parity.py::test_dual_path_networks", TIMM, "DPN92 DPN98 DPN131"),
    proof(
        "test_challengers_parity.py::test_pyramids",
        PYTORCHCV + ", some at other depths and widths",
        "PyramidNet110 PyramidNet110_270 PyramidNet200",
    ),
    proof(
        "test_challengers_parity.py::test_the_authors_pyramids",
        "a rendering of the authors' code in PyTorch, through its checkpoint",
        "PyramidNet200",
    ),
    proof("test_challengers_parity.py::test_polynet", PYTORCHCV, "PolyNet"),
    proof(
        "test_attention_parity.py::test_cbam",
        PYTORCHCV,
        "CBAMResNet18 CBAMResNet34 CBAMResNet50 CBAMResNet101",
    ),
    proof(
        "test_attention_parity.py::test_the_checkpoints_of_cbams_authors",
        "pytorchcv, through a checkpoint under the names of the authors' code",
        "CBAMResNet18",
    ),
    proof(
        "test_attention_parity.py::test_pytorchcvs_residual_attention",
        PYTORCHCV + ', with `form="pytorchcv"`',
        "Attention56 Attention92",
    ),
    proof(
        "test_attention_parity.py::test_the_authors_residual_attention",
        "pytorchcv's layers, connected as in the authors' files for Caffe",
        "Attention56 Attention92",
    ),
    proof(
        "test_attention_parity.py::test_self_attention_in_timms_resnet50",
        "timm's ResNet-50, with the attention of the paper's section 3 put in",
        "SelfAttentionResNet50",
    ),
)

# Of each family that `keras.applications` has networks of. What all of them share stands in
# docs/migrating.md.
KERAS = {
    "vgg": (
        "`VGG16` and `VGG19` have the paper's dropout of 0.5 behind both hidden dense layers; "
        "Keras's have none. It acts in training only, and `dropout=0` takes it away.",
    ),
    "inception_v3": (
        "Keras has no auxiliary classifier. `aux=True` adds it; its weights are not published in "
        "Keras's file, so that it starts afresh.",
        "Keras's weights have no scales in the batch normalization, and so it is here; "
        "`scale=True` and `count_padding=True` are for networks that were trained in PyTorch.",
    ),
    "resnet": (
        "The network is Keras's, step in the first 1x1 convolution and biases included. "
        '`stride_in="3x3", bias=False` is the form of torchvision and timm.',
        "Keras has no `ResNet18` and `ResNet34`, no plain networks and none for CIFAR.",
    ),
    "resnet_v2": (
        "`ResNet50V2`, `ResNet101V2` and `ResNet152V2` are Keras's: steps are in the last block of "
        "a stage. The others, which Keras has not, follow the paper.",
    ),
    "densenet": ("Keras has `DenseNet121`, `DenseNet169` and `DenseNet201`, and not the others.",),
    "inception_resnet": (
        "Keras scales a residual and adds it in one layer, here these are two: the model has 822 "
        "layers for Keras's 782.",
        "Keras's weights have no scales in the batch normalization; `scale=True` is for PyTorch's.",
    ),
    "xception": (
        "Keras leaves the layers that add to counters, `add`, `add_1`; here they are named after "
        "their block, `block2_add`.",
    ),
    "mobilenet": (
        "Keras's arguments begin with `input_shape, alpha, depth_multiplier, dropout`; here the "
        "order is that of all builders, and these are given by name.",
        "There is no `depth_multiplier`: the paper has one depthwise filter for each map.",
        "The model is called `mobilenet`, Keras's `mobilenet_1.00_224`.",
    ),
    "mobilenet_v2": (
        "Keras's arguments begin with `input_shape, alpha`; here the order is that of all "
        "builders, and these are given by name.",
        "At an image size that is not known when the network is built, convolutions in steps of "
        "two pad as each image needs; Keras pads all as if their maps had even sides.",
        "The model is called `mobilenetv2`, Keras's `mobilenetv2_1.00_224`.",
    ),
    "nasnet": (
        "Keras's arguments begin with `input_shape`; here the order is that of all builders.",
        "Keras pads in layers of their own, here padding is part of the convolutions: "
        "`NASNetMobile` has 755 layers for Keras's 771.",
        "`edge_zeros` gives the pools of the authors' code and of timm, which Keras has not.",
    ),
    "efficientnet": (
        "The images are normalized inside, as in Keras, but the statistics are constants and not "
        "weights: Keras counts 7 more of them, a mean and a variance of 3 channels and a count. "
        "A file of Keras's that has others is read, and the log says so.",
        "At an image size that is not known when the network is built, convolutions in steps of "
        "two pad as each image needs; Keras pads all as if their maps had even sides.",
        "`include_preprocessing=False` leaves the normalization out, which Keras cannot.",
    ),
}
