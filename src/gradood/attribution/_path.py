"""Contributions of the positions of a layer to a score, along a straight path [aumann1974values]."""

from dataclasses import dataclass

import torch
from torch import Tensor

from gradood.attribution._explained import Explained
from gradood.attribution._grid import Grid
from gradood.attribution._passes import gradient_at, seen_at
from gradood.taps import Inputs, Network, Site, attended

__all__ = ["LayerContributions", "contributions", "mixed"]


@dataclass(frozen=True, eq=False, slots=True)
class LayerContributions:
    """What each position of a layer adds to a score.

    Attributes:
        values: (batch, rows, columns) float64.
        score: (batch,) of the inputs.
        reference: (batch,) of what the path starts from.
    """

    values: Tensor
    score: Tensor
    reference: Tensor


def contributions(
    network: Network, x: Inputs, explained: Explained, place: tuple[Site, Grid], steps: int
) -> LayerContributions:
    """Aumann–Shapley values of the positions of a layer, from its `mixed` activations.

    ``c_p = Σ_u (a_pu − r_pu) · ∫₀¹ ∂s/∂a_pu (r + t (a − r)) dt``, the integral by the midpoint
    rule; their sum is ``s(a) − s(r)`` up to its error.

    Args:
        network: the observed model.
        x: of a batch, finite, on its device.
        explained: the score.
        place: a site that everything passes through, and how it lies.
        steps: of the integral.

    Cost:
        `steps` + 2 forwards, and `steps` backwards down to the layer.
    """
    site, grid = place
    original = seen_at(network, x, explained, (site,))
    tensor = original.seen[site]
    reference = mixed(tensor, grid, attended(x))
    step = tensor - reference
    total = torch.zeros_like(tensor, dtype=torch.float64)
    for number in range(steps):
        point = reference + (number + 0.5) / steps * step
        total += gradient_at(network, x, explained, site, point).to(torch.float64)
    each = grid.positions(step.double() * total / steps).sum(-1)
    start = seen_at(network, x, explained, replaced=(site, reference)).score
    return LayerContributions(grid.folded(each), original.score, start)


def mixed(tensor: Tensor, grid: Grid, mask: Tensor | None) -> Tensor:
    """Activations with the same vector at each position: the mean over them, of each input's own.

    Positions before the grid, and those that a mask leaves out, stay as they are.

    Args:
        tensor: (batch, …).
        grid: how it lies.
        mask: (batch, positions), which of them count, or None.
    """
    values = grid.positions(tensor)
    counted = torch.ones_like(values[..., 0], dtype=torch.bool)
    counted[:, : grid.first] = False
    if mask is not None and mask.shape == counted.shape:
        counted &= mask.to(counted.device)
    weight = counted[..., None].to(values.dtype)
    mean = (values * weight).sum(1, keepdim=True) / weight.sum(1, keepdim=True).clamp_min(1)
    return grid.restored(torch.where(counted[..., None], mean, values), tensor)
