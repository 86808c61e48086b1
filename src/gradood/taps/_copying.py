"""Copies of containers, functions and objects in which some references are replaced."""

import weakref
from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache, partial
from operator import is_
from types import CellType, FunctionType, MethodType
from typing import Any

import numpy as np
from torch import Tensor, nn

from gradood.taps._values import (
    VALUES,
    cell_parts,
    compiled_original,
    container_base,
    copy_of_subclass,
    copy_of_tensor,
    held_values,
    named_state,
    put_cell,
    put_entries,
    put_items,
    put_named,
    put_subclass,
    same,
    slot_names,
    state_of,
    subclass_parts,
)

__all__ = [
    "COMPILED",
    "CONTAINERS",
    "Copier",
    "Kind",
    "MUTABLE",
    "OBJECT",
    "TENSOR",
    "alike",
    "kind_of",
]

_LARGEST = 10_000
"""Entries of the largest container that is looked through."""
_OPAQUE_ROOTS = frozenset({"torch", "numpy", "weakref", "threading", "logging", "builtins"})
"""Packages whose objects hold no user's modules, or may not be copied."""
_LruCache = type(lru_cache(lambda: None))


class Copier:
    """Copies of objects, each made once.

    Args:
        copies: id of an object → its copy, for those that are given; added to.
        affected: ids of the objects to copy; all others are shared.
    """

    def __init__(self, copies: dict[int, Any], affected: set[int]) -> None:
        self._copies = copies
        self._affected = affected
        self._kept: list[Any] = []

    def of(self, value: Any) -> Any:
        key = id(value)
        if key in self._copies:
            return self._copies[key]
        kind = kind_of(value, any_size=True) if key in self._affected else None
        return value if kind is None else kind.copy(value, self)

    def keep(self, value: Any, copy: Any) -> Any:
        """Remember a copy; the original is held, so that its id stays its own."""
        self._copies[id(value)] = copy
        self._kept.append(value)
        return copy


# -- kinds of objects -----------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Kind:
    """How objects of one kind are looked through and copied.

    Attributes:
        parts: what an object leads to.
        copy: makes a copy of it.
        state: what a forward may change in it, to be compared by `alike`; None if nothing.
        put: sets that back.
    """

    parts: Callable[[Any], Iterable[Any]]
    copy: Callable[[Any, Copier], Any]
    state: Callable[[Any], Any] | None = None
    put: Callable[[Any, Any], None] = lambda _, __: None


def alike(a: Any, b: Any) -> bool:
    """Whether two states of one object hold the same: the same objects, or equal values."""
    if isinstance(a, list):
        return len(a) == len(b) and all(map(is_, a, b))
    return same(a, b)


def kind_of(value: Any, *, any_size: bool = False) -> Kind | None:
    """How an object is looked through and copied; None of what is shared unseen.

    Args:
        value: any object.
        any_size: whether large containers and arrays are looked through too.
    """
    kind = type(value)
    if kind in _CONTAINER_TYPES:
        return _CONTAINER_TYPES[kind] if any_size or len(value) <= _LARGEST else None
    if kind in VALUES:
        large = kind is np.ndarray and value.nbytes > 100 * _LARGEST
        return _VALUE if any_size or not large else None
    if kind is FunctionType:
        return _FUNCTION if compiled_original(value) is None else COMPILED
    if kind in _OTHER_TYPES:
        return _OTHER_TYPES[kind]
    if isinstance(value, weakref.ProxyType | weakref.CallableProxyType):
        return _PROXY
    if isinstance(value, nn.Module):
        return OBJECT
    if isinstance(value, Tensor):
        return TENSOR
    if kind.__module__.partition(".")[0] in _OPAQUE_ROOTS:
        return None
    base = container_base(kind)
    if base is not None:
        large = len(value) > _LARGEST and not any_size
        return None if large else _FROZEN_SUBCLASS if base in (tuple, frozenset) else _SUBCLASS
    return OBJECT if hasattr(value, "__dict__") or slot_names(kind) else None


def _copy_list(value: Any, copier: Copier) -> Any:
    copy = deque(maxlen=value.maxlen) if isinstance(value, deque) else []
    copier.keep(value, copy)
    copy.extend(map(copier.of, list(value)))
    return copy


def _copy_set(value: Any, copier: Copier) -> Any:
    return copier.keep(value, type(value)(map(copier.of, list(value))))


def _copy_tuple(value: Any, copier: Copier) -> Any:
    return copier.keep(value, tuple(map(copier.of, value)))


def _dict_parts(value: Any) -> Iterable[Any]:
    entries = list(value.items())
    return [part for entry in entries for part in entry]


def _copy_dict(value: Any, copier: Copier) -> Any:
    made: Any = defaultdict(value.default_factory) if type(value) is defaultdict else type(value)()
    copier.keep(value, made)
    made.update((copier.of(key), copier.of(entry)) for key, entry in list(value.items()))
    return made


def _function_parts(value: FunctionType) -> Iterable[Any]:
    named = (value.__defaults__, value.__kwdefaults__)
    return [*(value.__closure__ or ()), *(part for part in named if part), *held_values(value)]


