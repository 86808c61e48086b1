"""Nearest neighbor guidance against loops."""

import numpy as np
import pytest
import torch
from naive.arrays import Array, to_array
from package import NAMES, same, setting

import gradood
from gradood.detectors import nnguide as detector
from gradood.errors import DataError
from gradood.evidence import content_keys
from gradood.functional import nnguide as search
from gradood.functional.nnguide import guidance

# Formulas are checked on few samples and at any setting.
pytestmark = pytest.mark.filterwarnings("ignore::gradood.errors.MeaninglessScoreWarning")


def log_sum_exp(z: Array) -> float:
    return float(z.max() + np.log(np.exp(z - z.max()).sum()))


def nnguide(h, z, bank_h, bank_z, k: int) -> Array:
    """−E(x) · mean of the k largest ⟨ĥ, E_i ĥ_i⟩ (Park et al. 2023, arXiv 2309.14888)."""
    bank = [
        (row / np.linalg.norm(row)) * log_sum_exp(w)
        for row, w in zip(*map(to_array, (bank_h, bank_z)), strict=True)
    ]
    scores = []
    for row, own in zip(to_array(h), to_array(z), strict=True):
        products = sorted(
            (float(row @ guide) / np.linalg.norm(row) for guide in bank), reverse=True
        )
        scores.append(-log_sum_exp(own) * np.mean(products[:k]))
    return np.array(scores)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("k", [1, 10, 40])
def test_nnguide_is_its_formula(name, k):
    """Forty samples are fewer than the least bank: all are in it, whatever the share."""
    given = setting(name)
    fit = given.features(given.fit_x), given.logits(given.fit_x)
    expected = nnguide(given.features(given.x), given.logits(given.x), *fit, k)
    same(given.scores(gradood.NNGuide(k=k), fit=True), expected)


def test_a_share_of_the_fit_is_in_the_bank(monkeypatch):
    monkeypatch.setattr(detector, "_LEAST", 1)
    given = setting("mlp_bn", fit=400)
    keys = content_keys(given.fit_x)
    chosen = keys.double() < (0.25 - 0.5) * 2**64
    assert 70 < int(chosen.sum()) < 130
    some = given.fit_x[chosen]
    expected = nnguide(
        given.features(given.x),
        given.logits(given.x),
        given.features(some),
        given.logits(some),
        3,
    )
    same(given.scores(gradood.NNGuide(k=3, alpha=0.25), fit=True), expected)
    all_of_them = gradood.Monitor(given.network, gradood.NNGuide(k=3, alpha=1.0))
    all_of_them.fit(given.fit_data)
    assert len(all_of_them.states["nnguide"]["guides"]) == 400


def test_a_bank_in_many_blocks(rng, monkeypatch):
    units, guides = torch.tensor(rng.normal(size=(9, 5))), torch.tensor(rng.normal(size=(50, 5)))
    expected = (units @ guides.T).sort(1, descending=True).values[:, :4].mean(1)
    monkeypatch.setattr(search, "_BLOCK", 7)
    same(guidance(units, guides, 4), expected, relative=1e-12)


def test_fewer_samples_than_k_are_refused():
    given = setting("plain_cnn")
    monitor = gradood.Monitor(given.network, gradood.NNGuide(k=41))
    with pytest.raises(DataError, match=r"nnguide with k=41 was fitted on 40 samples; give at"):
        monitor.fit(given.fit_data)
