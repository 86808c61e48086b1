"""Scores and predicted classes as calibration takes them."""

import torch
from torch import Tensor

from gradood.errors import ConfigError, DataError

__all__ = ["PRECISIONS", "labels", "vector"]

PRECISIONS = {
    str(kind).removeprefix("torch."): kind
    for kind in (torch.float64, torch.float32, torch.float16, torch.bfloat16)
}
"""Floating-point types that scores may have, by name."""


def vector(scores: Tensor, what: str) -> tuple[Tensor, str]:
    """`scores` on the CPU, and the name of their precision (whole numbers: float64)."""
    given = scores.detach().cpu()
    if given.ndim != 1 or given.is_complex():
        raise DataError(
            f"{what} have shape {tuple(given.shape)} and {given.dtype}; expected one real number "
            "per sample, (n,). Pass one detector's scores, flattened."
        )
    name = str(given.dtype).removeprefix("torch.")
    return given, name if name in PRECISIONS else "float64"


def labels(predicted: Tensor | None, length: int) -> Tensor:
    """Predicted classes as (length,) int64 on the CPU."""
    if predicted is None:
        raise ConfigError(
            "predicted=None, but the calibration is per class; give the predicted class of each "
            "sample, or use per_class=False."
        )
    whole = not (predicted.is_floating_point() or predicted.is_complex())
    if predicted.shape != (length,) or not whole:
        raise DataError(
            f"predicted has shape {tuple(predicted.shape)} and {predicted.dtype}; expected one "
            f"class number for each of {length} scores."
        )
    return predicted.detach().to("cpu", torch.int64).contiguous()
