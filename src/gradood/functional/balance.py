"""Weights of the terms of a score, where no outliers are known to choose them by."""

from jaxtyping import Float
from torch import Tensor

__all__ = ["balancing_weight"]


def balancing_weight(
    score: Float[Tensor, " samples"], term: Float[Tensor, " samples"], share: float
) -> float:
    """The a for which ``a · term`` spreads as `share` of the score does over the fit samples.

    Args:
        score: s, of in-distribution samples.
        term: what is added to it after multiplication by a.
        share: of the standard deviation.

    Returns:
        ``share · std(s) / std(term)``; zero where the term does not vary.
    """
    spread = float(term.std(correction=0))
    return share * float(score.std(correction=0)) / spread if spread > 0 else 0.0
