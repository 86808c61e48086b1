"""The head: the last linear map of a classifier, found by running it and verified numerically."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn

from gradood.errors import TapError
from gradood.taps._positions import REDUCTIONS, SELECTED, UNIT, reductions_of, selected_position
from gradood.taps._probing import probed_linear
from gradood.taps.arguments import Inputs, called
from gradood.taps.isolation import device_of, left_as_found
from gradood.taps.site import Site, mean_over, positions
from gradood.taps.view import Views

__all__ = ["Head", "deviation", "exact_products", "linear_weight", "rounding"]

Form = Literal["weight", "probed", "output", "named"]
"""Where a head's numbers come from: the weight of its module; what the module makes of unit
vectors; of the model's output itself, the identity; or nowhere, as only the features are named."""


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
        form: where weight and bias come from.
        paired: whether the layer gives one logit z, read as the two (0, z).
        taken: (1, …) what the layer took of one input; of named features, these.
        channels: of named features, the dimension of the channels in what the layer gives.
    """

    layer: str
    module: nn.Module
    site: Site
    reduction: str
    error: float
    views: Views = field(repr=False)
    example: Inputs = field(repr=False)
    form: Form = "weight"
    paired: bool = False
    taken: Tensor | None = field(default=None, repr=False)
    channels: int = 1

    @property
    def width(self) -> int:
        """How many features there are."""
        if self.form == "named":
            return cast("Tensor", self.taken).shape[1]
        return self.weight.shape[1]

    @property
    def weight(self) -> Tensor:
        """(classes, width), as it is now in evaluation mode; no gradient.

        Cost:
            Nothing if it is a parameter; else that of entering a view. A forward of one input if
            the model changes the parameter in its forward. Of a module without a weight of its
            own, that module on width + 1 rows.
        """
        return self.linear()[0]

    @property
    def bias(self) -> Tensor | None:
        """(classes,), as it is now in evaluation mode; no gradient."""
        return self.linear()[1]

    def linear(self) -> tuple[Tensor, Tensor | None]:
        """`weight` and `bias` together.

        Raises:
            TapError: only the features are named, and no linear map makes the logits of them.
        """
        if self.form == "named":
            raise TapError(
                f"the features are named, features={self.layer!r}, and no linear map makes the "
                "logits of them; what reads such a map cannot run."
            )
        weight, bias = self._linear()
        if not self.paired:
            return weight, bias
        weight = torch.cat([torch.zeros_like(weight), weight])
        return weight, None if bias is None else torch.cat([torch.zeros_like(bias), bias])

    def _linear(self) -> tuple[Tensor, Tensor | None]:
        if self.form == "output":
            taken = cast("Tensor", self.taken)
            return torch.eye(taken.shape[1], dtype=taken.dtype).to(self._device), None
        inside = f"{self.layer}."
        written = any(n == self.layer or n.startswith(inside) for n, _ in self.views.written)
        if self.form == "probed":
            return self._probed(after_forward=written)
        if written:
            return self._during_a_forward()
        own = dict(self.module._parameters.items())
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
                called(view.module, self.example.to(self._device).clone())
            finally:
                handle.remove()
        return found[-1]

    def _probed(self, *, after_forward: bool) -> tuple[Tensor, Tensor | None]:
        with left_as_found(self.views) as view:
            if after_forward:
                called(view.module, self.example.to(self._device).clone())
            module = view.find(self.layer) or self.module
            like = cast("Tensor", self.taken).to(self._device)
            return probed_linear(module, like, unit=self.reduction == UNIT)

    @property
    def _device(self) -> torch.device:
        return device_of(self.views.model)

    def features(
        self, seen: Tensor, logits: Tensor | None = None, mask: Tensor | None = None
    ) -> Tensor:
        """Features (batch, width) from what the head's layer takes; differentiable.

        Args:
            seen: what it takes.
            logits: (batch, classes), the model's, by which a position is told where the head gives
                logits at all of them.
            mask: (batch, positions), which of them count; None if all do.
        """
        if self.form == "named":
            return _pooled(seen, self.channels, mask)
        if self.reduction != SELECTED:
            return REDUCTIONS[self.reduction](seen, mask)
        assert logits is not None
        outputs = _product(self, seen.detach(), torch.promote_types(seen.dtype, torch.float32))
        place = selected_position(outputs, logits.detach(), mask)
        return seen[torch.arange(len(seen), device=seen.device), place]


def deviation(head: Head, features: Tensor, logits: Tensor) -> float:
    """Largest difference of ``features @ weight.T + bias`` from the logits, by the largest logit.

    Args:
        head: whose weight and bias are taken.
        features: (batch, width).
        logits: (batch, classes), the model's.
    """
    if not len(logits):
        return 0.0
    expected = logits.detach().double()
    ours = _product(head, features.detach(), torch.float64)
    return float((ours - expected).abs().max() / expected.abs().max().clamp_min(1e-6))


def _product(head: Head, features: Tensor, kind: torch.dtype) -> Tensor:
    weight, bias = head.linear()
    ours = features.to(kind) @ weight.to(features.device, kind).T
    return ours if bias is None else ours + bias.to(features.device, kind)


def _pooled(seen: Tensor, channels: int, mask: Tensor | None) -> Tensor:
    """(batch, channels): the mean over positions, of those that count where a mask says."""
    if seen.ndim == 2:
        return seen
    return mean_over(positions(seen, channels), mask if channels == seen.ndim - 1 else None)


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


def usable_reductions(seen: Tensor, *, probed: bool, masked: bool) -> tuple[str, ...]:
    """Reductions to try on what a layer takes.

    Args:
        seen: that.
        probed: whether the layer's map is told by unit vectors, so that it may normalize.
        masked: whether a mask says which positions count.
    """
    unit = (UNIT,) if probed and seen.ndim == 2 else ()
    return (*reductions_of(seen.ndim, masked), *unit)


def rounding(*tensors: Tensor) -> float:
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
