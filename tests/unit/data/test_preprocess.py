"""Resize, crop, scale and normalize, against a transcription of torchvision's rules."""

import dataclasses
import json
import pickle

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from gradood.data import Preprocess
from gradood.errors import ConfigError, DataError


def picture(width, height, mode="RGB", seed=0):
    shape = (height, width) if mode == "L" else (height, width, len(mode))
    pixels = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
    return Image.fromarray(pixels)


def center_crop(pixels, size):
    """Pad with zeros to at least the size, then crop, with torchvision's two roundings."""
    height, width = pixels.shape[:2]
    left = (size - width) // 2 if size > width else 0
    top = (size - height) // 2 if size > height else 0
    right = (size - width + 1) // 2 if size > width else 0
    bottom = (size - height + 1) // 2 if size > height else 0
    pixels = np.pad(pixels, [(top, bottom), (left, right), (0, 0)])
    height, width = pixels.shape[:2]
    top, left = round((height - size) / 2.0), round((width - size) / 2.0)
    return pixels[top : top + size, left : left + size]


def test_plain_image_is_scaled_exactly():
    image = picture(5, 3)
    x = Preprocess()(image)
    assert x.dtype == torch.float32
    assert x.shape == (3, 3, 5)
    assert x.is_contiguous()
    expected = np.asarray(image).astype(np.float32).transpose(2, 0, 1) / np.float32(255)
    assert np.array_equal(x.numpy(), expected)


def test_gray():
    image = picture(5, 3, "L")
    assert Preprocess(mode="L")(image).shape == (1, 3, 5)
    x = Preprocess(mode="RGB")(image)
    assert torch.equal(x, Preprocess(mode="L")(image).expand(3, -1, -1))


def test_normalized_per_channel_after_scaling():
    image = picture(4, 4)
    mean, std = (0.1, 0.2, 0.3), (0.5, 1.0, 2.0)
    x, plain = Preprocess(mean=mean, std=std)(image), Preprocess()(image)
    for channel in range(3):
        expected = (plain[channel] - mean[channel]) / std[channel]
        assert torch.allclose(x[channel], expected, atol=1e-6)


@given(st.integers(1, 12), st.integers(1, 12), st.integers(1, 12))
def test_crop_is_torchvisions(width, height, crop):
    image = picture(width, height, seed=width * 100 + height)
    x = Preprocess(crop=crop)(image)
    expected = center_crop(np.asarray(image), crop).transpose(2, 0, 1) / np.float32(255)
    assert np.array_equal(x.numpy(), expected)


@pytest.mark.parametrize(
    ("size", "resize", "expected"),
    [
        ((64, 64), 32, (32, 32)),
        ((100, 64), 32, (50, 32)),
        ((64, 100), 32, (32, 50)),
        ((65, 33), 32, (63, 32)),
        ((20, 30), 32, (32, 48)),
        ((32, 99), 32, (32, 99)),
    ],
)
def test_resize_is_of_the_shorter_side(size, resize, expected):
    image = picture(*size)
    x = Preprocess(resize=resize)(image)
    assert x.shape == (3, expected[1], expected[0])
    direct = image.resize(expected, Image.Resampling.BILINEAR)
    assert torch.equal(x, Preprocess()(direct))


def test_resize_is_antialiased():
    stripes = Image.fromarray(np.tile(np.array([[0, 255]], np.uint8), (32, 16)))
    x = Preprocess(mode="L", resize=8)(stripes)
    assert (x - 0.5).abs().max() < 0.1


# Every fourth pixel of what torchvision 0.29.2 gave, its crop 6 × 5 after the resize.
STORED = [
    ("bilinear", (9, 7), [125, 120, 121, 147, 140, 129, 108, 120, 114, 117, 115, 116]),
    ("bicubic", (9, 7), [125, 118, 120, 149, 147, 130, 106, 120, 113, 116, 109, 115]),
    ("nearest", (9, 7), [21, 101, 120, 200, 240, 112, 106, 218, 111, 47, 112, 48]),
    ("lanczos", (9, 7), [124, 119, 124, 147, 150, 128, 104, 123, 111, 124, 106, 115]),
    ("bicubic", 8, [96, 153, 171, 82, 126, 134, 102, 117, 108, 154, 116, 119]),
    ("lanczos", 11, [183, 218, 161, 87, 86, 146, 134, 134, 149, 107, 130, 183]),
    ("nearest", 13, [180, 146, 1, 223, 214, 240, 192, 0, 208, 108, 95, 251]),
]


def pattern() -> Image.Image:
    y, x = np.mgrid[0:20, 0:29]
    channels = (x * 37 + y * 11, x * y * 7 + 5 * x, x * x + y * y * 3)
    return Image.fromarray((np.stack(channels, -1) % 256).astype(np.uint8))


def every_fourth(x: torch.Tensor) -> list[int]:
    return (x * 255).round().int()[:, ::4, ::4].flatten().tolist()


@pytest.mark.parametrize(("interpolation", "resize", "expected"), STORED)
def test_interpolations_against_stored_numbers(interpolation, resize, expected):
    preprocess = Preprocess(resize=resize, crop=(6, 5), interpolation=interpolation)
    found = preprocess(pattern())
    assert found.shape == (3, 6, 5)
    assert every_fourth(found) == pytest.approx(expected, abs=1)


