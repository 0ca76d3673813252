"""What TensorBoard is given, read from its own files."""

import dataclasses
import io

import keras
import numpy as np
import pytest
from PIL import Image

import keras_cnn_classics as kcc
from keras_cnn_classics import data, training


def events(folder):
    """Every value in the event files of a folder, by tag."""
    from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

    found = {}
    for path in sorted(folder.rglob("events.out.tfevents.*")):
        for event in EventFileLoader(str(path)).Load():
            for value in event.summary.value:
                found.setdefault(value.tag, []).append((event.step, value))
    return found


@pytest.fixture
def named_by_brightness():
    """A classifier of grey pixels, 0 to 1: the brighter, the more it says 'light'."""
    image = keras.Input((4, 4, 1))
    mean = keras.layers.Flatten()(keras.layers.GlobalAveragePooling2D()(image))
    scores = keras.layers.Dense(2, kernel_initializer="ones", use_bias=False)(mean)
    scaled = keras.layers.Rescaling([-1.0, 1.0])(scores)
    return keras.Model(image, scaled)


def test_the_worst_mistakes_come_first(tmp_path, named_by_brightness):
    brightness = np.array([0.1, 0.2, 0.9, 0.6, 0.4])
    images = np.ones((5, 4, 4, 1), "float32") * brightness[:, None, None, None]
    # All are called light; the first, the second and the last are dark.
    labels = np.array([0, 0, 1, 1, 0])
    batches = [
        *((images[:2], labels[:2]), (images[2:3], labels[2:3, None])),
        (images[3:], np.eye(2)[labels[3:]]),
    ]
    arguments = (tmp_path, named_by_brightness, batches, ["dark", "light"])
    assert training.write_mistakes(*arguments, preprocessing="unit", step=7, most=2) == 3
    ((step, value),) = events(tmp_path)["mistakes"]
    assert step == 7
    width, height, encoded = value.tensor.string_val
    picture = np.asarray(Image.open(io.BytesIO(encoded)).convert("L"))
    assert picture.shape == (int(height), int(width))
    # Two cells side by side: the last image, which is called light with most right, and the second.
    left, right = picture[:, : int(width) // 2], picture[:, int(width) // 2 :]
    assert (left == round(0.4 * 255)).sum() >= 64 * 64 - 1
    assert (right == round(0.2 * 255)).sum() >= 64 * 64 - 1


def test_without_mistakes_there_is_no_picture(tmp_path, named_by_brightness):
    image = np.ones((1, 4, 4, 1), "float32")
    assert training.write_mistakes(tmp_path, named_by_brightness, [(image, [1])], "ab") == 0
    assert not events(tmp_path)


def test_hyperparameters_are_what_tensorboard_reads(tmp_path):
    from tensorboard.plugins.hparams import metadata

    recipe = {"optimizer": "sgd", "rates": (0.1, 0.01), "clip": None}
    training.write_hyperparameters(tmp_path, {"seed": 3, "augment": True, "recipe": recipe})
    (event,) = events(tmp_path)[metadata.SESSION_START_INFO_TAG]
    start = metadata.parse_session_start_info_plugin_data(event[1].metadata.plugin_data.content)
    found = {name: value.WhichOneof("kind") for name, value in start.hparams.items()}
    assert found == {
        **{"seed": "number_value", "augment": "bool_value"},
        **{"recipe.optimizer": "string_value", "recipe.rates": "string_value"},
    }
    assert start.hparams["seed"].number_value == 3
    assert start.hparams["recipe.rates"].string_value == "(0.1, 0.01)"


def test_runs_of_one_name_stay_apart(tmp_path):
    from tensorboard.plugins.hparams import metadata

    groups = set()
    for folder in ("a", "b"):
        training.write_hyperparameters(tmp_path / folder, {"seed": 0}, name="resnet20")
        ((_, value),) = events(tmp_path / folder)[metadata.SESSION_START_INFO_TAG]
        start = metadata.parse_session_start_info_plugin_data(value.metadata.plugin_data.content)
        assert start.group_name.startswith("resnet20-")
        groups.add(start.group_name)
    assert len(groups) == 2


def test_a_run_has_curves_rate_settings_and_mistakes(tmp_path):
    images = data.load("digits", image_size=28, resize="pad", preprocess="unit")
    settings = dataclasses.replace(training.recipe("LeNet", "quick"), epochs=1)
    # A mode of one's own is nothing that could be undone: the images are drawn as they are.
    facts = {"preprocessing": "mine", "seed": 0}
    training.train(kcc.LeNet(), images, settings, tmp_path, facts=facts, verbose=0)
    found = events(tmp_path / "tensorboard")
    assert {"epoch_loss", "epoch_accuracy", "epoch_learning_rate", "mistakes"} <= set(found)
    assert len(found["epoch_loss"]) == 2  # of training and of validation
    assert "_hparams_/session_start_info" in found
