"""Relative distances of directions against written-out inverses."""

import pytest
from naive import relative_mahalanobis
from package import NAMES, same, setting

import gradood


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("size", [40, 9])
def test_rmds_plus_plus_is_its_formula(name, size):
    given = setting(name, fit=size)
    unit = relative_mahalanobis.normalized(given.features(given.fit_x))
    fit = relative_mahalanobis.relative_fit(unit, given.fit_y)
    expected = relative_mahalanobis.relative(
        relative_mahalanobis.normalized(given.features(given.x)), fit
    )
    same(given.scores(gradood.RMDSPlusPlus(), fit=True), expected, 1e-7)
