"""The gradient penalty of GReg: the score should be flat where it is right."""

from typing import Literal, final

import torch
from torch import Tensor

from gradood.detectors.base import require
from gradood.errors import TapError
from gradood.training.losses.groups import check_margins, check_rows, group_mean

__all__ = ["InputGradientPenalty", "active_rows"]


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
    tensor(5., grad_fn=<AddBackward0>)
    """

    def __init__(
        self,
        *,
        m_in: float,
        m_out: float,
        reduction: Literal["released", "paper"] = "released",
    ) -> None:
        check_margins(m_in, m_out)
        require(reduction in ("released", "paper"), "reduction", reduction, "'released' or 'paper'")
        self.m_in = m_in
        self.m_out = m_out
        self.reduction = reduction

    def __call__(self, energy: Tensor, x: Tensor, *, n_id: int, total: int | None = None) -> Tensor:
        """The penalty, a scalar of the energies' type, at least float32.

        Args:
            energy: (batch,), computed from `x` in this forward.
            x: (batch, …), the input, which requires grad.
            n_id: in-distribution rows.
            total: rows of the whole batch, if this is a part of it; ``"released"`` divides by it.

        Raises:
            DataError: the shapes do not fit.
            TapError: the energies do not depend on `x` in a way that can be differentiated.
        """
        check_rows(energy, n_id)
        active = active_rows(energy, n_id=n_id, m_in=self.m_in, m_out=self.m_out)
        if not bool(active.any()):
            return energy.new_zeros(())
        if self.reduction == "paper":
            objective = energy[active].sum()
        else:
            objective = energy.sum() / (len(energy) if total is None else total)
        gradient = _gradient(objective, x).flatten(1)
        if gradient.dtype in (torch.float16, torch.bfloat16):
            gradient = gradient.float()
        # A root of a sum of squares would give NaN at a row of zeros; this gives 0.
        norms = torch.linalg.vector_norm(gradient, dim=1)
        return group_mean(torch.where(active, norms, 0.0), n_id)


def _gradient(objective: Tensor, x: Tensor) -> Tensor:
    if not x.requires_grad or not objective.requires_grad:
        raise TapError(
            "the input does not require grad, or the energies do not depend on it; expected "
            "x.requires_grad_() before the forward that gave them."
        )
    found = torch.autograd.grad(objective, x, create_graph=True, allow_unused=True)[0]
    if found is None:
        raise TapError(
            "the energies were not computed from this x; give the very tensor the model was "
            "called with."
        )
    return found
