"""PolyNet, PyramidNet and dual path networks against timm, pytorchcv and the authors' code."""

import importlib
import re

import pytest

from keras_cnn_classics.applications import polynet

pytestmark = pytest.mark.parity

timm = pytest.importorskip("timm", reason="the parity tests compare with timm")
torch = pytest.importorskip("torch", reason="the parity tests compare with PyTorch")
safetensors = pytest.importorskip("safetensors.torch")

from reference import X, compare, pytorchcv, randomize  # noqa: E402

from tests.marks import slow  # noqa: E402

ODD = X[:, :97, :97]  # every map is odd somewhere


@pytest.mark.parametrize(
    ("theirs", "ours"), [slow("dpn92", "DPN92"), slow("dpn98", "DPN98"), slow("dpn131", "DPN131")]
)
def test_dual_path_networks(theirs, ours, tmp_path):
    module = randomize(timm.create_model(theirs))
    compare(module, ours, tmp_path, ODD, input_shape=(97, 97, 3))


def test_a_short_dual_path_network(tmp_path):
    dpn = importlib.import_module("timm.models.dpn").DPN
    depths = (2, 1, 2, 1)
    module = randomize(dpn(k_sec=depths))
    compare(module, "DPN92", tmp_path, ODD, input_shape=(97, 97, 3), depths=depths)


def pooled(module):
    """A module of pytorchcv for images of any size, which pools windows of the last map's size."""
    module.features.final_pool = torch.nn.AdaptiveAvgPool2d(1)
    return randomize(module)


@pytest.mark.parametrize(
    ("theirs", "ours", "options"),
    [
        slow("pyramidnet110_a48_cifar10", "PyramidNet110", {}),
        slow("pyramidnet110_a84_cifar10", "PyramidNet110", {"alpha": 84}),
        slow("pyramidnet110_a270_cifar10", "PyramidNet110_270", {}),
        slow(
            "pyramidnet164_a270_bn_cifar10", "PyramidNet110_270", {"depth": 164, "bottleneck": True}
        ),
        slow("pyramidnet101_a360", "PyramidNet200", {"depths": (3, 4, 23, 3), "alpha": 360}),
    ],
)
def test_pyramids(theirs, ours, options, tmp_path):
    cifar = theirs.endswith("cifar10")
    module = getattr(pytorchcv("pyramidnet_cifar" if cifar else "pyramidnet"), theirs)()
    side = 31 if cifar else 97
    options["input_shape"] = (side, side, 3)
    compare(pooled(module), ours, tmp_path, X[:, :side, :side], **options)


@pytest.mark.parametrize("bottleneck", [False, True])
def test_short_pyramids_of_pytorchcv(bottleneck, tmp_path):
    depth = 38 if bottleneck else 26
    make = pytorchcv("pyramidnet_cifar").get_pyramidnet_cifar
    module = make(num_classes=10, blocks=depth, alpha=48, bottleneck=bottleneck)
    options = {"depth": depth, "bottleneck": bottleneck, "input_shape": (31, 31, 3)}
    compare(pooled(module), "PyramidNet110", tmp_path, X[:, :31, :31], **options)


