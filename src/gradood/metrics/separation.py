"""The five metrics, as functions of two sets of scores."""

from dataclasses import dataclass

from gradood.metrics.counts import Counts, Scores

__all__ = [
    "Summary",
    "aupr_in",
    "aupr_out",
    "auroc",
    "fpr_id_at_tpr_ood95",
    "fpr_ood_at_tpr_id95",
    "summary",
    "summary_of",
]


@dataclass(frozen=True, slots=True)
class Summary:
    """The five metrics, each from 0 to 1.

    Attributes:
        auroc: see `auroc`.
        aupr_in: see `aupr_in`.
        aupr_out: see `aupr_out`.
        fpr_ood_at_tpr_id95: see `fpr_ood_at_tpr_id95`.
        fpr_id_at_tpr_ood95: see `fpr_id_at_tpr_ood95`.
    """

    auroc: float
    aupr_in: float
    aupr_out: float
    fpr_ood_at_tpr_id95: float
    fpr_id_at_tpr_ood95: float


def summary(id_scores: Scores, ood_scores: Scores) -> Summary:
    """All five metrics from one sort.

    Args:
        id_scores: (n,) of in-distribution samples.
        ood_scores: (m,) of out-of-distribution samples.

    Raises:
        DataError: a set is empty, not one-dimensional, not of real numbers, or holds NaN.

    Example:
        >>> summary([0.1, 0.2, 0.3], [0.3, 0.4]).auroc
        0.9166666666666666
    """
    return summary_of(Counts.of(id_scores, ood_scores))


def summary_of(counts: Counts) -> Summary:
    """All five metrics of scores that are counted already."""
    return Summary(
        auroc=counts.auroc(),
        aupr_in=counts.aupr_in(),
        aupr_out=counts.aupr_out(),
        fpr_ood_at_tpr_id95=counts.fpr_ood(),
        fpr_id_at_tpr_ood95=counts.fpr_id(),
    )


def auroc(id_scores: Scores, ood_scores: Scores) -> float:
    """Area under the ROC curve: the chance that an OOD sample scores above an ID sample.

    Ties count half (the Mann-Whitney statistic); 0.5 is chance. The same whichever class is called
    positive.

    Arguments and errors are those of `summary`.
    """
    return Counts.of(id_scores, ood_scores).auroc()


def aupr_in(id_scores: Scores, ood_scores: Scores) -> float:
    """Average precision with ID as the positive class, ranked from the lowest score up.

    Depends on the ratio of the two sets' sizes; chance is the share of ID samples. The sum of
    precision times recall gained, one step per distinct score, without interpolation.

    Arguments and errors are those of `summary`.
    """
    return Counts.of(id_scores, ood_scores).aupr_in()


def aupr_out(id_scores: Scores, ood_scores: Scores) -> float:
    """Average precision with OOD as the positive class, ranked from the highest score down.

    Depends on the ratio of the two sets' sizes; chance is the share of OOD samples. The sum of
    precision times recall gained, one step per distinct score, without interpolation.

    Arguments and errors are those of `summary`.
    """
    return Counts.of(id_scores, ood_scores).aupr_out()


def fpr_ood_at_tpr_id95(id_scores: Scores, ood_scores: Scores) -> float:
    """Share of OOD samples taken for ID when 95 % of the ID samples are kept (ID positive).

    The threshold is the smallest score t for which at least 95 % of the ID samples have a score
    ≤ t; the answer is the share of OOD samples with a score ≤ t.

    Arguments and errors are those of `summary`.
    """
    return Counts.of(id_scores, ood_scores).fpr_ood()


def fpr_id_at_tpr_ood95(id_scores: Scores, ood_scores: Scores) -> float:
    """Share of ID samples flagged when 95 % of the OOD samples are detected (OOD positive).

    The threshold is the largest score t for which at least 95 % of the OOD samples have a score
    ≥ t; the answer is the share of ID samples with a score ≥ t.

    Arguments and errors are those of `summary`.
    """
    return Counts.of(id_scores, ood_scores).fpr_id()
