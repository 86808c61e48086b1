"""Activations without places: the same vector at each position."""

import torch
from torch import Tensor

from gradood.attribution._grid import Grid

__all__ = ["mixed"]


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
