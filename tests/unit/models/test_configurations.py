"""Configurations of timm, torchvision and Transformers as settings of `Preprocess`."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from gradood.data import Preprocess
from gradood.errors import ConfigError
from gradood.models._hugging_face import processor_inputs
from gradood.models._libraries import timm_inputs, torchvision_inputs

STATISTICS = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
HALVES = {"image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5]}


# ---------------------------------------------------------------- timm's data configuration


def timm_config(**changes) -> dict:
    plain = {"input_size": (3, 224, 224), "interpolation": "bicubic", "crop_pct": 0.95}
    return {**plain, "crop_mode": "center", **STATISTICS, **changes}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, {"resize": 235, "crop": 224}),
        ({"crop_pct": 0.875}, {"resize": 256}),
        ({"crop_pct": 1.0, "input_size": (3, 384, 384)}, {"resize": 384, "crop": 384}),
        ({"crop_mode": "squash", "crop_pct": 1.0}, {"resize": (224, 224), "crop": 224}),
        (
            {"crop_mode": "squash", "crop_pct": 0.9, "input_size": (3, 100, 200)},
            {"resize": (111, 222), "crop": (100, 200)},
        ),
        ({"interpolation": "lanczos"}, {"interpolation": "lanczos"}),
        (
            {"input_size": (1, 28, 28), "mean": (0.5,), "std": (0.5,), "crop_pct": 1.0},
            {"mode": "L", "resize": 28, "mean": (0.5,)},
        ),
    ],
)
def test_timms_configuration(changes, expected):
    found = Preprocess(**timm_inputs(timm_config(**changes)))
    assert {name: getattr(found, name) for name in expected} == expected
    assert found.interpolation == changes.get("interpolation", "bicubic")
    assert found.crop_rounding == "even"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"crop_mode": "border"}, r"timm's .* asks for crop_mode 'border'; expected 'center' or"),
        ({"input_size": (3, 224, 256)}, r"crop_mode 'center' of 224×256 pixels; expected a square"),
        ({"input_size": (4, 224, 224)}, "4 input channels; expected 1 or 3"),
        ({"interpolation": "random"}, "interpolation 'random'; expected bilinear"),
    ],
)
def test_what_timms_configuration_asks_in_vain(changes, message):
    with pytest.raises(ConfigError, match=message):
        timm_inputs(timm_config(**changes))


# ---------------------------------------------------------------- torchvision's presets


class ImageClassification:
    """What torchvision's preset of that name holds."""

    def __init__(self, resize=256, crop=224, interpolation="bilinear"):
        self.resize_size, self.crop_size = [resize], [crop]
        self.mean, self.std = list(STATISTICS["mean"]), list(STATISTICS["std"])
        self.interpolation = SimpleNamespace(value=interpolation)


V1, V2 = ImageClassification(), ImageClassification(resize=232, interpolation="bicubic")


def test_torchvisions_preset():
    found = Preprocess(**torchvision_inputs("net", {"V1": V1}))
    assert found == Preprocess(resize=256, crop=224, **STATISTICS)
    assert torchvision_inputs("net", {"A": V1, "B": ImageClassification()})["resize"] == 256
    assert torchvision_inputs("net", {}) == {}


def test_presets_that_differ_must_be_chosen_from_unless_flags_settle_it():
    presets = {"V1": V1, "V2": V2}
    with pytest.raises(ConfigError) as caught:
        torchvision_inputs("net", presets)
    assert "net.V1 has resize 256, interpolation bilinear" in str(caught.value)
    assert "net.V2 has resize 232, interpolation bicubic" in str(caught.value)
    assert "torchvision:net.V1" in str(caught.value)
    with pytest.raises(ConfigError, match=r"net\.V2 has interpolation bicubic"):
        torchvision_inputs("net", presets, {"resize"})
    found = torchvision_inputs("net", presets, {"resize", "interpolation"})
    assert set(found) == {"crop", "mean", "std"}


def test_presets_for_other_tasks_and_other_interpolations_are_refused():
    with pytest.raises(ConfigError, match="transforms SimpleNamespace are not for images of one"):
        torchvision_inputs("net", {"V1": SimpleNamespace()})
    with pytest.raises(ConfigError, match="interpolation 'box'; expected bilinear"):
        torchvision_inputs("net", {"V1": ImageClassification(interpolation="box")})


# ---------------------------------------------------------------- preprocessor_config.json

