"""OptFS against its formula."""

import math

import numpy as np
import pytest
from package import NAMES, same, setting

import gradood

BINS = 100


def place(value, low, width, bins):
    """The bin, or None outside of all."""
    index = math.floor((value - low) / width)
    return index if 0 <= index < bins else None


def shaping(given, bins):
    """Weights of the bins, their first edge and their width."""
    features = given.features(given.fit_x).numpy()
    low, high = np.quantile(features, [0.001, 0.999])
    width = (high - low) / bins
    weight = given.weight.tolist()
    contribution = [0.0] * bins
    for row, z in zip(features.tolist(), given.logits(given.fit_x).tolist(), strict=True):
        best = z.index(max(z))
        for d, value in enumerate(row):
            j = place(value, low, width, bins)
            if j is not None:
                contribution[j] += weight[best][d] * value / len(features)
    norm = math.sqrt(math.fsum(v * v for v in contribution))
    return [1000 * v / norm for v in contribution], low, width


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("score", ["vanilla", "energy"])
@pytest.mark.parametrize("bins", [BINS, 13])
def test_optfs_is_its_formula(name, score, bins):
    given = setting(name)
    theta, low, width = shaping(given, bins)
    weight, bias = given.weight.tolist(), given.bias.tolist()
    expected = []
    rows = given.features(given.x).tolist()
    for row, z in zip(rows, given.logits(given.x).tolist(), strict=True):
        places = [place(value, low, width, bins) for value in row]
        h = [0.0 if j is None else theta[j] * v for v, j in zip(row, places, strict=True)]
        out = [math.fsum(w * v for w, v in zip(rows, h, strict=True)) for rows in weight]
        if score == "vanilla":
            expected.append(-out[z.index(max(z))])
            continue
        out = [a + b for a, b in zip(out, bias, strict=True)]
        top = max(out)
        expected.append(-top - math.log(math.fsum(math.exp(v - top) for v in out)))
    same(given.scores(gradood.OptFS(score=score, bins=bins), fit=True), expected)
