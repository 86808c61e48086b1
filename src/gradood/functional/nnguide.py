"""Nearest neighbor guidance [park2023nnguide]: similarity to a bank scaled by energies."""

from collections.abc import Iterator

import torch
from jaxtyping import Float, Int
from torch import Tensor

from gradood.functional.codes import CodedVectors
from gradood.functional.precision import full_products

__all__ = ["Guides", "guidance", "nearest_guides"]

_BLOCK = 1 << 15
_DECODED = 1 << 12
"""Guides that are decoded at a time."""

Guides = Float[Tensor, "bank width"] | CodedVectors


def guidance(
    directions: Float[Tensor, "batch width"], guides: Guides, k: int
) -> Float[Tensor, " batch"]:
    """``1/k · Σ ⟨u, s_i g_i⟩`` over the k guides with which that product is largest.

    Args:
        directions: u, of unit length; `rotated` for coded guides.
        guides: s_i g_i, unit features scaled by the confidence in them; at least k.
        k: how many.

    Returns:
        float64; the products are taken in the guides' own precision.

    Cost:
        batch · bank · width multiplications; memory for (batch, 32,768) products, or for 4,096
        decoded guides.
    """
    units = directions.to(guides.dtype)
    if units.requires_grad and isinstance(guides, CodedVectors):
        near = guides[nearest_guides(units.detach(), guides, k)]  # No block stays for a gradient.
        return (units[:, None] * near).sum(2).double().mean(1)
    best = units.new_empty(units.shape[0], 0)
    with full_products():
        for block in _blocks(guides):
            near = torch.cat([best, units @ block.T], 1)
            best = near.topk(min(k, near.shape[1]), 1).values
    return best.double().mean(1)


def nearest_guides(
    directions: Float[Tensor, "batch width"], guides: Guides, k: int
) -> Int[Tensor, "batch k"]:
    """Places of the guides that `guidance` averages over."""
    units = directions.to(guides.dtype)
    best, index = units.new_empty(len(units), 0), None
    start = 0
    with full_products():
        for block in _blocks(guides):
            place = torch.arange(start, start + len(block), device=units.device)
            place = place.expand(len(units), -1)
            place = place if index is None else torch.cat([index, place], 1)
            near = torch.cat([best, units @ block.T], 1)
            best, order = near.topk(min(k, near.shape[1]), 1)
            index, start = place.gather(1, order), start + len(block)
    assert index is not None
    return index


def _blocks(guides: Guides) -> Iterator[Tensor]:
    size = _DECODED if isinstance(guides, CodedVectors) else _BLOCK
    return (guides[start : start + size] for start in range(0, len(guides), size))
