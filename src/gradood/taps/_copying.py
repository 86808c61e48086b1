"""Copies of containers, functions and objects in which some references are replaced."""

import weakref
from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache, partial
from types import BuiltinFunctionType, CellType, FunctionType, MethodType, ModuleType
from typing import Any, cast

import torch
from torch import Tensor, nn

__all__ = [
    "COMPILED",
    "CONTAINERS",
    "Copier",
    "Kind",
    "MUTABLE",
    "OBJECT",
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
        *(Tensor, nn.Parameter, torch.Size, torch.dtype, torch.device, torch.Generator),
        *(torch.layout, torch.memory_format, BuiltinFunctionType, ModuleType),
    )
)
_OPAQUE_ROOTS = frozenset({"torch", "numpy", "weakref", "threading", "logging", "builtins"})
"""Packages whose objects hold no user's modules, or may not be copied."""
_LruCache = type(lru_cache(lambda: None))


def is_plain(value: object) -> bool:
    """Whether a value leads to no module and is not changed in place."""
    kind = type(value)
    if kind in _LEAVES:
        return True
    if kind is tuple or kind is frozenset:
        return all(map(is_plain, cast("tuple[object, ...]", value)))
    if kind is FunctionType:
        function = cast("FunctionType", value)
        return not (
            function.__closure__
            or function.__dict__
            or function.__defaults__
            or function.__kwdefaults__
        )
    return isinstance(value, type | Enum | Tensor)


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
        kind = kind_of(value) if key in self._affected else None
        return value if kind is None else kind.copy(value, self)

    def keep(self, value: Any, copy: Any) -> Any:
        """Remember a copy; the original is held, so that its id stays its own."""
        self._copies[id(value)] = copy
        self._kept.append(value)
        return copy


# -- kinds of objects -----------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Kind:
    """How objects of one kind are looked through and copied."""

    parts: Callable[[Any], Iterable[Any]]
    copy: Callable[[Any, Copier], Any]


def kind_of(value: Any) -> Kind | None:
    """How an object is looked through and copied; None of what is shared unseen."""
    kind = type(value)
    if kind in _CONTAINER_TYPES:
        return _CONTAINER_TYPES[kind] if len(value) <= _LARGEST else None
    if kind is FunctionType:
        return _FUNCTION if compiled_original(value) is None else COMPILED
    if kind in _OTHER_TYPES:
        return _OTHER_TYPES[kind]
    if isinstance(value, weakref.ProxyType | weakref.CallableProxyType):
        return _PROXY
    if isinstance(value, nn.Module):
        return OBJECT
    if kind.__module__.partition(".")[0] in _OPAQUE_ROOTS:
        return None
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


_LIST = Kind(lambda value: list(value), _copy_list)
_SET = Kind(lambda value: list(value), _copy_set)
_TUPLE = Kind(lambda value: value, _copy_tuple)
_DICT = Kind(_dict_parts, _copy_dict)
_FUNCTION = Kind(_function_parts, _copy_function)
COMPILED = Kind(
    lambda value: (compiled_original(value),),
    lambda value, copier: copier.of(compiled_original(value)),
)
OBJECT = Kind(_object_parts, _copy_object)
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
CONTAINERS = (_LIST, _SET, _TUPLE, _DICT)
MUTABLE = (_LIST, _SET, _DICT)
_OTHER_TYPES: dict[type, Kind] = {
    CellType: Kind(_cell_parts, _copy_cell),
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
