"""Samples of a result: chosen by place or mask, and shown as the first few rows of a table."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gradood._io import html
from gradood.errors import DataError

__all__ = ["PREVIEW", "Rows", "positions", "preview", "share"]

Rows = int | slice | Tensor | np.ndarray | Sequence[int] | Sequence[bool]
"""Samples: one, a slice, places, or one bool per sample."""

PREVIEW = 10
"""Samples that a table in a notebook shows at most."""


def positions(rows: Rows, size: int) -> Tensor:
    """(n,) int64 places of the samples chosen, from 0 to `size` − 1, in the order asked for.

    Args:
        rows: what was asked for; negative places count from the end.
        size: number of samples.

    Raises:
        DataError: a place is out of range, a mask has another length, or it is none of these.
    """
    if isinstance(rows, tuple):
        raise _unusable(rows, size)
    if isinstance(rows, slice):
        return torch.tensor(range(*rows.indices(size)), dtype=torch.int64, device="cpu")
    try:
        given = rows.detach().cpu() if isinstance(rows, Tensor) else torch.tensor(_plain(rows))
    except (TypeError, ValueError, RuntimeError) as error:
        raise _unusable(rows, size) from error
    given = given.reshape(1) if given.ndim == 0 and given.dtype != torch.bool else given
    if given.ndim == 1 and given.numel() == 0 and given.dtype != torch.bool:
        return torch.empty(0, dtype=torch.int64, device="cpu")
    # torch itself takes uint8 for a mask, and NumPy for places.
    whole = not (given.is_floating_point() or given.is_complex() or given.dtype == torch.uint8)
    if given.ndim != 1 or not whole or (given.dtype == torch.bool and len(given) != size):
        raise _unusable(rows, size)
    if given.dtype == torch.bool:
        return given.nonzero()[:, 0]
    places = given.to(torch.int64)
    outside = (places < -size) | (places >= size)
    if bool(outside.any()):
        raise DataError(
            f"sample {int(places[outside][0])} was asked for, of {size}; expected places from "
            f"{-size} to {size - 1}."
        )
    return torch.where(places < 0, places + size, places)


def preview(columns: dict[str, list[str]], size: int, text: str) -> str:
    """The first rows in HTML, under a line of text, and how many more there are.

    Args:
        columns: title → cells of the rows shown.
        size: number of samples.
        text: what goes before.
    """
    shown = len(next(iter(columns.values())))
    header = ["sample", *columns]
    cells = zip(map(str, range(shown)), *columns.values(), strict=True)
    more = html.paragraph(f"… and {size - shown:,} more") if size > shown else ""
    return html.paragraph(text) + html.table(header, cells) + more


def share(flagged: Tensor) -> str:
    """How many of some samples, in words.

    >>> share(torch.tensor([True, False, False, False]))
    '1 out-of-distribution (25.0 %)'
    """
    count, size = int(flagged.sum()), len(flagged)
    rate = f" ({100 * count / size:.1f} %)" if size else ""
    return f"{count:,} out-of-distribution{rate}"


def _plain(rows: Any) -> Any:
    return rows.tolist() if isinstance(rows, np.ndarray) else rows


def _unusable(rows: object, size: int) -> DataError:
    shape = getattr(rows, "shape", None)
    what = type(rows).__name__ + ("" if shape is None else f" of shape {tuple(shape)}")
    return DataError(
        f"samples were asked for by a {what}; expected a slice, a list of places from 0 to "
        f"{size - 1}, or a mask of {size} bools, as in result[result.is_ood]."
    )
