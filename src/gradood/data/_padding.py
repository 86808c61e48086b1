"""Rows of inputs as a batch: stacked, or padded to the longest."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from gradood.errors import DataError

__all__ = ["padded", "stacked"]


def stacked(rows: Sequence[Any]) -> Any:
    """Rows of one shape as a batch (batch, …); a mapping where they are mappings.

    Raises:
        DataError: they differ in shape.
    """
    return _by_leaf(rows, _stack)


def padded(rows: Sequence[Any], fills: Mapping[str, float], *, left: bool = False) -> Any:
    """Rows whose first dimension differs as a batch, filled up to the longest.

    Args:
        rows: tensors (length, …), or mappings of such.
        fills: name of a leaf → the value that stands for nothing; ``""`` of a plain tensor. Leaves
            that are not named are not padded.
        left: fill up before the row, not after it.

    Raises:
        DataError: they differ in another dimension.
    """

    def joined(name: str, leaves: Sequence[Tensor]) -> Tensor:
        if name not in fills or leaves[0].ndim == 0:
            return _stack(name, leaves)
        longest = max(len(leaf) for leaf in leaves)
        whole = [_filled(leaf, longest, fills[name], left) for leaf in leaves]
        return _stack(name, whole)

    return _by_leaf(rows, joined)


def _by_leaf(rows: Sequence[Any], joined: Any) -> Any:
    if not isinstance(rows[0], Mapping):
        return joined("", rows)
    return {name: joined(name, [row[name] for row in rows]) for name in rows[0]}


def _filled(leaf: Tensor, length: int, fill: float, left: bool) -> Tensor:
    if len(leaf) == length:
        return leaf
    whole = leaf.new_full((length, *leaf.shape[1:]), fill)
    place = slice(length - len(leaf), None) if left else slice(len(leaf))
    whole[place] = leaf
    return whole


def _stack(name: str, leaves: Sequence[Tensor]) -> Tensor:
    shapes = sorted({tuple(leaf.shape) for leaf in leaves})
    if len(shapes) > 1:
        of = f" of {name!r}" if name else ""
        raise DataError(
            f"rows{of} of one batch differ in size: {', '.join(map(str, shapes[:3]))}; expected "
            "one size, or a model with an argument for the attention mask. Name what to pad with "
            "(padding), or read one row at a time (batch_size=1)."
        )
    return torch.stack(list(leaves))
