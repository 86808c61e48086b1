"""The five figures of the leaderboard: what they are called, and which way is better."""

from dataclasses import dataclass

__all__ = ["GROUPS", "MEASURES", "Measure", "better", "percent"]


@dataclass(frozen=True, slots=True)
class Measure:
    """A metric of `gradood.metrics`, in a reader's words.

    Attributes:
        label: short name.
        higher: whether higher is better.
        meaning: one sentence.
    """

    label: str
    higher: bool
    meaning: str


MEASURES = {
    "auroc": Measure(
        "AUROC",
        True,
        "Chance that an outlier gets a higher score than a known image; 50 % is guessing.",
    ),
    "fpr_ood_at_tpr_id95": Measure(
        "FPR95, outliers let through",
        False,
        "Share of the outliers taken for known where 95 % of the known images are kept.",
    ),
    "fpr_id_at_tpr_ood95": Measure(
        "FPR95, false alarms",
        False,
        "Share of the known images flagged where 95 % of the outliers are caught "
        "(the sense of OpenOOD).",
    ),
    "aupr_in": Measure(
        "AUPR-in",
        True,
        "Average precision with the known images as the positive class; depends on how many there "
        "are of each.",
    ),
    "aupr_out": Measure(
        "AUPR-out",
        True,
        "Average precision with the outliers as the positive class; depends on how many there are "
        "of each.",
    ),
}
"""By name in the record; the first is the one that the advice goes by."""

GROUPS = ("all", "near", "far")
"""Of sets, as in the record."""


def better(measure: str, one: float, other: float) -> bool:
    """Whether the one figure is better than the other."""
    return one > other if MEASURES[measure].higher else one < other


def percent(value: float, digits: int = 1) -> str:
    """As text, with a space that does not break.

    Example:
        >>> percent(0.92604)
        '92.6\\xa0%'
    """
    return f"{100 * value:.{digits}f}\N{NO-BREAK SPACE}%"
