"""ORA against its formula."""

import math

import pytest
from package import NAMES, same, setting

import gradood


def length(vector):
    return math.sqrt(math.fsum(v * v for v in vector))


def angle(a, b):
    """By the half-angle formula of Kahan, which keeps digits where the arc cosine loses them."""
    a, b = [v / length(a) for v in a], [v / length(b) for v in b]
    difference = length([x - y for x, y in zip(a, b, strict=True)])
    total = length([x + y for x, y in zip(a, b, strict=True)])
    return 2 * math.atan2(difference, total)


@pytest.mark.parametrize("name", NAMES)
def test_ora_is_its_formula(name):
    given = setting(name)
    fit = given.features(given.fit_x).tolist()
    mean = [math.fsum(column) / len(fit) for column in zip(*fit, strict=True)]
    weight = given.weight.tolist()
    expected = []
    rows = given.features(given.x).tolist()
    for h, z in zip(rows, given.logits(given.x).tolist(), strict=True):
        best = z.index(max(z))
        angles = []
        for other in range(len(z)):
            if other == best:
                continue
            step = [a - b for a, b in zip(weight[best], weight[other], strict=True)]
            factor = (z[best] - z[other]) / math.fsum(v * v for v in step)
            boundary = [a - factor * v for a, v in zip(h, step, strict=True)]
            pair = ([a - m for a, m in zip(side, mean, strict=True)] for side in (h, boundary))
            angles.append(angle(*pair))
        expected.append(-max(angles) / math.pi)
    same(given.scores(gradood.ORA(), fit=True), expected)