class PyramidBlock(torch.nn.Module):
    """Figure 6(d) under the names of the authors' code in PyTorch."""

    def __init__(self, channels, width, stride, kernels):
        super().__init__()
        self.names = []
        out = width * (4 if len(kernels) == 3 else 1)
        widths = [channels, *[width] * (len(kernels) - 1), out]
        for i, kernel in enumerate(kernels, 1):
            step = stride if i == (2 if len(kernels) == 3 else 1) else 1
            before, after = widths[i - 1 : i + 1]
            convolution = torch.nn.Conv2d(before, after, kernel, step, kernel // 2, bias=False)
            self.add_module(f"bn{i}", torch.nn.BatchNorm2d(before))
            self.add_module(f"conv{i}", convolution)
            self.names += [f"bn{i}", f"conv{i}"]
        self.add_module(f"bn{len(kernels) + 1}", torch.nn.BatchNorm2d(out))
        self.names.append(f"bn{len(kernels) + 1}")
        self.stride, self.out = stride, out

    def forward(self, x):
        y = x
        for name in self.names:
            y = getattr(self, name)(y)
            if name.startswith("bn") and name not in ("bn1", self.names[-1]):
                y = y.relu()
        if self.stride > 1:
            x = torch.nn.functional.avg_pool2d(x, 2, ceil_mode=True)
        y[:, : x.shape[1]] += x
        return y


class Pyramid(torch.nn.Module):
    """The networks for ImageNet of the paper under the names of the authors' code."""

    def __init__(self, depths, alpha):
        super().__init__()
        self.conv1 = torch.nn.Conv2d(3, 64, 7, 2, 3, bias=False)
        self.bn1 = torch.nn.BatchNorm2d(64)
        channels, grown = 64, 64.0
        for stage, depth in enumerate(depths, 1):
            blocks = []
            for i in range(depth):
                grown += alpha / sum(depths)
                stride = 2 if stage > 1 and i == 0 else 1
                blocks.append(PyramidBlock(channels, round(grown), stride, (1, 3, 1)))
                channels = blocks[-1].out
            self.add_module(f"layer{stage}", torch.nn.Sequential(*blocks))
        self.bn_final = torch.nn.BatchNorm2d(channels)
        self.fc = torch.nn.Linear(channels, 1000)

    def forward(self, x):
        x = torch.nn.functional.max_pool2d(self.bn1(self.conv1(x)).relu(), 3, 2, 1)
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(self.bn_final(x).relu().mean((2, 3)))


@pytest.mark.parametrize(
    ("depths", "options"),
    [
        ((1, 2, 2, 1), {"depths": (1, 2, 2, 1), "alpha": 20}),
        slow((3, 24, 36, 3), {}),
        slow((3, 24, 36, 3), {"alpha": 450}),
    ],
)
def test_the_authors_pyramids(depths, options, tmp_path):
    module = randomize(Pyramid(depths, options.get("alpha", 300)))
    compare(module, "PyramidNet200", tmp_path, ODD, input_shape=(97, 97, 3), **options)


def short_polynet():
    """PolyNet with one module of the first stage and two of each other stage."""
    make = pytorchcv("polynet").PolyNet
    module = make(
        two_way_scales=[[1.0], [0.0, 0.85], [0.0, 0.7]],
        poly_scales=[[0.0], [0.0, 0.925], [0.0, 0.775]],
    )
    return pooled(module)


SHORT = {"repeats": (1, 2, 2), "input_shape": (123, 123, 3)}


def test_a_short_polynet(tmp_path):
    compare(short_polynet(), "PolyNet", tmp_path, X[:, :123, :123], **SHORT)


@pytest.mark.slow
def test_polynet(tmp_path):
    module = pooled(pytorchcv("polynet").polynet())
    compare(module, "PolyNet", tmp_path, X[:, :123, :123], input_shape=(123, 123, 3))


# From pytorchcv's names to those of Cadene's package, whose network is the same; in this order.
CADENE = (
    (r"features.init_block.block1.branches.branch2.conv.", "stem.conv1_branch."),
    (r"features.init_block.block3.branches.branch2.conv.", "stem.conv2_branch."),
    (r"features.init_block.block2.branches.branch1.", "stem.conv2_short."),
    (r"features.init_block.block2.branches.branch2.", "stem.conv2_long."),
    (r"features.init_block.", "stem.conv1.conv_list."),
    (r"features.stage2.unit1.branches.branch2.conv_list.conv1.", "reduction_a.path1."),
    (r"features.stage2.unit1.branches.", "reduction_a."),
    (r"features.stage3.unit1.branches.", "reduction_b."),
    (r"features.stage1.unit1.twoway.res_blocks.", "stage_a.0.blocks."),
    (r"features.stage2.unit2.twoway.res_blocks.", "stage_b.1.blocks."),
    (r"features.stage3.unit2.twoway.res_blocks.", "stage_c.1.blocks."),
    (r"features.stage2.unit2.poly.", "stage_b.0."),
    (r"features.stage3.unit2.poly.", "stage_c.0."),
    (r"(stage_..0.)pre_block.branches.branch1.conv_list.conv1.", r"\1path0_1x1."),
    (r"(stage_b.0.)pre_block.branches.branch1.conv_list.conv2.", r"\1path0_1x7."),
    (r"(stage_b.0.)pre_block.branches.branch1.conv_list.conv3.", r"\1path0_7x1."),
    (r"(stage_c.0.)pre_block.branches.branch1.conv_list.conv2.", r"\1path0_1x3."),
    (r"(stage_c.0.)pre_block.branches.branch1.conv_list.conv3.", r"\1path0_3x1."),
    (r"pre_block.branches.branch2.", "path1."),
    (r"\.bns\.", ".bn_blocks."),
    (r"(stage_..0.)res_blocks.", r"\1conv2d_blocks."),
    (r"(blocks\.\d\.)conv\.(conv|bn)\.", r"\1conv2d.\2."),
    (r"(branch\d)\.conv\.(conv|bn)\.", r"\1.\2."),
    (r"(?:branches\.)?branch(\d)\.", lambda found: f"path{int(found[1]) - 1}."),
    (r"conv_list\.conv(\d)\.", lambda found: f"{int(found[1]) - 1}."),
    (r"output.fc.", "last_linear."),
)


def test_polynet_under_cadenes_names():
    """Each layer's names are those that one module has in the two packages."""
    for cadenes, pytorchcvs in polynet.torch_names(repeats=(1, 2, 2)).values():
        name = f"{pytorchcvs}."
        for pattern, replacement in CADENE:
            name = re.sub(pattern, replacement, name)
        assert name == f"{cadenes}."
