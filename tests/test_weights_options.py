"""Weights for another network than the file's: other channels, classes, layers, names, pixels."""

import logging
import zipfile

import h5py
import keras
import numpy as np
import pytest
from safetensors.numpy import save_file

import keras_cnn_classics as kcc
from keras_cnn_classics import registry
from keras_cnn_classics.preprocessing import model_preprocessing, preprocess_input
from keras_cnn_classics.registry import WeightsFile, WeightsSource
from keras_cnn_classics.testing import contracts
from keras_cnn_classics.weights import _copies, _files, errors, torch_layout
from tests.marks import slow_compiled

TINY = {"width": 16, "units": (32, 24), "input_shape": (32, 32, 3), "classes": 5}
PIXELS = np.random.default_rng(0).uniform(0, 255, (2, 32, 32, 3)).astype("float32")


def run(model, x):
    return keras.ops.convert_to_numpy(model(x, training=False))


def same(a, b):
    np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5 * np.abs(b).max())


@pytest.fixture
def saved(tmp_path):
    """A small VGG11 and its file."""
    model = kcc.VGG11(**TINY, weights=None, classifier_activation=None)
    model.save_weights(tmp_path / "vgg.weights.h5")
    return model, tmp_path / "vgg.weights.h5"


# Channels of the images


def test_one_channel_has_the_answers_of_three_that_are_alike(saved):
    model, path = saved
    options = {**TINY, "input_shape": (32, 32, 1), "classifier_activation": None}
    grey = kcc.VGG11(**options, weights=path, adapt_input_channels=True)
    x = PIXELS[..., :1]
    same(run(grey, x), run(model, np.repeat(x, 3, axis=-1)))


@pytest.mark.parametrize("channels", [2, 4, 7])
def test_more_channels_repeat_the_kernels(saved, channels):
    model, path = saved
    options = {**TINY, "input_shape": (32, 32, channels)}
    other = kcc.VGG11(**options, weights=path, adapt_input_channels=True)
    kernel, bias = model.layers[1].get_weights()
    expected = np.stack([kernel[:, :, i % 3] for i in range(channels)], axis=2) * 3 / channels
    np.testing.assert_allclose(other.layers[1].get_weights()[0], expected, rtol=1e-6)
    np.testing.assert_array_equal(other.layers[1].get_weights()[1], bias)


@pytest.mark.slow_compiled
@pytest.mark.parametrize("name", ["EfficientNetB0", "MobileNet", "InceptionV3", "ResNet50V2"])
def test_grey_images_for_networks_that_prepare_or_pad_them(name, tmp_path):
    builder, path = kcc.get_builder(name), tmp_path / "saved.weights.h5"
    contracts.tiny(builder).save_weights(path)
    shape = (*contracts.image_shape(builder)[:2], 1)
    grey = contracts.tiny(builder, input_shape=shape, weights=path, adapt_input_channels=True)
    assert np.isfinite(run(grey, contracts.images(shape))).all()


@pytest.mark.slow_compiled
def test_other_channels_need_to_be_asked_for(saved):
    _, path = saved
    with pytest.raises(errors.MismatchError, match="adapt_input_channels=True"):
        kcc.VGG11(**{**TINY, "input_shape": (32, 32, 1)}, weights=path)
    with pytest.raises(ValueError, match="adapt_input_channels=True"):
        kcc.VGG16(input_shape=(224, 224, 4))


@pytest.mark.slow_compiled
def test_adapted_from_a_converted_checkpoint(tmp_path):
    """The channels of PyTorch's kernels are elsewhere."""
    model, path = contracts.tiny(kcc.ResNet18), tmp_path / "theirs.safetensors"
    write_checkpoint(kcc.ResNet18, model, path)
    shape = (*contracts.image_shape(kcc.ResNet18)[:2], 1)
    grey = contracts.tiny(kcc.ResNet18, input_shape=shape, weights=path, adapt_input_channels=True)
    x = contracts.images(shape)
    same(run(grey, x), run(model, np.repeat(x, 3, axis=-1)))


# Preparing images inside


@pytest.mark.parametrize(
    "name", [*map(slow_compiled, ("VGG11", "MobileNetV2", "ResNet50")), "LeNet5"]
)
def test_preparing_images_inside(name, tmp_path):
    builder = kcc.get_builder(name)
    shape = contracts.image_shape(builder)
    inside = contracts.tiny(builder, include_preprocessing=True)
    outside = contracts.tiny(builder)
    outside.set_weights(inside.get_weights())
    x = np.random.default_rng(1).integers(0, 256, (2, *shape)).astype("float32")
    prepare = model_preprocessing(outside)
    assert prepare.keywords["mode"] == builder.spec.preprocessing
    same(run(inside, x), run(outside, prepare(x)))
    inside.save(tmp_path / "inside.keras")
    again = keras.saving.load_model(tmp_path / "inside.keras")
    same(run(again, x), run(inside, x))
    for model in (inside, again):
        np.testing.assert_array_equal(model_preprocessing(model)(x), x)


