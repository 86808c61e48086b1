"""The terms of a recipe, added up over one forward pass."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gradood.functional.logits import energy, max_logit, max_softmax
from gradood.taps import Head
from gradood.training.losses import (
    CrossEntropy,
    EnergyMarginLoss,
    InputGradientPenalty,
    LogitNorm,
    MixtureExposure,
    OutlierExposure,
    VirtualOutliers,
)
from gradood.training.terms import Loss

__all__ = ["Objective", "SCORES", "Seen"]

SCORES = {"energy": energy, "msp": max_softmax, "max-logit": max_logit}
"""Differentiable scores by the name that a recipe's gradient penalty gives; higher on outliers."""


@dataclass(frozen=True, eq=False, slots=True)
class Seen:
    """One forward pass of a part of a step.

    Attributes:
        x: (batch, …) what the model was called with.
        logits: (batch, classes), at least float32; the first rows in-distribution.
        labels: (n_id,).
        total: rows of the whole step.
        total_id: in-distribution rows of the whole step.
        share: of the known sample in the other rows, if they are mixtures.
        virtual: (m, width) virtual outliers, or None.
    """

    x: Tensor
    logits: Tensor
    labels: Tensor
    total: int
    total_id: int
    share: float | None = None
    virtual: Tensor | None = None


class Objective(nn.Module):
    """What is minimized. Its parameters, if there are any, are those of VOS.

    Args:
        loss: the terms, their margins resolved to numbers.
        head: of the model; only VOS needs it.
        virtual: for VOS.
    """

    def __init__(
        self, loss: Loss, *, head: Head | None = None, virtual: VirtualOutliers | None = None
    ) -> None:
        super().__init__()
        self.loss = loss
        self.virtual = virtual
        self._head = head
        self._classify = (
            LogitNorm(temperature=loss.temperature)
            if loss.classification == "logit-norm"
            else CrossEntropy(label_smoothing=loss.label_smoothing)
        )
        self._margin = self._penalty = None
        if loss.margin is not None:
            self._margin = EnergyMarginLoss(
                m_in=float(loss.margin.m_in), m_out=float(loss.margin.m_out)
            )
        if loss.gradient is not None:
            self._penalty = InputGradientPenalty(
                m_in=float(loss.gradient.m_in),
                m_out=float(loss.gradient.m_out),
                reduction=loss.gradient.reduction,
            )

    def forward(self, seen: Seen) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss to minimize, and its terms before their weights."""
        loss, n_id = self.loss, len(seen.labels)
        terms = {"classification": self._classify(seen.logits[:n_id], seen.labels)}
        weights = {"classification": 1.0}
        if loss.margin is not None and self._margin is not None:
            terms["margin"] = self._margin(energy(seen.logits), n_id=n_id)
            weights["margin"] = loss.margin.weight
        if loss.gradient is not None and self._penalty is not None:
            score = SCORES[loss.gradient.score](seen.logits)
            if loss.gradient.weight:
                terms["gradient"] = self._penalty(score, seen.x, n_id=n_id, total=seen.total)
                weights["gradient"] = loss.gradient.weight
        if loss.exposure is not None:
            terms["exposure"] = OutlierExposure()(seen.logits, n_id=n_id)
            weights["exposure"] = loss.exposure.weight
        if loss.mixing is not None and seen.share is not None:
            terms["mixing"] = MixtureExposure()(seen.logits[n_id:], seen.labels, share=seen.share)
            weights["mixing"] = loss.mixing.weight
        if loss.virtual is not None and self.virtual is not None:
            known, virtual = seen.logits[:n_id], self._imagined(seen)
            terms["virtual"] = self.virtual(known, virtual, total=seen.total_id)
            weights["virtual"] = loss.virtual.weight
        total = torch.stack([weights[name] * term for name, term in terms.items()]).sum()
        return total, {name: term.detach() for name, term in terms.items()}

    def _imagined(self, seen: Seen) -> Tensor | None:
        """Logits of the virtual outliers, through the head as it is now."""
        if seen.virtual is None or self._head is None:
            return None
        module = self._head.module
        weight, bias = module.weight, getattr(module, "bias", None)
        assert isinstance(weight, Tensor)
        weight = weight.flatten(1)
        return F.linear(seen.virtual.to(weight), weight, bias).to(seen.logits)
