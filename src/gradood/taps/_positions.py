"""Features of heads that give logits at every position, of which the model takes one or a mean."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

__all__ = ["REDUCTIONS", "SELECTED", "UNIT", "reductions_of", "selected_position"]

UNIT = "unit length"
"""The features are what the head takes, divided by its length, as of a cosine head."""
SELECTED = "position of the logits"
"""The features are those of the position whose logits the model returned, row by row."""
_ATTENDED = "mean over attended positions"

REDUCTIONS: dict[str, Callable[[Tensor, Tensor | None], Tensor]] = {
    "as given": lambda h, _: h,
    UNIT: lambda h, _: h / h.norm(dim=1, keepdim=True).clamp_min(1e-12),
    _ATTENDED: lambda h, mask: _attended_mean(h, mask),
    "mean over positions": lambda h, _: h.flatten(2).mean(2) if h.ndim == 4 else h.mean(1),
    "first token": lambda h, _: h[:, 0],
}
"""What makes features (batch, width) of what a head takes, and of a mask (batch, positions)."""


def reductions_of(ndim: int, masked: bool) -> Iterator[str]:
    """Reductions of a tensor of so many dimensions, those first that hold for padded batches too.

    Args:
        ndim: of what the head takes.
        masked: whether a mask says which positions count.
    """
    if ndim == 2:
        yield "as given"
    if ndim == 3 and masked:
        yield _ATTENDED
    if ndim in (3, 4):
        yield "mean over positions"
    if ndim == 3:
        yield "first token"
        yield SELECTED


def _attended_mean(h: Tensor, mask: Tensor | None) -> Tensor:
    assert mask is not None
    weight = mask.to(h.dtype)[..., None]
    return (h * weight).sum(1) / weight.sum(1).clamp_min(1)


def selected_position(outputs: Tensor, logits: Tensor, mask: Tensor | None) -> Tensor:
    """(batch,) int64: the position whose logits are the model's.

    Of several whose logits are as near, the last that counts, and if none does, the last.

    Args:
        outputs: (batch, positions, classes), the head's.
        logits: (batch, classes), the model's.
        mask: (batch, positions), nonzero where a position counts; None if all do.
    """
    gaps = (outputs - logits[:, None].to(outputs.dtype)).abs().amax(2)
    # The outputs are computed anew here, by a product that may round otherwise.
    rounding = 8 * torch.finfo(logits.dtype).eps * outputs.abs().amax((1, 2))
    near = gaps <= torch.maximum(gaps.amin(1), rounding)[:, None]
    if mask is not None:
        counted = near & (mask != 0)
        near = torch.where(counted.any(1, keepdim=True), counted, near)
    return near.shape[1] - 1 - near.flip(1).to(torch.int32).argmax(1)
