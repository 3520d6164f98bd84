from __future__ import annotations

import contextlib
import io
import struct
import sys

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from metaloom.config import load_settings
from metaloom.errors import MetaloomError
from metaloom.kinds import kind_of
from metaloom.kinds.pictures import read as images
from metaloom.kinds.pictures.read import decode

FORMATS = ("PNG", "JPEG", "BMP", "WEBP", "GIF", "TIFF", "AVIF")


def encoded(image: Image.Image, kind: str = "PNG", **options) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def gradient(height: int = 9, width: int = 14) -> np.ndarray:
    return (np.arange(height * width * 3) % 251).astype(np.uint8).reshape(height, width, 3)


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF"])
def test_lossless_pixels_come_back_unchanged(kind):
    assert np.array_equal(decode(encoded(Image.fromarray(gradient()), kind), 3), gradient())


@pytest.mark.parametrize("kind", ["JPEG", "WEBP", "AVIF", "GIF"])
def test_lossy_formats_are_read(kind):
    picture = np.full((16, 16, 3), (200, 100, 50), np.uint8)
    decoded = decode(encoded(Image.fromarray(picture), kind, quality=95), 3).astype(int)
    assert decoded.shape == (16, 16, 3) and np.abs(decoded - picture).max() < 8


def test_grey_is_luma():
    red, green, blue = gradient().astype(float).transpose(2, 0, 1)
    luma = 0.299 * red + 0.587 * green + 0.114 * blue
    decoded = decode(encoded(Image.fromarray(gradient())), 1)
    assert decoded.shape == (9, 14, 1)
    assert np.abs(decoded[:, :, 0] - luma).max() <= 1


def test_transparency_is_white_paper():
    picture = np.zeros((2, 3, 4), np.uint8)
    picture[0, :, 3] = 255  # black ink above, nothing below
    picture[1, 0, 3] = 51  # a fifth of black
    decoded = decode(encoded(Image.fromarray(picture)), 1)[:, :, 0]
    assert decoded.tolist() == [[0, 0, 0], [204, 255, 255]]


def test_transparent_palette_is_white_paper():
    picture = Image.fromarray(np.array([[0, 1]], np.uint8), "P")
    picture.putpalette([0, 0, 0, 10, 20, 30])
    assert decode(encoded(picture, transparency=0), 3).tolist() == [[[255, 255, 255], [10, 20, 30]]]


def test_one_bit_and_sixteen_bits_are_scaled_to_eight():
    one_bit = Image.fromarray(np.array([[0, 255]], np.uint8)).convert("1")
    assert decode(encoded(one_bit), 1).ravel().tolist() == [0, 255]
    wide = np.array([[0, 257 * 100, 65535, 32768]], np.uint16)
    assert decode(encoded(Image.fromarray(wide)), 1).ravel().tolist() == [0, 100, 255, 128]


