"""A file made before percentiles were automatic keeps its options, states and scores for good."""

from pathlib import Path

import pytest
import torch
from package import setting

import gradood

FILE = Path(__file__).parent / "artifact_shaping_1_1.safetensors"
FIRST = {
    "react": "-0x1.37b74bbd77c4fp+1",
    "ash-b": "-0x1.5978b45882652p+1",
    "ash-p": "-0x1.3eceeed83837fp+1",
    "ash-s": "-0x1.3d1de7a20e7bcp+6",
    "scale": "-0x1.564714406a0ffp+3",
    "lts": "-0x1.6b8555f765a7ap+4",
    "vra": "-0x1.0cc061bf97e20p+1",
    "dice": "-0x1.2dc34779cc2c7p+1",
    "line": "-0x1.c572b3802d96ap+0",
    "adascale-a": "-0x1.dbccb63b593f9p+2",
    "adascale-l": "-0x1.1dd0915104880p+2",
    "dice-scale": "-0x1.9b50fe353ba25p+3",
    "react-ash": "-0x1.3d1de7a20e7bcp+6",
}
"""Score of the first input by each detector, when the file was made."""


@pytest.fixture(scope="module")
def loaded():
    given = setting("mlp_bn")
    return given, gradood.load(FILE, given.network)


def test_it_keeps_its_options(loaded):
    detectors = loaded[1].detectors
    percentiles = {name: d.options().get("percentile") for name, d in detectors.items()}
    assert percentiles["ash-b"] == percentiles["ash-p"] == 65
    assert percentiles["react"] == percentiles["ash-s"] == percentiles["dice"] == 90
    assert (percentiles["scale"], percentiles["lts"]) == (85, 95)
    assert (detectors["vra"].eta_alpha, detectors["vra"].eta_beta) == (0.6, 0.9)
    assert (detectors["line"].clip, detectors["line"].activation_percentile) == (1.0, 90)
    assert (detectors["adascale-a"].p_min, detectors["adascale-l"].p_max) == (75, 85)
    assert detectors["dice-scale"].score == "scale" and detectors["react-ash"].score == "ash-s"


def test_it_keeps_its_scores(loaded):
    given, monitor = loaded
    scores = monitor.score(given.x)
    assert set(scores) == set(FIRST)
    for name, first in FIRST.items():
        expected = torch.tensor(float.fromhex(first), dtype=torch.float64)
        torch.testing.assert_close(scores[name][0], expected, rtol=1e-10, atol=0)
