"""The requests of one detector in order, each with a name by which its reading is found."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Self

from gradood.evidence.requests import (
    Basic,
    Gradient,
    JacobianNorm,
    ParameterNorm,
    Perturbed,
    Read,
)

__all__ = ["Reads", "ReadsLike", "default_name"]

ReadsLike = Iterable[Read] | Mapping[str, Read | Iterable[Read]]
"""Requests named by what they are (`default_name`), or name → a request or several."""

_SHARES = "shares"
_PLURALS = {
    "largest value": "largest values",
    "map": "maps",
    "mean": "means",
    "nonzero share": _SHARES,
    "positive share": _SHARES,
    "positive share selected by max pooling": _SHARES,
    "row sums of Gram matrices": "gram sums",
    "standard deviation": "standard deviations",
}


class Reads(tuple[Read, ...]):
    """Requests in order, each with a name; several may have the same one.

    Attributes:
        names: one per request.

    >>> from gradood.evidence import FEATURES, KEYS, LOGITS
    >>> Reads((LOGITS, FEATURES)).names
    ('logits', 'features')
    >>> Reads({"z": LOGITS, "layers": (FEATURES, KEYS)}).names
    ('z', 'layers', 'layers')
    """

    names: tuple[str, ...]

    def __new__(cls, reads: ReadsLike = ()) -> Self:
        """Named as given."""
        if isinstance(reads, cls):
            return reads
        if isinstance(reads, Mapping):
            groups = ((str(name), some) for name, some in reads.items())
            pairs = [(name, read) for name, some in groups for read in _several(some)]
        else:
            pairs = [(default_name(read), read) for read in reads]
        self = super().__new__(cls, [read for _, read in pairs])
        self.names = tuple(name for name, _ in pairs)
        return self

    def named(self, name: str) -> tuple[Read, ...]:
        """Those of that name, in order; none if it names none."""
        return tuple(read for read, own in zip(self, self.names, strict=True) if own == name)

    def each(self, change: Callable[[Read], Read]) -> "Reads":
        """Changed one by one, under the same names."""
        return Reads(map(change, self)).renamed(self.names)

    def renamed(self, names: Iterable[str | None]) -> "Reads":
        """The same under other names; None leaves one as it is."""
        changed = Reads(tuple(self))
        changed.names = tuple(
            own if new is None else new for own, new in zip(self.names, names, strict=True)
        )
        return changed

    def __add__(self, other: tuple[Any, ...]) -> "Reads":
        """These and others, each under its own name."""
        more = Reads(other)
        return Reads((*self, *more)).renamed(self.names + more.names)


def _several(reads: Read | Iterable[Read]) -> Iterable[Read]:
    return (reads,) if isinstance(reads, Read) else reads


def default_name(read: Read) -> str:
    """What a request is called by itself: by what is read, whichever the layer."""
    if isinstance(read, Basic):
        return read.name
    if isinstance(read, ParameterNorm):
        return "parameter norm"
    if isinstance(read, JacobianNorm):
        return "jacobian norms"
    if isinstance(read, Perturbed):
        return f"perturbed {default_name(read.what)}"
    name = _PLURALS.get(read.summary.name, read.summary.name)
    # A share of non-zero gradients is that of active ReLUs, read another way.
    if isinstance(read, Gradient) and name != _SHARES:
        return f"{read.objective.name} gradients"
    return name
