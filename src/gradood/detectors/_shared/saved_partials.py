"""Partials of a fit as named tensors, and back, without a pickle: the detector knows the type."""

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from torch import Tensor

from gradood.detectors._shared.partials import partial_tensors
from gradood.detectors.base import Learner
from gradood.errors import ConfigError, DataError

__all__ = ["loaded_partial", "saved_partial"]


def saved_partial(learner: Learner[Any], partial: Any) -> dict[str, Tensor]:
    """A partial as named tensors, of which `loaded_partial` makes it again.

    Args:
        learner: that accumulated it.
        partial: what it accumulated.

    Raises:
        ConfigError: its type cannot be made of tensors; says what it lacks.
    """
    _require_kind(_partial_type(type(learner)), learner.name)
    return partial_tensors(partial)


def loaded_partial(learner: Learner[Any], tensors: Mapping[str, Tensor]) -> Any:
    """The partial that `saved_partial` was given: merges and learns as that, to the last bit.

    Args:
        learner: of the same class.
        tensors: by name.

    Raises:
        DataError: the tensors are not those of such a partial.
        ConfigError: its type cannot be made of tensors.
    """
    kind = _partial_type(type(learner))
    _require_kind(kind, learner.name)
    return _made(kind, tensors, learner.name)


def _partial_type(kind: type) -> Any:
    """What a class of learners says that it accumulates, in ``Learner[…]``."""
    for base in kind.__mro__:
        for generic in vars(base).get("__orig_bases__", ()):
            if get_origin(generic) is Learner:
                return get_args(generic)[0]
    return Any


def _made(kind: Any, tensors: Mapping[str, Tensor], method: str) -> Any:
    """What `partial_tensors` was given.

    Args:
        kind: type of the partial: a `Mergeable`, a dataclass whose fields are such, None, or a
            union of such.
        tensors: by name.
        method: name of the detector, for messages.

    Raises:
        DataError: they are not those of such a partial.
        ConfigError: nothing of that type can be made of tensors.
    """
    if kind is NoneType:
        if tensors:
            raise DataError(f"{method} keeps nothing there, but is given {sorted(tensors)[:5]}.")
        return None
    if get_origin(kind) in (Union, UnionType):
        return _one_of(get_args(kind), tensors, method)
    make = getattr(kind, "from_tensors", None)
    if make is not None:
        return make(tensors)
    hints = _field_types(kind, method)
    groups: dict[str, dict[str, Tensor]] = {name: {} for name in hints}
    for name, tensor in tensors.items():
        field, _, rest = name.partition(".")
        if field not in groups or not rest:
            raise DataError(f"{method} accumulates nothing called {name[:80]!r}.")
        groups[field][rest] = tensor
    return kind(**{n: _made(h, groups[n], method) for n, h in hints.items()})


def _require_kind(kind: Any, method: str) -> None:
    """Whether a partial of a type can be made of tensors again.

    Raises:
        ConfigError: it cannot; says what the detector lacks.
    """
    if kind is NoneType or getattr(kind, "from_tensors", None) is not None:
        return
    union = get_origin(kind) in (Union, UnionType)
    for inner in get_args(kind) if union else _field_types(kind, method).values():
        _require_kind(inner, method)


def _one_of(kinds: tuple[Any, ...], tensors: Mapping[str, Tensor], method: str) -> Any:
    """The first of several types that the tensors are of; none of them are of None alone."""
    if not tensors and NoneType in kinds:
        return None
    reasons: list[str] = []
    for kind in kinds:
        if kind is not NoneType:
            try:
                return _made(kind, tensors, method)
            except DataError as error:
                reasons.append(str(error))
    raise DataError(" ".join(reasons) or f"{method} keeps nothing there.")


def _field_types(kind: Any, method: str) -> dict[str, Any]:
    if not (isinstance(kind, type) and is_dataclass(kind)):
        shown = getattr(kind, "__name__", kind)
        raise ConfigError(
            f"{method} accumulates {shown}, which cannot be saved: it needs a class method "
            "from_tensors; and the detector derives from Learner[…] with that type in brackets."
        )
    try:
        hints = get_type_hints(kind)
    except NameError as error:
        raise ConfigError(
            f"{method} accumulates {kind.__name__}, which cannot be saved, as the type of a field "
            f"cannot be found ({error}); import it where the class is defined."
        ) from error
    return {part.name: hints[part.name] for part in fields(kind)}
