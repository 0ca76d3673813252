"""Loading weights: every format, every way that a file can be wrong."""

import hashlib
import logging

import h5py
import keras
import numpy as np
import pytest
from safetensors.numpy import save_file

import keras_cnn_classics as kcc
from keras_cnn_classics import registry
from keras_cnn_classics.applications import alexnet, vgg
from keras_cnn_classics.registry import WeightsFile, WeightsSource
from keras_cnn_classics.testing import contracts
from keras_cnn_classics.weights import errors, preprocessing_of
from tests.marks import slow, slow_compiled

TINY = {"width": 16, "units": (32, 24), "input_shape": (32, 32, 3)}
X = np.random.default_rng(0).normal(size=(2, 32, 32, 3)).astype("float32")


def run(model):
    y = model(X, training=False)
    return keras.tree.map_structure(keras.ops.convert_to_numpy, y)


def assert_from(saved, model, prefix=""):
    """Asserts that each layer of a model has the weights of its namesake in another."""
    for layer in model.layers:
        theirs = saved.get_layer(prefix + layer.name).get_weights()
        for a, b in zip(theirs, layer.get_weights(), strict=True):
            np.testing.assert_array_equal(a, b)


def write_legacy_h5(model, path):
    """Keras's old layout, as its published files have it."""
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [layer.name.encode() for layer in model.layers]
        for layer in model.layers:
            group = file.create_group(layer.name)
            names = [f"{layer.name}/{w.name}:0" for w in layer.weights]
            group.attrs["weight_names"] = [name.encode() for name in names]
            for name, value in zip(names, layer.get_weights(), strict=True):
                group[name] = value


def write_torch_layout(model, path, timm=False):
    """A tiny VGG11 as torchvision or timm would have saved it."""
    places = dict(
        zip(
            [
                f"block{b}_conv{i}"
                for b, n in enumerate((1, 1, 2, 2, 2), 1)
                for i in range(1, n + 1)
            ],
            (0, 3, 6, 8, 11, 13, 16, 18),
            strict=True,
        )
    )
    tensors = {}
    for layer in (one for one in model.layers if one.weights):
        kernel, bias = layer.get_weights()
        if layer.name in places:
            name, kernel = f"features.{places[layer.name]}", kernel.transpose(3, 2, 0, 1)
        else:
            heads = (
                ("pre_logits.fc1", "pre_logits.fc2", "head.fc")
                if timm
                else ("classifier.0", "classifier.3", "classifier.6")
            )
            name = dict(zip(("fc1", "fc2", "predictions"), heads, strict=True))[layer.name]
            kernel = kernel.T  # at 32x32 the flattened map is 1x1: the order is the same
            if timm and layer.name != "predictions":
                kernel = kernel[:, :, None, None]
        tensors |= {f"{name}.weight": np.ascontiguousarray(kernel), f"{name}.bias": bias}
    save_file(tensors, path)
    return tensors


@pytest.fixture
def vgg11():
    return kcc.VGG11(**TINY, classes=5, weights=None)


@pytest.mark.parametrize("include_top", [True, False])
@pytest.mark.parametrize("form", ["weights.h5", "keras", "h5", "safetensors", "timm.safetensors"])
def test_every_format(vgg11, form, include_top, tmp_path):
    path = tmp_path / f"vgg.{form}"
    saved = vgg11
    if form == "weights.h5":
        saved.save_weights(path)
    elif form == "keras":
        saved.save(path)
    elif form == "h5":
        write_legacy_h5(saved, path)
    else:
        write_torch_layout(saved, path, timm=form.startswith("timm"))
    model = kcc.VGG11(**TINY, classes=5, weights=path, include_top=include_top)
    expected = (
        saved if include_top else keras.Model(saved.input, saved.get_layer("block5_pool").output)
    )
    np.testing.assert_allclose(run(model), run(expected), rtol=1e-5, atol=1e-6)


