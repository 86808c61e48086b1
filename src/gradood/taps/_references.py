"""References to the modules of a tree, found in what its modules hold and redirected to copies.

A module may reach another past its registered children: by a bound method, a closure, a hook, a
list, a helper object. A copy of the tree must hold such references to its own modules.
"""

import weakref
from collections.abc import Iterable, Mapping, MutableMapping
from typing import Any

from torch import nn

from gradood.taps._copying import COMPILED, CONTAINERS, MUTABLE, OBJECT, Copier, is_plain, kind_of

__all__ = ["redirect"]

_MOSTOBJECTS = 5000
"""Objects looked at for one view; what lies beyond is shared with the model."""
_DEEPEST = 12
"""References followed one after the other."""


def redirect(
    places: Iterable[tuple[MutableMapping[Any, Any], Any]],
    copies: Mapping[int, nn.Module],
    harmless: "weakref.WeakValueDictionary[int, Any]",
) -> None:
    """Replace references to modules, in what some mappings hold, by references to their copies.

    Lists, dicts, sets and deques that modules hold are copied, so that what a forward adds to them
    stays in the copy; functions and objects are copied only where they lead to a module or to such
    a container. Whatever is copied is copied once.

    Args:
        places: (mapping, key) pairs, whose values are replaced in place.
        copies: id of a module → its copy.
        harmless: id → object known to lead to no module; added to.
    """
    values = [(mapping, key, mapping[key]) for mapping, key in places]
    search = _Search(copies, harmless)
    search.explore([value for _, _, value in values])
    copier = Copier(dict(copies), search.affected())
    for mapping, key, value in values:
        mapping[key] = copier.of(value)
    for value in search.unaffected():
        try:
            harmless[id(value)] = value
        except TypeError:  # Without weak references it could outlive its use here.
            continue


class _Search:
    """The objects reachable from some values, and which of them lead to a module."""

    def __init__(
        self, modules: Mapping[int, nn.Module], harmless: "weakref.WeakValueDictionary[int, Any]"
    ) -> None:
        self._modules = modules
        self._harmless = harmless
        self._reached: dict[int, Any] = {}
        self._holders: dict[int, list[int]] = {}
        self._targets: set[int] = set()
        self._affected: set[int] = set()

    def explore(self, values: Iterable[Any]) -> None:
        stack = [(value, True, 0) for value in values]
        while stack and len(self._reached) < _MOSTOBJECTS:
            value, held, depth = stack.pop()
            key = id(value)
            if key in self._modules:
                self._targets.add(key)
                continue
            if key in self._reached or self._skip(value):
                continue
            kind = kind_of(value)
            if kind is None:
                continue
            self._reached[key] = value
            if kind is COMPILED or (held and kind in MUTABLE):
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
            for key, value in self._reached.items()
            if key not in self._affected and kind_of(value) is OBJECT
        ]

    def _skip(self, value: Any) -> bool:
        return is_plain(value) or self._harmless.get(id(value)) is value
