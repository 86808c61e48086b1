"""What is the matter with an image, in a word."""

import io
import os
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, features

from gradood.data._decode import REMARKS, decode, examine
from gradood.errors import BadImageError


def picture(side=16):
    pixels = np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def encoded(image, kind, **options):
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def png(width, height, depth, color, raw):
    def chunk(name, content):
        check = zlib.crc32(name + content)
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", check)

    header = struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(raw)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def status(content, **options):
    with pytest.raises(BadImageError) as caught:
        decode(content, **options)
    assert str(caught.value)
    return caught.value.status


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "empty"),
        (b"<!doctype html><p>404", "not_an_image"),
        (b"\xef\xbb\xbf \n<?xml version='1.0'?>", "not_an_image"),
        (b"hello", "not_an_image"),
        (b"%PDF-1.7", "not_an_image"),
        (b"\x89PNG\r\n\x1a\n" + bytes(40), "broken"),
        (png(20_000, 20_000, 8, 0, b"\0"), "too_large"),
        (encoded(Image.new("F", (2, 2)), "TIFF"), "bad_mode"),
        (encoded(Image.new("RGBA", (2, 2), (9, 9, 9, 0)), "PNG"), "transparent"),
        (encoded(Image.new("LA", (2, 2), (9, 0)), "WEBP"), "transparent"),
        (b"\0\0\0\x18ftypheic" + bytes(200), "no_decoder"),
        (b"\0\0\0\x1cftypmif1\0\0\0\0mif1heic", "no_decoder"),
        (b"\0\0\0\x1cftypmif1\0\0\0\0mif1avif\0\0\1\0meta", "truncated"),
        (b"\0\0\0\x1cftypmif1\0\0\0\0mif1avif\0\0\0\1mdat\0\0\0\0\0\0\1\0", "truncated"),
        (bytes(128) + b"DICM" + bytes(200), "no_decoder"),
    ],
)
def test_faults(content, expected, tmp_path, monkeypatch):
    monkeypatch.setattr("gradood.data._decode.heif", lambda: None)  # As where it is not installed.
    assert status(content) == expected
    (tmp_path / "x.jpg").write_bytes(content)
    assert status(tmp_path / "x.jpg") == expected


@pytest.mark.parametrize("kind", ["AVIF", "BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP"])
def test_truncated_at_any_length(kind):
    if kind == "AVIF" and not features.check("avif"):
        pytest.skip("this Pillow reads no AVIF")
    content = encoded(picture(), kind)
    found = {}
    for size in range(len(content) - 40):
        found.setdefault(status(content[:size]), []).append(size)
    assert found.pop("empty") == [0]
    assert max(found.pop("not_an_image", [0])) < 16
    broken = found.pop("broken", [])
    # Cut within the headers, it need not be told. Those of a small JPEG are most of it.
    assert len([size for size in broken if size > 0.8 * len(content)]) == 0
    assert max(found.pop("truncated")) == len(content) - 41
    assert found == {}


def test_heic_is_read_by_its_own_decoder(monkeypatch, tmp_path):
    class Decoder:
        @staticmethod
        def HeifImageFile(source):
            if isinstance(source, io.BytesIO) and len(source.getvalue()) < 40:
                raise ValueError("Invalid input: Unexpected end of file\n")
            return Image.open(io.BytesIO(encoded(picture(), "PNG")))

    monkeypatch.setattr("gradood.data._decode.heif", lambda: Decoder)
    head = b"\0\0\0\x18ftypheic\0\0\0\0heicmif1"
    for content in (head + b"\0\0\0\x20mdat" + bytes(24), encoded(picture(), "PNG")):
        (tmp_path / "x").write_bytes(content)
        for given in (content, tmp_path / "x"):
            assert decode(given).tobytes() == picture().tobytes()
    with pytest.raises(BadImageError, match=r"Unexpected end of file$") as caught:
        decode(head)
    assert caught.value.status == "truncated"


@pytest.mark.skipif(not features.check("avif"), reason="this Pillow reads no AVIF")
def test_avif_is_not_given_to_the_decoder_of_heic(monkeypatch):
    monkeypatch.setattr("gradood.data._decode.heif", lambda: None)
    content = encoded(picture(), "AVIF")
    expected = decode(content).tobytes()
    monkeypatch.setattr("gradood.data._decode.heif", object)
    for brand in (b"avif", b"mif1"):
        assert decode(content[:8] + brand + content[12:]).tobytes() == expected


