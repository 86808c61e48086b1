"""Outputs that are no logits, and the item of several that holds the logits."""

import re
from collections.abc import Mapping, Sequence
from math import log
from typing import Any

import torch
from torch import Tensor

from gradood.errors import TapError
from gradood.taps._head_candidates import HeadCandidate, find_head
from gradood.taps.graph import nodes_behind

__all__ = ["by_graph", "by_values", "chosen_among", "headless", "mistaken"]

_ENDS = {
    "Softmax": "probabilities (a softmax is its last operation)",
    "SafeSoftmax": "probabilities (a softmax is its last operation)",
    "LogSoftmax": "log-probabilities (a log-softmax is its last operation)",
    "Sigmoid": "values from 0 to 1 (a sigmoid is its last operation)",
    "Hardsigmoid": "values from 0 to 1 (a hard sigmoid is its last operation)",
    "LogSigmoid": "logarithms of values from 0 to 1 (a log-sigmoid is its last operation)",
}
_KEEPING = frozenset(
    (
        *("Add", "Sub", "Rsub", "Mul", "Div", "Neg", "Log", "Log2", "Log10", "Log1P"),
        *("Clamp", "ClampMin", "ClampMax", "Clone", "Alias", "View", "UnsafeView", "Reshape"),
        *("ReshapeAlias", "Squeeze", "Unsqueeze", "Slice", "ToCopy", "T", "Transpose", "Permute"),
    )
)
"""Operations through which a softmax is still one, where only one operand depends on the input."""
_NODE = re.compile(r"(\w+?)Backward\d*")
_ROUNDING = {torch.float16: 1e-3, torch.bfloat16: 5e-3}
"""Of sums of probabilities in these types; else 1e-4."""


def by_graph(logits: Tensor) -> str | None:
    """What an output is, by its last operation; None if that may give logits.

    Args:
        logits: (batch, classes), with its graph.
    """
    node: Any = logits.grad_fn
    while node is not None:
        match = _NODE.fullmatch(node.name())
        kind = match[1] if match else ""
        if kind in _ENDS:
            return _ENDS[kind]
        inner = [p for p, _ in node.next_functions if p is not None and p.next_functions]
        if kind not in _KEEPING or len(inner) != 1:
            return None
        node = inner[0]
    return None


def by_values(logits: Tensor, *, few: bool = False) -> str | None:
    """What an output is, by its values; None if they may be logits.

    Logits may all be negative, or positive, or hardly differ from row to row. Probabilities are
    told by the sums of their rows, which differ by much less than the rows do.

    Args:
        logits: (batch, classes) of different inputs.
        few: whether these are too few rows to be certain of, so that any doubt counts.
    """
    values = logits.detach().double().cpu()
    alike = bool((values == values[:1]).all())
    if values.shape[1] < 2 or not bool(values.isfinite().all()) or (alike and not few):
        return None
    tolerance = _ROUNDING.get(logits.dtype, 1e-4)
    spread = float(values.std(0, correction=0).max())
    allowed = tolerance if few else min(tolerance, 10 * tolerance * spread)

    # Of log-probabilities, what is rounded grows with their size, up to log C where it counts.
    widened = 1 + log(values.shape[1])

    def vanish(rest: Tensor, factor: float = 1.0) -> bool:
        return float(rest.abs().max()) <= factor * allowed

    sums = values.sum(1)
    scaled = logits.dtype not in _ROUNDING  # Rounding of 16 bits leaves a scale too free.
    if bool((values >= -tolerance).all()) and float(sums[0]) > 0:
        if vanish(sums - 1):
            return "probabilities (its rows are not negative and sum to 1)"
        if scaled and vanish(sums / sums[0] - 1):
            return f"scaled probabilities (its rows are not negative and sum to {sums[0]:.4g})"
    if vanish(values.logsumexp(1), widened):
        return "log-probabilities (their exponentials sum to 1)"
    for sign, what in ((1, "scaled"), (-1, "negated")):
        scale = _log_scale(sign * values[0]) if scaled else None
        if scale is not None and vanish((sign * scale * values).logsumexp(1)):
            return f"{what} log-probabilities (times {sign * scale:.4g}, they are such)"
    return None