VIT = {
    "image_processor_type": "ViTImageProcessor",
    "do_resize": True,
    "size": {"height": 224, "width": 224},
    "resample": 2,
    "do_rescale": True,
    "rescale_factor": 0.00392156862745098,
    "do_normalize": True,
    **HALVES,
}
BIT = {
    **VIT,
    "image_processor_type": "BitImageProcessorFast",
    "size": {"shortest_edge": 256, "height": None},
    "resample": 3,
    "do_center_crop": True,
    "crop_size": {"height": 224, "width": 224},
    "do_convert_rgb": True,
}
CONVNEXT = {
    **VIT,
    "image_processor_type": "ConvNextImageProcessor",
    "size": {"shortest_edge": 224},
    "crop_pct": 0.875,
}
EFFICIENTNET = {
    **VIT,
    "image_processor_type": "EfficientNetImageProcessor",
    "include_top": True,
    "rescale_offset": False,
}
HALF = (0.5, 0.5, 0.5)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (VIT, {"resize": (224, 224), "crop": None, "mean": HALF, "interpolation": "bilinear"}),
        (
            {**VIT, "image_processor_type": None, "feature_extractor_type": "ViTFeatureExtractor"},
            {"resize": (224, 224)},
        ),
        (BIT, {"resize": 256, "crop": 224, "interpolation": "bicubic", "std": HALF}),
        ({**BIT, "do_center_crop": False}, {"resize": 256, "crop": None}),
        ({**BIT, "resample": 0}, {"interpolation": "nearest"}),
        ({**BIT, "resample": 1}, {"interpolation": "lanczos"}),
        ({**VIT, "do_resize": False, "resample": None}, {"resize": None}),
        ({**VIT, "do_normalize": False}, {"mean": None, "std": None}),
        (CONVNEXT, {"resize": 256, "crop": 224}),
        ({**CONVNEXT, "size": {"shortest_edge": 384}}, {"resize": (384, 384), "crop": None}),
        (EFFICIENTNET, {"mean": HALF, "std": (0.25,) * 3}),
        ({**EFFICIENTNET, "include_top": False}, {"mean": HALF, "std": HALF}),
        ({**EFFICIENTNET, "do_normalize": False}, {"mean": None, "std": HALF}),
    ],
)
def test_settings_of_a_hugging_face_processor(settings, expected):
    found = Preprocess(**processor_inputs(json.loads(json.dumps(settings))))
    assert {name: getattr(found, name) for name in expected} == expected
    assert found.crop_rounding == "down"


@pytest.mark.parametrize(
    ("settings", "formula"),
    [
        ({**VIT, "do_rescale": False}, lambda x: (255 * x - 0.5) / 0.5),
        ({**VIT, "rescale_factor": 1 / 127.5}, lambda x: (2 * x - 0.5) / 0.5),
        ({**VIT, "do_rescale": False, "do_normalize": False}, lambda x: 255 * x),
        (
            {**EFFICIENTNET, "rescale_factor": 1 / 127.5, "rescale_offset": True},
            lambda x: (2 * x - 1 - 0.5) / 0.25,
        ),
    ],
)
def test_other_ranges_of_pixels_become_mean_and_std(settings, formula):
    options = {**processor_inputs(settings), "resize": None}
    pixels = np.random.default_rng(0).integers(0, 256, (4, 5, 3), dtype=np.uint8)
    image = Image.fromarray(pixels)
    found = Preprocess(**options)(image)
    assert torch.allclose(found, formula(Preprocess()(image)), rtol=1e-6, atol=1e-4)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({**VIT, "image_processor_type": "DonutImageProcessor"}, "the processor 'DonutImage"),
        ({**VIT, "image_processor_type": "my_code.Mine"}, "the processor 'my_code.Mine'"),
        ({}, "the processor ''; expected one for Beit, Bit"),
        ({**VIT, "do_pad": True}, "do_pad True; expected no such step"),
        ({**VIT, "do_flip_channel_order": True}, "do_flip_channel_order True"),
        ({**VIT, "size": {"longest_edge": 224}}, r"size \{'longest_edge': 224\}; expected height"),
        ({**VIT, "size": 224}, "size 224; expected height and width"),
        ({**BIT, "crop_size": {"shortest_edge": 224}}, "crop_size"),
        ({**VIT, "resample": 4}, r"resample 4; expected one of \[0, 1, 2, 3\]"),
        ({**VIT, "resample": None}, "resample None"),
        ({**VIT, "image_mean": [0.5]}, r"image_mean \[0.5\]; expected three numbers"),
        ({**CONVNEXT, "size": {"height": 1, "width": 2}}, "expected a shortest_edge alone"),
    ],
)
def test_what_a_processor_asks_in_vain(settings, message):
    with pytest.raises(ConfigError, match=message):
        processor_inputs(settings)