def test_real_heic():
    heif = pytest.importorskip("pillow_heif")
    image, stream = Image.linear_gradient("L").resize((64, 48)).convert("RGB"), io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6  # A quarter turn clockwise.
    heif.from_pillow(image).save(stream, quality=95, exif=exif.tobytes())
    found, expected = decode(stream.getvalue()), image.rotate(-90, expand=True)
    assert found.size == (48, 64)
    difference = np.asarray(found).astype(int) - np.asarray(expected).astype(int)
    assert np.abs(difference).mean() < 3
    for size in range(40, len(stream.getvalue()), 31):
        assert status(stream.getvalue()[:size]) == "truncated"


def test_a_web_page_is_told(tmp_path):
    with pytest.raises(BadImageError, match=r"web page.*its 20 bytes are no image"):
        decode(b"<html>404 Not Found\n")


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is forbidden to root")
def test_forbidden(tmp_path):
    (tmp_path / "x.png").touch(mode=0)
    assert status(tmp_path / "x.png") == "unreadable"


def test_forbidden_by_the_open(tmp_path, monkeypatch):
    (tmp_path / "x.png").write_bytes(encoded(picture(), "PNG"))

    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Image, "open", refuse)
    with pytest.raises(BadImageError, match="cannot be opened: Permission denied") as caught:
        decode(tmp_path / "x.png")
    assert caught.value.status == "unreadable"


def test_limit_of_pixels():
    content = encoded(picture(16), "PNG")
    assert decode(content, max_pixels=256).size == (16, 16)
    with pytest.raises(BadImageError, match=r"16×16 pixels, and the limit is 255 \(max_pixels\)"):
        decode(content, max_pixels=255)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (encoded(picture(), "JPEG"), ()),
        (encoded(picture().convert("L"), "PNG"), ()),
        (encoded(picture().convert("P"), "PNG"), ()),
        (encoded(picture().convert("1"), "TIFF"), ()),
        (encoded(picture().convert("CMYK"), "JPEG"), ("cmyk",)),
        (encoded(picture().convert("CMYK"), "TIFF"), ("cmyk",)),
        (encoded(Image.new("I;16", (4, 4)), "PNG"), ("sixteen_bit",)),
        (encoded(Image.new("I;16", (4, 4)), "TIFF"), ("sixteen_bit",)),
        (b"P5 2 1 65535\n" + bytes(4), ("sixteen_bit",)),
        (png(2, 2, 16, 2, bytes(2 * 13)), ("sixteen_bit",)),
        (png(2, 2, 16, 6, 2 * (b"\0" + 2 * b"\0\0\0\0\0\0\xff\xff")), ("sixteen_bit",)),
        (encoded(Image.new("RGBA", (2, 2), (1, 2, 3, 255)), "PNG"), ()),
        (encoded(Image.new("RGBA", (2, 2), (1, 2, 3, 7)), "PNG"), ("alpha_dropped",)),
        (encoded(Image.new("LA", (2, 2), (1, 254)), "PNG"), ("alpha_dropped",)),
    ],
)
def test_remarks(content, expected):
    image, found = examine(content)
    assert found == expected
    assert set(found) <= REMARKS.keys()
    assert image.mode in ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK")


@pytest.mark.parametrize("kind", ["GIF", "PNG", "TIFF", "WEBP"])
def test_of_several_frames_the_first(kind):
    frames = [picture().convert("L"), picture().convert("L").rotate(90)]
    options = {"lossless": True} if kind == "WEBP" else {}
    content = encoded(frames[0], kind, save_all=True, append_images=frames[1:], **options)
    image, found = examine(content)
    assert found == ("animated",)
    assert image.convert("L").tobytes() == frames[0].tobytes()
    assert examine(encoded(frames[0], kind, **options))[1] == ()


def test_a_preview_beside_a_photograph_is_no_animation():
    content = encoded(picture(), "MPO", save_all=True, append_images=[picture(8)])
    assert examine(content)[1] == ()
