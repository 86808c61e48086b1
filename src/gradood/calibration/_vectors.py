"""Vectors of scores and of class numbers, checked, on the CPU."""

from collections.abc import Mapping

import torch
from torch import Tensor

from gradood.errors import ConfigError, DataError

__all__ = ["PRECISIONS", "class_numbers", "score_table", "score_vector"]

PRECISIONS = {
    str(kind).removeprefix("torch."): kind
    for kind in (torch.float64, torch.float32, torch.float16, torch.bfloat16)
}
"""Floating-point types that scores may have, by name."""


def score_vector(scores: Tensor, what: str) -> tuple[Tensor, str]:
    """`scores` on the CPU, and the name of their precision (whole numbers: float64)."""
    values = scores.detach().cpu()
    if values.ndim != 1 or values.is_complex():
        raise DataError(
            f"{what} have shape {tuple(values.shape)} and {values.dtype}; expected one real number "
            "per sample, (n,). Pass one detector's scores, flattened."
        )
    name = str(values.dtype).removeprefix("torch.")
    return values, name if name in PRECISIONS else "float64"


def class_numbers(predicted: Tensor | None, length: int) -> Tensor:
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


def score_table(scores: Mapping[str, Tensor]) -> Tensor:
    """Scores of several detectors, at least one, as (detectors, N) float64 on the CPU.

    Raises:
        DataError: they differ in length, or are no real numbers.
    """
    rows = {name: row.detach().cpu() for name, row in scores.items()}
    length = next(iter(rows.values())).shape
    for name, row in rows.items():
        if row.ndim != 1 or row.shape != length or row.is_complex():
            raise DataError(
                f"scores of {name!r} have shape {tuple(row.shape)} and {row.dtype}; expected one "
                f"real number per sample as the others, {tuple(length)}."
            )
    return torch.stack([row.double() for row in rows.values()])
