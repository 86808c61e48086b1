"""Rows of one batch by their group: in-distribution first, auxiliary outliers after."""

import torch
from torch import Tensor

from gradood.errors import ConfigError, DataError

__all__ = ["check_margins", "check_rows", "group_mean"]


def group_mean(values: Tensor, n_id: int) -> Tensor:
    """Mean over the first `n_id` rows plus mean over the others; an empty group counts as 0.

    Args:
        values: (n,).
        n_id: rows of in-distribution samples.
    """
    groups = (values[:n_id], values[n_id:])
    return sum((g.mean() for g in groups if len(g)), start=values.new_zeros(()))


def check_rows(scores: Tensor, n_id: int) -> None:
    """Whether there is one score a row, and `n_id` of them are in-distribution.

    Raises:
        DataError: the shape is another, or `n_id` is out of range.
    """
    if scores.ndim != 1 or not scores.is_floating_point():
        raise DataError(
            f"the energies are {tuple(scores.shape)} {scores.dtype}; expected one floating number "
            "per sample, (batch,). Give the energy, not the logits."
        )
    if not 0 <= n_id <= len(scores):
        raise DataError(
            f"n_id is {n_id} in a batch of {len(scores)}; expected 0 to {len(scores)}. The first "
            "n_id rows are in-distribution, the others auxiliary."
        )


def check_margins(m_in: float, m_out: float) -> None:
    """Whether the two margins are finite and in order.

    Raises:
        ConfigError: they are not.
    """
    pair = torch.tensor([m_in, m_out], dtype=torch.float64)
    if not bool(pair.isfinite().all()) or not m_in < m_out:
        raise ConfigError(
            f"m_in={m_in!r} and m_out={m_out!r}; expected finite energies with m_in < m_out, as "
            "in-distribution samples have the lower energy."
        )
