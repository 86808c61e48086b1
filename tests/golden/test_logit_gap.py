"""LogitGap against its formula."""

import math

import pytest
from package import NAMES, same, setting

import gradood


def gap(z, count):
    """The largest logit, less the mean of the next `count` − 1."""
    ordered = sorted(z, reverse=True)
    rest = ordered[1:count]
    return ordered[0] - math.fsum(rest) / len(rest)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("count", [2, 3, 100, "auto"])
def test_logit_gap_is_its_formula(name, count):
    given = setting(name)
    logits = given.logits(given.x).tolist()
    largest = 1 + round(len(logits[0]) ** (2 / 3)) if count == "auto" else count
    same(given.scores(gradood.LogitGap(N=count)), [-gap(z, largest) for z in logits])
