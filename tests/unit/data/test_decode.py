"""Encoded images: every kind that is read, every kind that is refused."""

import io
import os
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageOps

from gradood.data._decode import decode
from gradood.errors import DataError


def encoded(image, kind="PNG", **options):
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def picture(width=6, height=4):
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def png_of_size(width, height):
    """A well-formed PNG header that promises many pixels, and almost nothing behind it."""

    def chunk(name, content):
        check = zlib.crc32(name + content)
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", check)

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0"))


@pytest.mark.parametrize("kind", ["BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP"])
def test_formats_from_bytes_and_from_a_file(tmp_path, kind):
    image = picture()
    content = encoded(image, kind)
    (tmp_path / "any.name").write_bytes(content)
    left, right = decode(content), decode(tmp_path / "any.name")
    assert left.size == right.size == (6, 4)
    assert left.tobytes() == right.tobytes()
    if kind not in ("GIF", "JPEG", "WEBP"):
        assert left.convert("RGB").tobytes() == image.tobytes()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = picture()
    upright = decode(encoded(image, "PNG", exif=exif.tobytes()))
    image.getexif()[0x0112] = orientation
    assert upright.tobytes() == ImageOps.exif_transpose(image).tobytes()
    assert upright.size == ((6, 4) if orientation < 5 else (4, 6))


def test_16_bit_gray():
    values = np.array([[0, 128, 257], [32768, 65535, 1]], np.uint16)
    for kind in ("PNG", "TIFF"):
        image = decode(encoded(Image.fromarray(values), kind))
        assert image.mode == "L"
        assert np.asarray(image).tolist() == [[0, 0, 1], [128, 255, 0]]
    image = decode(b"P5 3 2 65535\n" + values.astype(">u2").tobytes())
    assert np.asarray(image).tolist() == [[0, 0, 1], [128, 255, 0]]


def test_cmyk_and_palette_and_alpha():
    for mode, kind in [("CMYK", "JPEG"), ("P", "PNG"), ("RGBA", "PNG"), ("LA", "PNG")]:
        assert decode(encoded(picture().convert(mode), kind)).mode == mode


def test_first_frame_of_an_animation():
    frames = [Image.new("L", (4, 4), shade) for shade in (10, 200)]
    content = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert np.asarray(decode(content).convert("L")).max() == 10


@pytest.mark.parametrize("kind", ["BMP", "GIF", "JPEG", "PNG", "TIFF", "WEBP"])
def test_truncated(kind):
    content = encoded(picture(40, 40), kind)
    for size in (0, 1, 20, len(content) // 2):
        with pytest.raises(DataError, match=r"broken|no image of a known format"):
            decode(content[:size])


@pytest.mark.parametrize("content", [b"", b"<html><body>404</body></html>", b"%!PS-Adobe-3.0\n"])
def test_something_else(content):
    with pytest.raises(DataError, match=f"its {len(content)} bytes are no image of a known format"):
        decode(content)


def test_32_bit_values():
    with pytest.raises(DataError, match="32-bit"):
        decode(encoded(Image.new("F", (2, 2)), "TIFF"))


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("size", [(10_000, 10_000), (60_000, 60_000)])
def test_decompression_bomb(size):
    with pytest.raises(DataError, match="too large to decode safely"):
        decode(png_of_size(*size))


def test_decompression_bomb_where_warnings_are_errors():
    with pytest.raises(DataError, match="too large to decode safely"):
        decode(png_of_size(10_000, 10_000))


def test_limit_is_pillows(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 24)
    assert decode(encoded(picture(6, 4))).size == (6, 4)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    assert decode(encoded(picture(6, 4))).size == (6, 4)


def test_absent_file_folder_and_pipe(tmp_path):
    with pytest.raises(DataError, match="cannot be opened: No such file"):
        decode(tmp_path / "none.png")
    with pytest.raises(DataError, match="no regular file"):
        decode(tmp_path)
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(DataError, match="no regular file"):
        decode(tmp_path / "pipe.png")