@pytest.mark.parametrize(
    ("resize", "crop", "expected"),
    [
        ((9, 12), (6, 5), [70, 181, 177, 107, 160, 140, 116, 131, 87, 68, 144, 156]),
        (
            8,
            (11, 5),
            [0, 0, 129, 101, 162, 117, 0, 0, 119, 127, 119, 101, 0, 0, 181, 179, 139, 125],
        ),
    ],
)
def test_crop_rounded_down_against_numbers_of_transformers(resize, crop, expected):
    options = {"resize": resize, "crop": crop, "interpolation": "bicubic"}
    found = Preprocess(**options, crop_rounding="down")(pattern())
    assert every_fourth(found) == pytest.approx(expected, abs=1)
    assert every_fourth(Preprocess(**options)(pattern())) != pytest.approx(expected, abs=1)


def test_height_and_width_are_not_swapped_and_a_square_crop_is_one_number():
    image = picture(30, 20)
    assert Preprocess(resize=(8, 14))(image).shape == (3, 8, 14)
    assert Preprocess(crop=(8, 14))(image).shape == (3, 8, 14)
    assert Preprocess(crop=[8, 8]) == Preprocess(crop=8)  # pyright: ignore
    assert Preprocess(resize=[8, 8]) == Preprocess(resize=(8, 8)) != Preprocess(resize=8)  # pyright: ignore


def test_image_and_options_are_not_changed():
    image = picture(9, 7)
    before = image.tobytes()
    preprocess = Preprocess(resize=4, crop=4, mean=(0.5,) * 3, std=(0.5,) * 3)
    first = preprocess(image)
    first.zero_()
    assert image.tobytes() == before
    assert preprocess(image).any()
    with pytest.raises(dataclasses.FrozenInstanceError):
        preprocess.crop = 5  # pyright: ignore


def test_options_survive_json_and_pickle():
    preprocess = Preprocess(mode="L", resize=(28, 30), mean=(0.1,), std=(0.3,), crop=(8, 9))
    written = json.loads(json.dumps(dataclasses.asdict(preprocess)))
    assert Preprocess(**written) == preprocess
    assert hash(Preprocess(**written)) == hash(preprocess)
    assert pickle.loads(pickle.dumps(preprocess)) == preprocess


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mode": "CMYK"}, "mode is 'CMYK'; expected 'RGB' or 'L'"),
        ({"resize": 0}, "resize is 0"),
        ({"resize": (32, 0)}, r"resize is \(32, 0\); expected pixels.* or \(height, width\)"),
        ({"resize": (32,)}, r"resize is \(32,\)"),
        ({"interpolation": "cubic"}, "interpolation is .cubic.; expected .bilinear., .bicubic."),
        ({"crop_rounding": "up"}, "crop_rounding is .up.; expected .even. or .down."),
        ({"crop": 2.5}, "crop is 2.5"),
        ({"crop": True}, "crop is True"),
        ({"mean": (0.5,)}, "mean is .*expected 3 finite numbers for mode 'RGB'"),
        ({"mode": "L", "std": (1.0, 1.0, 1.0)}, "std is .*expected 1 finite"),
        ({"std": (1.0, 0.0, 1.0)}, "std is .* above 0"),
        ({"mean": 0.5}, "mean is 0.5"),
        ({"mean": ("a", "b", "c")}, "mean is"),
        ({"mean": (0.0, float("nan"), 0.0)}, "mean is"),
    ],
)
def test_wrong_options(options, message):
    with pytest.raises(ConfigError, match=message):
        Preprocess(**options)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "PA"])
def test_any_mode_of_pillow(mode):
    image = Image.new("RGB", (4, 3), (200, 10, 20)).convert("LA" if mode == "PA" else mode)
    image = image.convert(mode)
    assert Preprocess()(image).shape == (3, 3, 4)
    assert Preprocess(mode="L")(image).shape == (1, 3, 4)


@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_palette_with_transparency_gives_no_warning(mode):
    image = Image.new("P", (2, 2))
    image.putpalette([0, 0, 0, 255, 255, 255])
    image.info["transparency"] = b"\x00\xff"
    image.putpixel((0, 0), 1)
    assert Preprocess(mode=mode)(image)[:, 0, 0].tolist() == [1.0] * len(mode)


def test_alpha_is_dropped():
    image = Image.new("RGBA", (2, 2), (255, 0, 0, 0))
    assert Preprocess()(image)[:, 0, 0].tolist() == [1.0, 0.0, 0.0]


def test_16_bit_gray_is_scaled_and_32_bit_refused():
    values = np.array([[0, 257, 65535]], np.uint16)
    x = Preprocess(mode="L")(Image.fromarray(values))
    assert x[0, 0].tolist() == pytest.approx([0.0, 1 / 255, 1.0])
    for mode in ("I", "F"):
        with pytest.raises(DataError, match=f"32-bit .*'{mode}'"):
            Preprocess()(Image.new(mode, (2, 2)))


def test_resize_of_a_strip_does_not_fill_the_memory():
    with pytest.raises(DataError, match="would become 6400000×64"):
        Preprocess(resize=64)(Image.new("L", (100_000, 1)))
