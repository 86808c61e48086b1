"""Copies of containers, functions and objects in which some references are replaced."""

import weakref
from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache, partial
from operator import is_
from types import BuiltinFunctionType, CellType, FunctionType, MethodType, ModuleType
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from gradood.taps._values import (
    VALUES,
    container_base,
    copy_of_subclass,
    copy_of_tensor,
    same,
    state_of,
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
    "compiled_original",
    "is_plain",
    "kind_of",
    "slot_names",
]

_LARGEST = 10_000
"""Entries of the largest container that is looked through."""
_LEAVES: frozenset[type] = frozenset(
    (
        *(bool, bytes, complex, float, int, str, type(None), type(Ellipsis), range, slice, type),
        *(torch.Size, torch.dtype, torch.device),
        *(torch.layout, torch.memory_format, BuiltinFunctionType, ModuleType),
    )
)
_OPAQUE_ROOTS = frozenset({"torch", "numpy", "weakref", "threading", "logging", "builtins"})
"""Packages whose objects hold no user's modules, or may not be copied."""
_LruCache = type(lru_cache(lambda: None))


def is_plain(value: object, *, tensors: bool = True) -> bool:
    """Whether a value leads to no module and is not changed in place.

    Args:
        value: any object.
        tensors: whether a tensor, or a tuple of them, is plain.
    """
    kind = type(value)
    if kind in _LEAVES:
        return True
    if kind is tuple or kind is frozenset:
        return all(is_plain(v, tensors=tensors) for v in cast("tuple[object, ...]", value))
    if kind is FunctionType:
        function = cast("FunctionType", value)
        return not (
            function.__closure__
            or function.__dict__
            or function.__defaults__
            or function.__kwdefaults__
        )
    return isinstance(value, type | Enum) or (tensors and isinstance(value, Tensor))


def compiled_original(value: object) -> Any:
    """What `torch.compile` was given to make a function, or None."""
    held = getattr(value, "__dict__", None)
    return held.get("_torchdynamo_orig_callable") if isinstance(held, dict) else None


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
    return [*(value.__closure__ or ()), *(part for part in named if part), *_held(value)]


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


def _cell_parts(value: CellType) -> Iterable[Any]:
    try:
        return (value.cell_contents,)
    except ValueError:  # not yet assigned
        return ()


def _copy_cell(value: CellType, copier: Copier) -> CellType:
    made = copier.keep(value, CellType())
    for contents in _cell_parts(value):
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


def _held(value: Any) -> list[Any]:
    return list(getattr(value, "__dict__", {}).copy().values())


def slot_names(kind: type) -> tuple[str, ...]:
    """Attributes of a class's instances that are not in their `__dict__`."""
    names: list[str] = []
    for parent in kind.__mro__:
        own = vars(parent).get("__slots__", ())
        names.extend([own] if isinstance(own, str) else own)
    return tuple(name for name in names if name not in ("__dict__", "__weakref__"))


def _object_parts(value: Any) -> Iterable[Any]:
    missing = object()
    slots = [getattr(value, name, missing) for name in slot_names(type(value))]
    return [*_held(value), *(part for part in slots if part is not missing)]


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


def _put_entries(value: Any, state: list[Any]) -> None:
    value.clear()
    (value.update if isinstance(value, set) else value.extend)(state)


def _put_items(value: Any, state: list[Any]) -> None:
    value.clear()
    value.update(zip(state[::2], state[1::2], strict=True))


def _put_cell(value: CellType, state: list[Any]) -> None:
    if state:
        value.cell_contents = state[0]
    else:
        del value.cell_contents


def _named_state(value: Any) -> list[Any]:
    held = {name: getattr(value, name) for name in slot_names(type(value)) if hasattr(value, name)}
    return [
        part
        for named in (*held.items(), *getattr(value, "__dict__", {}).copy().items())
        for part in named
    ]


def _put_named(value: Any, state: list[Any]) -> None:
    before = dict(zip(state[::2], state[1::2], strict=True))
    for name in _named_state(value)[::2]:
        if name not in before:
            object.__delattr__(value, name)
    for name, part in before.items():
        if getattr(value, name, before) is not part:
            object.__setattr__(value, name, part)


def _subclass_parts(value: Any) -> list[Any]:
    base: Any = container_base(type(value))
    entries = _dict_parts_of(base, value) if issubclass(base, dict) else base.__iter__(value)
    return [*entries, *_held(value)]


def _dict_parts_of(base: Any, value: Any) -> list[Any]:
    return [part for entry in list(base.items(value)) for part in entry]


def _copy_subclass(value: Any, copier: Copier) -> Any:
    base = container_base(type(value))
    return copy_of_subclass(value, base, lambda made: copier.keep(value, made), copier.of)


def _put_subclass(value: Any, state: list[Any]) -> None:
    base: Any = container_base(type(value))
    entries = state[: len(state) - len(_held(value))]
    base.clear(value)
    if issubclass(base, dict):
        for key, entry in zip(entries[::2], entries[1::2], strict=True):
            base.__setitem__(value, key, entry)
    else:
        (base.update if base is set else base.extend)(value, entries)


_LIST = Kind(_entries, _copy_list, _entries, _put_entries)
_SET = Kind(_entries, _copy_set, _entries, _put_entries)
_TUPLE = Kind(lambda value: value, _copy_tuple)
_DICT = Kind(_dict_parts, _copy_dict, lambda value: list(_dict_parts(value)), _put_items)
_SUBCLASS = Kind(_subclass_parts, _copy_subclass, _subclass_parts, _put_subclass)
_FROZEN_SUBCLASS = Kind(_subclass_parts, _copy_subclass)
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
OBJECT = Kind(_object_parts, _copy_object, _named_state, _put_named)
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
    CellType: Kind(_cell_parts, _copy_cell, lambda value: list(_cell_parts(value)), _put_cell),
    MethodType: Kind(lambda value: (value.__self__, value.__func__), _copy_method),
    partial: Kind(
        lambda value: [value.func, *value.args, *value.keywords.values(), *_held(value)],
        _copy_partial,
    ),
    _LruCache: Kind(lambda value: (value.__wrapped__,), _copy_cached),
    weakref.ref: Kind(
        lambda value: (value(),), lambda value, copier: weakref.ref(copier.of(value()))
    ),
}
