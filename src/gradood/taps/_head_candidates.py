"""Candidates for the head: each is tried, and verified on the logits."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from gradood.errors import TapError
from gradood.taps._positions import UNIT
from gradood.taps.arguments import Inputs
from gradood.taps.head import Form, Head, deviation, rounding, usable_reductions
from gradood.taps.head_reading import mask_of
from gradood.taps.site import Site
from gradood.taps.view import Views

__all__ = ["HeadCandidate", "find_head"]


@dataclass(frozen=True, eq=False)
class HeadCandidate:
    """One call of a layer that could be the head.

    Attributes:
        layer: module name.
        module: the layer.
        seen: what it took.
        calls: how often it ran in the forward.
        views: of the model.
        example: (1, …) an input of the model.
        form: whether its weight is read, or told by unit vectors.
        paired: whether its one logit z is read as the two (0, z).
        mask: (batch, positions), which positions count; None if all do.
    """

    layer: str
    module: nn.Module
    seen: Tensor
    calls: int
    views: Views = field(repr=False)
    example: Inputs = field(repr=False)
    form: Form = "weight"
    paired: bool = False
    mask: Tensor | None = field(default=None, repr=False)


def find_head(candidates: Sequence[HeadCandidate], logits: Tensor, name: str | None) -> Head:
    """The candidate whose linear map gives the model's logits.

    Args:
        candidates: calls of possible heads, in the order they ran.
        logits: (batch, classes), the model's own.
        name: the layer to take, or None to try all, the last first.

    Raises:
        TapError: none fits; says what was tried and how far off each was.
    """
    if not bool(logits.isfinite().all()):
        raise TapError(
            "the head cannot be verified, as the model's logits on the example hold NaN or "
            "infinity; give inputs that the model can classify, and check its weights."
        )
    tried: list[str] = []
    for candidate in reversed(candidates):
        if name is not None and candidate.layer != name:
            continue
        called = _called(candidate.layer)
        if candidate.calls > 1:
            tried.append(f"{called} runs {candidate.calls} times")
            continue
        head, why = _verify(candidate, logits)
        if head is not None:
            return head
        tried.append(f"{called} {why}")
    values = logits.detach().double()
    hint = ""
    if bool((values >= 0).all()) and torch.allclose(values.sum(1), values.new_ones(()), atol=1e-3):
        hint = " The output looks like probabilities: let the model return its logits."
    wanted = "the last linear layer" if name is None else f"the head named {name!r}"
    none = "no linear layer or 1×1 convolution ran"
    if name is not None:
        none = f"{_called(name)} is no linear layer or 1×1 convolution that ran"
    detail = "; ".join(tried[:6]) or none
    raise TapError(
        f"{wanted} could not be verified: features @ weight.T + bias must equal the model's "
        f"{tuple(logits.shape)} logits. Tried: {detail}. "
        "Name the layer with Monitor(model, …, head='module.name'), or with features='module.name' "
        f"one whose output are the features.{hint}"
    )


def _called(layer: str) -> str:
    return repr(layer) if layer else "the model itself"


def _verify(candidate: HeadCandidate, logits: Tensor) -> tuple[Head | None, str]:
    seen, probed = candidate.seen, candidate.form == "probed"
    draft = Head(
        candidate.layer,
        candidate.module,
        Site(candidate.layer, "input"),
        "as given",
        0.0,
        candidate.views,
        candidate.example,
        candidate.form,
        candidate.paired,
        seen[:1],
    )
    try:
        known = draft.linear()
    except Exception as error:  # Of a module that takes nothing but what it took.
        if not probed:
            raise
        return None, f"cannot be run on unit vectors ({type(error).__name__})"
    if probed and _elementwise(known[0]):
        return None, "changes each value by itself, as an identity or a scale does"
    if known[0].shape[0] != logits.shape[1]:
        return None, f"gives {known[0].shape[0]} values, not {logits.shape[1]}"
    mask, best, after = mask_of(seen, candidate.mask), float("inf"), ""
    for reduction in usable_reductions(seen, probed=probed, masked=mask is not None):
        head = replace(draft, reduction=reduction)
        weight = head.linear()[0] if reduction == UNIT else known[0]
        if not _fits(seen, weight, logits):
            continue
        features = head.features(seen.detach(), logits, mask)
        error = deviation(head, features, logits)
        if error <= rounding(logits, seen):
            return replace(head, error=error), ""
        best = min(best, error)
        after = after or _affine_after(features, known, logits, 4 * rounding(logits, seen))
    if best == float("inf"):
        return None, f"takes a tensor {tuple(seen.shape)}, which gives no features per image"
    return None, after or f"is off by {best:.1e} of the largest logit"


def _affine_after(
    features: Tensor, known: tuple[Tensor, Tensor | None], logits: Tensor, tolerance: float
) -> str:
    """What is said of a layer whose output is scaled or shifted by constants; empty if it is not.

    Args:
        features: (rows, width).
        known: weight and bias.
        logits: (rows, classes), the model's.
        tolerance: relative to the largest logit.
    """
    weight, bias = (None if part is None else part.to(features.device).double() for part in known)
    assert weight is not None
    wanted = logits.detach().double()
    own = features.detach().double() @ weight.T + (0.0 if bias is None else bias)
    between, asked = own[1:] - own[:1], wanted[1:] - wanted[:1]
    size = float(between.square().sum())
    if size == 0 or logits.shape[1] < 2:
        return ""
    scale = float((between * asked).sum()) / size
    least = tolerance * float(wanted.abs().max())
    if scale == 0 or float((asked - scale * between).abs().max()) > least:
        return ""
    # Of rows that hardly differ anything may be a scale.
    if float(asked.abs().max()) < 10 * least:
        return ""
    shifted = float((wanted - scale * own).abs().max()) > least
    scaled = abs(scale - 1) > tolerance
    done = [f"multiplied by {scale:.4g}"] if scaled else []
    done += ["shifted by a constant for each class"] if shifted else []
    return (
        f"gives the logits before they are {' and '.join(done) or 'rounded'} (a temperature, a "
        "logit scale or a bias after it): put that into one module together with the layer, which "
        "is then taken as the head, or let the model return what the layer gives"
    )


def _elementwise(weight: Tensor) -> bool:
    """Whether a map takes each value to a multiple of itself, so that what came before is a head.

    Of a pair of logits, the first row is zero.
    """
    own = weight[1:] if len(weight) == 2 and weight.shape[1] == 1 else weight
    square = own.shape[0] == own.shape[1]
    return square and torch.equal(own, torch.diag(own.diagonal()))


def _fits(seen: Tensor, weight: Any, logits: Tensor) -> bool:
    """Whether a reduction of what a layer takes has the rows and the width of its weight."""
    width = seen.shape[1] if seen.ndim == 4 else seen.shape[-1]
    return len(seen) == len(logits) and width == weight.shape[1]
