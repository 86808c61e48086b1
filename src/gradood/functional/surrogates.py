"""Surrogate outliers made of in-distribution features, and how well a score tells them apart."""

from collections.abc import Callable, Sequence
from math import ceil

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["best_separating", "crossed", "gaussian", "separation", "surrogates"]

_LEAST = 200
"""Surrogates of each kind, also where there are fewer rows."""


def gaussian(
    rows: Float[Tensor, "rows width"], count: int, generator: torch.Generator
) -> Float[Tensor, "count width"]:
    """Draws with the mean and the covariance of the rows, within the range of each unit.

    ``μ + zᵀ (H − μ) / √n`` with normal z: no factor of the covariance is needed, so that a few rows
    do.

    Args:
        rows: H, in float64.
        count: of draws.
        generator: on the CPU.
    """
    mean = rows.mean(0)
    normal = torch.randn(
        (count, len(rows)), generator=generator, dtype=torch.float64, device="cpu"
    ).to(rows.device)
    drawn = mean + normal @ (rows - mean) / len(rows) ** 0.5
    return torch.maximum(torch.minimum(drawn, rows.amax(0)), rows.amin(0))


def crossed(
    rows: Float[Tensor, "rows width"], count: int, generator: torch.Generator
) -> Float[Tensor, "count width"]:
    """Rows with about half of their units taken from another row.

    Args:
        rows: at least one; a single one stays as it is.
        count: of crossings.
        generator: on the CPU.
    """
    found: list[Tensor] = []
    for _ in range(ceil(count / len(rows))):
        order = torch.randperm(len(rows), generator=generator, device="cpu")
        other = torch.empty_like(order)
        other[order] = order.roll(1)
        taken = torch.randint(0, 2, rows.shape, generator=generator, device="cpu") > 0
        found.append(torch.where(taken.to(rows.device), rows[other.to(rows.device)], rows))
    return torch.cat(found)[:count]


def surrogates(rows: Float[Tensor, "rows width"]) -> Float[Tensor, "surrogates width"]:
    """As many Gaussian draws as crossings, seeded: the same for the same rows.

    Both have the strength of the rows and keep to the range of each unit; the draws have no class
    structure, the crossings have that of two classes.
    """
    generator = torch.Generator("cpu").manual_seed(0)
    count = max(len(rows), _LEAST)
    return torch.cat([gaussian(rows, count, generator), crossed(rows, count, generator)])


def separation(known: Float[Tensor, " known"], outliers: Float[Tensor, " outliers"]) -> float:
    """Probability that an outlier scores above a known sample (AUROC), ties counted half."""
    ordered = known.sort().values
    below = torch.searchsorted(ordered, outliers) + torch.searchsorted(
        ordered, outliers, right=True
    )
    return float(below.double().mean()) / (2 * len(known))


def best_separating(
    rows: Float[Tensor, "rows width"], scores: Sequence[Callable[[Tensor], Tensor]]
) -> int:
    """Which score best tells the rows from their surrogates; of equal ones, the first.

    Args:
        rows: in-distribution features, in a fixed order.
        scores: (batch, width) → (batch,), high for outliers; what is not finite counts as +∞.

    Cost:
        Each score on three times the rows, or on the rows and 400 surrogates.
    """
    rows = rows.double()
    outliers = surrogates(rows)
    found: list[float] = []
    for score in scores:
        known, strange = (score(part) for part in (rows, outliers))
        known, strange = (torch.where(s.isfinite(), s, torch.inf) for s in (known, strange))
        found.append(separation(known, strange))
    return max(range(len(found)), key=found.__getitem__)
