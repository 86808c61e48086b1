"""ActSub against its formula."""

import math

import numpy as np
import pytest
from naive import shaping
from package import NAMES, same, setting

import gradood


def subspaces(weight):
    """Right singular vectors by descending singular value, and the group of equal ones of each."""
    values, vectors = np.linalg.eigh(weight.T @ weight)
    values, vectors = values[::-1], vectors[:, ::-1].T
    groups = [0]
    for i in range(1, len(values)):
        equal = values[i - 1] - values[i] <= 1e-10 * values[0]
        groups.append(groups[-1] if equal else i)
    return vectors, groups


def shares(groups, n):
    """How much of every direction is decisive: a group that n cuts counts by its share."""
    found = []
    for i, start in enumerate(groups):
        members = [j for j, other in enumerate(groups) if other == start]
        found.append(sum(j < n for j in members) / len(members) if members else float(i < n))
    return found


def component(row, vectors, weights):
    """``Σ_j √w_j v_j v_jᵀ h``."""
    out = np.zeros(len(row))
    for vector, w in zip(vectors, weights, strict=True):
        out += math.sqrt(w) * vector * math.fsum(vector * row)
    return out


def dimension(features, vectors, groups):
    """Where the mean lengths of the two components are closest."""
    gaps = []
    for n in range(features.shape[1]):
        decisive = shares(groups, n)
        sides = []
        for weights in (decisive, [1 - w for w in decisive]):
            lengths = (np.linalg.norm(component(h, vectors, weights)) for h in features)
            sides.append(math.fsum(lengths) / len(features))
        gaps.append(abs(sides[0] - sides[1]))
    return int(np.argmin(gaps))


def expected_scores(given, n, percentile, lam, k):
    weight, bias = given.weight.numpy(), given.bias.numpy()
    vectors, groups = subspaces(weight)
    fit = given.features(given.fit_x).numpy()
    decisive = shares(groups, dimension(fit, vectors, groups) if n == "auto" else n)
    rest = [1 - w for w in decisive]
    bank = [component(h, vectors, rest) for h in fit]
    found = []
    for h in given.features(given.x).numpy():
        own = component(h, vectors, rest)
        lengths = np.linalg.norm(own)
        cosines = sorted((own @ b / (lengths * np.linalg.norm(b)) for b in bank), reverse=True)
        alike = math.fsum(cosines[:k]) / k
        insignificant = max(-math.log(max(1 - alike, 1e-12)), 1e-6)
        shaped = shaping.scale(component(h, vectors, decisive).tolist(), percentile)
        z = weight @ np.array(shaped) + bias
        top = z.max()
        energy = top + math.log(math.fsum(math.exp(v - top) for v in z))
        found.append(-max(energy, 1e-6) * insignificant**lam)
    return found


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("n", [1, 3, "auto"])
@pytest.mark.parametrize(("percentile", "lam", "k"), [(60.0, 1.0, 10), (30.0, 0.5, 3)])
def test_actsub_is_its_formula(name, n, percentile, lam, k):
    given = setting(name)
    detector = gradood.ActSub(dimension=n, percentile=percentile, lam=lam, k=k)
    same(given.scores(detector, fit=True), expected_scores(given, n, percentile, lam, k), 1e-8)
