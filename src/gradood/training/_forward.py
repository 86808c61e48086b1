"""Forward pass of a training step: its batch, the model under autograd, and the objective."""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gradood.taps import Head, Inputs, called
from gradood.taps._capture import captured
from gradood.training._gradient_point import GradientPoint
from gradood.training._kernels import differentiable_kernels
from gradood.training._outputs import Outputs
from gradood.training._terms import Loss
from gradood.training.losses import (
    BinaryCrossEntropy,
    CrossEntropy,
    EnergyMarginLoss,
    InputGradientPenalty,
    LogitNorm,
    MixtureExposure,
    OutlierExposure,
    VirtualOutliers,
)
from gradood.training.losses.shaping import with_shaped_gradient
from gradood.training.recipe import Recipe

__all__ = [
    "Objective",
    "PartBatch",
    "TrainingForward",
    "penalized",
    "set_training",
    "widened",
]

_NORMS = (nn.modules.batchnorm._BatchNorm,)


@dataclass(frozen=True, eq=False, slots=True)
class PartBatch:
    """Inputs of one forward pass: a part of a step, on the device of the model.

    Attributes:
        x: (batch, …), in-distribution samples first.
        labels: (n_id,) int64; under a sigmoid (n_id, classes) 0 or 1.
        total: rows of the whole step.
        total_id: in-distribution samples of the whole step.
        share: of the in-distribution sample in the other rows, if they are mixtures; else None.
        virtual: (m, width) virtual outliers in feature space, or None.
        point: (batch, …) what the penalized gradient is taken of: `x`, or its embeddings; or None.
    """

    x: Inputs
    labels: Tensor
    total: int
    total_id: int
    share: float | None = None
    virtual: Tensor | None = None
    point: Tensor | None = None


