"""Class moments, merged in any way, against the moments of everything at once."""

import pytest
import torch

from gradood.functional.moments import ClassMoments, Extremes

CLASSES = 5


def data(n=200, offset=0.0):
    x = torch.randn(n, 4, dtype=torch.float64) * 3 + offset
    return x, torch.randint(CLASSES - 1, (n,))  # the last class never occurs


def direct(x, y):
    mean = torch.zeros(CLASSES, 4, dtype=torch.float64)
    scatter = torch.zeros(4, 4, dtype=torch.float64)
    for c in range(CLASSES):
        rows = x[y == c]
        if len(rows):
            mean[c] = rows.mean(0)
            scatter += (rows - mean[c]).T @ (rows - mean[c])
    return mean, scatter


def merged(x, y, cuts):
    parts = [
        ClassMoments.of(a, b, CLASSES, scatter=True)
        for a, b in zip(x.split(cuts), y.split(cuts), strict=True)
    ]
    while len(parts) > 1:
        parts = [parts.pop(0).merge(parts.pop()), *parts]
    return parts[0]


@pytest.mark.parametrize("offset", [0.0, 1e4])
@pytest.mark.parametrize("cuts", [200, 100, 37, 1])
def test_equal_to_the_moments_of_all(cuts, offset):
    x, y = data(offset=offset)
    mean, scatter = direct(x, y)
    found = merged(x, y, cuts)
    torch.testing.assert_close(found.mean, mean, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(found.scatter, scatter, rtol=1e-12 * (1 + offset), atol=1e-9)
    assert found.count.tolist() == torch.bincount(y, minlength=CLASSES).tolist()
    torch.testing.assert_close(found.overall_mean, x.mean(0), rtol=1e-12, atol=1e-12)


def test_a_class_missing_on_one_side():
    x, y = data()
    order = y.argsort()
    x, y = x[order], y[order]  # neighboring parts share few classes
    mean, scatter = direct(x, y)
    for cuts in (50, 17):
        found = merged(x, y, cuts)
        torch.testing.assert_close(found.mean, mean, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(found.scatter, scatter, rtol=1e-12, atol=1e-9)
    assert bool((found.mean[-1] == 0).all()) and int(found.count[-1]) == 0


def test_merging_is_symmetric_and_keeps_what_was_asked():
    x, y = data()
    a = ClassMoments.of(x[:50], y[:50], CLASSES)
    b = ClassMoments.of(x[50:], y[50:], CLASSES)
    torch.testing.assert_close(a.merge(b).mean, b.merge(a).mean, rtol=1e-13, atol=1e-13)
    assert a.merge(b).scatter is None
    assert set(a.tensors()) == {"count", "mean"}
    assert set(merged(x, y, 50).tensors()) == {"count", "mean", "scatter"}


def test_single_precision_features_are_summed_in_double():
    x, y = data()
    found = ClassMoments.of(x.float(), y, CLASSES)
    torch.testing.assert_close(found.mean, direct(x.float().double(), y)[0], rtol=1e-14, atol=1e-14)


def test_extremes():
    x = torch.randn(30, 3)
    parts = [Extremes(p.amin(0), p.amax(0)) for p in x.split(7)]
    total = parts[0]
    for part in parts[1:]:
        total = part.merge(total)
    assert torch.equal(total.low, x.amin(0)) and torch.equal(total.high, x.amax(0))
    assert set(total.tensors()) == {"low", "high"}
