"""Why a score is as high as it is: contributions of units and classes, by a stated rule."""

from gradood.attribution.contribution import Contribution, contributions, reference_evidence
from gradood.attribution.explanation import Explanation
from gradood.attribution.known import KnownFeatures, Neighbor, Typicality
from gradood.attribution.reading import explained, read_evidence, unexplained

__all__ = [
    "Contribution",
    "Explanation",
    "KnownFeatures",
    "Neighbor",
    "Typicality",
    "contributions",
    "explained",
    "read_evidence",
    "reference_evidence",
    "unexplained",
]
