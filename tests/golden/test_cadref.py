"""CADRef against its formula."""

import math

import pytest
from package import NAMES, same, setting
from test_caref import predicted_means

import gradood

LEAST = 1e-6


def confidence(z, kind):
    """The logit score, high for known inputs."""
    top = max(z)
    powers = [math.exp(value - top) for value in z]
    total = math.fsum(powers)
    p = sorted((power / total for power in powers), reverse=True)
    if kind == "energy":
        return top + math.log(total)
    if kind == "max-logit":
        return top
    if kind == "msp":
        return p[0]
    kept = p[: max(10, len(p) // 10)]
    return 1 / math.fsum(q**0.1 * (1 - q) ** 0.1 for q in kept)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("score", ["energy", "gen", "max-logit", "msp"])
def test_cadref_is_its_formula(name, score):
    given = setting(name)
    fit_logits = given.logits(given.fit_x).tolist()
    means = predicted_means(given.features(given.fit_x).tolist(), fit_logits)
    mean = math.fsum(confidence(z, score) for z in fit_logits) / len(fit_logits)
    weight = given.weight.tolist()
    expected = []
    rows = given.features(given.x).tolist()
    for row, z in zip(rows, given.logits(given.x).tolist(), strict=True):
        k = z.index(max(z))
        length = math.fsum(map(abs, row))
        up = down = 0.0
        for d, value in enumerate(row):
            sign = (weight[k][d] > 0) - (weight[k][d] < 0)
            aligned = (value - means[k][d]) * sign
            up += max(aligned, 0.0)
            down += max(-aligned, 0.0)
        own = max(confidence(z, score), LEAST)
        expected.append(up / length / own + down / length / max(mean, LEAST))
    same(given.scores(gradood.CADRef(score=score), fit=True), expected)
