"""Every kind of image file is read as a viewer shows it, and brought to size exactly."""

import io
import warnings

import numpy as np
import pytest
from PIL import Image

from keras_cnn_classics.data import decode_image, fit_image
from keras_cnn_classics.data.images import fault, to_channels


def encoded(image, format="PNG", **options):
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def test_orientation_moves_the_corner():
    pixels = np.zeros((16, 32, 3), np.uint8)
    pixels[:8, :8] = 255  # the top left corner
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: show it a quarter clockwise
    upright = decode_image(encoded(Image.fromarray(pixels), "JPEG", quality=95, exif=exif))
    assert upright.shape == (32, 16, 3)
    assert upright[:8, 8:].min() > 240
    assert upright[:8, :8].max() < 15


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        (Image.new("CMYK", (4, 4), (0, 255, 255, 0)), (255, 0, 0)),
        (Image.new("RGBA", (4, 4), (255, 0, 0, 0)), (255, 255, 255)),
        (Image.new("RGBA", (4, 4), (0, 0, 0, 51)), (204, 204, 204)),
        (Image.new("LA", (4, 4), (10, 0)), (255, 255, 255)),
        (Image.new("1", (4, 4), 1), (255, 255, 255)),
        (Image.new("YCbCr", (4, 4), (128, 128, 128)), (128, 128, 128)),
    ],
)
def test_modes(image, expected):
    pixels = decode_image(encoded(image, "TIFF" if image.mode in ("CMYK", "YCbCr") else "PNG"))
    assert pixels.shape == (4, 4, 3)
    np.testing.assert_allclose(pixels[0, 0], expected, atol=1)


def test_cmyk_jpeg():
    pixels = decode_image(encoded(Image.new("CMYK", (16, 16), (255, 0, 255, 0)), "JPEG"))
    np.testing.assert_allclose(pixels[8, 8], (0, 255, 0), atol=3)


@pytest.mark.parametrize("transparency", [1, bytes([255, 0])])
def test_transparent_palette_entry_is_white(transparency):
    image = Image.new("P", (2, 1))
    image.putpalette([200, 30, 10, 0, 0, 255])
    image.putpixel((1, 0), 1)
    assert decode_image(encoded(image))[0].tolist() == [[200, 30, 10], [0, 0, 255]]
    data = encoded(image, transparency=transparency)
    assert decode_image(data)[0].tolist() == [[200, 30, 10], [255, 255, 255]]


def test_sixteen_bits_are_scaled():
    values = np.array([[0, 128, 129, 257 * 100, 65535]], np.uint16)
    pixels = decode_image(encoded(Image.fromarray(values)), channels=1)
    assert pixels[0, :, 0].tolist() == [0, 0, 1, 100, 255]


def test_luma_is_that_of_arrays_too():
    colours = np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)
    grey = decode_image(encoded(Image.fromarray(colours)), channels=1)
    np.testing.assert_allclose(grey[..., 0], colours @ [0.299, 0.587, 0.114], atol=0.51)
    np.testing.assert_array_equal(grey, to_channels(colours, 1))
    np.testing.assert_array_equal(to_channels(grey, 3), np.concatenate([grey] * 3, -1))


def test_first_frame():
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    data = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert decode_image(data)[0, 0].tolist() == [255, 0, 0]


def test_not_an_image(tmp_path):
    text = tmp_path / "text.jpg"
    text.write_text("hello")
    with pytest.raises(ValueError, match=r"not an image .*text\.jpg"):
        decode_image(text)
    with pytest.raises(ValueError, match=r"not an image .* these bytes"):
        decode_image(b"")
    with pytest.raises(FileNotFoundError):
        decode_image(tmp_path / "missing.png")
    with pytest.raises(ValueError, match="`channels` must be 1"):
        decode_image(text, channels=2)
    floats = encoded(Image.new("F", (2, 2), 0.5), "TIFF")
    with pytest.raises(ValueError, match="its pixels are floats"):
        decode_image(floats)


def test_bombs_are_refused_and_large_images_make_no_noise(monkeypatch):
    data = encoded(Image.new("L", (30, 30), 7))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 500)  # Pillow warns from 501, refuses from 1001
    before = list(warnings.filters)
    assert decode_image(data).shape == (30, 30, 3)
    assert warnings.filters == before
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 400)
    with pytest.raises(ValueError, match=r"not an image .* exceeds limit"):
        decode_image(data)


@pytest.mark.parametrize("format", ["JPEG", "PNG"])
def test_fault_finds_truncation(tmp_path, format):
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    data = encoded(Image.fromarray(pixels), format)
    path = tmp_path / f"image.{format}"
    path.write_bytes(data)
    assert fault(str(path)) is None
    path.write_bytes(data[: len(data) * 3 // 4])
    assert "truncated" in fault(str(path))


def test_pad_centres_on_zeros():
    image = np.full((28, 28, 1), 9, np.uint8)
    padded = fit_image(image, 32, "pad")
    assert padded[2:30, 2:30].min() == 9
    assert padded.sum() == 9 * 28 * 28
    # A larger one is shrunk to fit first: 40 x 20 to 20 x 10.
    shrunk = fit_image(np.full((40, 20, 3), 9, np.uint8), 20, "pad")
    assert shrunk[:, 5:15].min() == 9
    assert shrunk.sum() == 9 * 20 * 10 * 3


def test_crop_takes_the_centre():
    image = np.zeros((10, 30, 3), np.uint8)
    image[:, 10:20] = 100
    np.testing.assert_array_equal(fit_image(image, 10, "crop"), image[:, 10:20])
    halves = np.repeat(np.arange(8, dtype=np.uint8) * 10, 2)[None, :, None].repeat(8, 0)
    assert fit_image(halves, (4, 4)).shape == (4, 4, 1)
    assert fit_image(np.zeros((1, 50_000, 3), np.uint8), 224).shape == (224, 224, 3)


def test_stretch_ignores_the_aspect():
    image = np.zeros((10, 30, 1), np.uint8)
    image[:, 15:] = 200
    small = fit_image(image, (5, 10), "stretch")[..., 0]
    assert small[:, :4].max() == 0
    assert small[:, 6:].min() == 200


def test_shrinking_is_antialiased():
    stripes = np.zeros((64, 64, 1), np.uint8)
    stripes[:, ::2] = 255
    assert np.ptp(fit_image(stripes, 8)[:, 1:-1].astype(int)) <= 2


def test_fit_errors():
    image = np.zeros((4, 4, 3), np.uint8)
    with pytest.raises(ValueError, match="`resize` must be one of 'crop', 'stretch', 'pad'"):
        fit_image(image, 8, "croop")
    with pytest.raises(ValueError, match="`image_size` must be a positive"):
        fit_image(image, 0)
