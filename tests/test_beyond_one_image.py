"""Facts of C3D, whose input is a clip, and of DeepFace, whose kernels are everywhere others."""

import keras
import numpy as np
import pytest

import keras_cnn_classics as kcc
from keras_cnn_classics.inspection import count
from keras_cnn_classics.preprocessing import model_preprocessing, preprocess_input
from keras_cnn_classics.testing import contracts
from keras_cnn_classics.weights import deferred

SMALL = kcc.get_builder("C3D").spec.tiny


def shapes(build, names):
    model = deferred.build_empty(build)
    return [tuple(model.get_layer(name).output.shape[1:]) for name in names]


def test_c3ds_figure_3():
    pools = [f"pool{i}" for i in range(1, 6)]
    assert shapes(kcc.C3D, pools) == [
        (16, 56, 56, 64),
        (8, 28, 28, 128),
        (4, 14, 14, 256),
        (2, 7, 7, 512),
        (1, 4, 4, 512),
    ]


def test_deepfaces_figure_2():
    names = ["c1", "m2", "c3", "l4", "l5", "l6", "fc7", "predictions"]
    assert shapes(kcc.DeepFace, names) == [
        (142, 142, 32),
        (71, 71, 32),
        (63, 63, 16),
        (55, 55, 16),
        (25, 25, 16),
        (21, 21, 16),
        (4096,),
        (4030,),
    ]


def test_deepface_of_the_public_weights():
    counted = count(deferred.build_empty(lambda: kcc.DeepFace(classes=8631)))
    assert counted.params == 137_774_071
    assert round(counted.macs / 1e6, 1) == 536.5


@pytest.mark.parametrize("name", ["C3D", "DeepFace"])
def test_the_smallest_input_leaves_one_cell(name):
    builder = kcc.get_builder(name)
    model = contracts.tiny(builder, include_top=False)
    assert set(model.output_shape[1:-1]) == {1}


def test_longer_and_larger_clips():
    trunk = kcc.C3D(include_top=False, width=16)
    assert trunk.input_shape == (None, None, None, None, 3)
    assert trunk.compute_output_shape((1, 32, 128, 160, 3)) == (1, 2, 4, 5, 128)
    pooled = kcc.C3D(include_top=False, pooling="avg", width=16)
    clips = contracts.images((32, 32, 48, 3))
    got = keras.ops.convert_to_numpy(pooled(clips))
    pooled_by_hand = keras.Model(pooled.input, pooled.get_layer("pool5").output)(clips)
    expected = keras.ops.convert_to_numpy(pooled_by_hand).mean((1, 2, 3))
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("C3D", {"input_shape": (112, 112, 3)}, r"must be \(frames, height, width, channels\)"),
        ("C3D", {"input_shape": (8, 112, 112, 3)}, "needs clips of at least 16 frames"),
        ("C3D", {"input_shape": (16, 8, 8, 3)}, "needs images of at least 16x16 pixels"),
        (
            "C3D",
            {"input_shape": (None, 112, 112, 3)},
            "needs a fixed length, height and width",
        ),
        ("C3D", {"padding": "valid"}, "`padding` must be one of 'same', 'symmetric'"),
        ("DeepFace", {"input_shape": (16, 152, 152, 3)}, r"must be \(height, width, channels\)"),
        (
            "DeepFace",
            {"input_shape": (None, None, 3), "include_top": False},
            "weights for every place of the image, and so needs a fixed height and width",
        ),
    ],
)
def test_inputs_that_do_not_fit(name, arguments, message):
    with pytest.raises(ValueError, match=message):
        kcc.get_builder(name)(**arguments)


def test_an_input_tensor_must_be_one_of_clips():
    with pytest.raises(ValueError, match=r"a batch of clips \(frames, height, width, channels\)"):
        kcc.C3D(input_tensor=keras.Input((112, 112, 3)))


@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
@pytest.mark.parametrize("mode", ["caffe", "torch", "tf"])
def test_clips_are_prepared_frame_by_frame(mode, data_format):
    last = np.random.default_rng(0).uniform(0, 255, (2, 4, 6, 5, 3)).astype("float32")
    expected = preprocess_input(last.reshape(-1, 6, 5, 3), mode, "channels_last")
    expected = expected.reshape(last.shape)
    first = data_format == "channels_first"
    clips = np.moveaxis(last, -1, 1) if first else last
    for given in (clips, keras.ops.convert_to_tensor(clips)):
        got = keras.ops.convert_to_numpy(preprocess_input(given, mode, data_format))
        np.testing.assert_allclose(np.moveaxis(got, 1, -1) if first else got, expected, atol=1e-4)


def test_c3d_prepares_clips_itself():
    options = {"input_shape": (16, 16, 16, 3), "classes": 5, **SMALL}
    plain = kcc.C3D(**options)
    ready = kcc.C3D(include_preprocessing=True, **options)
    ready.set_weights(plain.get_weights())
    pixels = np.random.default_rng(0).uniform(0, 255, (2, 16, 16, 16, 3)).astype("float32")
    prepared = model_preprocessing(plain)(pixels)
    assert model_preprocessing(plain).keywords["mode"] == "caffe"
    np.testing.assert_allclose(
        *(keras.ops.convert_to_numpy(y) for y in (ready(pixels), plain(prepared))), rtol=1e-4
    )


def test_weights_for_clips_of_other_channels(tmp_path):
    options = {"classes": 5, **SMALL}
    path = tmp_path / "colour.weights.h5"
    colour = kcc.C3D(input_shape=(16, 16, 16, 3), **options)
    colour.save_weights(path)
    with pytest.raises(ValueError, match="`adapt_input_channels=True`"):
        kcc.C3D(weights=path, input_shape=(16, 16, 16, 1), **options)
    grey = kcc.C3D(weights=path, input_shape=(16, 16, 16, 1), adapt_input_channels=True, **options)
    x = contracts.images((16, 16, 16, 1))
    y, expected = grey(x), colour(np.repeat(x, 3, -1))
    np.testing.assert_allclose(*map(keras.ops.convert_to_numpy, (y, expected)), rtol=1e-3)


def test_a_head_on_clips():
    from keras_cnn_classics import transfer

    trunk = kcc.C3D(include_top=False, input_shape=(16, 16, 16, 3), width=16)
    model = transfer.FeatureExtraction(trunk, 3, old_task=None)
    (answers,) = keras.tree.flatten(model(contracts.images((16, 16, 16, 3))))
    assert tuple(answers.shape) == (2, 3)
    pool = next(x for x in model._flatten_layers() if x.name == "new_pool")
    assert isinstance(pool, keras.layers.GlobalAveragePooling3D)
