"""Contributions of the positions of a layer to a score, along a path [aumann1974values]."""

from dataclasses import dataclass

import torch
from torch import Tensor

from gradood.attribution._grid import Grid, image_size
from gradood.attribution._mapped_score import MappedScore
from gradood.attribution._mixing import mixed
from gradood.attribution._passes import gradient_at, seen_at
from gradood.taps import Inputs, Network, Site, attended

__all__ = ["LayerMap", "position_contributions"]

_STEPS = 8


@dataclass(frozen=True, eq=False, slots=True)
class LayerMap:
    """A value for each position of a layer.

    Attributes:
        values: (batch, rows, columns) float64.
        score: (batch,) of the inputs.
        reference: (batch,) of what the path starts from.
    """

    values: Tensor
    score: Tensor
    reference: Tensor


def position_contributions(
    network: Network,
    x: Inputs,
    explained: MappedScore,
    place: tuple[Site, Grid],
    mixing: float = 0.5,
) -> LayerMap:
    """Aumann–Shapley values of the positions of a layer, from activations that are mixed in part.

    ``c_p = Σ_u (a_pu − r_pu) · ∫₀¹ ∂s/∂a_pu (r + t (a − r)) dt`` with ``r = a + m (mixed − a)``,
    the integral by the midpoint rule in 8 steps; their sum is ``s(a) − s(r)`` up to its error.

    Args:
        network: the observed model.
        x: of a batch, finite, on its device.
        explained: the score.
        place: a site that everything passes through, and how it lies.
        mixing: m, above 0 to 1.

    Cost:
        10 forwards, and 8 backwards down to the layer.
    """
    site, grid = place
    original = seen_at(network, x, explained, (site,))
    tensor = original.seen[site]
    grid = grid.over(tensor, image_size(x))
    step = (tensor - mixed(tensor, grid, attended(x))) * mixing
    reference = tensor - step
    total = torch.zeros_like(tensor, dtype=torch.float64)
    for number in range(_STEPS):
        point = reference + (number + 0.5) / _STEPS * step
        total += gradient_at(network, x, explained, site, point).to(torch.float64)
    each = grid.positions(step.double() * total / _STEPS).sum(-1)
    start = seen_at(network, x, explained, replaced=(site, reference)).score
    return LayerMap(grid.folded(each), original.score, start)
