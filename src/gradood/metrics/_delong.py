"""AUROC of several methods on the same samples, and how their errors go together."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gradood.metrics.counts import Scored

__all__ = ["Areas", "Estimates"]


@dataclass(frozen=True, eq=False, slots=True)
class Estimates:
    """One figure of each of k methods.

    Attributes:
        values: (k,).
        covariance: (k, k) of the values, over other samples of the same populations.
    """

    values: np.ndarray
    covariance: np.ndarray


@dataclass(frozen=True, eq=False, slots=True)
class Areas:
    """DeLong's structural components [delong1988auroc] of k methods on several sets.

    Of each in-distribution sample the share of a set that scores above it, and of each sample of
    the set the share of in-distribution samples below it; ties count half. The AUROC is the mean of
    either; their covariances are those of the AUROCs. The in-distribution sample is the same for
    every set: its part of the covariance of a mean over sets is that of the mean component.

    Attributes:
        values: set → (k,) AUROC.
        above: set → (k, n) components of the in-distribution samples.
        outside: set → (k, k) the part of the covariance that comes from the set.
    """

    values: dict[str, np.ndarray]
    above: dict[str, np.ndarray]
    outside: dict[str, np.ndarray]

    @staticmethod
    def of(scored: Scored) -> "Areas":
        """Of scores.

        Cost:
            One sort per method and set, and k² products of the samples.
        """
        found = Areas({}, {}, {})
        known = np.sort(scored.known, axis=1)
        n = known.shape[1]
        for name, scores in scored.unknown.items():
            m = scores.shape[1]
            ordered = np.sort(scores, axis=1)
            below = np.stack([_placed(*pair) for pair in zip(known, scores, strict=True)]) / n
            above = np.stack([_placed(*pair) for pair in zip(ordered, scored.known, strict=True)])
            found.values[name] = below.mean(axis=1)
            found.above[name] = 1 - above / m
            found.outside[name] = _covariance_of_mean(below)
        return found

    def mean(self, sets: Sequence[str]) -> Estimates:
        """The unweighted mean over sets.

        Args:
            sets: names, at least one.

        Returns:
            (k,) means and their covariance (k, k).
        """
        values = sum((self.values[name] for name in sets), np.zeros(())) / len(sets)
        above = sum((self.above[name] for name in sets), np.zeros(())) / len(sets)
        outside = sum((self.outside[name] for name in sets), np.zeros(())) / len(sets) ** 2
        return Estimates(values, _covariance_of_mean(above) + outside)


def _placed(ordered: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """How many of `ordered` are below each score; ties count half."""
    return (np.searchsorted(ordered, scores) + np.searchsorted(ordered, scores, "right")) / 2


def _covariance_of_mean(components: np.ndarray) -> np.ndarray:
    """(k, k) covariance of the means of (k, samples), unbiased."""
    samples = components.shape[1]
    centered = components - components.mean(axis=1, keepdims=True)
    return centered @ centered.T / (samples * max(1, samples - 1))
