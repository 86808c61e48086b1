"""How well scores tell out-of-distribution from in-distribution samples; exact under ties.

Every function takes the scores of the two sets, higher = more out-of-distribution. Only their order
matters, so infinite scores are ordinary extremes. NaN has no place in an order and is refused.

Two conventions exist for "FPR95", and their names say which is which. ID as the positive class is
the convention of most papers; OOD as the positive class is that of OpenOOD [zhang2023openood].

Cost: one sort of both sets, O(n log n), on the CPU in float64.
"""

from gradood.metrics.analysis import METRICS, Analysis
from gradood.metrics.confidence import intervals
from gradood.metrics.counts import Scores
from gradood.metrics.ranking import critical_difference, over_seeds, ranking
from gradood.metrics.separation import (
    Summary,
    aupr_in,
    aupr_out,
    auroc,
    fpr_id_at_tpr_ood95,
    fpr_ood_at_tpr_id95,
    summary,
)
from gradood.metrics.significance import comparisons, differences, holm

__all__ = [
    "Analysis",
    "METRICS",
    "Scores",
    "Summary",
    "aupr_in",
    "aupr_out",
    "auroc",
    "comparisons",
    "critical_difference",
    "differences",
    "fpr_id_at_tpr_ood95",
    "fpr_ood_at_tpr_id95",
    "holm",
    "intervals",
    "over_seeds",
    "ranking",
    "summary",
]
