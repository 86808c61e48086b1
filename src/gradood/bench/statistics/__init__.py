"""What the figures of a benchmark are worth: intervals, comparisons, ranks.

Pure functions of score arrays. Row *i* of a set must belong to the same image for every method.

- `Analysis`: the scores of one model; rows and means with intervals
- `comparisons`: differences between methods on the same samples
- `over_seeds`: mean and standard deviation over runs
- `ranking`: ranks over data sets, Friedman's and Nemenyi's tests (needs scipy)
"""

from gradood.bench.statistics.analysis import METRICS, Analysis
from gradood.bench.statistics.pairs import comparisons, differences, holm
from gradood.bench.statistics.ranking import critical_difference, ranking
from gradood.bench.statistics.seeds import over_seeds

__all__ = [
    "Analysis",
    "METRICS",
    "comparisons",
    "critical_difference",
    "differences",
    "holm",
    "over_seeds",
    "ranking",
]
