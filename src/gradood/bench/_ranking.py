"""Ranking of detectors for one model, with what it rests on."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from gradood._io import markdown as markdown
from gradood.calibration._curve import How
from gradood.detectors.base import Detector

__all__ = ["HOW", "DetectorRanking", "RankedDetector"]

HOW: How = "fisher"
"""How detectors of a combination are combined."""


@dataclass(frozen=True, slots=True)
class RankedDetector:
    """A detector, or a combination of several, and how well it told synthetic outliers.

    Attributes:
        name: of the detector; of a combination its members' names, joined by " + ".
        members: names of the detectors.
        score: mean over the kinds of 1 − √(1 − AUROC), which the ranking goes by: an error halved
            counts alike where a kind is easy and where it is hard.
        interval: of the score over resamples of images and kinds, at 95 %.
        first: share of the resamples in which its score is highest.
        behind: share of the resamples in which its score is below that of the first row; below 0.95
            the two are not told apart.
        auroc: kind → AUROC of outliers of that kind against held-out samples.
        agreement: rank correlation of its scores with those of the first, over all samples.
    """

    name: str
    members: tuple[str, ...]
    score: float
    interval: tuple[float, float]
    first: float
    behind: float
    auroc: Mapping[str, float]
    agreement: float


@dataclass(frozen=True, eq=False, slots=True)
class DetectorRanking:
    """Detectors for one model in order, and what they were judged on: no real outlier.

    Attributes:
        rows: in the order of their scores, but first the best combination, unless a single detector
            has the higher score in 95 % of the resamples: members that look at different things are
            not all wrong where the synthetic outliers mislead.
        candidates: name → detector, of all that ran.
        held: held-out samples that were told from outliers.
        fitted: samples fitted on.
        given: whether the held-out samples were given; else they are part of the fit data.
        left_out: why a candidate did not run, by name.
        stable: share of the kinds that may be left out, one at a time, with the first still within
            one point of the highest score.
    """

    rows: tuple[RankedDetector, ...]
    candidates: Mapping[str, Detector]
    held: int
    fitted: int
    given: bool
    left_out: Mapping[str, str] = field(default_factory=dict)
    stable: float = 1.0

    @property
    def best(self) -> RankedDetector:
        """The first."""
        return self.rows[0]

    @property
    def sure(self) -> float:
        """Share of resamples in which the first has the highest score; of real outliers it says
        nothing."""
        return self.best.first

    @property
    def detectors(self) -> dict[str, Detector]:
        """Those of the first, as `gradood.Monitor` takes them."""
        return {name: self.candidates[name] for name in self.best.members}

    @property
    def combine(self) -> How | None:
        """How the first combines them, as `gradood.Monitor` takes it; None of a single one."""
        return HOW if len(self.best.members) > 1 else None

    @property
    def judged_on(self) -> str:
        """What the ranking rests on, in a sentence."""
        kinds = ", ".join(self.best.auroc)
        origin = "given" if self.given else "taken out of the fit data"
        return (
            f"{self.held:,} held-out in-distribution samples ({origin}) against synthetic outliers "
            f"made of them ({kinds}), after a fit on {self.fitted:,}; no real outlier was seen."
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {
            "rows": [
                asdict(row) | {"members": list(row.members), "interval": list(row.interval)}
                for row in self.rows
            ],
            "combine": self.combine,
            "held": self.held,
            "fitted": self.fitted,
            "given": self.given,
            "left_out": dict(self.left_out),
            "sure": self.sure,
            "stable": self.stable,
            "judged_on": self.judged_on,
        }

    def markdown(self, count: int = 10) -> str:
        """The first rows as a table, then what they rest on.

        Args:
            count: of rows at most.
        """
        kinds = list(self.best.auroc)
        lines = [
            [
                row.name,
                f"{100 * row.score:.1f}",
                f"{100 * row.interval[0]:.1f}–{100 * row.interval[1]:.1f}",
                f"{100 * row.first:.0f}",
                f"{100 * row.behind:.0f}",
                f"{row.agreement:.2f}",
                *(f"{100 * row.auroc[kind]:.1f}" for kind in kinds),
            ]
            for row in self.rows[:count]
        ]
        head = ["method", "score", "95 %", "first in %", "behind in %", "agreement", *kinds]
        without = "; ".join(f"{name}: {reason}" for name, reason in self.left_out.items())
        return (
            f"{markdown.table(head, lines)}\n\nAUROC in percent by kind. Judged on {self.judged_on}"
            + (f"\n\nLeft out: {without}" if without else "")
        )

    def __str__(self) -> str:
        return self.markdown()

    def __repr__(self) -> str:
        return (
            f"DetectorRanking({self.best.name} of {len(self.rows)}; first in "
            f"{self.sure:.0%} of the resamples, {len(self.best.auroc)} kinds of synthetic outliers)"
        )
