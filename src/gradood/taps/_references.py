"""References to the modules of a tree, found in what its modules hold and redirected to copies.

A module may reach another past its registered children: by a bound method, a closure, a hook, a
list, a helper object. A copy of the tree must hold such references to its own modules.
"""

import weakref
from collections.abc import Iterable, Mapping, MutableMapping
from typing import Any

from torch import nn

from gradood.taps._copying import (
    COMPILED,
    CONTAINERS,
    MUTABLE,
    OBJECT,
    TENSOR,
    Copier,
    Kind,
    is_plain,
    kind_of,
)

__all__ = ["Place", "Search", "redirect"]

Place = tuple[MutableMapping[Any, Any], Any]
"""A mapping, and a key in it."""
_MOSTOBJECTS = 5000
"""Objects looked at for one view; what lies beyond is shared with the model."""
_DEEPEST = 12
"""References followed one after the other."""


def redirect(
    places: Iterable[Place],
    copies: Mapping[int, Any],
    harmless: "weakref.WeakValueDictionary[int, Any]",
    deep: Iterable[Place] = (),
) -> None:
    """Replace references to modules, in what some mappings hold, by references to their copies.

    Lists, dicts, sets and deques that modules hold are copied, so that what a forward adds to them
    stays in the copy; functions and objects are copied only where they lead to a module or to such
    a container. Whatever is copied is copied once.

    Args:
        places: (mapping, key) pairs, whose values are replaced in place.
        copies: id of a module, or of a tensor that is not shared → its copy.
        harmless: id → object known to lead to no module; added to.
        deep: places behind which everything that a forward may change is copied, tensors too.
    """
    copied = [(mapping, key, mapping[key]) for mapping, key in deep]
    values = [*copied, *((mapping, key, mapping[key]) for mapping, key in places)]
    search = Search(copies, harmless)
    if copied:
        search.explore([value for _, _, value in copied], deep=True)
    search.explore([value for _, _, value in values])
    copier = Copier(dict(copies), search.affected())
    for mapping, key, value in values:
        mapping[key] = copier.of(value)
    for value in search.unaffected():
        try:
            harmless[id(value)] = value
        except TypeError:  # Without weak references it could outlive its use here.
            continue


class Search:
    """The objects reachable from some values, and which of them lead to a module.

    Attributes:
        reached: id → object.
    """

    def __init__(
        self, modules: Mapping[int, Any], harmless: "weakref.WeakValueDictionary[int, Any]"
    ) -> None:
        self._modules = modules
        self._harmless = harmless
        self.reached: dict[int, Any] = {}
        self._holders: dict[int, list[int]] = {}
        self._targets: set[int] = set()
        self._affected: set[int] = set()

    def explore(self, values: Iterable[Any], *, deep: bool = False) -> None:
        """Follow references from some values.

        Args:
            values: to start from.
            deep: whether all that a forward may change is to be copied.
        """
        stack = [(value, True, 0) for value in values]
        while stack and len(self.reached) < _MOSTOBJECTS:
            value, held, depth = stack.pop()
            key = id(value)
            if key in self._modules:
                self._targets.add(key)
                continue
            if key in self.reached or self._skip(value, deep):
                continue
            kind = kind_of(value, any_size=deep)
            if kind is None:
                continue
            self.reached[key] = value
            if kind is COMPILED or (held and kind in MUTABLE) or (deep and _changes(kind, value)):
                self._targets.add(key)
            if depth == _DEEPEST:
                continue
            for part in kind.parts(value):
                self._holders.setdefault(id(part), []).append(key)
                stack.append((part, held and kind in CONTAINERS, depth + 1))

    def affected(self) -> set[int]:
        """Ids of the objects that must be copied."""
        stack = list(self._targets)
        found: set[int] = set()
        while stack:
            key = stack.pop()
            if key not in found:
                found.add(key)
                stack.extend(self._holders.get(key, ()))
        self._affected = found
        return found

    def unaffected(self) -> Iterable[Any]:
        """Objects, other than containers, that lead to no module."""
        return [
            value
            for key, value in self.reached.items()
            if key not in self._affected and kind_of(value) is OBJECT
        ]

    def _skip(self, value: Any, deep: bool) -> bool:
        if deep:
            return isinstance(value, nn.Parameter) or is_plain(value, tensors=False)
        return is_plain(value) or self._harmless.get(id(value)) is value


def _changes(kind: Kind, value: Any) -> bool:
    """Whether a forward may change a value in place."""
    return kind is TENSOR or (kind.state is not None and (kind is not OBJECT or kind.state(value)))
