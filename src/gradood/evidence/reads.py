"""What a detector may ask to read of one batch; equal requests are gathered once."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from gradood.evidence.summaries import Summary
from gradood.taps import Site

__all__ = [
    "Activation",
    "Basic",
    "FEATURES",
    "FEATURE_SUM",
    "Gradient",
    "INPUT_RANGE",
    "KEYS",
    "LOGITS",
    "LOG_SOFTMAX_SUM",
    "MAX_LOGIT",
    "Objective",
    "ParameterNorm",
    "Perturbation",
    "Perturbed",
    "Read",
    "own_pass",
]


@dataclass(frozen=True, slots=True)
class Objective:
    """A scalar whose gradient is read; a sum over rows.

    Attributes:
        name: two objectives of the same name share one backward pass.
        of: (logits (batch, classes), features (batch, width)) → scalar.
        features: whether it reads the features; if not, no head is needed.
    """

    name: str
    of: Callable[[Tensor, Tensor | None], Tensor] = field(compare=False, repr=False)
    features: bool = field(default=False, compare=False)


def _feature_sum(_: Tensor, features: Tensor | None) -> Tensor:
    assert features is not None
    return features.sum()


def _log_softmax_sum(logits: Tensor, _: Tensor | None) -> Tensor:
    wide = torch.promote_types(logits.dtype, torch.float32)
    return torch.log_softmax(logits.to(wide), 1).sum()


MAX_LOGIT = Objective("max logit", lambda logits, _: logits.amax(1).sum())
LOG_SOFTMAX_SUM = Objective("log-softmax sum", _log_softmax_sum)
FEATURE_SUM = Objective("feature sum", _feature_sum, features=True)


@dataclass(frozen=True, slots=True)
class Basic:
    """What every classifier has: logits, features, and inputs with content keys and a range."""

    name: str


LOGITS = Basic("logits")
"""(batch, classes) in float64."""
FEATURES = Basic("features")
"""(batch, width), the input of the head, in float32 or wider."""
KEYS = Basic("keys")
"""(batch,) int64: a hash of each input's bytes, the same in any batch and order."""
INPUT_RANGE = Basic("input range")
"""(batch, 2, channels): smallest and largest value of each input channel."""


@dataclass(frozen=True, slots=True)
class Activation:
    """A summary of a layer's tensor in the forward pass."""

    site: Site
    summary: Summary


@dataclass(frozen=True, slots=True)
class Gradient:
    """A summary of the gradient of an objective at a layer; shares that objective's backward."""

    objective: Objective
    site: Site
    summary: Summary


@dataclass(frozen=True, slots=True)
class ParameterNorm:
    """(batch,): norm of the gradient, over parameters, of KL(uniform ‖ softmax(logits / T)).

    The one reading that takes per-sample parameter gradients, and so a pass of its own.
    """

    names: tuple[str, ...]
    temperature: float
    order: float


@dataclass(frozen=True, slots=True)
class Perturbation:
    """A step of each input up the gradient of its own objective, ``x + ε · sign(∇ₓ f) ⊙ m / std``.

    Plain values alone: equal ones are the same step, and are taken once. Where the gradient is
    zero, nothing moves.

    Attributes:
        of: f, ``"max logit"``, or ``"max log-softmax"`` for log max softmax(z / T).
        epsilon: ε > 0, in the units of the input that the model takes.
        temperature: T > 0, of ``"max log-softmax"``.
        share: of the input's values that move (m), above 0 to 1; at least one does.
        pixels: which, by the size of the gradient: the ``"least"`` or the ``"most"`` salient.
        std: divides the step of each channel; one value, or one per channel.
    """

    of: Literal["max logit", "max log-softmax"]
    epsilon: float
    temperature: float = 1.0
    share: float = 1.0
    pixels: Literal["least", "most"] = "least"
    std: tuple[float, ...] = (1.0,)

    @property
    def objective(self) -> Objective:
        """f, summed over rows; its gradient shares the backward of any that reads the same."""
        if self.of == "max logit":
            return MAX_LOGIT

        def tempered(logits: Tensor, _: Tensor | None) -> Tensor:
            scaled = logits.to(torch.promote_types(logits.dtype, torch.float32)) / self.temperature
            # T times the logarithm: of the same sign, and T does not push it into underflow.
            return self.temperature * torch.log_softmax(scaled, 1).amax(1).sum()

        return Objective(f"max log-softmax at temperature {self.temperature!r}", tempered)


@dataclass(frozen=True, slots=True)
class Perturbed:
    """What the model makes of perturbed inputs, in one more forward for each `Perturbation`.

    Attributes:
        perturbation: what is done to the input.
        what: `LOGITS` or `FEATURES`, read of it as they are of the input itself.
    """

    perturbation: Perturbation
    what: Basic

    @property
    def name(self) -> str:
        """In words."""
        step = self.perturbation
        return f"{self.what.name} after a step of {step.epsilon:g} up the input's {step.of}"


Read = Basic | Activation | Gradient | ParameterNorm | Perturbed


def own_pass(read: Read) -> bool:
    """Whether a reading takes a pass of its own, beside the forward that all others share."""
    return isinstance(read, ParameterNorm | Perturbed)
