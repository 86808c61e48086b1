"""Changes between two records: of a figure, and of all figures."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["Change", "Changes", "LEVEL"]

LEVEL = 0.95
"""Of the intervals in records."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Change:
    """One figure in both records.

    Attributes:
        run: the network's label.
        method: the method's label.
        group: of the mean over sets: all, near or far; or
        ood: the set.
        metric: as in `gradood.metrics.Summary`.
        before: in the first record.
        after: in the second record.
        interval: of after − before, of this figure alone.
        p: two-sided, of this figure alone.
        p_holm: with Holm's correction over all figures compared.
        paired: whether the scores of the same images were compared, not only the figures.
    """

    run: str
    method: str
    group: str | None
    ood: str | None
    metric: str
    before: float
    after: float
    interval: tuple[float, float]
    p: float
    p_holm: float
    paired: bool

    @property
    def significant(self) -> bool:
        """Whether it is more than chance, among all that was compared."""
        return self.p_holm < 1 - LEVEL

    @property
    def worse(self) -> bool:
        """Whether the second record's figure is the worse one, by however little."""
        gain = self.after - self.before
        return gain > 0 if self.metric.startswith("fpr") else gain < 0

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        found = {name: getattr(self, name) for name in self.__slots__}
        own = {"difference": self.after - self.before, "interval": list(self.interval)}
        return found | own | {"significant": self.significant, "worse": self.worse}


@dataclass(frozen=True, kw_only=True, slots=True)
class Changes:
    """All that can be said.

    Attributes:
        figures: in both records, in the order of the first.
        only_before: run → methods that only the first record has; all of them if it has the run
            alone.
        only_after: the same of the second.
        options: run → method → what its options, layers or the like were, before and after.
    """

    figures: tuple[Change, ...]
    only_before: Mapping[str, tuple[str, ...]]
    only_after: Mapping[str, tuple[str, ...]]
    options: Mapping[str, Mapping[str, tuple[Any, Any]]]

    @property
    def significant(self) -> tuple[Change, ...]:
        """Those that are more than chance."""
        return tuple(change for change in self.figures if change.significant)

    @property
    def worse(self) -> tuple[Change, ...]:
        """Those that are more than chance, and for the worse."""
        return tuple(change for change in self.significant if change.worse)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {
            "compared": len(self.figures),
            "significant": len(self.significant),
            "worse": len(self.worse),
            "paired": sum(change.paired for change in self.figures),
            "only_a": self.only_before,
            "only_b": self.only_after,
            "options": self.options,
            "figures": [change.to_dict() for change in self.figures],
        }
