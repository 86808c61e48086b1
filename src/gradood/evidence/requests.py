"""Requests: what a detector may read of one batch, equal ones are read once."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch
from torch import Tensor

from gradood.errors import NotFittedError
from gradood.evidence.summaries import Summary
from gradood.taps import Site

__all__ = [
    "Activation",
    "Basic",
    "FEATURES",
    "FEATURE_SUM",
    "FittedObjective",
    "FittedScore",
    "Gradient",
    "INPUT_RANGE",
    "JacobianNorm",
    "KEYS",
    "LOGITS",
    "LOG_SOFTMAX_SUM",
    "MAX_LOGIT",
    "Objective",
    "ParameterNorm",
    "Perturbation",
    "Perturbed",
    "Read",
    "needs_state",
    "of_outputs",
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
class FittedScore:
    """A differentiable function of what a detector learns, computed by `Detector.objective`.

    Plain values alone, so that it can be saved: the learned state comes with each batch.

    Attributes:
        name: which of the detector's objectives.
        reads: what it is computed from: `LOGITS`, `FEATURES` or activations, of the input as it is.
    """

    name: str
    reads: tuple[Basic | Activation, ...]


@dataclass(frozen=True, slots=True)
class FittedObjective:
    """A `FittedScore` with the state of one detector.

    Attributes:
        score: what was planned.
        of: evidence of its reads, with their graph → (batch,); equal to no other function.
    """

    score: FittedScore
    of: Callable[[Any], Tensor] = field(repr=False)

    @property
    def name(self) -> str:
        """Of the score."""
        return self.score.name

    @property
    def features(self) -> bool:
        """Whether it reads the features."""
        return FEATURES in self.score.reads


@dataclass(frozen=True, slots=True)
class Gradient:
    """A summary of the gradient of an objective at a layer; shares that objective's backward."""

    objective: Objective | FittedObjective
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
class JacobianNorm:
    """(batch, pairs): ``‖∂r_{i+1} / ∂r_i‖_F²`` of representations r that follow one another.

    A representation is the tensor at a site, all of it; or, of a sequence (batch, positions,
    width), the mean over the positions that the logits are made of: of a classification token that
    one, whatever the padding. Moving r_i moves these positions together. Estimated without bias
    from random projections, the same for every input; a pass of its own.

    Attributes:
        sites: of the representations, in the order they run.
        read: where the gradient of the largest logit tells the positions that the logits are made
            of; None for whole tensors.
        samples: random projections for each pair; None for all of a basis, which is exact.
        two_sided: whether the Jacobian is projected on both sides, or on that of its rows alone,
            which has the same mean and less variance.
    """

    sites: tuple[Site, ...]
    read: Site | None
    samples: int | None
    two_sided: bool = False


@dataclass(frozen=True, slots=True)
class Perturbation:
    """A step of each input up the gradient of its own objective, ``x + ε · sign(∇ₓ f) ⊙ m / std``.

    Equal ones are the same step, and are taken once. Where the gradient is zero, nothing moves.

    Attributes:
        of: f: ``"max logit"``; ``"max log-softmax"`` for log max softmax(z / T); any `Objective`;
            or a `FittedScore` of the detector that plans the step, such as the distance to what
            it has learned.
        epsilon: ε > 0, in the units of the input that the model takes.
        temperature: T > 0, of ``"max log-softmax"``.
        share: of the input's values that move (m), above 0 to 1; at least one does.
        pixels: which, by the size of the gradient: the ``"least"`` or the ``"most"`` salient.
        std: divides the step of each channel; one value, or one per channel.
        score: of a `FittedScore`, the function of evidence; `with_score` sets it.
    """

    of: Literal["max logit", "max log-softmax"] | Objective | FittedScore
    epsilon: float
    temperature: float = 1.0
    share: float = 1.0
    pixels: Literal["least", "most"] = "least"
    std: tuple[float, ...] = (1.0,)
    score: Callable[[Any], Tensor] | None = field(default=None, repr=False)

    @property
    def objective(self) -> Objective | FittedObjective:
        """f, summed over rows; its gradient shares the backward of any that reads the same.

        Raises:
            NotFittedError: it is a `FittedScore` without the state of a detector.
        """
        if isinstance(self.of, Objective):
            return self.of
        if isinstance(self.of, FittedScore):
            if self.score is None:
                raise NotFittedError(
                    f"the step along {self.of.name!r} is known only after a fit; fit the detector "
                    "first."
                )
            return FittedObjective(self.of, self.score)
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
        what: `LOGITS`, `FEATURES` or an activation, read of it as they are of the input itself.
    """

    perturbation: Perturbation
    what: Basic | Activation

    @property
    def name(self) -> str:
        """In words."""
        step, what = self.perturbation, self.what
        of = step.of if isinstance(step.of, str) else step.of.name
        read = what.name if isinstance(what, Basic) else f"{what.summary.name} at {what.site}"
        return f"{read} after a step of {step.epsilon:g} up the input's {of}"

    def with_score(self, score: Callable[[Any], Tensor]) -> "Perturbed":
        """The same, up the gradient of this function of evidence."""
        return replace(self, perturbation=replace(self.perturbation, score=score))


Read = Basic | Activation | Gradient | JacobianNorm | ParameterNorm | Perturbed


def needs_state(read: Read) -> bool:
    """Whether a request cannot be read before the detector that planned it was fitted."""
    return (
        isinstance(read, Perturbed)
        and isinstance(read.perturbation.of, FittedScore)
        and read.perturbation.score is None
    )


def of_outputs(read: Read) -> bool:
    """Whether a request reads class logits, or gradients of what is made of them."""
    if isinstance(read, ParameterNorm):
        return True
    if isinstance(read, Perturbed):
        return read.what == LOGITS or not isinstance(read.perturbation.of, Objective | FittedScore)
    if isinstance(read, Gradient):
        return read.objective.name in (MAX_LOGIT.name, LOG_SOFTMAX_SUM.name)
    return read == LOGITS


def own_pass(read: Read) -> bool:
    """Whether a reading takes a pass of its own, beside the forward that all others share."""
    return isinstance(read, JacobianNorm | ParameterNorm | Perturbed)
