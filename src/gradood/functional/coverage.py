"""Neuron activation coverage [liu2024nac]: how often a neuron's state occurred in the fit data."""

from math import log, sqrt

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = [
    "bin_edges",
    "covered",
    "mean_coverage",
    "steepness",
    "uniform_kl_gradient",
    "unit_coverage",
]

_BASE = 1e3
_TYPICAL = 0.7
"""Share of the non-zero products that are no larger than 1 / α. On ResNet-20, ResNet-56 and
DenseNet-101 the median makes states too steep, the mean hangs on the largest products."""
_STEEPEST = 1e300
"""Of the smallest products that are no zero, 1 / α is no number."""


def uniform_kl_gradient(
    logits: Float[Tensor, "batch classes"], weight: Float[Tensor, "classes width"]
) -> Float[Tensor, "batch width"]:
    """``∂KL(u ‖ softmax(h Wᵀ + b)) / ∂h = (p − u) W``, in float64."""
    p = torch.softmax(logits.double(), 1)
    return (p - 1.0 / logits.shape[1]) @ weight.double()


def bin_edges(bins: int) -> Float[Tensor, " _"]:
    """Edges of about `bins` bins of [0, 1], denser toward ½, as in the released code.

    ``e_i = log_1000(1 + i (√1000 − 1) / (n − 1))`` for i below n = bins / 2, and their mirror
    images; ½ is an edge, and every sigmoid lies between the first and the last.

    Args:
        bins: an even number ≥ 4.
    """
    half = bins // 2
    steps = torch.linspace(1.0, sqrt(_BASE), half, dtype=torch.float64, device="cpu")
    low = (steps.log() / log(_BASE))[:-1]
    middle = low.new_tensor([0.5])
    # A sigmoid of 1 belongs to the last bin, whose upper edge is open.
    return torch.cat([low, middle, 1.0 - low.flip(0)[:-1], low.new_tensor([1.01])])


def steepness(products: Float[Tensor, "samples width"]) -> float:
    """The α at which seven tenths of the products have a state from sigmoid(−1) to sigmoid(1).

    Those states are 0.27 and 0.73. A quantile, as the sizes of products are heavy-tailed.

    Args:
        products: ``z ⊙ ∂KL/∂z`` of fit samples; those that are zero or not finite are left out.

    Returns:
        α; 1 where none is left.
    """
    sizes = products.abs()
    sizes = sizes[sizes.isfinite() & (sizes > 0)].sort().values
    if len(sizes) == 0:
        return 1.0
    alpha = 1.0 / float(sizes[int(_TYPICAL * (len(sizes) - 1))])
    return min(alpha, _STEEPEST)


def covered(
    products: Float[Tensor, "samples width"], alpha: float, bins: int, r: float
) -> Float[Tensor, "width _"]:
    """Per neuron and bin, ``min(samples in the bin / r, 1)``.

    Args:
        products: ``z ⊙ ∂KL/∂z`` of fit samples.
        alpha: α of the sigmoid.
        bins: see `bin_edges`.
        r: samples that fill a bin.
    """
    place = _places(products, alpha, bins)
    count = len(bin_edges(bins)) - 1
    neuron = torch.arange(products.shape[1], device=products.device) * count
    kept = (neuron + place)[place < count]
    counts = torch.bincount(kept, minlength=products.shape[1] * count)
    return (counts.view(products.shape[1], count).double() / r).clamp_max(1.0)


def mean_coverage(
    products: Float[Tensor, "batch width"], alpha: float, table: Float[Tensor, "width _"]
) -> Float[Tensor, " batch"]:
    """Mean over the neurons of the coverage of the bin that each one's state is in.

    A state that is NaN is in no bin, and not covered.

    Args:
        products: ``z ⊙ ∂KL/∂z``.
        alpha: α of the sigmoid.
        table: from `covered`.
    """
    return unit_coverage(products, alpha, table).mean(1)


def unit_coverage(
    products: Float[Tensor, "batch width"], alpha: float, table: Float[Tensor, "width _"]
) -> Float[Tensor, "batch width"]:
    """Of each neuron, what `mean_coverage` averages."""
    place = _places(products, alpha, table.shape[1] + 2)
    padded = torch.nn.functional.pad(table, (0, 1))
    return padded.T.gather(0, place)


def _places(products: Tensor, alpha: float, bins: int) -> Tensor:
    """Bin of each state; one past the last for NaN."""
    edges = bin_edges(bins).to(products.device)
    states = torch.sigmoid(alpha * products.double())
    place = torch.bucketize(states, edges, right=True) - 1
    return torch.where(states.isnan(), len(edges) - 1, place)
