"""Coverage: whether data has the classes that other data had, by counts of classes."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from gradood.errors import CoverageWarning, warn_caller

__all__ = ["class_counts", "rare_classes", "warn_of_rare"]

_RARE = 0.2
"""Share of what is expected below which a class counts as rare."""
_LEVEL = 1e-4
"""Chance that samples of the same classes are told to lack some, at most."""
_SHOWN = 6


def class_counts(labels: Tensor, classes: int) -> Tensor:
    """(classes,) int64: how many of the labels each class has; others than 0 to classes − 1 none.

    Args:
        labels: (n,) int64.
        classes: how many there are.
    """
    known = labels[(labels >= 0) & (labels < classes)]
    return torch.bincount(known.cpu(), minlength=classes)


def rare_classes(expected: Tensor, found: Tensor) -> list[int]:
    """Classes of which `found` has less than a fifth of what the shares in `expected` would bring.

    They are told only where chance alone would do so at most once in 10,000 times: the number of
    samples of some classes in n drawn alike is nearly Poisson's, and ``P(N ≤ k) ≤ exp(k − λ −
    k·log(k/λ))`` (Chernoff), times the ways in which so many classes can be chosen.

    Args:
        expected: (classes,) counts of the data that shows the classes.
        found: (classes,) counts of the data in question.

    Cost: a few operations per class.

    >>> rare_classes(torch.tensor([100, 100, 100]), torch.tensor([60, 60, 0]))
    [2]
    """
    total, size, classes = int(expected.sum()), int(found.sum()), len(expected)
    if not total or not size:
        return []
    pairs = [(size * n / total, k) for n, k in zip(expected.tolist(), found.tolist(), strict=True)]
    rare = [c for c, (mean, k) in enumerate(pairs) if mean > 0 and k < _RARE * mean]
    limit = math.log(_LEVEL)
    together = _log_chance(sum(pairs[c][0] for c in rare), sum(pairs[c][1] for c in rare))
    if rare and together + _log_choices(classes, len(rare)) < limit:
        return rare
    return [c for c in rare if _log_chance(*pairs[c]) + math.log(classes) < limit]


def warn_of_rare(rare: Sequence[int], classes: int, *, data: str, other: str, effect: str) -> None:
    """Warn that data lacks classes, at the line that called into this package; none is no warning.

    Args:
        rare: numbers of the classes.
        classes: how many there are.
        data: what lacks them, such as ``the calibration data``.
        other: what has them, such as ``the fit data``.
        effect: what follows, as a sentence.
    """
    if not rare:
        return
    shown = ", ".join(map(str, rare[:_SHOWN])) + (", …" if len(rare) > _SHOWN else "")
    warn_caller(
        f"{data} has hardly any image of {len(rare)} of {classes} classes ({shown}) that {other} "
        f"has. {effect} Draw evenly over the classes.",
        CoverageWarning,
    )


def _log_chance(mean: float, count: float) -> float:
    """Of a bound on the chance of at most `count` where `mean` is expected."""
    if count >= mean:
        return 0.0
    return count - mean - (count * math.log(count / mean) if count else 0.0)


def _log_choices(of: int, chosen: int) -> float:
    return math.lgamma(of + 1) - math.lgamma(chosen + 1) - math.lgamma(of - chosen + 1)