@pytest.mark.slow_compiled
@pytest.mark.parametrize("form", ["weights.h5", "keras", "h5"])
def test_files_with_and_without_it_go_with_both(form, tmp_path):
    path, options = tmp_path / f"saved.{form}", {**TINY, "classifier_activation": None}
    for written in (True, False):
        model = kcc.VGG11(**options, weights=None, include_preprocessing=written)
        (model.save_weights if form == "weights.h5" else model.save)(path)
        expected = run(model, PIXELS if written else preprocess_input(PIXELS))
        again = kcc.VGG11(**options, weights=path, include_preprocessing=True)
        same(run(again, PIXELS), expected)
        again = kcc.VGG11(**options, weights=path)
        same(run(again, preprocess_input(PIXELS)), expected)
        assert model_preprocessing(again).keywords["mode"] == "caffe"


def test_a_saved_model_says_how_it_prepares_images(tmp_path):
    """Weights from PyTorch want its mode, whatever the paper's; a path does not say where from."""
    path = tmp_path / "tuned.keras"
    write_checkpoint(kcc.VGG11, contracts.tiny(kcc.VGG11), tmp_path / "theirs.safetensors")
    options = {"weights": tmp_path / "theirs.safetensors", "include_preprocessing": True}
    model = contracts.tiny(kcc.VGG11, **options)
    model.save(path)
    again = contracts.tiny(kcc.VGG11, weights=path)
    assert model_preprocessing(again).keywords["mode"] == "torch"
    inside = contracts.tiny(kcc.VGG11, weights=path, include_preprocessing=True)
    assert inside.get_layer("preprocessing").mode == "torch"
    same(run(inside, PIXELS), run(model, PIXELS))


def test_preparing_images_behind_other_layers_and_with_a_prefix(saved):
    model, path = saved
    image = keras.Input((64, 64, 3), name="photo")
    half = keras.layers.AveragePooling2D(2, name="half")(image)
    options = {**TINY, "input_shape": None, "classifier_activation": None, "weights": path}
    behind = kcc.VGG11(**options, input_tensor=half, include_preprocessing=True, prefix="left_")
    names = [layer.name for layer in behind.layers]
    assert names[:4] == ["photo", "half", "left_preprocessing", "left_block1_conv1"]
    x = np.repeat(np.repeat(PIXELS, 2, axis=1), 2, axis=2)
    same(run(behind, x), run(model, preprocess_input(PIXELS)))
    alone = kcc.VGG11(**TINY, weights=path, include_preprocessing=True, prefix="b_")
    assert [one.name for one in alone.layers][:3] == [
        "b_image",
        "b_preprocessing",
        "b_block1_conv1",
    ]


def test_preparing_images_under_auxiliary_classifiers():
    options = {"width": 0.25, "classes": 5, "input_shape": (32, 32, 3), "weights": None}
    inside = kcc.GoogLeNetBN(**options, aux=True, include_preprocessing=True)
    assert sorted(inside.output) == ["aux1", "aux2", "predictions"]


def test_half_precision_does_not_spoil_the_preparing(saved):
    _, path = saved
    options = {**TINY, "weights": path, "include_preprocessing": True}
    expected = run(kcc.VGG11(**options), PIXELS)
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = kcc.VGG11(**options)
    finally:
        keras.config.set_dtype_policy(before)
    assert model.get_layer("preprocessing").compute_dtype == "float32"
    np.testing.assert_allclose(run(model, PIXELS), expected, atol=0.05)


# Which preprocessing a model wants


def test_preprocessing_follows_the_weights(tmp_path):
    options = {**TINY, "include_top": False, "weights": None}
    assert model_preprocessing(kcc.VGG11(**options)).keywords["mode"] == "caffe"
    model, path = contracts.tiny(kcc.VGG11), tmp_path / "theirs.safetensors"
    write_checkpoint(kcc.VGG11, model, path)
    loaded = contracts.tiny(kcc.VGG11, weights=path)
    assert model_preprocessing(loaded).keywords["mode"] == "torch"
    # A model made of parts of a network, or with one inside, wants what that wants.
    cut = keras.Model(loaded.input, loaded.get_layer("block3_pool").output)
    inside = keras.Sequential([cut, keras.layers.Flatten(), keras.layers.Dense(2)])
    for one in (cut, inside):
        assert model_preprocessing(one).keywords["mode"] == "torch"
    grey = kcc.VGG11(
        **{**TINY, "input_shape": (32, 32, 1)}, weights=None, adapt_input_channels=True
    )
    means = np.mean([103.939, 116.779, 123.68])
    got = model_preprocessing(grey)(PIXELS[..., :1])
    np.testing.assert_allclose(got, PIXELS[..., :1] - means, rtol=1e-4, atol=1e-4)


