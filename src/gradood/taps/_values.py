"""Values that a forward may change in place, and are no tensors: how each is copied and compared."""

import itertools
import pickle
import random
from array import array
from ast import literal_eval
from collections import OrderedDict, deque
from collections.abc import Callable
from copy import deepcopy
from typing import Any

import numpy as np
import torch
from torch import Tensor

__all__ = ["VALUES", "copy_of_subclass", "copy_of_tensor", "container_base", "same", "state_of"]

_BASES: tuple[type, ...] = (OrderedDict, dict, list, deque, set, frozenset, tuple)


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
    copy.__dict__.update(value.__dict__)
    return copy


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


def _numpy_state(value: Any) -> bytes:
    generator = getattr(value, "bit_generator", None)
    state = value.get_state(legacy=False) if generator is None else generator.state
    return pickle.dumps(state)


def _set_numpy(value: Any, state: bytes) -> None:
    known = pickle.loads(state)
    if hasattr(value, "set_state"):
        value.set_state(known)
    else:
        value.bit_generator.state = known


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
    """Whether two states of `VALUES` are equal, to the bit."""
    if isinstance(a, Tensor):
        return torch.equal(a, b)
    if isinstance(a, np.ndarray):
        alike = isinstance(b, np.ndarray) and a.shape == b.shape and a.dtype == b.dtype
        return alike and a.tobytes() == b.tobytes()
    return bool(a == b)
