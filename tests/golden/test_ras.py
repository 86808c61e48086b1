"""RAS against its formula."""

import math

import pytest
from package import NAMES, same, setting

import gradood


def profile(rows):
    """Mean of the k-th smallest value over the samples, for every k."""
    ordered = [sorted(row) for row in rows]
    return [math.fsum(row[k] for row in ordered) / len(ordered) for k in range(len(rows[0]))]


def shaped(row, curve):
    """The k-th smallest unit takes the k-th value; equal units the mean of theirs."""
    places: dict[float, list[float]] = {}
    for k, value in enumerate(sorted(row)):
        places.setdefault(value, []).append(curve[k])
    return [math.fsum(places[value]) / len(places[value]) for value in row]


@pytest.mark.parametrize("name", NAMES)
def test_ras_is_its_formula(name):
    given = setting(name)
    curve = profile(given.features(given.fit_x).tolist())
    expected = []
    for row in given.features(given.x).tolist():
        h = shaped(row, curve)
        z = [
            math.fsum(w * v for w, v in zip(weights, h, strict=True)) + b
            for weights, b in zip(given.weight.tolist(), given.bias.tolist(), strict=True)
        ]
        top = max(z)
        expected.append(-top - math.log(math.fsum(math.exp(value - top) for value in z)))
    same(given.scores(gradood.RAS(), fit=True), expected)


def test_ties_take_the_mean_of_their_places():
    assert shaped([2.0, 0.0, 0.0], [1.0, 3.0, 7.0]) == [7.0, 2.0, 2.0]