def test_four_channels_are_red_green_blue_and_another():
    x = np.concatenate([PIXELS, PIXELS[..., :1]], axis=-1)
    for data in (x, np.moveaxis(x, -1, 1)):
        layout = "channels_last" if data.shape[-1] == 4 else "channels_first"
        got = preprocess_input(data, "caffe", layout, adapt_channels=True)
        got = got if layout == "channels_last" else np.moveaxis(got, 1, -1)
        np.testing.assert_allclose(got[..., :3], preprocess_input(PIXELS, "caffe"), rtol=1e-5)
        means = np.mean([103.939, 116.779, 123.68])
        np.testing.assert_allclose(got[..., 3], x[..., 3] - means, rtol=1e-4, atol=1e-4)


@pytest.mark.slow_compiled
def test_efficientnet_prepares_images_itself_unless_told():
    options = {"weights": None, "input_shape": (32, 32, 3), "include_top": False}
    model = kcc.EfficientNetB0(**options)
    assert model_preprocessing(model).keywords["mode"] == "none"
    bare = kcc.EfficientNetB0(**options, include_preprocessing=False)
    assert model_preprocessing(bare).keywords["mode"] == "torch"
    bare.set_weights(model.get_weights())
    same(run(bare, preprocess_input(PIXELS, "torch")), run(model, PIXELS))


def test_a_model_whose_preprocessing_nobody_knows(tmp_path):
    model = kcc.VGG11(**TINY, weights=None)
    model.save(tmp_path / "plain.keras")
    with pytest.raises(ValueError, match=r"include_preprocessing=True.*nothing is known"):
        model_preprocessing(keras.saving.load_model(tmp_path / "plain.keras"))
    other = kcc.MobileNet(alpha=0.25, input_shape=(32, 32, 3), weights=None, include_top=False)
    image = keras.Input((32, 32, 3))
    both = keras.Model(image, [model(image), other(image)])
    with pytest.raises(ValueError, match="want 'caffe' and 'tf'"):
        model_preprocessing(both)


# Weights that fit in part


def test_what_fits_is_loaded(saved, caplog):
    model, path = saved
    with caplog.at_level(logging.WARNING, "keras_cnn_classics"):
        other = kcc.VGG13(
            **{**TINY, "units": (32, 20), "classes": 9}, weights=path, skip_mismatch=True
        )
    (record,) = caplog.records
    message = record.getMessage()
    assert "missing layers block1_conv2, block2_conv2" in message
    assert "another shape fc2" in message
    assert "predictions" in message
    for name in ("block1_conv1", "block5_conv2", "fc1"):
        for a, b in zip(*(m.get_layer(name).get_weights() for m in (model, other)), strict=True):
            np.testing.assert_array_equal(a, b)
    assert other.get_layer("fc2").get_weights()[0].std() > 0  # drawn, as ever


