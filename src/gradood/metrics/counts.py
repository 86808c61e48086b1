"""Scores of several methods on the same samples, and counts of samples at each distinct score."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from gradood.errors import ConfigError, DataError, suggest

__all__ = ["ALL", "Counts", "GROUPS", "Scored", "Scores", "checked"]

ALL = "all"
GROUPS = ("near", "far")

Scores = Tensor | np.ndarray | Sequence[Any]
"""One-dimensional real numbers: a tensor on any device, an array, or a list."""


@dataclass(frozen=True, eq=False, slots=True)
class Counts:
    """Samples at each distinct score, ascending. All that the metrics depend on.

    Attributes:
        inside: (k,) int64, in-distribution.
        outside: (k,) int64, out-of-distribution.
    """

    inside: np.ndarray
    outside: np.ndarray

    @staticmethod
    def of(id_scores: Scores, ood_scores: Scores) -> "Counts":
        """Of two sets of scores.

        Raises:
            DataError: a set is empty, not one-dimensional, not of real numbers, or holds NaN.
        """
        low = checked(id_scores, "id_scores")
        high = checked(ood_scores, "ood_scores")
        levels, at = np.unique(np.concatenate([low, high]), return_inverse=True)
        inside = np.bincount(at[: low.size], minlength=levels.size)
        return Counts(inside, np.bincount(at[low.size :], minlength=levels.size))

    def auroc(self) -> float:
        """The chance that an OOD sample scores above an ID sample; ties count half."""
        # Twice the number of pairs in the right order, in integers: one rounding, at the division.
        twice = (self.outside * (2 * np.cumsum(self.inside) - self.inside)).sum()
        return float(twice / (2 * self.inside.sum() * self.outside.sum()))

    def auroc_variance(self) -> float:
        """DeLong's, of the AUROC."""
        area, n, m = self.auroc(), int(self.inside.sum()), int(self.outside.sum())
        # Of each ID sample the share of OOD above it, and of each OOD sample that of ID below.
        above = 1 - (np.cumsum(self.outside) - self.outside / 2) / m
        below = (np.cumsum(self.inside) - self.inside / 2) / n
        variance = (self.inside * (above - area) ** 2).sum() / (n * max(1, n - 1))
        return float(variance + (self.outside * (below - area) ** 2).sum() / (m * max(1, m - 1)))

    def drawn(self, rng: np.random.Generator) -> "Counts":
        """As many samples of each set, drawn from it with replacement."""
        return Counts(_drawn(self.inside, rng), _drawn(self.outside, rng))

    def aupr_in(self) -> float:
        """Average precision, ID positive."""
        return _average_precision(self.inside, self.outside)

    def aupr_out(self) -> float:
        """Average precision, OOD positive."""
        return _average_precision(self.outside[::-1], self.inside[::-1])

    def fpr_ood(self) -> float:
        """Share of OOD kept where 95 % of ID is."""
        return _share_kept(self.inside, self.outside)

    def fpr_id(self) -> float:
        """Share of ID flagged where 95 % of OOD is."""
        return _share_kept(self.outside[::-1], self.inside[::-1])


