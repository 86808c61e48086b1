"""States of values that a forward may change in place: how they are copied, kept and set back."""

import itertools
import random
from array import array
from ast import literal_eval
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable
from copy import deepcopy
from enum import Enum
from types import BuiltinFunctionType, CellType, FunctionType, ModuleType
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

__all__ = [
    "VALUES",
    "cell_parts",
    "compiled_original",
    "container_base",
    "copy_of_subclass",
    "copy_of_tensor",
    "held_values",
    "is_plain",
    "named_state",
    "put_cell",
    "put_entries",
    "put_items",
    "put_named",
    "put_subclass",
    "same",
    "slot_names",
    "state_of",
    "subclass_parts",
]

_LEAVES: frozenset[type] = frozenset(
    (
        *(bool, bytes, complex, float, int, str, type(None), type(Ellipsis), range, slice, type),
        *(torch.Size, torch.dtype, torch.device),
        *(torch.layout, torch.memory_format, BuiltinFunctionType, ModuleType),
    )
)
_BASES: tuple[type, ...] = (OrderedDict, dict, list, deque, set, frozenset, tuple)


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


def container_base(kind: type) -> type | None:
    """The built-in container that a class inherits from, or None."""
    return next((base for base in _BASES if issubclass(kind, base)), None)


def copy_of_subclass(
    value: Any, base: Any, keep: Callable[[Any], Any], of: Callable[..., Any]
) -> Any:
    """A copy of a container of a user's class, made without running the class's own methods.

    Args:
        value: the container.
        base: the built-in container that its class inherits from.
        keep: remembers the copy, before its entries are copied.
        of: the copy of an entry.
    """
    kind: Any = type(value)
    if base in (tuple, frozenset):
        made = keep(base.__new__(kind, map(of, value)))
    else:
        made = keep(base.__new__(kind))
        if base is deque:
            deque.__init__(made, (), value.maxlen)
        if base is OrderedDict:
            OrderedDict.__init__(made)
        if issubclass(base, dict):
            for key, entry in list(base.items(value)):
                base.__setitem__(made, of(key), of(entry))
        else:
            entries = map(of, list(base.__iter__(value)))
            (base.update if base is set else base.extend)(made, entries)
        if hasattr(value, "default_factory"):
            made.default_factory = value.default_factory
    held = getattr(value, "__dict__", None)
    if held:
        made.__dict__.update({key: of(entry) for key, entry in held.copy().items()})
    return made


def copy_of_tensor(value: Tensor) -> Tensor:
    """A tensor of its own storage, a leaf; what was made in inference mode cannot be written."""
    if value.is_inference():
        return value
    copy = value.detach().clone()
    copy = (
        torch.nn.Parameter(copy, value.requires_grad) if type(value) is torch.nn.Parameter else copy
    )
    vars(copy).update(vars(value))
    return copy


def slot_names(kind: type) -> tuple[str, ...]:
    """Attributes of a class's instances that are not in their `__dict__`."""
    names: list[str] = []
    for parent in kind.__mro__:
        own = vars(parent).get("__slots__", ())
        names.extend([own] if isinstance(own, str) else own)
    return tuple(name for name in names if name not in ("__dict__", "__weakref__"))


def cell_parts(value: CellType) -> Iterable[Any]:
    """What a cell holds; nothing before it is assigned."""
    try:
        return (value.cell_contents,)
    except ValueError:  # not yet assigned
        return ()


def put_entries(value: Any, state: list[Any]) -> None:
    """Set back the entries of a list, deque or set."""
    value.clear()
    (value.update if isinstance(value, set) else value.extend)(state)


def put_items(value: Any, state: list[Any]) -> None:
    """Set back the entries of a dict."""
    value.clear()
    value.update(zip(state[::2], state[1::2], strict=True))


def put_cell(value: CellType, state: list[Any]) -> None:
    """Set back what a cell holds."""
    if state:
        value.cell_contents = state[0]
    else:
        del value.cell_contents


def named_state(value: Any) -> list[Any]:
    """Names and values of an object's attributes, in turn."""
    held = {name: getattr(value, name) for name in slot_names(type(value)) if hasattr(value, name)}
    return [
        part
        for named in (*held.items(), *getattr(value, "__dict__", {}).copy().items())
        for part in named
    ]