def test_what_fits_of_a_checkpoint_is_loaded(tmp_path, caplog):
    model, path = contracts.tiny(kcc.ResNet18), tmp_path / "theirs.safetensors"
    tensors = write_checkpoint(kcc.ResNet18, model, path)
    save_file({**tensors, "neck.weight": np.zeros(3, "float32")}, path)
    with pytest.raises(errors.MismatchError, match=r"no layer neck\.weight"):
        contracts.tiny(kcc.ResNet18, weights=path)
    with caplog.at_level(logging.WARNING, "keras_cnn_classics"):
        again = contracts.tiny(kcc.ResNet18, weights=path, skip_mismatch=True)
    assert "neck.weight" in caplog.text
    for a, b in zip(model.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_nothing_that_fits_is_an_error_all_the_same(tmp_path):
    path = tmp_path / "other.weights.h5"
    contracts.tiny(kcc.ResNet18).save_weights(path)
    with pytest.raises(errors.MismatchError, match="missing layers"):
        kcc.VGG11(**TINY, weights=path, skip_mismatch=True)


def test_all_that_fits_is_no_warning(saved, caplog):
    _, path = saved
    with caplog.at_level(logging.WARNING, "keras_cnn_classics"):
        kcc.VGG11(**TINY, weights=path, skip_mismatch=True)
    assert not caplog.records


@pytest.mark.slow_compiled
def test_auxiliary_classifiers_may_start_afresh(tmp_path, caplog):
    options = {"width": 0.25, "classes": 5, "input_shape": (32, 32, 3)}
    kcc.GoogLeNetBN(**options, weights=None).save_weights(tmp_path / "plain.weights.h5")
    with caplog.at_level(logging.WARNING, "keras_cnn_classics"):
        model = kcc.GoogLeNetBN(
            **options, aux=True, weights=tmp_path / "plain.weights.h5", skip_mismatch=True
        )
    assert "missing layers aux1_conv" in caplog.text
    assert sorted(model.output) == ["aux1", "aux2", "predictions"]


@pytest.mark.parametrize("flag", ["include_preprocessing", "adapt_input_channels", "skip_mismatch"])
def test_flags_are_true_or_false(flag):
    with pytest.raises(ValueError, match=f"`{flag}` must be True or False. Received: {flag}='yes'"):
        kcc.VGG16(weights=None, **{flag: "yes"})


def test_options_that_contradict_published_weights_are_refused_all_the_same():
    """They fit, and would answer otherwise: here no shape tells."""
    with pytest.raises(ValueError, match=r"stride_in='3x3'.*Received: stride_in='1x1'"):
        kcc.ResNet50(weights="imagenet/timm-a1", stride_in="1x1", skip_mismatch=True)


@pytest.mark.parametrize(
    ("name", "options"),
    [("EfficientNetB0", {"drop_connect": 0.3}), ("ResNet18", {"depths": [2, 2, 2, 2]})],
)
def test_options_of_training_and_other_types_contradict_nothing(name, options):
    with pytest.raises(errors.OfflineError):  # which comes after all checks
        kcc.build(name, **options)


@pytest.mark.parametrize("form", ["weights.h5", "keras", "h5"])
def test_options_may_be_numpys_numbers(form, tmp_path):
    options = {"depth": np.int64(8), "classes": 5, "weights": None}
    model, path = kcc.ResNet20(**options), tmp_path / f"saved.{form}"
    (model.save_weights if form == "weights.h5" else model.save)(path)
    again = kcc.ResNet20(**{**options, "weights": path})
    np.testing.assert_array_equal(model.get_weights()[0], again.get_weights()[0])


def test_a_width_that_is_not_published_names_those_that_are():
    with pytest.raises(ValueError, match=r"alpha=1\.0 or 0\.75 or 0\.5 or 0\.25\. .*alpha=0\.6"):
        kcc.MobileNet(alpha=0.6)


# Keras's old files by their order


def write_old_h5(model, path):
    """Keras's old layout, with names of the layers that nobody else gave."""
    weighted = [layer for layer in model.layers if layer.weights]
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [f"mine_{i}x".encode() for i in range(len(weighted))]
        for i, layer in enumerate(weighted):
            group = file.create_group(f"mine_{i}x")
            group.attrs["weight_names"] = [f"w{j}".encode() for j in range(len(layer.weights))]
            for j, value in enumerate(layer.get_weights()):
                group[f"w{j}"] = value


@pytest.mark.parametrize("include_top", [True, False])
def test_a_file_with_names_of_its_own(saved, include_top, tmp_path, caplog):
    model, path = saved[0], tmp_path / "old.h5"
    write_old_h5(model, path)
    with caplog.at_level(logging.WARNING, "keras_cnn_classics"):
        again = kcc.VGG11(**TINY, weights=path, include_top=include_top)
    assert "other names than vgg11, but its shapes in their order" in caplog.text
    for layer in again.layers:
        theirs = model.get_layer(layer.name).get_weights()
        for a, b in zip(theirs, layer.get_weights(), strict=True):
            np.testing.assert_array_equal(a, b)


def test_another_order_is_no_match(saved, tmp_path):
    write_old_h5(saved[0], tmp_path / "old.h5")
    with pytest.raises(errors.MismatchError, match="missing layers block1_conv1"):
        kcc.VGG13(**TINY, weights=tmp_path / "old.h5")


@pytest.mark.parametrize("alike", [True, False])
def test_a_whole_models_connections_are_compared_whatever_its_names(alike, tmp_path, caplog):
    """Names do not matter then, and the log says nothing; other connections are another network."""
    options = {"depth": 8, "classes": 5}
    model = (kcc.ResNet20 if alike else kcc.PlainNet20)(**options, weights=None)

    def renamed(layer):
        config = {**layer.get_config(), "name": f"my_{layer.name}_x"}
        return layer.__class__.from_config(config)

    copy = keras.models.clone_model(model, clone_function=renamed)
    copy.set_weights(model.get_weights())
    copy.save(tmp_path / "old.h5")
    if not alike:
        with pytest.raises(errors.MismatchError, match="is given"):
            kcc.ResNet20(**options, weights=tmp_path / "old.h5")
        return
    with caplog.at_level(logging.WARNING, "keras_cnn_classics"):
        again = kcc.ResNet20(**options, weights=tmp_path / "old.h5")
    assert "order" not in caplog.text
    for a, b in zip(model.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


# Files that are not what they seem


@pytest.mark.parametrize("form", ["weights.h5", "h5"])
@pytest.mark.parametrize("kind", ["external", "virtual", "soft link", "external link"])
def test_arrays_from_elsewhere_are_not_read(saved, form, kind, tmp_path):
    """HDF5 could take them from any file of the machine."""
    path, secret = tmp_path / f"bad.{form}", tmp_path / "secret"
    secret.write_bytes(bytes(range(64)))
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["x"] = np.ones(16, "float32")
    if form == "h5":
        write_old_h5(saved[0], path)
        place = "mine_0x/w1"
    else:
        path.write_bytes(saved[1].read_bytes())
        place = "layers/conv2d/vars/1"
    with h5py.File(path, "a") as file:
        del file[place]
        if kind == "external":
            file.create_dataset(place, (16,), "f4", external=[(str(secret), 0, 64)])
        elif kind == "virtual":
            layout = h5py.VirtualLayout((16,), "f4")
            layout[:] = h5py.VirtualSource(str(tmp_path / "other.h5"), "x", (16,))
            file.create_virtual_dataset(place, layout)
        elif kind == "soft link":
            file[place] = h5py.SoftLink("/elsewhere")
        else:
            file[place] = h5py.ExternalLink(str(tmp_path / "other.h5"), "x")
    with pytest.raises(errors.UnsafeError, match="not in it, but"):
        kcc.VGG11(**TINY, weights=path)


def test_a_saved_model_that_would_fill_the_disk(saved, tmp_path):
    saved[0].save(tmp_path / "good.keras")
    with (
        zipfile.ZipFile(tmp_path / "good.keras") as good,
        zipfile.ZipFile(tmp_path / "bomb.keras", "w", zipfile.ZIP_DEFLATED) as bomb,
    ):
        bomb.writestr("config.json", good.read("config.json"))
        bomb.writestr("model.weights.h5", b"\0" * 50_000_000)
    with pytest.raises(errors.UnsafeError, match="50,000,000 bytes unpacked"):
        kcc.VGG11(**TINY, weights=tmp_path / "bomb.keras")


@pytest.mark.parametrize("form", ["weights.h5", "h5", "keras", "safetensors", "pth"])
def test_a_page_of_text_is_called_so(form, tmp_path):
    (tmp_path / f"page.{form}").write_text("\n<!-- login --><html></html>")
    with pytest.raises(errors.FormatError, match="page of text"):
        kcc.VGG11(**TINY, weights=tmp_path / f"page.{form}")


def test_the_other_layout_of_keras_is_called_so(saved, tmp_path):
    model, path = saved
    (tmp_path / "new.h5").write_bytes(path.read_bytes())
    with pytest.raises(errors.FormatError, match=r"names end in \.weights\.h5: rename it"):
        kcc.VGG11(**TINY, weights=tmp_path / "new.h5")
    write_old_h5(model, tmp_path / "old.weights.h5")
    with pytest.raises(errors.FormatError, match=r"names end in \.h5: rename it"):
        kcc.VGG11(**TINY, weights=tmp_path / "old.weights.h5")


# Published weights, from a mirror


@pytest.fixture
def publish(monkeypatch, tmp_path):
    """Registers a small network of a family, with weights that stand on this disk."""
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("KCC_WEIGHTS_MIRROR", tmp_path.as_uri())
    monkeypatch.delenv("KCC_OFFLINE")
    monkeypatch.setattr(registry, "_BUILDERS", dict(registry._BUILDERS))

    def make(module, trunk, of, **sources):
        spec = kcc.get_builder(of).spec
        row = {**spec.config, **spec.tiny}
        return getattr(module, trunk).variant(
            f"Small{of}", params=1, macs=1, features=1, weights=sources, **row
        )

    return make


def source(name, **facts):
    return WeightsSource(WeightsFile(f"https://example.org/{name}"), license="MIT", **facts)


def test_a_checkpoint_is_converted_once(publish, tmp_path):
    from keras_cnn_classics.applications import resnet

    builder = publish(
        resnet, "resnet", "ResNet18", imagenet=source("theirs.safetensors", options={})
    )
    model = builder(weights=None)
    write_checkpoint(builder, model, tmp_path / "theirs.safetensors")
    again = builder()
    for a, b in zip(model.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    home = tmp_path / "home/models"
    copy = _copies.find(builder.spec.weights["imagenet"].top, "SmallResNet18")
    assert sorted(one.name for one in home.glob("t*")) == ["theirs.safetensors", copy.name]
    assert copy.name.startswith("theirs.safetensors.SmallResNet18.")
    (home / "theirs.safetensors").unlink()
    (tmp_path / "theirs.safetensors").unlink()
    before = copy.stat().st_mtime_ns
    trunk = builder(include_top=False)  # of the copy alone
    for layer in trunk.layers:
        for a, b in zip(
            layer.get_weights(), model.get_layer(layer.name).get_weights(), strict=True
        ):
            np.testing.assert_array_equal(a, b)
    assert copy.stat().st_mtime_ns == before
    # It is Keras's own layout, which Keras reads by itself.
    fresh = builder(weights=None)
    fresh.load_weights(copy)
    np.testing.assert_array_equal(fresh.get_weights()[0], model.get_weights()[0])


def test_a_copy_that_cannot_be_kept_is_not_needed(publish, tmp_path, monkeypatch, caplog):
    from keras_cnn_classics.applications import resnet

    def full(*_):
        raise OSError(28, "No space left on device")

    builder = publish(resnet, "resnet", "ResNet18", imagenet=source("theirs.safetensors"))
    model = builder(weights=None)
    write_checkpoint(builder, model, tmp_path / "theirs.safetensors")
    monkeypatch.setattr(_files, "write_weights_h5", full)
    with caplog.at_level(logging.WARNING, "keras_cnn_classics"):
        again = builder()
    assert "No space left" in caplog.text
    np.testing.assert_array_equal(model.get_weights()[0], again.get_weights()[0])
    assert [one.name for one in (tmp_path / "home/models").glob("[!.]*")] == ["theirs.safetensors"]


def test_a_checkpoint_that_does_not_fit_leaves_no_copy(publish, tmp_path):
    from keras_cnn_classics.applications import resnet

    builder = publish(resnet, "resnet", "ResNet18", imagenet=source("theirs.safetensors"))
    tensors = write_checkpoint(builder, builder(weights=None), tmp_path / "theirs.safetensors")
    del tensors["conv1.weight"]
    save_file(tensors, tmp_path / "theirs.safetensors")
    with pytest.raises(errors.MismatchError, match=r"SmallResNet18.*missing layers conv1_conv"):
        builder()
    assert not list((tmp_path / "home/models").glob("*.weights.h5"))


def test_a_copy_that_was_damaged_or_is_old_is_made_anew(publish, tmp_path):
    from keras_cnn_classics.applications import resnet

    builder = publish(resnet, "resnet", "ResNet18", imagenet=source("theirs.safetensors"))
    model = builder(weights=None)
    write_checkpoint(builder, model, tmp_path / "theirs.safetensors")
    builder()
    copy = _copies.find(builder.spec.weights["imagenet"].top, "SmallResNet18")
    with h5py.File(copy, "a") as file:
        file["layers/conv2d/vars/0"][:] = 0
    old = copy.with_name(copy.name.replace(_copies.__version__, "0.0.9"))
    old.write_bytes(b"of another version")
    again = builder()
    np.testing.assert_array_equal(model.get_weights()[0], again.get_weights()[0])
    found = _copies.verified(builder.spec.weights["imagenet"].top, "SmallResNet18")
    assert list(copy.parent.glob("*.weights.h5")) == [found]


@pytest.mark.parametrize("name", ["theirs.pth", "theirs.safetensors"])
def test_a_package_that_is_missing_is_found_out_before_a_download(
    publish, name, tmp_path, monkeypatch
):
    from keras_cnn_classics.applications import resnet

    builder = publish(resnet, "resnet", "ResNet18", imagenet=source(name))
    monkeypatch.setattr(_files.importlib.util, "find_spec", lambda _: None)
    if name.endswith("pth"):
        with pytest.raises(ImportError, match=r"theirs\.pth needs PyTorch: pip install torch"):
            builder()
    else:
        write_checkpoint(builder, builder(weights=None), tmp_path / name)
        builder()
    assert (tmp_path / "home/models" / name).is_file() == (not name.endswith("pth"))


def test_options_come_with_the_weights(publish, tmp_path):
    from keras_cnn_classics.applications import resnet

    theirs = source("theirs.safetensors", options={"stride_in": "3x3", "bias": False})
    own = source("own.weights.h5")
    tags = {"imagenet": own, "imagenet/theirs": theirs}
    builder = publish(resnet, "resnet", "ResNet50", **tags)
    model = builder(weights=None, **theirs.options)
    write_checkpoint(builder, model, tmp_path / "theirs.safetensors", **theirs.options)
    again = builder(weights="imagenet/theirs")
    assert again.get_layer("conv3_block1_2_conv").strides == (2, 2)
    with pytest.raises(
        ValueError, match=r"are for stride_in='3x3'\. .* may be None or 'imagenet'\."
    ):
        builder(weights="imagenet/theirs", stride_in="1x1")
    with pytest.raises(ValueError, match=r"for stride_in='1x1'\. .* None or 'imagenet/theirs'\."):
        builder(stride_in="3x3")


def test_a_converted_file_knows_its_network(publish, tmp_path):
    """It fits the network with other options, too, and would answer otherwise."""
    from keras_cnn_classics.applications import resnet

    theirs = source("theirs.safetensors", options={"stride_in": "3x3"}, preprocessing="tf")
    builder = publish(resnet, "resnet", "ResNet50", imagenet=theirs)
    model = builder(weights=None, stride_in="3x3")
    write_checkpoint(builder, model, tmp_path / "theirs.safetensors", stride_in="3x3")
    assert model_preprocessing(builder()).keywords["mode"] == "tf"
    copy = _copies.find(theirs.top, "SmallResNet50")
    with pytest.raises(errors.MismatchError, match="for stride_in='3x3', not '1x1'"):
        builder(weights=copy)
    again = builder(weights=copy, stride_in="3x3")
    assert model_preprocessing(again).keywords["mode"] == "tf"
    with pytest.raises(errors.MismatchError, match="it is of SmallResNet50"):
        contracts.tiny(kcc.ResNet50, weights=copy, stride_in="3x3")


def test_published_weights_of_a_network_that_prepares_images_itself(publish, tmp_path):
    from keras_cnn_classics.applications import efficientnet

    theirs = source("theirs.safetensors", preprocessing="none")
    builder = publish(efficientnet, "efficientnet", "EfficientNetB0", imagenet=theirs)
    model = builder(weights=None)
    write_checkpoint(builder, model, tmp_path / "theirs.safetensors")
    for options, mode in (({}, "none"), ({"include_preprocessing": False}, "torch")):
        again = builder(input_shape=(32, 32, 3), **options)
        assert model_preprocessing(again).keywords["mode"] == mode
        np.testing.assert_array_equal(again.get_weights()[0], model.get_weights()[0])


@pytest.mark.slow_compiled
def test_auxiliary_classifiers_of_published_weights(publish, tmp_path, caplog):
    from keras_cnn_classics.applications import googlenet

    builder = publish(
        googlenet, "googlenet_bn", "GoogLeNetBN", imagenet=source("theirs.safetensors")
    )
    model = builder(weights=None, aux=True)
    write_checkpoint(builder, model, tmp_path / "theirs.safetensors", aux=True)
    with caplog.at_level(logging.WARNING, "keras_cnn_classics"):
        both, alone, trunk = builder(aux=True), builder(), builder(include_top=False)
    assert not caplog.records
    for again in (both, alone, trunk):
        for layer in again.layers:
            theirs = model.get_layer(layer.name).get_weights()
            for a, b in zip(layer.get_weights(), theirs, strict=True):
                np.testing.assert_array_equal(a, b)
    with caplog.at_level(logging.WARNING, "keras_cnn_classics"):
        other = builder(aux=True, classes=5)
    (record,) = caplog.records
    assert "`predictions`, `aux1`, `aux2` start" in record.getMessage()
    first = next(x for x in other.layers if x.name.startswith("aux1") and x.weights)
    np.testing.assert_array_equal(
        first.get_weights()[0], model.get_layer(first.name).get_weights()[0]
    )


@pytest.mark.slow_compiled
def test_auxiliary_classifiers_that_are_not_published_start_afresh(publish, tmp_path, caplog):
    from keras_cnn_classics.applications import googlenet

    builder = publish(
        googlenet, "googlenet_bn", "GoogLeNetBN", imagenet=source("plain.safetensors")
    )
    write_checkpoint(builder, builder(weights=None), tmp_path / "plain.safetensors")
    with caplog.at_level(logging.WARNING, "keras_cnn_classics"):
        builder(aux=True)
    (record,) = caplog.records
    assert "no such auxiliary classifier" in record.getMessage()


def test_a_guess_at_the_preprocessing_is_logged(saved, caplog):
    model = kcc.VGG11(**TINY, weights=saved[1])
    with caplog.at_level(logging.WARNING, "keras_cnn_classics"):
        assert model_preprocessing(model).keywords["mode"] == "caffe"
    assert "does not say how images are prepared: mode 'caffe' is taken" in caplog.text
    caplog.clear()
    with caplog.at_level(logging.WARNING, "keras_cnn_classics"):
        model_preprocessing(kcc.VGG11(**TINY, weights=None))
    assert not caplog.records


def test_a_model_that_is_cut_behind_what_prepares_images():
    inside = kcc.VGG11(**TINY, weights=None, include_preprocessing=True)
    cut = keras.Model(inside.get_layer("preprocessing").output, inside.output)
    assert model_preprocessing(cut).keywords["mode"] == "caffe"
    grey = kcc.VGG11(
        **{**TINY, "input_shape": (32, 32, 1)},
        weights=None,
        include_preprocessing=True,
        adapt_input_channels=True,
    )
    assert model_preprocessing(grey).keywords["mode"] == "none"
    for other in (None, "VGG11", kcc.VGG11):
        with pytest.raises(ValueError, match="must be a Keras model"):
            model_preprocessing(other)


def test_weights_for_non_commercial_use_say_so(publish, tmp_path, caplog):
    from keras_cnn_classics.applications import resnet

    theirs = WeightsSource(WeightsFile("https://example.org/t.weights.h5"), license="CC BY-NC 4.0")
    builder = publish(resnet, "resnet", "ResNet18", mine=theirs)
    builder(weights=None).save_weights(tmp_path / "t.weights.h5")
    with caplog.at_level(logging.WARNING, "keras_cnn_classics"):
        builder(weights="mine")
    assert "non-commercial use only, CC BY-NC 4.0" in caplog.text


# From our layout to PyTorch's and back


def checkpoint_names(builder, path, **options):
    """What the loader is told of the names in checkpoints; nothing for a network without any."""
    told = {}

    def convert(tensors, names, layers):
        told.update(names)
        return {}, []

    save_file({"nothing": np.zeros(1)}, path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch_layout, "convert", convert)
        with pytest.raises(errors.WeightsError):
            contracts.tiny(builder, weights=path, **options)
    return told


def write_checkpoint(builder, model, path, **options):
    """A model in PyTorch's layout, under the first of the names that its family states."""
    names = checkpoint_names(builder, path, **options)
    tensors, flat = {}, {}
    for layer in model.layers:
        before = flat.get(id(layer.input)) if not isinstance(layer.input, list) else None
        if isinstance(layer, keras.layers.Flatten):
            flat[id(layer.output)] = tuple(layer.input.shape[1:])
        elif before and not isinstance(layer, keras.layers.Dense):
            flat[id(layer.output)] = before
        if not layer.weights or layer.name not in names:
            continue
        first = names[layer.name][0]
        modules = (first,) if isinstance(first, str) else first
        arrays = layer.get_weights()
        if isinstance(layer, keras.layers.BatchNormalization):
            if not layer.scale:
                arrays.insert(0, np.ones_like(arrays[0]))
            parts = ("weight", "bias", "running_mean", "running_var")
            tensors[f"{first}.num_batches_tracked"] = np.array(7)
        elif len(modules) == 2:
            parts, arrays = ("weight",), arrays[:]
            tensors[f"{modules[1]}.weight"] = arrays.pop(1).transpose(3, 2, 0, 1)
            if len(arrays) > 1:
                tensors[f"{modules[1]}.bias"] = arrays.pop(1)
            arrays = [depthwise(arrays[0])]
        else:
            parts = ("weight", "bias")
            kernel = arrays[0]
            if isinstance(layer, keras.layers.DepthwiseConv2D):
                kernel = depthwise(kernel)
            elif kernel.ndim == 4:
                kernel = kernel.transpose(3, 2, 0, 1)
            elif before:
                kernel = kernel.reshape(*before, -1).transpose(3, 2, 0, 1)
                kernel = kernel.reshape(len(kernel), -1)
            else:
                kernel = kernel.T
            arrays[0] = kernel
        for part, array in zip(parts, arrays, strict=False):
            tensors[f"{modules[0]}.{part}"] = array
    tensors = {key: np.ascontiguousarray(value) for key, value in tensors.items()}
    save_file(tensors, path)
    return tensors


def depthwise(kernel):
    height, width, channels, each = kernel.shape
    return kernel.transpose(2, 3, 0, 1).reshape(channels * each, 1, height, width)


# The first network of each form of names.
TORCH_FORMS = (
    *("AlexNetSingle", "AlexNetOWT", "ZFNet", "GoogLeNetBN", "VGG11", "VGG11BN", "BNInception"),
    *("InceptionV3", "ResNet18", "ResNet50", "ResNet20", "DenseNet121", "DenseNet40_12"),
    *("DenseNetBC100_12", "InceptionResNetV1", "InceptionResNetV2", "InceptionV4", "ResNet200V2"),
    *("ResNet110V2", "ResNet164V2", "ResNeXt50_32x4d", "SqueezeNet1_0", "WideResNet50_2"),
    *("StochasticDepthResNet110", "WideResNet16_10", "Xception", "MobileNet", "NASNetLarge"),
    *("SEResNet50", "SENet154", "MobileNetV2", "EfficientNetB0", "NIN", "NINCIFAR"),
    *("PolyNet", "PyramidNet200", "PyramidNet110", "DPN92", "Attention56"),
)
# With layers of several kernels, or of three dimensions: their checkpoints are among tests/parity.
ELSEWHERE = {"c3d", "cbam", "self_attention"}


def test_every_family_with_names_is_here(tmp_path):
    tested = ELSEWHERE | {kcc.get_builder(name).spec.family for name in TORCH_FORMS}
    others = [name for name in kcc.list_models() if kcc.get_builder(name).spec.family not in tested]
    assert not [
        name
        for name in others
        if checkpoint_names(kcc.get_builder(name), tmp_path / "ours.safetensors")
    ]


@pytest.mark.slow_compiled
@pytest.mark.parametrize("name", TORCH_FORMS)
def test_to_pytorchs_layout_and_back(name, tmp_path):
    builder, path = kcc.get_builder(name), tmp_path / "ours.safetensors"
    model = contracts.tiny(builder)
    rng = np.random.default_rng(0)
    model.set_weights([rng.uniform(0.5, 1.5, w.shape) for w in model.get_weights()])
    tensors = write_checkpoint(builder, model, path)
    save_file({f"module.{key}": value for key, value in tensors.items()}, path)
    again = contracts.tiny(builder, weights=path)
    for layer in model.layers:
        theirs, ours = layer.get_weights(), again.get_layer(layer.name).get_weights()
        for a, b in zip(theirs, ours, strict=True):
            np.testing.assert_array_equal(a, b, err_msg=layer.name)
