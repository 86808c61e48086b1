"""What a forward changes in place in a model, found when it is observed, and kept from it."""

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from gradood.taps._copying import TENSOR, Kind, alike, kind_of
from gradood.taps._references import Search
from gradood.taps._shell import attributes_of
from gradood.taps.view import View, Views

__all__ = ["Changes", "Name", "changes_of"]

Name = tuple[str, str]
"""Names of a module, and of a parameter, buffer or attribute of it."""


class Changes:
    """What a forward of a view changed in the model, or would have.

    Attributes:
        parameters: those that it wrote, or gave other data or another flag.
        attributes: those behind which it changed something.
        prevented: those of both whose tensors it would have written; the writes went to copies,
            which the rest of the forward did not see.
    """

    def __init__(self, aliases: Sequence[tuple[Name, Tensor, Tensor]]) -> None:
        self._aliases = aliases
        self.parameters: set[Name] = set()
        self.attributes: set[Name] = set()
        self.prevented: set[Name] = set()

    def note(self) -> None:
        """Note which parameters are others by now; after each forward, as the next may undo it."""
        self.parameters |= {name for name, *pair in self._aliases if _is_other(*pair)}


@contextmanager
def changes_of(views: Views, view: View, *, put_back: bool) -> Iterator[Changes]:
    """Watch one or more forwards of a view; complete after the block.

    Tensors of the model that an operation is about to write are not written, whatever leads to
    them. Parameters are compared to the view's aliases of them. Of other values, the state is kept
    and compared.

    Args:
        views: of the model.
        view: to run.
        put_back: whether to set values that are no tensors back to what they were, which undoes
            what other threads changed in them meanwhile.

    Cost:
        Some microseconds for each operation, and a copy of the arrays that attributes lead to.
    """
    states = [] if view.direct else _states(views, view)
    storages: dict[int, set[Name]] = {}
    for name, kind, value, _ in states:
        if kind is TENSOR and name not in views.stateful:
            storages.setdefault(_storage(value), set()).add(name)
    for name, module in view.module.named_modules():
        for attribute, parameter in module._parameters.items():
            if parameter is not None and (name, attribute) not in views.written:
                storages.setdefault(_storage(parameter), set()).add((name, attribute))
    storages.pop(0, None)
    changes = Changes(view.aliases)
    with _Writes(storages) as writes:
        yield changes
    changes.prevented = writes.names
    roots = {name for name, _, _, _ in states}
    changes.note()
    changes.parameters |= writes.names - roots
    changes.attributes = writes.names & roots
    for name, kind, value, state in states:
        if kind.state is not None and not alike(state, kind.state(value)):
            changes.attributes.add(name)
            if put_back:
                kind.put(value, state)


def _states(views: Views, view: View) -> list[tuple[Name, Kind, Any, Any]]:
    """Values that attributes lead to, and their states."""
    search = Search(view.originals, views.harmless)
    found: list[tuple[Name, Kind, Any, Any]] = []
    for name, module in views.model.named_modules():
        for attribute, held in attributes_of(module):
            known = len(search.reached)
            search.explore([held], deep=True)
            for value in list(search.reached.values())[known:]:
                kind = kind_of(value, any_size=True)
                if kind is not None and (kind.state is not None or kind is TENSOR):
                    state = None if kind.state is None else kind.state(value)
                    found.append(((name, attribute), kind, value, state))
    return found


def _is_other(parameter: Tensor, alias: Tensor) -> bool:
    """Whether a forward gave an alias other data, another flag or another attribute."""
    before, after = parameter.__dict__, alias.__dict__
    return (
        _storage(alias) != _storage(parameter)
        or alias.requires_grad != parameter.requires_grad
        or before.keys() != after.keys()
        or any(before[key] is not after[key] for key in before)
    )


def _storage(tensor: Tensor) -> int:
    """Where the data of a tensor is; 0 where that is nowhere."""
    try:
        return tensor.untyped_storage().data_ptr()
    except (RuntimeError, NotImplementedError):  # sparse, or of a class of its own
        return 0


class _Writes(TorchDispatchMode):
    """Lets operations write copies of some tensors in their place.

    Args:
        storages: of these tensors, and their names.

    Attributes:
        names: of those that an operation was about to write.
    """

    def __init__(self, storages: Mapping[int, set[Name]]) -> None:
        super().__init__()
        self.names: set[Name] = set()
        self._storages = storages

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Whether torch keeps its compiler away: it would load it for that, which takes seconds."""
        return False

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        compiler = sys.modules.get("torch._dynamo")
        disable = None if compiler is None else getattr(compiler, "disable", None)
        if disable is not None:
            return _uncompiled(disable)(self, func, args, kwargs or {})
        if _writes(func):
            return self._run(func, args, kwargs or {})
        return func(*args, **kwargs) if kwargs else func(*args)

    def _run(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if not _writes(func):
            return func(*args, **kwargs)
        schema = func._schema
        copies: dict[int, Any] = {}
        places: list[Any] = list(args)
        for i, argument in enumerate(schema.arguments):
            if argument.alias_info is None or not argument.alias_info.is_write:
                continue
            if argument.name in kwargs:
                kwargs = {**kwargs, argument.name: self._apart(kwargs[argument.name], copies)}
            elif i < len(places):
                places[i] = self._apart(places[i], copies)
        result = func(*places, **kwargs)
        return copies.get(id(result), result)

    def _apart(self, value: Any, copies: dict[int, Any]) -> Any:
        """A copy of a tensor, or of those in a list, that must not be written."""
        if isinstance(value, list | tuple):
            return [self._apart(each, copies) for each in value]
        names = self._storages.get(_storage(value)) if isinstance(value, Tensor) else None
        if not names:
            return value
        self.names |= names
        copy = value.clone()
        copies[id(copy)] = value
        return copy


@cache
def _writes(func: Any) -> bool:
    """Whether an operator writes the data of a tensor that it is given."""
    return func._schema.is_mutable and torch.Tag.inplace_view not in func.tags


@cache
def _uncompiled(disable: Callable[..., Any]) -> Callable[..., Any]:
    """What a mode does, as the compiler leaves it alone; for the case that this is loaded."""
    return disable(_Writes._run)