def put_named(value: Any, state: list[Any]) -> None:
    """Set back an object's attributes."""
    before = dict(zip(state[::2], state[1::2], strict=True))
    for name in named_state(value)[::2]:
        if name not in before:
            object.__delattr__(value, name)
    for name, part in before.items():
        if getattr(value, name, before) is not part:
            object.__setattr__(value, name, part)


def subclass_parts(value: Any) -> list[Any]:
    """Entries and attributes of a container of a user's class."""
    base: Any = container_base(type(value))
    entries = _dict_parts_of(base, value) if issubclass(base, dict) else base.__iter__(value)
    return [*entries, *held_values(value)]


def _dict_parts_of(base: Any, value: Any) -> list[Any]:
    return [part for entry in list(base.items(value)) for part in entry]


def put_subclass(value: Any, state: list[Any]) -> None:
    """Set back the entries of a container of a user's class."""
    base: Any = container_base(type(value))
    entries = state[: len(state) - len(held_values(value))]
    base.clear(value)
    if issubclass(base, dict):
        for key, entry in zip(entries[::2], entries[1::2], strict=True):
            base.__setitem__(value, key, entry)
    else:
        (base.update if base is set else base.extend)(value, entries)


def held_values(value: Any) -> list[Any]:
    """Values of an object's attributes, without those in slots."""
    return list(getattr(value, "__dict__", {}).copy().values())


def _copy_generator(value: torch.Generator) -> torch.Generator:
    made = torch.Generator(value.device)
    made.set_state(value.get_state())
    return made


def _copy_random(value: random.Random) -> random.Random:
    made = random.Random()
    made.setstate(value.getstate())
    return made


def _copy_count(value: Any) -> Any:
    try:
        start, step = literal_eval(f"({repr(value)[6:-1]}, 1)")[:2]
    except (ValueError, SyntaxError):  # counts what has no literal
        return value
    return itertools.count(start, step)


def _numpy_state(value: Any) -> Any:
    generator = getattr(value, "bit_generator", None)
    return deepcopy(value.get_state(legacy=False) if generator is None else generator.state)


def _set_numpy(value: Any, state: Any) -> None:
    if hasattr(value, "set_state"):
        value.set_state(state)
    else:
        value.bit_generator.state = state


def _set_bytes(value: Any, state: Any) -> None:
    value[:] = state


def _set_array(value: "np.ndarray[Any, Any]", state: "np.ndarray[Any, Any]") -> None:
    if value.shape == state.shape and value.dtype == state.dtype:
        value[...] = state


VALUES: dict[
    type, tuple[Callable[[Any], Any], Callable[[Any], Any], Callable[[Any, Any], None]]
] = {
    torch.Generator: (
        _copy_generator,
        lambda v: v.get_state(),
        lambda v, state: v.set_state(state),
    ),
    np.random.Generator: (deepcopy, _numpy_state, _set_numpy),
    np.random.RandomState: (deepcopy, _numpy_state, _set_numpy),
    random.Random: (_copy_random, lambda v: v.getstate(), lambda v, state: v.setstate(state)),
    np.ndarray: (lambda v: v.copy(), lambda v: v.copy(), _set_array),
    array: (lambda v: v[:], lambda v: v[:], _set_bytes),
    bytearray: (bytearray, bytes, _set_bytes),
    itertools.count: (_copy_count, repr, lambda _, __: None),
}
"""Type → how a value is copied, what its state is, and how that is set back."""


def state_of(value: Any) -> Any:
    """The state of a value of `VALUES`, to be compared by `same`."""
    return VALUES[type(value)][1](value)


def same(a: Any, b: Any) -> bool:
    """Whether two states of `VALUES`, or of NumPy's global generator, are equal, to the bit."""
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, Tensor):
        return torch.equal(a, b)
    if isinstance(a, np.ndarray):
        alike = isinstance(b, np.ndarray) and a.shape == b.shape and a.dtype == b.dtype
        return alike and a.tobytes() == b.tobytes()
    return bool(a == b)
