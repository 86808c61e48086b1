"""AUROC of several methods on several kinds of outliers, over resamples of samples and of kinds."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

__all__ = ["Areas"]

_DRAWS, _POINT = 200, 0.01


@dataclass(frozen=True, eq=False, slots=True)
class Areas:
    """How well methods tell outliers from known samples, and how that varies.

    Attributes:
        kinds: of outliers.
        values: (methods, kinds) AUROC.
        drawn: (draws, methods) scores of resamples: of the samples, each with all that is made of
            it, and of the kinds, alike for all methods.
        ranks: (methods, all samples) ranks of the scores, from 0 to 1.
    """

    kinds: tuple[str, ...]
    values: np.ndarray
    drawn: np.ndarray
    ranks: np.ndarray

    @staticmethod
    def of(known: np.ndarray, unknown: Mapping[str, np.ndarray], *, seed: int = 0) -> "Areas":
        """Of the scores of known samples, and of outliers of which row i is made of sample i.

        Args:
            known: (methods, n).
            unknown: kind → (methods, n).
            seed: of the resamples.

        Cost:
            One product of (draws, n) and (n, n) for each method and kind.
        """
        kinds, n = tuple(unknown), known.shape[1]
        rng = np.random.default_rng(seed)
        weights = rng.multinomial(n, np.full(n, 1 / n), size=_DRAWS).astype(np.float32)
        values = np.empty((len(known), len(kinds)))
        areas = np.empty((_DRAWS, len(known), len(kinds)))
        for k, inside in enumerate(known):
            for i, kind in enumerate(kinds):
                outside = unknown[kind][k]
                above = (outside > inside[:, None]) + 0.5 * (outside == inside[:, None])
                won = above.astype(np.float32)
                values[k, i] = above.mean()
                areas[:, k, i] = ((weights @ won) * weights).sum(1) / n**2
        chosen = rng.multinomial(len(kinds), np.full(len(kinds), 1 / len(kinds)), size=_DRAWS)
        drawn = np.einsum("dki,di->dk", _gain(areas), chosen / len(kinds))
        every = np.concatenate([known, *unknown.values()], axis=1)
        return Areas(kinds, values, drawn, _ranks(every))

    @property
    def scores(self) -> np.ndarray:
        """(methods,) mean over the kinds of 1 − √(1 − AUROC)."""
        return _gain(self.values).mean(1)

    def agreement(self, k: int) -> np.ndarray:
        """(methods,) rank correlation with method k, over all samples."""
        centered = self.ranks - self.ranks.mean(1, keepdims=True)
        length = np.sqrt((centered**2).sum(1))
        return (centered @ centered[k]) / np.maximum(length * length[k], 1e-12)

    def stable(self, k: int) -> float:
        """Share of the kinds without which method k is within a point of the highest score."""
        gains = _gain(self.values)
        if gains.shape[1] < 2:
            return 1.0
        others = (gains.sum(1, keepdims=True) - gains) / (gains.shape[1] - 1)
        return float((others[k] >= others.max(0) - _POINT).mean())


def _gain(areas: np.ndarray) -> np.ndarray:
    return 1 - np.sqrt(np.clip(1 - areas, 0, 1))


def _ranks(scores: np.ndarray) -> np.ndarray:
    """Mid-ranks of every row, from 0 to 1."""
    ranks = np.empty(scores.shape)
    for row, own in zip(ranks, scores, strict=True):
        _, at, counts = np.unique(own, return_inverse=True, return_counts=True)
        ends = np.cumsum(counts)
        row[:] = (ends - (counts - 1) / 2)[at] / scores.shape[1]
    return ranks
