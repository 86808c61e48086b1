"""AdaSCALE-A and -L against loops, and the perturbation against autograd."""

import numpy as np
import pytest
import torch
from naive import perturbed
from package import NAMES, same, setting

import gradood
from gradood.functional.adascale import activation_shift, adaptive_percentile, scaling_ratio

OPTIONS = {
    "default": {},
    "wide": {"p_min": 20, "p_max": 90, "k1": 30, "k2": 80, "balance": 2.5, "share": 0.2},
    "most": {"p_min": 40, "p_max": 80, "k1": 50, "k2": 100, "share": 0.1, "pixels": "most"},
    "all": {"p_min": 10, "p_max": 60, "k1": 100, "k2": 10, "share": 1.0, "epsilon": 0.05},
}
DEFAULT = {
    "p_min": 75,
    "p_max": 85,
    "k1": 1,
    "k2": 5,
    "balance": 10,
    "share": 0.05,
    "epsilon": 0.5,
    "pixels": "least",
}


def expected(given, options, logits):
    o = DEFAULT | options

    def shifts(x):
        rows = perturbed.perturbed_rows(
            given.network, x, o["share"], o["epsilon"], o["pixels"] == "most"
        )
        both = zip(given.features(x).numpy(), given.features(rows).numpy(), strict=True)
        return [perturbed.shift(a, moved, o["k1"], o["k2"], o["balance"]) for a, moved in both]

    fit = shifts(given.fit_x)
    p = [perturbed.percentile(q, fit, o["p_min"], o["p_max"]) for q in shifts(given.x)]
    features = given.features(given.x).numpy()
    return perturbed.adascale(features, given.weight.numpy(), given.bias.numpy(), p, logits)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("options", OPTIONS)
def test_adascale_is_its_formula(name, options):
    given = setting(name)
    for detector, logits in ((gradood.AdaScaleA, False), (gradood.AdaScaleL, True)):
        scores = given.scores(detector(**detector.published | OPTIONS[options]), fit=True)
        same(scores, expected(given, OPTIONS[options], logits))


def test_the_parts_on_random_activations(rng):
    a, moved = rng.normal(size=(2, 40, 23))
    a[:10] = np.maximum(a[:10], 0)  # many zeros tie
    a[3] = -1.0  # none is positive
    for k1, k2, balance in ((1.0, 5.0, 10.0), (50.0, 100.0, 0.5), (100.0, 37.0, 0.0)):
        got = activation_shift(torch.tensor(a), torch.tensor(moved), k1=k1, k2=k2, balance=balance)
        same(got, [perturbed.shift(*pair, k1, k2, balance) for pair in zip(a, moved, strict=True)])
    p = rng.uniform(0.1, 99.9, size=40)
    got = scaling_ratio(torch.tensor(a), torch.tensor(p))
    same(got, [perturbed.ratio(row, value) for row, value in zip(a, p, strict=True)])
    assert float(got[3]) == 1.0
    reference = np.sort(rng.normal(size=30) ** 2)
    queries = np.concatenate([reference[:5], reference[5:9] * (1 - 1e-9), [0.0, 99.0]])
    got = adaptive_percentile(torch.tensor(queries), torch.tensor(reference), 60.0, 95.0)
    same(got, [perturbed.percentile(q, reference.tolist(), 60.0, 95.0) for q in queries])
    assert got[-2:].tolist() == [95.0, 60.0]


def test_the_order_of_equal_units_has_no_influence(rng):
    a, moved = np.maximum(rng.normal(size=(2, 6, 40)) - 0.8, 0)
    order = rng.permutation(40)
    options = {"k1": 60.0, "k2": 80.0, "balance": 3.0}
    one = activation_shift(torch.tensor(a), torch.tensor(moved), **options)
    other = activation_shift(torch.tensor(a[:, order]), torch.tensor(moved[:, order]), **options)
    assert (a == 0).mean() > 0.5
    same(other, one, 1e-13)


def test_stable_activations_are_scaled_more():
    """Scaling by the same percentile for all is what p_min = p_max does."""
    given = setting("plain_cnn", n=40)
    fixed = given.scores(gradood.AdaScaleL(p_min=60, p_max=60), fit=True)
    features = given.features(given.x).numpy()
    head = given.weight.numpy(), given.bias.numpy()
    same(fixed, perturbed.adascale(features, *head, [60] * 40, True))
    spread = given.scores(gradood.AdaScaleL(p_min=60, p_max=90), fit=True)
    assert (spread != fixed).any()
