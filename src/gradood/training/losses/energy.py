"""Losses over energies: margins, and the norm of the gradient with respect to the input.

In a batch the first rows are in-distribution, the others auxiliary outliers.
"""

from typing import Literal, final

import torch
from torch import Tensor

from gradood.detectors.base import require
from gradood.errors import ConfigError, DataError, TapError
from gradood.training.losses._zero import zero

__all__ = ["EnergyMarginLoss", "InputGradientPenalty", "active_rows"]


@final
class EnergyMarginLoss:
    """Squared hinges that push energies of known samples below, of outliers above [liu2020energy].

    ``mean_ID relu(E − m_in)² + mean_aux relu(m_out − E)²``

    Args:
        m_in: below it known samples cost nothing, in nats.
        m_out: above it outliers cost nothing, in nats.

    Raises:
        ConfigError: the margins are not finite or not in order.

    Cost: none beside the forward.

    >>> loss = EnergyMarginLoss(m_in=-25.0, m_out=-7.0)
    >>> loss(torch.tensor([-26.0, -24.0, -8.0]), n_id=2)
    tensor(1.5000)
    """

    def __init__(self, *, m_in: float, m_out: float) -> None:
        _check_margins(m_in, m_out)
        self.m_in = m_in
        self.m_out = m_out

    def __call__(self, energy: Tensor, x: Tensor | None = None, *, n_id: int) -> Tensor:
        """The loss, a scalar.

        Args:
            energy: (batch,), the first `n_id` in-distribution.
            x: ignored; accepted so that all losses over energies have the same signature.
            n_id: in-distribution rows.

        Raises:
            DataError: the shapes do not fit.
        """
        _check_rows(energy, n_id)
        hinge = torch.cat([energy[:n_id] - self.m_in, self.m_out - energy[n_id:]]).relu()
        return _group_mean(hinge.square(), n_id)


def active_rows(scores: Tensor, *, n_id: int, m_in: float, m_out: float) -> Tensor:
    """Which samples are on their own side of their margin, (batch,) bool.

    Args:
        scores: (batch,), the first `n_id` in-distribution.
        n_id: in-distribution rows.
        m_in: known samples are active at or below it.
        m_out: outliers are active at or above it.
    """
    scores = scores.detach()
    return torch.cat([scores[:n_id] <= m_in, scores[n_id:] >= m_out])


@final
class InputGradientPenalty:
    """Norm of the score's gradient with respect to the input, where it is right [sharifi2024greg].

    ``mean_ID 1[S ≤ m_in] ‖∂S/∂x‖₂ + mean_aux 1[S ≥ m_out] ‖∂S/∂x‖₂``; rows that are not active
    count as 0 in the means. S is the energy in the paper; any score of which known samples have
    less will do.

    Rows of a batch normalized by its own statistics depend on one another, so that the gradient at
    a row holds contributions of others: of the active rows under ``"paper"``, of all under
    ``"released"``. Without such coupling ``"released"`` is ``"paper"`` divided by the batch size.

    Args:
        m_in: known samples are active at or below it.
        m_out: outliers are active at or above it.
        reduction: ``"released"`` takes the gradient of the batch's mean score, as the published
            code and its weight of 1 do; ``"paper"`` that of the sum over the active rows.

    Raises:
        ConfigError: an option has a wrong value.

    Cost: one backward to the input, with its graph, and one through that graph in the training
        step's own backward. Nothing if no row is active.

    >>> x = torch.tensor([[3.0, 4.0], [0.0, 0.0]], requires_grad=True)
    >>> energy = x.square().sum(1) - 30.0
    >>> InputGradientPenalty(m_in=-5.0, m_out=0.0, reduction="paper")(energy, x, n_id=2)
    tensor(5., grad_fn=<SumBackward0>)
    """

    def __init__(
        self,
        *,
        m_in: float,
        m_out: float,
        reduction: Literal["released", "paper"] = "released",
    ) -> None:
        _check_margins(m_in, m_out)
        require(reduction in ("released", "paper"), "reduction", reduction, "'released' or 'paper'")
        self.m_in = m_in
        self.m_out = m_out
        self.reduction = reduction

    def __call__(self, energy: Tensor, x: Tensor, *, n_id: int, total: int | None = None) -> Tensor:
        """The penalty, a scalar of the energies' type, at least float32.

        Without an active row it is 0, and so is its gradient, also where energies are infinite.

        Args:
            energy: (batch,), computed from `x` in this forward.
            x: (batch, …), the input, which requires grad.
            n_id: in-distribution rows.
            total: rows of the whole batch, if this is a part of it; ``"released"`` divides by it.

        Raises:
            DataError: the shapes do not fit.
            TapError: the energies do not depend on `x` in a way that can be differentiated.
        """
        _check_rows(energy, n_id)
        active = active_rows(energy, n_id=n_id, m_in=self.m_in, m_out=self.m_out)
        if not bool(active.any()):
            return zero(energy)
        if self.reduction == "paper":
            objective = energy[active].sum()
        else:
            objective = energy.sum() / (len(energy) if total is None else total)
        gradient = _gradient(objective, x).flatten(1)
        if gradient.dtype in (torch.float16, torch.bfloat16):
            gradient = gradient.float()
        # A root of a sum of squares would give NaN at a row of zeros; this gives 0.
        norms = torch.linalg.vector_norm(gradient, dim=1)
        return _group_mean(torch.where(active, norms, 0.0), n_id)


def _gradient(objective: Tensor, x: Tensor) -> Tensor:
    if not x.requires_grad or not objective.requires_grad:
        raise TapError(
            "the input does not require grad, or the energies do not depend on it; expected "
            "x.requires_grad_() before the forward that gave them."
        )
    gradient = torch.autograd.grad(objective, x, create_graph=True, allow_unused=True)[0]
    if gradient is None:
        raise TapError(
            "the energies were not computed from this x; give the very tensor the model was "
            "called with."
        )
    return gradient


def _group_mean(values: Tensor, n_id: int) -> Tensor:
    """Mean over the first `n_id` rows plus mean over the others; an empty group counts as 0.

    Args:
        values: (n,).
        n_id: rows of in-distribution samples.
    """
    groups = (values[:n_id], values[n_id:])
    means = [group.mean() for group in groups if len(group)]
    return torch.stack(means).sum() if means else zero(values)


def _check_rows(scores: Tensor, n_id: int) -> None:
    """Check that there is a score for each row, and `n_id` of them are in-distribution.

    Raises:
        DataError: the shape is wrong, or `n_id` is out of range.
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


def _check_margins(m_in: float, m_out: float) -> None:
    """Check that the two margins are finite and in order.

    Raises:
        ConfigError: they are not.
    """
    pair = torch.tensor([m_in, m_out], dtype=torch.float64)
    if not bool(pair.isfinite().all()) or not m_in < m_out:
        raise ConfigError(
            f"m_in={m_in!r} and m_out={m_out!r}; expected finite energies with m_in < m_out, as "
            "in-distribution samples have the lower energy."
        )
