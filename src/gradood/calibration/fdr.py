"""Which of a batch to report, with a bound on the share of false reports among them."""

import torch
from torch import Tensor

from gradood.errors import ConfigError, DataError

__all__ = ["benjamini_hochberg"]


def benjamini_hochberg(p_values: Tensor, fdr: float) -> Tensor:
    """The samples of a batch to report as out-of-distribution [benjamini1995fdr].

    With m p-values in ascending order, those up to the last p₍ᵢ₎ ≤ fdr · i/m. In expectation at
    most `fdr` of the reported samples are in-distribution; this holds for conformal p-values too,
    although they share their calibration samples [bates2023conformal].

    Args:
        p_values: (m,) from 0 to 1.
        fdr: the false discovery rate allowed, between 0 and 1.

    Returns:
        (m,) bool on the CPU.

    Raises:
        ConfigError: `fdr` is out of range.
        DataError: a p-value is not from 0 to 1.

    Example:
        >>> benjamini_hochberg(torch.tensor([0.5, 0.01, 0.03]), 0.1).tolist()
        [False, True, True]
    """
    number = isinstance(fdr, int | float) and not isinstance(fdr, bool)
    if not (number and 0 < fdr < 1):
        raise ConfigError(f"fdr={fdr!r}; expected a number between 0 and 1.")
    p = p_values.detach().to("cpu", torch.float64)
    if p.ndim != 1 or not bool(((p >= 0) & (p <= 1)).all()):
        raise DataError(
            f"p_values of shape {tuple(p.shape)} are no p-values; expected (m,) from 0 to 1."
        )
    ordered = p.sort().values
    places = torch.arange(1, len(p) + 1, dtype=torch.float64)
    below = (ordered <= fdr * places / max(1, len(p))).nonzero()
    if not len(below):
        return torch.zeros(len(p), dtype=torch.bool)
    return p <= ordered[below[-1, 0]]