def _drawn(counts: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    samples = np.repeat(np.arange(counts.size), counts)
    chosen = samples[rng.integers(0, samples.size, samples.size)]
    return np.bincount(chosen, minlength=counts.size)


def _average_precision(positive: np.ndarray, negative: np.ndarray) -> float:
    found = np.cumsum(positive)
    # A redrawn set may leave levels before the first sample empty.
    precision = found / np.maximum(1, found + np.cumsum(negative))
    return float((positive * precision).sum() / found[-1])


def _share_kept(positive: np.ndarray, negative: np.ndarray) -> float:
    kept = np.cumsum(positive)
    # In integers, as 0.95 has no exact float: 100 · kept ≥ 95 · n.
    last = int(np.argmax(100 * kept >= 95 * kept[-1]))
    return float(negative[: last + 1].sum() / negative.sum())


def checked(scores: Scores, name: str) -> np.ndarray:
    """The scores in float64, on the CPU, and usable."""
    if isinstance(scores, Tensor):
        # To the CPU first, as some devices have no float64; in torch, as NumPy has no bfloat16.
        scores = scores.detach().cpu()
        scores = scores if scores.is_complex() else scores.double()
    try:
        given = np.asarray(scores)
        values = given.astype(
            np.float64, casting="unsafe" if given.dtype == object else "same_kind"
        )
    except (TypeError, ValueError) as error:
        raise DataError(
            f"{name} cannot be read as real numbers ({error}); expected a one-dimensional tensor, "
            "array or list of scores."
        ) from error
    if values.ndim != 1:
        raise DataError(
            f"{name} has shape {values.shape}; expected one score per sample, (n,). "
            "Pass one detector's scores, flattened."
        )
    if not values.size:
        raise DataError(f"{name} is empty; expected at least one score.")
    bad = np.flatnonzero(np.isnan(values))
    if bad.size:
        first = ", ".join(str(index) for index in bad[:5]) + (", …" if bad.size > 5 else "")
        raise DataError(
            f"{name} holds {bad.size} NaN among {values.size} scores (at {first}); expected "
            "numbers, infinite ones included. Score what cannot be scored as +inf."
        )
    return values


@dataclass(frozen=True, eq=False, slots=True)
class Scored:
    """Scores of one in-distribution sample and of several out-of-distribution ones.

    Row *i* of a set belongs to the same image for every method: this is what makes pairs.

    Attributes:
        methods: names, k of them.
        known: (k, n) float64.
        unknown: set → (k, m) float64.
        groups: set → near or far.
    """

    methods: tuple[str, ...]
    known: np.ndarray
    unknown: Mapping[str, np.ndarray]
    groups: Mapping[str, str]

    @staticmethod
    def of(
        known: Mapping[str, Scores],
        unknown: Mapping[str, Mapping[str, Scores]],
        groups: Mapping[str, str] | None = None,
    ) -> "Scored":
        """Of scores by method.

        Args:
            known: method → (n,) scores of the in-distribution sample.
            unknown: set → method → (m,) scores.
            groups: set → near or far; a set that is not named counts for the mean of all only.

        Raises:
            DataError: no method, no set, a method without scores of a set, as many scores as
                another method has not, or scores that have no order.
            ConfigError: a group other than near and far, or of a set that is not there.
        """
        methods = tuple(known)
        if not methods or not unknown:
            raise DataError("no scores were given; expected at least one method and one set.")
        for name, group in (groups or {}).items():
            if name not in unknown:
                raise ConfigError(f"group of a set {name!r}: {suggest(name, unknown)}")
            if group not in GROUPS:
                raise ConfigError(f"set {name!r} is in group {group!r}; expected near or far.")
        return Scored(
            methods=methods,
            known=_stacked("id", methods, known),
            unknown={name: _stacked(name, methods, given) for name, given in unknown.items()},
            groups=dict(groups or {}),
        )

    def members(self) -> dict[str, tuple[str, ...]]:
        """Group → its sets: all first, then near and far where they have any."""
        found = {
            group: tuple(name for name in self.unknown if self.groups.get(name) == group)
            for group in GROUPS
        }
        return {ALL: tuple(self.unknown), **{group: sets for group, sets in found.items() if sets}}


def _stacked(name: str, methods: tuple[str, ...], given: Mapping[str, Scores]) -> np.ndarray:
    """(k, samples), a copy."""
    missing = [method for method in methods if method not in given]
    if missing:
        raise DataError(
            f"set {name!r} has no scores of {', '.join(missing)}; expected those of every method "
            "that has scores of the in-distribution sample."
        )
    rows = [checked(given[method], f"{method} on {name}") for method in methods]
    sizes = {method: len(row) for method, row in zip(methods, rows, strict=True)}
    if len(set(sizes.values())) > 1:
        raise DataError(
            f"set {name!r} has different numbers of scores: {sizes}; expected one per image from "
            "every method, in the same order."
        )
    return np.stack(rows)