def _log_scale(row: Tensor) -> float | None:
    """c > 0 for which exp(c · row) sums to 1; None where there is none."""
    if bool((row >= 0).any()):
        return None
    low, high = 0.0, float(torch.tensor(len(row)).log() / row.abs().min())
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if float((middle * row).logsumexp(0)) > 0 else (low, middle)
    return (low + high) / 2


def mistaken(what: str) -> str:
    """A caution where an output is no logits.

    Args:
        what: it is, from `by_graph` or `by_values`.
    """
    return (
        f"the model returns {what}, not logits: scores made of them mean little, by any method. "
        "Let the model return what it makes them of, or choose that with output=."
    )


def headless(what: str) -> str:
    """Why no head can be found where an output is no logits.

    Args:
        what: it is, from `by_graph` or `by_values`.
    """
    kind, _, why = what.partition(" (")
    return (
        f"the model's output looks like {kind}: let the model return its logits ({why}. Without "
        "them the last linear layer could not be verified."
    )


def chosen_among(
    returned: object, logits: Tensor, candidates: Sequence[HeadCandidate]
) -> str | None:
    """A caution where the first of several matrices was taken, and others could be the logits too.

    What is made into another item is none, nor are probabilities and unit vectors.

    Args:
        returned: what the model returned.
        logits: (batch, classes), the first matrix of it, which was taken for the logits.
        candidates: as for `find_head`.

    Raises:
        TapError: it cannot be the logits, or layers give several that could; names the items.
    """
    if not isinstance(returned, tuple | list) or hasattr(returned, "logits"):
        return None
    items = {place: item for place, item in enumerate(returned) if _is_matrix(item)}
    first = next((place for place, item in items.items() if item is logits), None)
    if first is None:
        return None
    items = {p: item for p, item in items.items() if p == first or not _same(item, logits)}
    if len(items) < 2:
        return None
    heads = {p: layer for p, item in items.items() if (layer := _head(item, candidates))}
    possible = _possible(items, heads)
    if not possible or possible == {first}:
        return None
    named = {
        p: f"item {p} (batch, {items[p].shape[1]}){f' of layer {heads[p]!r}' if p in heads else ''}"
        for p in sorted({first, *possible})
    }
    choose = f"Choose with output=, such as output={min(possible - {first})}."
    could = " and ".join(named[p] for p in sorted(possible))
    count = "an item" if len(possible) == 1 else f"{len(possible)} items"
    said = f"the model returns {count} that could be the logits: {could}"
    if first not in possible:
        raise TapError(f"{said}; its first matrix, {named[first]}, is not. {choose}")
    if first not in heads:
        others = " and ".join(named[p] for p in sorted(possible - {first}))
        return f"{named[first]} is taken for the logits; others could be: {others}. {choose}"
    raise TapError(f"{said}. {choose}")


def _possible(items: Mapping[int, Tensor], heads: Mapping[int, str]) -> set[int]:
    """Places of the items that can be logits.

    Args:
        items: matrices that a model returned.
        heads: the layer that gives an item, where one does.
    """
    several = any(item.shape[1] > 1 for item in items.values())
    meant = {p for p, item in items.items() if not _told(item)}
    meant -= {p for p in meant if several and items[p].shape[1] == 1}

    def is_made_into_another(place: int) -> bool:
        return any(
            _feeds(items[place], items[other])
            for other in meant - {place}
            if other in heads or place not in heads
        )

    return {place for place in meant if not is_made_into_another(place)}


def _is_matrix(item: object) -> bool:
    return isinstance(item, Tensor) and item.ndim == 2 and item.is_floating_point()


def _same(item: Tensor, logits: Tensor) -> bool:
    return item.shape == logits.shape and torch.equal(item, logits)


def _told(item: Tensor) -> bool:
    """Whether a matrix is plainly none of logits: probabilities and the like, or unit vectors."""
    lengths = item.detach().double().norm(dim=1)
    unit = item.shape[1] > 1 and bool((lengths - 1).abs().max() < 1e-3)
    return unit or by_graph(item) is not None or by_values(item, few=True) is not None


def _head(item: Tensor, candidates: Sequence[HeadCandidate]) -> str | None:
    try:
        return find_head(candidates, item.detach(), None).layer
    except TapError:
        return None


def _feeds(item: Tensor, result: Tensor) -> bool:
    """Whether a result was computed from an item."""
    return any(node is item.grad_fn for node in nodes_behind(result))
