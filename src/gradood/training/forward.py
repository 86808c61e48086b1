"""One forward pass in training: precision, statistics, kernels, and what must be seen of it."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from gradood.taps import Head, logits_of
from gradood.taps.capture import captured
from gradood.training.objective import Objective, Seen
from gradood.training.recipe import Recipe

__all__ = ["PartBatch", "TrainingForward", "differentiable_kernels", "set_training", "widened"]

_NORMS = (nn.modules.batchnorm._BatchNorm,)


@dataclass(frozen=True, eq=False, slots=True)
class PartBatch:
    """A part of a step, on the device.

    Attributes:
        x: (batch, …), known samples first.
        labels: (n_id,).
        total: rows of the whole step.
        total_id: known samples of the whole step.
        share: of the known sample in mixtures, if the other rows are such.
        virtual: virtual outliers, or None.
    """

    x: Tensor
    labels: Tensor
    total: int
    total_id: int
    share: float | None = None
    virtual: Tensor | None = None


class TrainingForward(nn.Module):
    """Model and objective in one module, so that distributed training wraps both.

    Args:
        model: trained in place.
        objective: what is minimized.
        recipe: precision and terms.
        head: where features are seen, for VOS; else None.
    """

    def __init__(
        self, model: nn.Module, objective: Objective, recipe: Recipe, *, head: Head | None = None
    ) -> None:
        super().__init__()
        self.model = model
        self.objective = objective
        self._penalized = penalized(recipe)
        self._half = recipe.precision == "bf16"
        self._head = head
        self.features: Tensor | None = None

    def forward(self, batch: PartBatch) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss and terms; features of known samples are left in `features` if there is a head."""
        x = batch.x.detach().requires_grad_() if self._penalized else batch.x
        kept: list[Tensor] = []
        with ExitStack() as stack:
            if self._head is not None:
                stack.enter_context(captured(self.model, self._head.site, kept.append))
            if self._penalized:
                stack.enter_context(differentiable_kernels())
            if self._half:
                stack.enter_context(torch.autocast(x.device.type, dtype=torch.bfloat16))
            logits = logits_of(self.model(x))
        if self._head is not None:
            self.features = self._head.features(kept[0].detach())[: len(batch.labels)]
        seen = Seen(
            x=x,
            logits=widened(logits),
            labels=batch.labels,
            total=batch.total,
            total_id=batch.total_id,
            share=batch.share,
            virtual=batch.virtual,
        )
        return self.objective(seen)


def penalized(recipe: Recipe) -> bool:
    """Whether a step differentiates twice."""
    return recipe.loss.gradient is not None and recipe.loss.gradient.weight > 0


def widened(logits: Tensor) -> Tensor:
    """Logits in at least float32."""
    return logits.float() if logits.dtype in (torch.float16, torch.bfloat16) else logits


@contextmanager
def differentiable_kernels() -> Iterator[None]:
    """Attention by its plain kernel inside: the fused ones have no second derivative."""
    with sdpa_kernel(SDPBackend.MATH):
        yield


def set_training(model: nn.Module, statistics: str) -> None:
    """Training mode; under ``"frozen"`` the batch norms stay in evaluation mode."""
    model.train()
    if statistics == "frozen":
        for module in model.modules():
            if isinstance(module, _NORMS):
                module.eval()
