"""How a score is attributed to the units of the features: declared, and by terms of its own."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor

from gradood.errors import TapError
from gradood.evidence import FEATURES, LOGITS, Evidence, Read
from gradood.functional.directions import directions
from gradood.functional.gradnorm import linear_logits
from gradood.functional.path_integrals import path_integral, values_of
from gradood.functional.score_terms import norm_terms

if TYPE_CHECKING:
    from gradood.detectors.base import Detector, State

__all__ = [
    "BEYOND_HEAD",
    "Attributed",
    "Terms",
    "at_class",
    "contribution_terms",
    "cosine_terms",
    "feature_terms",
    "gradient_terms",
    "head_terms",
    "layer_terms",
    "linear_terms",
    "perturbed_terms",
    "refuse_parameters",
    "with_features",
]

BEYOND_HEAD = "beyond head"
"""Part of the score that is due to what logits hold beyond ``W h + b``: rounding, mostly."""


@dataclass(frozen=True, eq=False, slots=True)
class Terms:
    """What a score, less a reference value, is made of; every row sums to it.

    Attributes:
        units: (batch, width) of each unit of the features.
        reference: (batch,) the value at the reference, which is no part of the sum.
        parts: name → (batch,) what is due to no unit, and is summed with them.
        classes: (batch, classes) the same sum by classes, or None where none is defined.
        error: (batch,) estimated error of an integral, summed over units; 0 where there is none.
    """

    units: Tensor
    reference: Tensor
    parts: Mapping[str, Tensor] = field(default_factory=dict)
    classes: Tensor | None = None
    error: Tensor | float = 0.0


class Attributed:
    """What a detector says of its attribution.

    Class attributes:
        attribution: a rule, a colon, and what it means here. Rules are ``"logit path"`` and
            ``"feature path"`` (Aumann-Shapley along the straight path from the reference's logits
            or features; nothing to write), ``"terms"`` (by the method `terms`), ``"shaped"`` (by
            another score on evidence that the method `shaped` makes), ``"layers"`` (by the method
            `terms`, by layer alone: no unit has a share) and ``"none"``, with a reason.
    """

    attribution: ClassVar[str] = ""

    def terms(self, evidence: Evidence, state: "State", reference: Evidence) -> Terms:
        """What the score is made of.

        Args:
            evidence: as for `measure`, with features, logits and head.
            state: as for `measure`.
            reference: features, logits ``W h + b`` and head alone, as many rows.
        """
        raise TapError(f"{type(self).__name__} declares terms, and has no such method; write one.")

    def shaped(
        self, evidence: Evidence, state: "State", sample: Evidence
    ) -> "tuple[Detector, Evidence]":
        """Another score, and the evidence on which it is this one; it learns nothing.

        Args:
            evidence: of the sample; or of the reference, which has features and logits alone.
            state: as for `measure`.
            sample: of the sample in both cases.
        """
        raise TapError(
            f"{type(self).__name__} declares shaping, and has no such method; write one."
        )


def head_terms(
    score: Callable[[Tensor], Tensor] | None,
    evidence: Evidence,
    reference: Evidence,
    of_row: Callable[[Tensor, Tensor], Tensor] | None = None,
) -> Terms:
    """Aumann-Shapley values of a score of logits, along the straight path between logits.

    Logits are ``W h + b + δ``. With ``G_c = ∫ ∂s/∂z_c dt``, unit d has
    ``(h_d − r_d) Σ_c W_cd G_c``, class c has ``(z_c − z_c(r)) G_c``, and δ has ``Σ_c δ_c G_c``. A
    path that is straight in h is straight in z, so that this is the path of the features too.

    Args:
        score: (m, classes) in float64 → (m,).
        evidence: features, logits and head of the samples.
        reference: likewise.
        of_row: in its place where each sample has a score of its own: (points (m, classes), which
            rows (m,)) → (m,).
    """
    start, stop = reference.logits.double(), evidence.logits.double()
    function = of_row if score is None else lambda logits, rows: score(logits)
    assert function is not None
    found = path_integral(values_of(function), start, stop)
    moved = evidence.features.double() - reference.features.double()
    weight = evidence.linear.weight.double()
    beyond = ((stop - start - moved @ weight.T) * found.gradient).sum(1)
    parts = {BEYOND_HEAD: beyond}
    if bool((found.jump != 0).any()):
        parts["jump"] = found.jump
    classes = (stop - start) * found.gradient
    units = moved * (found.gradient @ weight)
    return Terms(units, found.start, parts, classes, found.error)


def perturbed_terms(
    score: Callable[[Tensor], Tensor], perturbed: Tensor, evidence: Evidence, reference: Evidence
) -> Terms:
    """`head_terms` at the input as it is; what the step of the input adds is a part.

    Args:
        score: (rows, classes) in float64 → (rows,).
        perturbed: (batch, classes) logits after the step.
        evidence: features, logits and head of the samples before it.
        reference: likewise.
    """
    made = head_terms(score, evidence, reference)
    step = score(perturbed) - score(evidence.logits.double())
    return replace(made, parts={**made.parts, "step of the input": step})


def layer_terms(names: Iterable[object], shares: Iterable[Tensor], evidence: Evidence) -> Terms:
    """Terms of a sum over layers, from 0; no unit of the features has a share.

    Args:
        names: of the layers.
        shares: (batch,) of each.
        evidence: of the samples.
    """
    parts: dict[str, Tensor] = {}
    for name, share in zip(names, shares, strict=True):
        parts[str(name)] = parts[str(name)] + share if str(name) in parts else share
    units = torch.zeros_like(evidence.features, dtype=torch.float64)
    return Terms(units, units.sum(1), parts)


def linear_terms(coefficients: Tensor, evidence: Evidence, reference: Evidence) -> Terms:
    """Terms of ``Σ_c k_c z_c``: unit d has ``(h_d − r_d) Σ_c k_c W_cd``.

    Args:
        coefficients: (batch, classes) k of each sample.
        evidence: features, logits and head of the samples.
        reference: likewise; the reference value is the same sum there.
    """
    start, stop = reference.logits.double(), evidence.logits.double()
    moved = evidence.features.double() - reference.features.double()
    weight = evidence.linear.weight.double()
    used = coefficients != 0
    change = torch.where(used, stop - start, 0.0)  # Of classes ruled out by −∞.
    beyond = coefficients * torch.where(used, change - moved @ weight.T, 0.0)
    value = (coefficients * torch.where(used, start, 0.0)).sum(1)
    units = moved * (coefficients @ weight)
    return Terms(units, value, {BEYOND_HEAD: beyond.sum(1)}, coefficients * change)


def feature_terms(score: Callable[[Tensor, Tensor], Tensor], start: Tensor, stop: Tensor) -> Terms:
    """Aumann-Shapley values of a score of features, along the straight path between two.

    Args:
        score: (points (m, width), which rows (m,)) in float64 → (m,), differentiable.
        start: (batch, width) the reference.
        stop: (batch, width) the samples.
    """
    start, stop = start.double(), stop.double()
    found = path_integral(values_of(score), start, stop)
    parts = {"jump": found.jump} if bool((found.jump != 0).any()) else {}
    return Terms((stop - start) * found.gradient, found.start, parts, None, found.error)


def at_class(values: Tensor, which: Tensor, classes: int) -> Tensor:
    """(batch, classes) a value of each sample at the class that answers, and zero elsewhere."""
    table = values.new_zeros(len(values), classes)
    return table.scatter(1, which[:, None], values[:, None])


def contribution_terms(
    score: Callable[[Tensor], Tensor],
    made: Callable[[Evidence, int], Tensor],
    evidence: Evidence,
    reference: Evidence,
    logits: Tensor | None = None,
) -> Terms:
    """`head_terms` where each sample has contributions of its own: ``z_k = Σ_d c_kd + b_k``.

    Unit d has ``Σ_k (c_kd − c_kd(r)) G_k``.

    Args:
        score: (rows, classes) in float64 → (rows,).
        made: (evidence, row) → c (classes, width).
        evidence: of the samples.
        reference: likewise.
        logits: of the samples as the score has them, where these are rounded.
    """
    rows = range(evidence.size)
    bias = evidence.linear.bias
    ends = [torch.stack([made(some, i).sum(1) for i in rows]) for some in (reference, evidence)]
    start, own = ends if bias is None else [end + bias.double() for end in ends]
    stop = own if logits is None else logits
    found = path_integral(values_of(lambda logits, rows: score(logits)), start, stop)
    gradient = found.gradient
    units = [gradient[i] @ (made(evidence, i) - made(reference, i)) for i in rows]
    parts = {BEYOND_HEAD: ((stop - own) * gradient).sum(1)}
    if bool((found.jump != 0).any()):
        parts["jump"] = found.jump
    classes = (stop - start) * gradient
    return Terms(torch.stack(units), found.start, parts, classes, found.error)


def cosine_terms(
    score: Callable[[Tensor, Tensor], Tensor], evidence: Evidence, reference: Evidence
) -> Terms:
    """Aumann-Shapley values of a score of cosines with the head's rows, linear in directions.

    Args:
        score: (cosines (m, classes), which rows (m,)) in float64 → (m,).
        evidence: of the samples.
        reference: likewise.
    """
    start, stop = directions(reference.features), directions(evidence.features)
    texts = directions(evidence.linear.weight)
    found = path_integral(values_of(score), start @ texts.T, stop @ texts.T)
    classes = ((stop - start) @ texts.T) * found.gradient
    parts = {"jump": found.jump} if bool((found.jump != 0).any()) else {}
    units = (stop - start) * (found.gradient @ texts)
    return Terms(units, found.start, parts, classes, found.error)


def gradient_terms(factor: Tensor, features: Tensor, order: float, *, bias: bool) -> Terms:
    """``factor · ‖(h, 1)‖_q`` by its entries; the last one, if there is one, is a part."""
    inputs = features.double()
    if bias:
        inputs = torch.cat([inputs, inputs.new_ones(len(inputs), 1)], 1)
    made = factor[:, None] * norm_terms(inputs, order)
    parts = {"bias": made[:, -1]} if bias else {}
    return Terms(made[:, : features.shape[1]], torch.zeros_like(factor), parts)


def refuse_parameters(method: str, parameters: object) -> None:
    """Raise where a norm is taken over gradients of other parameters, which have no units.

    Raises:
        TapError: it is.
    """
    if parameters is not None:
        raise TapError(
            f"{method} with parameters={parameters!r} is of gradients of these, which are not by "
            "unit of the features; leave parameters at None to have it explained."
        )


def with_features(evidence: Evidence, features: Tensor, logits: Tensor | None = None) -> Evidence:
    """Features, logits and head alone; logits are ``W h + b`` in float64 unless given."""
    head = evidence.linear
    if logits is None:
        logits = linear_logits(features, head.weight, head.bias)
    values: dict[Read, Tensor] = {FEATURES: features, LOGITS: logits}
    return Evidence(len(features), evidence.classes, head, None, tuple(values), values)
