"""CARef against its formula."""

import math

import pytest
from package import NAMES, same, setting

import gradood


def predicted_means(features, logits):
    """Mean feature of the samples predicted as each class; of all, where none is."""
    groups = [[] for _ in logits[0]]
    for row, z in zip(features, logits, strict=True):
        groups[z.index(max(z))].append(row)
    return [
        [math.fsum(column) / len(rows) for column in zip(*rows, strict=True)]
        for rows in (group or features for group in groups)
    ]


@pytest.mark.parametrize("name", NAMES)
def test_caref_is_its_formula(name):
    given = setting(name)
    features = given.features(given.fit_x).tolist()
    means = predicted_means(features, given.logits(given.fit_x).tolist())
    expected = []
    rows = given.features(given.x).tolist()
    for row, z in zip(rows, given.logits(given.x).tolist(), strict=True):
        mean = means[z.index(max(z))]
        error = math.fsum(abs(a - b) for a, b in zip(row, mean, strict=True))
        expected.append(error / math.fsum(map(abs, row)))
    same(given.scores(gradood.CARef(), fit=True), expected)