def _copy_function(value: FunctionType, copier: Copier) -> FunctionType:
    closure = value.__closure__
    cells = None if closure is None else tuple(map(copier.of, closure))
    made = FunctionType(value.__code__, value.__globals__, value.__name__, None, cells)
    copier.keep(value, made)
    made.__defaults__ = copier.of(value.__defaults__)
    made.__kwdefaults__ = copier.of(value.__kwdefaults__)
    made.__qualname__, made.__doc__ = value.__qualname__, value.__doc__
    made.__module__ = value.__module__
    made.__dict__.update({key: copier.of(held) for key, held in value.__dict__.copy().items()})
    return made


def _copy_cell(value: CellType, copier: Copier) -> CellType:
    made = copier.keep(value, CellType())
    for contents in cell_parts(value):
        made.cell_contents = copier.of(contents)
    return made


def _copy_method(value: MethodType, copier: Copier) -> MethodType:
    return MethodType(copier.of(value.__func__), copier.of(value.__self__))


def _copy_partial(value: "partial[Any]", copier: Copier) -> "partial[Any]":
    words = {key: copier.of(word) for key, word in value.keywords.items()}
    made: partial[Any] = partial(copier.of(value.func), *map(copier.of, value.args), **words)
    copier.keep(value, made)
    made.__dict__.update({key: copier.of(held) for key, held in value.__dict__.copy().items()})
    return made


def _copy_cached(value: Any, copier: Copier) -> Any:
    return copier.keep(value, lru_cache(**value.cache_parameters())(copier.of(value.__wrapped__)))


def _proxied(value: Any) -> Any:
    return value.__reduce_ex__.__self__  # A proxy forwards every attribute to its object.


def _object_parts(value: Any) -> Iterable[Any]:
    missing = object()
    slots = [getattr(value, name, missing) for name in slot_names(type(value))]
    return [*held_values(value), *(part for part in slots if part is not missing)]


def _copy_object(value: Any, copier: Copier) -> Any:
    try:
        made = object.__new__(type(value))
    except TypeError:  # of a class made in C; should a forward run through it, that is noticed
        return value
    copier.keep(value, made)
    if hasattr(value, "__dict__"):
        made.__dict__.update({key: copier.of(held) for key, held in value.__dict__.copy().items()})
    for name in slot_names(type(value)):
        if hasattr(value, name):
            object.__setattr__(made, name, copier.of(getattr(value, name)))
    return made


def _entries(value: Any) -> list[Any]:
    return list(value)


def _copy_subclass(value: Any, copier: Copier) -> Any:
    base = container_base(type(value))
    return copy_of_subclass(value, base, lambda made: copier.keep(value, made), copier.of)


_LIST = Kind(_entries, _copy_list, _entries, put_entries)
_SET = Kind(_entries, _copy_set, _entries, put_entries)
_TUPLE = Kind(lambda value: value, _copy_tuple)
_DICT = Kind(_dict_parts, _copy_dict, lambda value: list(_dict_parts(value)), put_items)
_SUBCLASS = Kind(subclass_parts, _copy_subclass, subclass_parts, put_subclass)
_FROZEN_SUBCLASS = Kind(subclass_parts, _copy_subclass)
_VALUE = Kind(
    lambda _: (),
    lambda value, copier: copier.keep(value, VALUES[type(value)][0](value)),
    state_of,
    lambda value, state: VALUES[type(value)][2](value, state),
)
TENSOR = Kind(lambda _: (), lambda value, copier: copier.keep(value, copy_of_tensor(value)))
_FUNCTION = Kind(_function_parts, _copy_function)
COMPILED = Kind(
    lambda value: (compiled_original(value),),
    lambda value, copier: copier.of(compiled_original(value)),
)
OBJECT = Kind(_object_parts, _copy_object, named_state, put_named)
_PROXY = Kind(
    lambda value: (_proxied(value),),
    lambda value, copier: weakref.proxy(copier.of(_proxied(value))),
)
_CONTAINER_TYPES: dict[type, Kind] = {
    **dict.fromkeys((list, deque), _LIST),
    **dict.fromkeys((set, frozenset), _SET),
    tuple: _TUPLE,
    **dict.fromkeys((dict, OrderedDict, defaultdict), _DICT),
}
CONTAINERS = (_LIST, _SET, _TUPLE, _DICT, _SUBCLASS, _FROZEN_SUBCLASS)
MUTABLE = (_LIST, _SET, _DICT, _SUBCLASS, _VALUE)
_OTHER_TYPES: dict[type, Kind] = {
    CellType: Kind(cell_parts, _copy_cell, lambda value: list(cell_parts(value)), put_cell),
    MethodType: Kind(lambda value: (value.__self__, value.__func__), _copy_method),
    partial: Kind(
        lambda value: [value.func, *value.args, *value.keywords.values(), *held_values(value)],
        _copy_partial,
    ),
    _LruCache: Kind(lambda value: (value.__wrapped__,), _copy_cached),
    weakref.ref: Kind(
        lambda value: (value(),), lambda value, copier: weakref.ref(copier.of(value()))
    ),
}