def test_a_photo_held_upright_is_upright():
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees
    content = encoded(Image.new("L", (20, 10)), "JPEG", exif=exif)
    assert decode(content, 1).shape == (20, 10, 1)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_is_pillow_s(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = encoded(Image.fromarray(gradient()), "TIFF", exif=exif)
    upright = ImageOps.exif_transpose(Image.open(io.BytesIO(content)))
    assert np.array_equal(decode(content, 3), np.asarray(upright))


def test_an_orientation_beside_a_tag_of_a_type_that_no_camera_writes():
    """Pillow cannot write such data again, and fails where it tries."""
    maker, orientation = struct.pack("<HHLL", 271, 12, 1, 38), struct.pack("<HHLL", 274, 3, 1, 6)  # a double; turned
    exif = b"Exif\0\0II*\0" + struct.pack("<LH", 8, 2) + maker + orientation + bytes(4) + struct.pack("<d", 1.0)
    content = encoded(Image.new("L", (20, 10)), "JPEG", exif=exif)
    with pytest.raises(AttributeError):
        ImageOps.exif_transpose(Image.open(io.BytesIO(content)))
    assert decode(content, 1).shape == (20, 10, 1)


def test_an_animation_is_its_first_frame():
    first, second = (Image.new("L", (6, 4), grey) for grey in (0, 200))
    for kind in ("GIF", "WEBP"):
        content = encoded(
            first, kind, save_all=True, append_images=[second], **({"lossless": True} if kind == "WEBP" else {})
        )
        assert decode(content, 1).max() == 0


def test_pixels_that_are_no_whole_numbers_are_refused():
    content = encoded(Image.fromarray(np.full((4, 4), 0.5, np.float32)), "TIFF")
    with pytest.raises(MetaloomError, match="floating-point numbers as pixels: save it with 8 or 16 bits"):
        decode(content, 1)


def test_what_is_no_image_is_refused():
    for content in (b"", b"hello", b"\x89PNG\r\n\x1a\n", b"GIF89a" + bytes(50)):
        with pytest.raises(MetaloomError, match="is empty|is no PNG, JPEG, .* or HEIC image|is damaged"):
            decode(content, 1)


@pytest.mark.parametrize("kind", FORMATS)
def test_a_truncated_file_is_refused(kind):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    content = encoded(Image.fromarray(noise), kind)
    with pytest.raises(MetaloomError, match="is damaged|is no PNG"):
        decode(content[: len(content) // 2], 3)


def test_huge_pictures_are_refused_before_they_are_decoded(monkeypatch):
    monkeypatch.setattr(images, "MAX_PIXELS", 99)
    with pytest.raises(MetaloomError, match="10x10 pixels"):
        decode(encoded(Image.new("L", (10, 10))), 1)
    bomb = encoded(Image.new("1", (14000, 14000)))  # Pillow itself warns of these, and refuses twice as many
    with pytest.raises(MetaloomError, match="megapixels"):
        decode(bomb, 1)


@pytest.mark.parametrize("kind", FORMATS)
@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_damage_never_raises_anything_else(kind, data):
    content = bytearray(encoded(Image.fromarray(gradient()), kind))
    for _ in range(data.draw(st.integers(1, 6))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(MetaloomError):
        decode(bytes(content), 3)


def test_image_names():
    pictures = kind_of(load_settings())
    assert all(
        pictures.is_example(name)
        for name in ("a.png", "A.JPG", "b/c.jpeg", "d.bmp", "e.WebP", "f.jfif", "g.GIF", "h.tif", "i.avif", "j.HEIC")
    )
    assert not any(pictures.is_example(name) for name in ("a.txt", "png", "a.png.bak", "Thumbs.db"))


def test_what_files_begin_with():
    pictures = kind_of(load_settings())
    for kind in ("PNG", "JPEG", "WEBP", "GIF", "AVIF"):
        assert pictures.is_example("a", encoded(Image.fromarray(gradient()), kind)[:32]), kind
    for head in (b"", b"BM is how this text begins", b"II*\0raw", b"RIFF    WAVE", b"\0\0\0\x18ftypmp42isom"):
        assert not pictures.is_example("a", head)


def test_a_photo_of_a_phone(monkeypatch):
    pillow_heif = pytest.importorskip("pillow_heif")
    picture = np.full((32, 48, 3), (200, 100, 50), np.uint8)
    stream = io.BytesIO()
    pillow_heif.from_pillow(Image.fromarray(picture)).save(stream)
    content = stream.getvalue()
    assert kind_of(load_settings()).is_example("IMG_0001", content[:32])
    found = decode(content, 3).astype(int)
    assert found.shape == picture.shape and np.abs(found - picture).max() <= 6
    with pytest.raises(MetaloomError, match="is damaged|is no PNG"):
        decode(content[: len(content) // 2], 3)
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(MetaloomError, match=r"is a HEIC picture: `pip install 'metaloom\[heic\]'` reads those"):
        decode(content, 3)


@pytest.mark.parametrize("colour", [(255, 255, 255), (200, 230, 250)])
def test_a_light_shape_on_transparency_is_seen(colour):
    picture = Image.new("RGBA", (20, 10), (*colour, 0))
    alpha = np.zeros((10, 20), np.uint8)
    alpha[2:7, 3:9], alpha[7, 3:9] = 255, 128
    picture.putalpha(Image.fromarray(alpha))
    for channels in (1, 3):
        found = decode(encoded(picture), channels)
        np.testing.assert_array_equal(found, np.repeat(255 - alpha[..., None], channels, axis=2))


def test_other_transparent_pictures_stand_on_white():
    pixels = np.full((4, 6, 4), (0, 0, 200, 255), np.uint8)
    pixels[0] = (7, 7, 7, 0)
    assert decode(encoded(Image.fromarray(pixels)), 3)[:2, 0].tolist() == [[255] * 3, [0, 0, 200]]  # a dark colour
    pixels[1] = (250, 250, 250, 255)
    assert decode(encoded(Image.fromarray(pixels)), 3)[1, 0].tolist() == [250] * 3  # and several
    whole = np.full((4, 6, 4), 255, np.uint8)
    assert decode(encoded(Image.fromarray(whole)), 1).min() == 255  # nothing is transparent


def test_blank_pictures_are_named():
    pictures = kind_of(load_settings())
    for level in (0, 128, 255):
        assert pictures.flaw(np.full((5, 6, 1), level, np.uint8)) == "is blank: all its pixels are alike"
    seen = np.full((5, 6, 1), 255, np.uint8)
    seen[4, 5] = 254
    assert not pictures.flaw(seen)
