"""Why a score is as high as it is: contributions of units, classes and places, by a stated rule."""

from gradood.attribution._region_values import Method, RegionMap
from gradood.attribution.contribution import Contribution, contributions, reference_evidence
from gradood.attribution.explanation import Explanation
from gradood.attribution.known import KnownFeatures, Neighbor, Typicality
from gradood.attribution.reading import explained, read_evidence, unexplained
from gradood.attribution.region import region_map

__all__ = [
    "Contribution",
    "Explanation",
    "KnownFeatures",
    "Method",
    "Neighbor",
    "RegionMap",
    "Typicality",
    "contributions",
    "explained",
    "read_evidence",
    "reference_evidence",
    "region_map",
    "unexplained",
]
