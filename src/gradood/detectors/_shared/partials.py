"""Partials of a fit: mergeable values, and dataclasses of them, merged field by field."""

import warnings
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass, replace
from typing import Any, Protocol, Self, TypeVar

from torch import Tensor

from gradood.errors import ConfigError

__all__ = ["Mergeable", "merged", "partial_tensors"]

P = TypeVar("P")


class Mergeable(Protocol):
    """What a fit accumulates: an explicit value, merged in any order with the same result."""

    def merge(self, other: Self, /) -> Self:
        """The value over both sets of samples."""
        ...

    def tensors(self) -> dict[str, Tensor]:
        """Its tensors by name, in an order that no sharding changes.

        What `merge` needs beyond them is in them, as tensors of whole numbers.
        """
        ...

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor], /) -> Self:
        """What `tensors` gave: it merges, and learns, as the value itself, to the last bit.

        Needed where a fit is saved, and no module is to be unpickled.

        Raises:
            DataError: they are of other names, types or shapes.
        """
        ...


def merged(a: P, b: P, method: str) -> P:
    """What two partials of one detector come to together.

    Args:
        a: a `Mergeable`, a dataclass whose fields are such, or None.
        b: of the same type.
        method: name of the detector, for messages.

    Raises:
        ConfigError: it is neither.
    """
    if a is None and b is None:
        return a
    merge = getattr(a, "merge", None)
    if merge is not None:
        return merge(b)
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        warnings.warn(
            f"{method} accumulates a mapping, which is deprecated; return something with a merge "
            "method, or a frozen dataclass of such.",
            DeprecationWarning,
            stacklevel=3,
        )
        return {name: merged(value, b[name], method) for name, value in a.items()}  # type: ignore[return-value]
    if is_dataclass(a) and not isinstance(a, type):
        parts = {
            part.name: merged(getattr(a, part.name), getattr(b, part.name), method)
            for part in fields(a)
        }
        return replace(a, **parts)
    raise ConfigError(
        f"{method} accumulates a {type(a).__name__}, which cannot be merged; expected something "
        "with merge and tensors methods, or a frozen dataclass of such."
    )


def partial_tensors(partial: object) -> dict[str, Tensor]:
    """Every tensor of a partial by name, in an order that no sharding changes."""
    return dict(_named(partial, ""))


def _named(partial: object, name: str) -> Iterator[tuple[str, Tensor]]:
    start = f"{name}." if name else ""
    tensors = getattr(partial, "tensors", None)
    if tensors is not None:
        for key, tensor in tensors().items():
            yield start + key, tensor
    elif partial is not None:
        for key, value in _parts(partial).items():
            yield from _named(value, start + key)


def _parts(partial: Any) -> Mapping[str, Any]:
    if isinstance(partial, Mapping):
        return partial
    return {part.name: getattr(partial, part.name) for part in fields(partial)}
