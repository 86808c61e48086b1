"""Energy fine-tuning: two margins between which no energy should lie."""

from typing import final

import torch
from torch import Tensor

from gradood.training.losses.groups import check_margins, check_rows, group_mean

__all__ = ["EnergyMarginLoss"]


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
        check_margins(m_in, m_out)
        self.m_in = m_in
        self.m_out = m_out

    def __call__(self, energy: Tensor, x: Tensor | None = None, *, n_id: int) -> Tensor:
        """The loss, a scalar.

        Args:
            energy: (batch,), the first `n_id` in-distribution.
            x: not looked at; there so that every loss over energies is called alike.
            n_id: in-distribution rows.

        Raises:
            DataError: the shapes do not fit.
        """
        check_rows(energy, n_id)
        hinge = torch.cat([energy[:n_id] - self.m_in, self.m_out - energy[n_id:]]).relu()
        return group_mean(hinge.square(), n_id)
