"""Rows of a batch that hold NaN or infinity, and the terms on which detectors compute."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor

from gradood.errors import DataError

__all__ = ["finite_rows", "own_terms", "refuse_nonfinite"]


def finite_rows(x: Tensor) -> Tensor:
    """(batch,) bool, whether each row of (batch, …) is free of NaN and infinity."""
    if not x.is_floating_point():
        return torch.ones(len(x), dtype=torch.bool, device=x.device)
    if x.ndim == 1:
        return x.isfinite()
    # A sum meets every NaN and infinity at a tenth of the price; only overflow needs a second look.
    rows = x.flatten(1).sum(1, dtype=torch.promote_types(x.dtype, torch.float32)).isfinite()
    return rows if bool(rows.all()) else x.isfinite().flatten(1).all(1)


def refuse_nonfinite(x: Tensor, what: str) -> None:
    """Raise where learning would take up NaN or infinity.

    Args:
        x: (batch, …).
        what: such as ``fit``.

    Raises:
        DataError: a row is not finite; says which.
    """
    finite = finite_rows(x)
    if not bool(finite.all()):
        rows = (~finite).nonzero()[:, 0].tolist()
        raise DataError(
            f"{len(rows)} of a batch of {len(x)} {what} inputs hold NaN or infinity (row "
            f"{rows[0]}); a {what} needs clean data: drop or repair them."
        )


@contextmanager
def own_terms(device: torch.device | None = None) -> Iterator[None]:
    """A detector's arithmetic keeps no graph and makes ordinary tensors, in any mode outside.

    Args:
        device: whose autocast to leave out; it is for the model, and must not round scores.
    """
    with ExitStack() as stack:
        if device is not None and torch.is_autocast_enabled(device.type):
            stack.enter_context(torch.autocast(device.type, enabled=False))
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.no_grad())
        yield