class Objective(nn.Module):
    """Weighted sum of the terms of a loss. Its parameters, if there are any, are those of VOS.

    Args:
        loss: the terms, their margins resolved to numbers.
        head: of the model; only VOS needs it.
        virtual: for VOS.
        outputs: what the logits are of.
    """

    def __init__(
        self,
        loss: Loss,
        *,
        head: Head | None = None,
        virtual: VirtualOutliers | None = None,
        outputs: Outputs | None = None,
    ) -> None:
        super().__init__()
        self.loss = loss
        self.virtual = virtual
        self._head = head
        self.outputs = Outputs() if outputs is None else outputs
        self._classification = _classification(loss, self.outputs)
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

    def forward(self, logits: Tensor, batch: PartBatch) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss to minimize, a scalar, and its terms before their weights.

        Args:
            logits: (batch, classes), at least float32.
            batch: whose `point` is a tensor that the logits were computed from, if the recipe
                penalizes its gradient.
        """
        loss, n_id = self.loss, len(batch.labels)
        terms = {"classification": self._classification(logits[:n_id], batch.labels)}
        weights = {"classification": 1.0}
        if loss.margin is not None and self._margin is not None:
            terms["margin"] = self._margin(self.outputs.energy(logits), n_id=n_id)
            weights["margin"] = loss.margin.weight
        if loss.gradient is not None and self._penalty is not None and loss.gradient.weight:
            score = self.outputs.score(loss.gradient.score)(logits)
            assert batch.point is not None
            terms["gradient"] = self._penalty(score, batch.point, n_id=n_id, total=batch.total)
            weights["gradient"] = loss.gradient.weight
        if loss.exposure is not None:
            terms["exposure"] = OutlierExposure()(logits, n_id=n_id)
            weights["exposure"] = loss.exposure.weight
        if loss.mixing is not None and batch.share is not None:
            terms["mixing"] = MixtureExposure()(logits[n_id:], batch.labels, share=batch.share)
            weights["mixing"] = loss.mixing.weight
        if loss.virtual is not None and self.virtual is not None:
            virtual = self._virtual_logits(logits, batch)
            terms["virtual"] = self.virtual(logits[:n_id], virtual, total=batch.total_id)
            weights["virtual"] = loss.virtual.weight
        total = torch.stack([weights[name] * term for name, term in terms.items()]).sum()
        return total, {name: term.detach() for name, term in terms.items()}

    def _virtual_logits(self, logits: Tensor, batch: PartBatch) -> Tensor | None:
        """Logits of the virtual outliers, by the current weights of the head."""
        if batch.virtual is None or self._head is None:
            return None
        module = self._head.module
        weight, bias = module.weight, getattr(module, "bias", None)
        assert isinstance(weight, Tensor)
        weight = weight.flatten(1)
        return F.linear(batch.virtual.to(weight), weight, bias).to(logits)


class TrainingForward(nn.Module):
    """Model and objective in one module, so that distributed training wraps both.

    Args:
        model: trained in place.
        objective: what is minimized.
        recipe: precision and terms.
        head: whose input features are recorded, for VOS and ISH; else None.
    """

    def __init__(
        self, model: nn.Module, objective: Objective, recipe: Recipe, *, head: Head | None = None
    ) -> None:
        super().__init__()
        self.model = model
        self.objective = objective
        self._penalized = penalized(recipe)
        self._half = recipe.precision == "bf16"
        self._shaping = recipe.loss.shaping
        self._head = head
        self.features: Tensor | None = None

    def forward(self, batch: PartBatch) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss and terms; with a head, `features` keeps those of the in-distribution samples."""
        x, point = batch.x, None
        activations: list[Tensor] = []
        with ExitStack() as stack:
            if self._head is not None:
                stack.enter_context(captured(self.model, self._head.site, activations.append))
            if self._penalized:
                point = GradientPoint(self.model)
                x = stack.enter_context(point.of(x))
                stack.enter_context(differentiable_kernels())
            if self._half:
                stack.enter_context(torch.autocast(x.device.type, dtype=torch.bfloat16))
            logits = self.objective.outputs.logits(called(self.model, x))
        logits = widened(logits)
        if self._head is not None:
            features = self._head.features(activations[0].detach())
            self.features = features[: len(batch.labels)]
            if self._shaping is not None:
                logits = self._shaped(logits, features, self._head.module)
        return self.objective(
            logits, replace(batch, x=x, point=None if point is None else point.tensor)
        )

    def _shaped(self, logits: Tensor, features: Tensor, head: nn.Module) -> Tensor:
        """The same logits, by whose gradient the head's weight learns from shaped features."""
        shaping, weight = self._shaping, head.weight
        assert shaping is not None
        assert isinstance(weight, Tensor)
        percentile, pruned = float(shaping.percentile), shaping.pruned
        return with_shaped_gradient(
            logits, features, weight.flatten(1), percentile=percentile, pruned=pruned
        )


def _classification(loss: Loss, outputs: Outputs) -> Callable[[Tensor, Tensor], Tensor]:
    """The term of the known samples."""
    if loss.classification == "logit-norm":
        return LogitNorm(temperature=loss.temperature)
    if outputs.link == "sigmoid":
        return BinaryCrossEntropy(label_smoothing=loss.label_smoothing)
    return CrossEntropy(label_smoothing=loss.label_smoothing)


def penalized(recipe: Recipe) -> bool:
    """Whether a step differentiates twice."""
    return recipe.loss.gradient is not None and recipe.loss.gradient.weight > 0


def widened(logits: Tensor) -> Tensor:
    """Logits in at least float32."""
    return logits.float() if logits.dtype in (torch.float16, torch.bfloat16) else logits


def set_training(model: nn.Module, statistics: str) -> None:
    """Training mode; under ``"frozen"`` the batch norms stay in evaluation mode."""
    model.train()
    if statistics == "frozen":
        for module in model.modules():
            if isinstance(module, _NORMS):
                module.eval()
