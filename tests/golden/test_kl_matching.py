"""KL matching against its formula."""

import pytest
import torch
from naive import entropies
from package import NAMES, same, setting

import gradood
from gradood.functional.matching import divergence_from_templates, log_templates


@pytest.mark.parametrize("name", NAMES)
def test_kl_matching_is_its_formula(name):
    given = setting(name)
    expected = entropies.kl_matching(given.logits(given.x), given.logits(given.fit_x))
    same(given.scores(gradood.KLMatching(), fit=True), expected, 1e-8)


def test_classes_never_predicted_have_no_template(rng):
    fit_z = rng.normal(size=(30, 6))
    fit_z[:, 2] -= 50.0
    known = entropies.templates(fit_z)
    assert 2 not in known and len(known) == 5
    logs = log_templates(torch.tensor([known[k] for k in sorted(known)], dtype=torch.float64))
    z = rng.normal(size=(20, 6))
    same(divergence_from_templates(torch.tensor(z), logs), entropies.kl_matching(z, fit_z))


def test_a_template_matches_itself_and_zeros_are_finite():
    means = torch.tensor([[0.5, 0.5, 0.0], [0.1, 0.2, 0.7]], dtype=torch.float64)
    logs = log_templates(means)
    z = means[1:].log()
    assert float(divergence_from_templates(z, logs)) == pytest.approx(0.0, abs=1e-15)
    far = divergence_from_templates(torch.tensor([[-6e4, -6e4, 6e4]]).double(), logs[:1])
    assert 700 < float(far) < 710
