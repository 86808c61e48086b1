"""The head: the last linear map of a classifier, found by running it and verified numerically."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, cast

import torch
from torch import Tensor, nn

from gradood.errors import TapError
from gradood.taps.arguments import Inputs, called
from gradood.taps.isolation import device_of, left_as_found
from gradood.taps.site import Site
from gradood.taps.view import Views

__all__ = ["Head", "HeadCandidate", "find_head"]

_REDUCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "as given": lambda h: h,
    "mean over positions": lambda h: h.flatten(2).mean(2) if h.ndim == 4 else h.mean(1),
    "first token": lambda h: h[:, 0],
}
_BY_RANK = {
    2: ("as given",),
    3: ("mean over positions", "first token"),
    4: ("mean over positions",),
}


@dataclass(frozen=True, eq=False)
class Head:
    """A verified head: ``logits == features @ weight.T + bias``.

    Attributes:
        layer: module name.
        module: the module of the model that owns the weight (a linear layer or a 1×1
            convolution); what is computed, such as by a parametrization, is not read from it.
        site: where its input is seen.
        reduction: how that input becomes the features (batch, width).
        error: largest difference from the model's own logits on the probe, relative to the
            largest logit.
        views: of the model.
        example: an input (1, …), to see weights that the model changes in its forward.
    """

    layer: str
    module: nn.Module
    site: Site
    reduction: str
    error: float
    views: Views = field(repr=False)
    example: Inputs = field(repr=False)

    @property
    def weight(self) -> Tensor:
        """(classes, width), as it is now in evaluation mode; no gradient.

        Cost:
            Nothing if it is a parameter; else that of entering a view. A forward of one input if
            the model changes the parameter in its forward.
        """
        return self.linear()[0]

    @property
    def bias(self) -> Tensor | None:
        """(classes,), as it is now in evaluation mode; no gradient."""
        return self.linear()[1]

    def linear(self) -> tuple[Tensor, Tensor | None]:
        """`weight` and `bias` together."""
        inside = f"{self.layer}."
        if any(name == self.layer or name.startswith(inside) for name, _ in self.views.written):
            return self._during_a_forward()
        own = self.module._parameters
        if own.get("weight") is not None and ("bias" in own or not hasattr(self.module, "bias")):
            return _linear(self.module)
        with left_as_found(self.views) as view:
            module = view.find(self.layer)
            if module is None:  # inside a part that cannot be copied
                return _linear(self.module)
            for hook in list(module._forward_pre_hooks.values()):
                # Those of torch that compute a weight before each forward: weight_norm and others.
                if type(hook).__module__.startswith("torch.nn.utils."):
                    cast("Callable[..., None]", hook)(module, ())
            return _linear(module)

    def _during_a_forward(self) -> tuple[Tensor, Tensor | None]:
        found: list[tuple[Tensor, Tensor | None]] = []
        with left_as_found(self.views) as view:
            module = view.find(self.layer) or self.module
            handle = module.register_forward_hook(lambda own, *_: found.append(_linear(own)))
            try:
                called(view.module, self.example.to(device_of(self.views.model)).clone())
            finally:
                handle.remove()
        return found[-1]

    def features(self, seen: Tensor) -> Tensor:
        """Features (batch, width) from what the head's layer takes; differentiable."""
        return _REDUCTIONS[self.reduction](seen)


@dataclass(frozen=True, eq=False)
class HeadCandidate:
    """One call of a layer that could be the head.

    Attributes:
        layer: module name.
        module: the layer.
        seen: what it took.
        calls: how often it ran in the forward.
        views: of the model.
        example: an input (1, …) of the model.
    """

    layer: str
    module: nn.Module
    seen: Tensor
    calls: int
    views: Views = field(repr=False)
    example: Inputs = field(repr=False)


def _linear(module: Any) -> tuple[Tensor, Tensor | None]:
    bias = getattr(module, "bias", None)
    return module.weight.detach().flatten(1), bias.detach() if isinstance(bias, Tensor) else None


def linear_weight(module: nn.Module) -> Tensor | None:
    """The weight of a module that could be a linear map: (classes, width[, 1, 1]); else None."""
    weight = getattr(module, "weight", None)
    if not isinstance(weight, Tensor) or not weight.is_floating_point():
        return None
    pointwise = weight.ndim == 4 and weight.shape[2:].numel() == 1
    grouped = getattr(module, "groups", 1) != 1
    return weight if (weight.ndim == 2 or pointwise) and not grouped else None


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
        if candidate.calls > 1:
            tried.append(f"{candidate.layer!r} runs {candidate.calls} times")
            continue
        head, why = _verify(candidate, logits)
        if head is not None:
            return head
        tried.append(f"{candidate.layer!r} {why}")
    values = logits.detach().double()
    hint = ""
    if bool((values >= 0).all()) and torch.allclose(values.sum(1), values.new_ones(()), atol=1e-3):
        hint = " The output looks like probabilities: let the model return its logits."
    wanted = "the last linear layer" if name is None else f"the head named {name!r}"
    detail = "; ".join(tried[:6]) or "no linear layer or 1×1 convolution ran"
    raise TapError(
        f"{wanted} could not be verified: features @ weight.T + bias must equal the model's "
        f"{tuple(logits.shape)} logits. Tried: {detail}. "
        f"Name the layer with Monitor(model, …, head='module.name').{hint}"
    )


def _verify(candidate: HeadCandidate, logits: Tensor) -> tuple[Head | None, str]:
    seen = candidate.seen
    site = Site(candidate.layer, "input")
    known = (candidate.views, candidate.example)
    head = Head(candidate.layer, candidate.module, site, "as given", 0.0, *known)
    weight, bias = head.linear()
    if weight.shape[0] != logits.shape[1]:
        return None, f"gives {weight.shape[0]} values, not {logits.shape[1]}"
    best = float("inf")
    for reduction in _BY_RANK.get(seen.ndim, ()):
        features = _REDUCTIONS[reduction](seen.detach()).double()
        if features.shape != (logits.shape[0], weight.shape[1]):
            continue
        ours = features @ weight.double().T
        if bias is not None:
            ours = ours + bias.double()
        scale = float(logits.detach().double().abs().max().clamp_min(1e-6))
        error = float((ours - logits.detach().double()).abs().max()) / scale
        best = min(best, error)
        if error <= _tolerance(logits, seen):
            return replace(head, reduction=reduction, error=error), ""
    if best == float("inf"):
        return None, f"takes a tensor {tuple(seen.shape)}, which gives no features per image"
    return None, f"is off by {best:.1e} of the largest logit"


def _tolerance(*tensors: Tensor) -> float:
    """Rounding of a product in the coarsest of these types, relative to the largest logit."""
    # Accelerators multiply float32 in TF32, as coarse as float16, by default or on request.
    single = 1e-4 if tensors[0].device.type == "cpu" and exact_products() else 1e-2
    known = {torch.float64: 1e-9, torch.float32: single, torch.float16: 1e-2, torch.bfloat16: 4e-2}
    return max(known.get(tensor.dtype, single) for tensor in tensors)


def exact_products() -> bool:
    """Whether products of float32 matrices are asked to be computed in float32."""
    try:
        return torch.get_float32_matmul_precision() == "highest"
    except RuntimeError:  # set for one backend only, through torch's newer switches
        return False
