"""Models whose rows depend on one another, or on random numbers."""

import torch
from torch import Tensor, nn

from gradood.errors import TapError
from gradood.taps.arguments import Inputs, called
from gradood.taps.head import exact_products
from gradood.taps.isolation import left_as_found
from gradood.taps.view import Views
from gradood.taps.wrap import Output, logits_of

__all__ = ["refuse_mixing", "rounding_of"]


def refuse_mixing(
    views: Views, logits: Tensor, alone: Tensor, rows: Inputs, output: Output | None
) -> None:
    """Refuse a model whose row i of the output does not belong to sample i alone.

    Args:
        views: of the model.
        logits: (rows, classes) of the rows together.
        alone: (1, classes) of the first of them alone.
        rows: the inputs.
        output: which item of what the model returns holds the logits, or None for the usual ones.

    Raises:
        TapError: says what mixes the rows, or that the model draws random numbers.
    """
    if logits.shape[0] != len(rows) or alone.shape[0] != 1:
        hint = (
            ""
            if logits.shape[0] > 1 or len(rows) == 1
            else " If the model takes one input without a batch, give it an axis: x[None]."
        )
        raise TapError(
            f"the model gave {logits.shape[0]} rows of logits for {len(rows)} inputs; "
            f"row i of the output must belong to sample i.{hint}"
        )
    tolerance = rounding_of(logits)
    if not _differ(logits[:1], alone, tolerance):
        return
    with left_as_found(views) as view:
        first, second = (logits_of(called(view.module, rows[:1].clone()), output) for _ in range(2))
    if _differ(first, second, tolerance):
        raise _random(views)
    raise TapError(
        "the model gives a sample other logits alone than in a batch, even in evaluation mode; "
        f"a score per sample needs independent rows.{_mixing_layers(views.model)}"
    )


def rounding_of(logits: Tensor) -> float:
    """How far logits of the same input may differ between batches, relative to the largest."""
    if logits.dtype == torch.float32 and (logits.device.type != "cpu" or not exact_products()):
        return 2e-2  # TF32, for one batch size and not for the other
    return 1e-3 if logits.dtype in (torch.float32, torch.float64) else 5e-2


def _mixing_layers(module: nn.Module) -> str:
    """Layers that make rows depend on each other, in words; empty if none is known to."""
    named = list(module.named_modules())
    norms = [
        name
        for name, layer in named
        if isinstance(layer, nn.modules.batchnorm._NormBase)
        and layer.running_mean is None
        and not isinstance(layer, nn.modules.instancenorm._InstanceNorm)
    ]
    if norms:
        return f" BatchNorm without running statistics: {', '.join(norms)}."
    dynamic = [name for name, layer in named if "quantized.dynamic" in type(layer).__module__]
    if dynamic:
        return f" Quantized with one scale for a whole batch: {', '.join(dynamic[:6])}."
    return ""


def _random(views: Views) -> TapError:
    """The error where the same input gives other logits each time; names the layers that draw."""
    names = [n for n, m in views.model.named_modules() if "dropout" in type(m).__name__.lower()]
    shown = ", ".join(names[:6]) + (", …" if len(names) > 6 else "")
    where = f" Its dropout layers: {shown}." if names else ""
    return TapError(
        "the model gives the same input other logits each time, even in evaluation mode: it draws "
        f"random numbers, as dropout does that model.eval() does not switch off.{where} Let it "
        "draw none where self.training is False."
    )


def _differ(logits: Tensor, others: Tensor, tolerance: float) -> bool:
    """Whether these are other logits, or only some of them are NaN."""
    if bool((logits.isnan() != others.isnan()).any()):
        return True
    finite = logits.isfinite() & others.isfinite()
    if not bool(finite.any()):
        return False
    scale = logits[finite].abs().max().clamp_min(1e-6)
    return bool(((logits - others)[finite].abs().max() / scale) > tolerance)
