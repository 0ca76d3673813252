"""`data preview`: the picture that it leaves, and how it fails."""

import numpy as np
from PIL import Image
from test_cli import fails, make_folder

from keras_cnn_classics.data import load

CELL, GAP, LINE = 84, 4, 14  # of a digit of 28 pixels
PREVIEW = ("data", "preview", "--data")


def read(path):
    with Image.open(path) as picture:
        return np.asarray(picture)


def cells(path):
    """The pictures of a sheet of digits, by row and column."""
    sheet = read(path)[GAP:, GAP:]
    rows, columns = sheet.shape[0] // (CELL + LINE + GAP), sheet.shape[1] // (CELL + GAP)
    sheet = sheet.reshape(rows, CELL + LINE + GAP, columns, CELL + GAP, 3)
    return sheet[:, :CELL:3, :, :CELL:3, 0].transpose(0, 2, 1, 3)


def test_originals_stand_beside_their_variants(run, tmp_path):
    out = tmp_path / "sheet.png"
    command = (*PREVIEW, "digits", "--augment", "gamma", "--augment", "noise", "--seed", "4")
    command = (*command, "--rows", "3", "--columns", "5", "--output", out, "--overwrite")
    code, text, errors = run(*command)
    assert code == 0, errors
    assert str(out) in text
    found = cells(out)
    assert found.shape == (3, 5, 28, 28)
    train = load("digits", batch_size=3, validation=0, seed=4).train
    originals = next(train.as_numpy_iterator())[0][..., 0]
    np.testing.assert_array_equal(found[:, 0], originals)
    for i, row in enumerate(found.astype(float)):
        assert len({picture.tobytes() for picture in row}) == 5
        for picture in row:  # is more like its own original than like the others
            alike = [np.corrcoef(picture.ravel(), x.ravel())[0, 1] for x in originals]
            assert np.argmax(alike) == i
    first = out.read_bytes()
    assert run(*command)[0] == 0
    assert out.read_bytes() == first


def test_without_augmentation(run, tmp_path):
    out = tmp_path / "plain.png"
    code, _, errors = run(*PREVIEW, "digits", "--rows", "2", "--columns", "3", "--output", out)
    assert code == 0, errors
    assert len(np.unique(cells(out).reshape(6, -1), axis=0)) == 6


def test_a_mixer_after_a_crop(run, tmp_path):
    folder, out = make_folder(tmp_path / "pets", images=5), tmp_path / "pets.png"
    options = ("--augment", "mixup", "--augment", "imagenet", "--size", "40", "--rows", "2")
    code, _, errors = run(*PREVIEW, folder, *options, "--output", out)
    assert code == 0, errors
    assert read(out).shape == (2 * (80 + LINE + GAP) + GAP, 8 * (80 + GAP) + GAP, 3)


def test_failures(run, tmp_path):
    preview = (*PREVIEW, "digits", "--output", tmp_path / "none.png")
    fails(run(*preview, "--augment", "elastik"), 2, "Did you mean 'elastic'")
    fails(run(*preview, "--augment", "pca-noise"), 1, "3 channels")
    fails(run(*PREVIEW, "mnits"), 1, "Did you mean .*mnist")
    fails(run(*PREVIEW, "digits", "--output", tmp_path / "none.txt"), 2, r"\.png or \.jpg")
    assert not (tmp_path / "none.png").exists()
    assert "preview" in run("data", "--help")[1]
    assert "--debug" in run("data", "preview", "--help")[1]
