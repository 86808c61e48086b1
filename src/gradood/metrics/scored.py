"""The scores of several methods on the same samples, checked once."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from gradood.errors import ConfigError, DataError, suggest
from gradood.metrics.counts import Scores, checked

__all__ = ["ALL", "GROUPS", "Scored"]

ALL = "all"
GROUPS = ("near", "far")


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