def test_pickles_are_read_without_running_code(tmp_path):
    torch = pytest.importorskip("torch", reason="PyTorch is an optional extra")

    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / "touched"), "w"))

    torch.save({"features.0.weight": Evil()}, tmp_path / "evil.pth")
    with pytest.raises(errors.UnsafeError, match="VGG11: it holds more than tensors"):
        kcc.VGG11(**TINY, weights=tmp_path / "evil.pth")
    assert not (tmp_path / "touched").exists()


def test_wrong_files(vgg11, tmp_path):
    def load(name):
        return kcc.VGG11(**TINY, classes=5, weights=tmp_path / name)

    def fails(name, words):
        with pytest.raises(ValueError, match=words) as caught:
            load(name)
        message = str(caught.value)
        assert "VGG11" in message
        assert name in message
        assert "\n" not in message

    vgg11.save_weights(tmp_path / "ok.weights.h5")
    vgg11.save(tmp_path / "ok.keras")
    write_legacy_h5(vgg11, tmp_path / "ok.h5")
    tensors = write_torch_layout(vgg11, tmp_path / "ok.safetensors")
    for name in ("ok.weights.h5", "ok.h5", "ok.keras", "ok.safetensors"):
        content = (tmp_path / name).read_bytes()
        (tmp_path / f"cut_{name}").write_bytes(content[: len(content) // 2])
        (tmp_path / f"empty_{name}").write_bytes(b"")
        (tmp_path / f"html_{name}").write_text("<html>Not found</html>")
        for kind in ("cut", "empty", "html"):
            fails(f"{kind}_{name}", "does not hold the weights")
    (tmp_path / "weights.txt").write_text("hello")
    fails("weights.txt", "must end in")

    other = kcc.VGG13(**TINY, classes=5, weights=None)
    other.save_weights(tmp_path / "vgg13.weights.h5")
    fails("vgg13.weights.h5", r"unknown layers block1_conv2, block2_conv2")
    write_legacy_h5(other, tmp_path / "vgg13.h5")
    fails("vgg13.h5", r"unknown layers block1_conv2, block2_conv2")
    write_legacy_h5(kcc.VGG11(**TINY, classes=6, weights=None), tmp_path / "classes.h5")
    fails("classes.h5", r"its classifier has 6 classes\. Received: classes=5")
    kcc.VGG11(**TINY, classes=6, weights=None).save_weights(tmp_path / "classes.weights.h5")
    fails("classes.weights.h5", r"its classifier has 6 classes\. Received: classes=5")
    write_legacy_h5(
        kcc.VGG11(**{**TINY, "units": (32, 25)}, classes=5, weights=None), tmp_path / "units.h5"
    )
    fails("units.h5", r"another shape fc2 .*\(32, 25\).* instead of .*\(32, 24\)")
    save_file({**tensors, "features.99.weight": X}, tmp_path / "more.safetensors")
    fails("more.safetensors", "belong to no layer features.99.weight")
    del tensors["features.18.weight"], tensors["features.18.bias"]
    save_file(tensors, tmp_path / "less.safetensors")
    fails("less.safetensors", "missing layers block5_conv2")
    with h5py.File(tmp_path / "data.h5", "w") as file:
        file["x"] = X
    fails("data.h5", "holds no Keras weights")


def test_a_checkpoint_of_pytorch_for_a_network_without_names(tmp_path):
    save_file({"x": X}, tmp_path / "x.safetensors")
    with pytest.raises(ValueError, match="no PyTorch checkpoint of this architecture"):
        kcc.LeNet5(weights=tmp_path / "x.safetensors")


def test_a_network_with_the_same_weights_but_other_layers(tmp_path):
    kcc.VGG11LRN(**TINY, classes=5).save(tmp_path / "lrn.keras")
    with pytest.raises(ValueError, match=r"is given .*LocalResponseN"):
        kcc.VGG11(**TINY, classes=5, weights=tmp_path / "lrn.keras")
    kcc.LeNet5(activation="relu").save(tmp_path / "relu.keras")
    with pytest.raises(ValueError, match=r"is given .*relu\(.*, the model's .*elu\("):
        kcc.LeNet5(activation="elu", weights=tmp_path / "relu.keras")
    scores = kcc.LeNet5(activation="relu", classifier_activation=None)
    scores.save(tmp_path / "scores.keras")  # what it gives does not change what it is
    again = kcc.LeNet5(activation="relu", weights=tmp_path / "scores.keras")
    for a, b in zip(scores.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


RESNET = {"depths": (1, 1, 1, 1), "width": 16}


@pytest.mark.slow_compiled
@pytest.mark.parametrize("form", ["keras", "h5"])
@pytest.mark.parametrize(
    ("saved", "loaded", "options", "other", "words"),
    [
        ("MobileNetV2", "MobileNetV2", {"alpha": 0.35}, {"epsilon": 0.1}, "has epsilon=0.1, the"),
        (
            *("MobileNetV2", "MobileNetV2", {"alpha": 0.35}, {"padding": "symmetric"}),
            r"layer Conv1 has \[\[1, 1\], \[1, 1\]\] padding, the model's same",
        ),
        ("ResNet50", "ResNet50", RESNET, {"stride_in": "3x3"}, r"has strides=\[1, 1\], the model"),
        ("PlainNet20", "ResNet20", {"depth": 8}, {}, r"is given \w+\(\w+_bn\), .*Add\("),
        ("StochasticDepthResNet110", "ResNet20", {"depth": 8}, {}, "given .*StochasticDepth surv"),
        ("SEResNet50", "SEResNet50", {"filters": 16}, {"ceil_mode": False}, "of zeros"),
        (
            "ResNet110V2",
            "ResNet110V2",
            {"depth": 8},
            {"first_inside": True},
            r"given Add\(conv1_conv, .*Add\(relu\(",
        ),
        (
            "SqueezeNet1_0",
            "SqueezeNet1_0",
            {},
            {"pools": (1, 3, 5)},
            "given MaxPool.*, the model's Concatenate",
        ),
    ],
)
@pytest.mark.parametrize("include_top", [True, slow(False)])
def test_networks_that_only_their_configurations_tell_apart(
    saved, loaded, options, other, words, form, include_top, tmp_path
):
    path = tmp_path / f"saved.{form}"
    shape = {"input_shape": (96, 96, 3)}
    model = kcc.build(saved, weights=None, **options, **other, **shape)
    model.save(path)
    again = getattr(kcc, saved)(**options, **other, weights=path, include_top=include_top)
    for a, b in zip(again.layers[4].get_weights(), model.layers[4].get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    with pytest.raises(ValueError, match=words):
        getattr(kcc, loaded)(**options, **shape, weights=path, include_top=include_top)


@pytest.mark.parametrize("form", ["keras", slow_compiled("h5")])
@pytest.mark.parametrize("include_top", [True, slow_compiled(False)])
def test_a_network_behind_layers_of_its_own_is_another(include_top, form, tmp_path):
    image = keras.Input((96, 96, 3))
    scaled = keras.layers.Rescaling(1 / 127.5, -1)(image)
    kcc.MobileNet(alpha=0.25, input_tensor=scaled, weights=None).save(tmp_path / f"scaled.{form}")
    options = {"alpha": 0.25, "input_shape": (96, 96, 3), "include_top": include_top}
    with pytest.raises(ValueError, match=r"conv1 is given Rescaling .*\(the image\), the model's"):
        kcc.MobileNet(**options, weights=tmp_path / f"scaled.{form}")


def test_a_file_in_which_keras_computes_the_groups(tmp_path):
    options = {**kcc.AlexNet.spec.tiny, "input_shape": (67, 67, 3), "classes": 5}
    ours = kcc.AlexNet(**options)

    def to_keras(layer):
        grouped = type(layer).__name__ == "GroupedConv2D"
        kind = keras.layers.Conv2D if grouped else type(layer)
        return kind.from_config(layer.get_config())

    theirs = keras.models.clone_model(ours, clone_function=to_keras)
    theirs.save(tmp_path / "theirs.keras")
    again = kcc.AlexNet(**options, weights=tmp_path / "theirs.keras")
    for a, b in zip(theirs.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("pooling", [None, "avg"])
def test_a_trunk_takes_its_weights_from_a_whole_saved_model(vgg11, pooling, tmp_path):
    vgg11.save(tmp_path / "full.keras")
    trunk = kcc.VGG11(**TINY, include_top=False, pooling=pooling, weights=tmp_path / "full.keras")
    for name in ("block1_conv1", "block5_conv2"):
        for a, b in zip(*(m.get_layer(name).get_weights() for m in (vgg11, trunk)), strict=True):
            np.testing.assert_array_equal(a, b)
    kcc.VGG13(**TINY, classes=5, weights=None).save(tmp_path / "vgg13.keras")
    with pytest.raises(ValueError, match="unknown layers block1_conv2"):
        kcc.VGG11(**TINY, include_top=False, weights=tmp_path / "vgg13.keras")


@pytest.mark.slow_compiled
@pytest.mark.parametrize("form", ["weights.h5", "keras", "h5"])
@pytest.mark.parametrize(
    "name",
    ["MobileNet", "EfficientNetB0", "ResNet18", "SENet154", "SqueezeNet1_0", "AlexNet", "LeNet5"],
)
def test_a_trunk_takes_its_weights_from_a_file_with_a_classifier(name, form, tmp_path):
    """Whatever the order of the layers in the file."""
    builder = kcc.get_builder(name)
    whole = contracts.tiny(builder)
    path = tmp_path / f"whole.{form}"
    (whole.save_weights if form == "weights.h5" else whole.save)(path)
    assert_from(whole, contracts.tiny(builder, include_top=False, weights=path))


def test_a_model_that_keras_has_saved(tmp_path):
    theirs = keras.applications.VGG16(weights=None, input_shape=(32, 32, 3), classes=7)
    theirs.save(tmp_path / "theirs.keras")
    ours = kcc.VGG16(weights=tmp_path / "theirs.keras", input_shape=(32, 32, 3), classes=7)
    np.testing.assert_allclose(run(ours), run(theirs), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("form", [slow_compiled("weights.h5"), "keras", slow_compiled("h5")])
def test_a_prefix_does_not_come_between_a_network_and_its_file(vgg11, form, tmp_path):
    save = {"weights.h5": "save_weights"}.get(form, "save")
    prefixed = kcc.VGG11(**TINY, classes=5, prefix="left_", weights=None)
    getattr(prefixed, save)(tmp_path / f"left.{form}")
    getattr(vgg11, save)(tmp_path / f"plain.{form}")
    for name, expected in (("left", prefixed), ("plain", vgg11)):
        for prefix in ("", "left_", "right_"):
            model = kcc.VGG11(**TINY, classes=5, prefix=prefix, weights=tmp_path / f"{name}.{form}")
            np.testing.assert_array_equal(run(model), run(expected))


@pytest.mark.slow_compiled
@pytest.mark.parametrize("form", ["weights.h5", "keras", "h5"])
@pytest.mark.parametrize(("name", "aux"), [("EfficientNetB0", False), ("GoogLeNet", True)])
def test_a_prefix_of_layers_that_count_by_their_names(name, aux, form, tmp_path):
    """Of those that prepare images, and of auxiliary classifiers."""
    builder = kcc.get_builder(name)
    shape = (max(builder.spec.aux_min_size, 32),) * 2 + (3,)
    saved = contracts.tiny(builder, aux=aux, input_shape=shape, prefix="left_")
    path = tmp_path / f"left.{form}"
    (saved.save_weights if form == "weights.h5" else saved.save)(path)
    assert_from(saved, contracts.tiny(builder, input_shape=shape, weights=path), "left_")


@pytest.mark.parametrize("form", ["weights.h5", "keras", "h5"])
def test_a_file_for_a_network_behind_other_layers(vgg11, form, tmp_path):
    path = tmp_path / f"vgg.{form}"
    if form == "h5":
        write_legacy_h5(vgg11, path)
    else:
        {"weights.h5": vgg11.save_weights, "keras": vgg11.save}[form](path)
    image = keras.Input((32, 32, 3))
    first = keras.layers.Conv2D(3, 1, name="first")
    options = {key: value for key, value in TINY.items() if key != "input_shape"}
    model = kcc.VGG11(**options, classes=5, input_tensor=first(image), weights=path)
    first.set_weights([np.eye(3)[None, None], np.zeros(3)])
    np.testing.assert_allclose(run(model), run(vgg11), rtol=1e-5, atol=1e-6)


@pytest.mark.slow_compiled
def test_a_trunk_is_not_taken_from_a_deeper_one(tmp_path):
    write_legacy_h5(kcc.VGG19(**TINY, include_top=False, weights=None), tmp_path / "vgg19.h5")
    with pytest.raises(ValueError, match="unknown layers block3_conv4"):
        kcc.VGG16(**TINY, include_top=False, weights=tmp_path / "vgg19.h5")
    # Nor if it is deeper behind the last layer that both have.
    options = {"width": 16, "input_shape": (32, 32, 3)}
    deeper = kcc.ResNet18(**options, depths=(1, 1, 1, 2), weights=None)
    deeper.save(tmp_path / "deeper.keras")
    deeper.save_weights(tmp_path / "deeper.weights.h5")
    options |= {"depths": (1, 1, 1, 1), "include_top": False}
    for form in ("keras", "weights.h5"):
        with pytest.raises(ValueError, match="unknown layers conv5_block2"):
            kcc.ResNet18(**options, weights=tmp_path / f"deeper.{form}")


@pytest.fixture
def published(monkeypatch, tmp_path):
    """A small VGG16 with published weights that stand on this disk; gives builder and model."""
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("KCC_OFFLINE")
    source = tmp_path / "server"
    source.mkdir()
    options = {"width": 16, "units": (32, 24)}
    model = kcc.VGG16(**options, weights=None)
    write_legacy_h5(model, source / "vgg.h5")
    write_legacy_h5(kcc.VGG16(width=16, include_top=False, weights=None), source / "vgg_no_top.h5")

    def entry(path):
        return WeightsFile(path.as_uri(), f"md5:{hashlib.md5(path.read_bytes()).hexdigest()}")

    entries = WeightsSource(entry(source / "vgg.h5"), entry(source / "vgg_no_top.h5"))
    monkeypatch.setattr(registry, "_BUILDERS", dict(registry._BUILDERS))
    builder = vgg.vgg.variant(
        "SmallVGG16", depths=vgg.D, **options, params=1, macs=1, weights={"imagenet": entries}
    )
    return builder, model, entries


def test_published_weights(published, tmp_path):
    builder, model, _ = published
    for name in (None, "mine"):  # the default is weights="imagenet", as in Keras
        again = builder(name=name, dropout=0.1)
        for a, b in zip(model.get_weights(), again.get_weights(), strict=True):
            np.testing.assert_array_equal(a, b)
    assert sorted(p.name for p in (tmp_path / "home/models").glob("*.*")) == [".locks", "vgg.h5"]
    trunk = builder(include_top=False, prefix="left_", input_shape=(64, 48, 3))
    assert trunk.layers[1].name == "left_block1_conv1"
    assert trunk.output_shape == (None, 2, 1, 128)
    assert (tmp_path / "home/models/vgg_no_top.h5").is_file()


def test_names_that_are_too_long_for_one_attribute(tmp_path):
    """Keras 2 wrote them in several."""
    model = kcc.ResNet18(**RESNET, weights=None)
    write_legacy_h5(model, tmp_path / "theirs.h5")
    with h5py.File(tmp_path / "theirs.h5", "a") as file:
        names = file.attrs["layer_names"]
        del file.attrs["layer_names"]
        file.attrs["layer_names0"], file.attrs["layer_names1"] = names[:9], names[9:]
    assert_from(model, kcc.ResNet18(**RESNET, weights=tmp_path / "theirs.h5"))


def test_published_weights_for_another_size_than_the_papers(published, tmp_path):
    """Of images, and of what the network does with them."""
    tiny, path = kcc.AlexNetSingle.spec.tiny, tmp_path / "alexnet.h5"
    size = {"form": "tf2cv", "input_shape": (224, 224, 3)}
    model = kcc.AlexNetSingle(weights=None, **tiny, **size)
    write_legacy_h5(model, path)
    source = WeightsSource(
        WeightsFile(path.as_uri()), options={"form": "tf2cv"}, input_size=224, classes=1000
    )
    builder = alexnet.alexnet.variant(
        "SmallAlexNet", groups=1, **tiny, params=1, macs=1, weights={"mine": source}
    )
    ours = builder(weights="mine")
    assert ours.input_shape == model.input_shape
    x = np.random.default_rng(0).normal(scale=60, size=(2, 224, 224, 3)).astype("float32")
    np.testing.assert_allclose(ours.predict_on_batch(x), model.predict_on_batch(x), rtol=1e-5)
    with pytest.raises(ValueError, match=r"is for images of 224x224; other sizes need"):
        builder(weights="mine", input_shape=(227, 227, 3))
    assert builder(weights=None).input_shape == (None, 227, 227, 3)
    assert builder(weights="mine", include_top=False).input_shape == (None, None, None, 3)


def test_a_fresh_head_is_logged(published, caplog):
    builder, model, _ = published
    with caplog.at_level(logging.WARNING, "keras_cnn_classics"):
        ours = builder(classes=5)
    assert "`predictions` starts from random weights" in caplog.text
    assert ours.output_shape == (None, 5)
    fc2 = [m.get_layer("fc2").get_weights()[0] for m in (ours, model)]
    np.testing.assert_array_equal(*fc2)


@pytest.mark.parametrize(
    "bad",
    [{"input_shape": (224, 224, 1)}, {"input_shape": (64, 64, 3)}, {"width": 8}, {"lrn": True}],
)
def test_arguments_that_do_not_fit_are_refused_before_a_download(published, tmp_path, bad):
    builder, _, _ = published
    with pytest.raises(ValueError, match="Received"):
        builder(weights="imagenet", **bad)
    assert not (tmp_path / "home").exists()


AUXILIARY = {"width": 0.25, "classes": 5, "input_shape": (32, 32, 3)}


@pytest.mark.slow_compiled
@pytest.mark.parametrize("form", ["weights.h5", "keras", "h5"])
def test_auxiliary_classifiers_are_left_out_where_the_network_has_none(form, tmp_path):
    """The parity tests do the same with checkpoints of PyTorch."""
    path = tmp_path / f"trained.{form}"
    trained = kcc.GoogLeNetBN(**AUXILIARY, aux=True, weights=None)
    if form == "weights.h5":
        trained.save_weights(path)
    elif form == "keras":
        trained.save(path)
    else:
        write_legacy_h5(trained, path)
    expected = run(trained)
    both = run(kcc.GoogLeNetBN(**AUXILIARY, aux=True, weights=path))
    alone = run(kcc.GoogLeNetBN(**AUXILIARY, weights=path))
    np.testing.assert_allclose(both["aux2"], expected["aux2"], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(alone, expected["predictions"], rtol=1e-5, atol=1e-6)


@pytest.mark.slow_compiled
def test_auxiliary_classifiers_are_not_made_up(tmp_path):
    kcc.GoogLeNetBN(**AUXILIARY, weights=None).save_weights(tmp_path / "plain.weights.h5")
    with pytest.raises(ValueError, match="missing layers aux1_conv"):
        kcc.GoogLeNetBN(**AUXILIARY, aux=True, weights=tmp_path / "plain.weights.h5")


@pytest.mark.parametrize(
    ("name", "weights", "mode"),
    [
        ("InceptionV3", None, "tf"),
        ("InceptionV3", "a.pth", "tf"),
        ("BNInception", "a.pth", "caffe"),
        ("GoogLeNet", None, "caffe"),
        ("VGG16", "a.safetensors", "torch"),
        ("VGG16", "a.h5", "caffe"),
    ],
)
def test_the_preprocessing_that_goes_with_a_file(name, weights, mode):
    assert preprocessing_of(kcc.get_builder(name).spec, weights) == mode
