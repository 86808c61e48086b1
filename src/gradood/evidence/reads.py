"""What a detector may ask to read of one batch; equal requests are gathered once."""

from collections.abc import Callable
from dataclasses import dataclass, field

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
    "Read",
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


Read = Basic | Activation | Gradient | ParameterNorm
