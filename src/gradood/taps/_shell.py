"""A module of a view: an empty object of the same class, which copies one module at a time."""

from collections import OrderedDict
from operator import is_
from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn

from gradood.errors import TapError
from gradood.taps._copying import compiled_original, is_plain, slot_names
from gradood.taps.wrap import wrapped_name

__all__ = ["CALLED", "Shared", "Shell", "held_roots", "require_shareable"]

_EVERY_MODULE = vars(nn.Module())
_HOOK_TABLES = tuple(
    name
    for name, value in _EVERY_MODULE.items()
    if isinstance(value, dict) and ("forward" in name or "backward" in name)
)
CALLED = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
_HELD = ("_parameters", "_buffers", "_modules")
_SHARDED = frozenset({"FullyShardedDataParallel", "FSDPModule"})


class Shell:
    """A module of a view, and the module of the model that it copies.

    Attributes:
        module: of the view.
        original: of the model.
        children: of the module of the model, by name.
        shared: whether the module cannot be copied, so that the model's own is run.
    """

    def __init__(self, original: nn.Module) -> None:
        kind = self._kind = type(original)
        if not _SHARDED.isdisjoint(parent.__name__ for parent in kind.__mro__):
            raise TapError(
                f"a {kind.__name__} holds parts of its parameters only, so that its layers cannot "
                "be read; give the model from before it was sharded."
            )
        script = isinstance(original, torch.jit.ScriptModule)
        made = None if script else _made(kind)
        self.original = original
        self.module = Shared(original) if made is None else made
        self.shared = made is None
        self._wraps = wrapped_name(original)
        self._slots = slot_names(kind)
        self._attributes = self.module.__dict__
        self._tables: dict[str, dict[Any, Any]] = {name: OrderedDict() for name in _HOOK_TABLES}
        self._own: dict[str, dict[str, Any]] = {name: {} for name in _HELD}
        self._fixed: dict[str, Any] = {
            **({} if self.shared else _uncompiled(self.module)),
            **self._tables,
            **self._own,
            "training": False,
        }
        self._known: dict[str, Any] = {}
        self._ids: list[Any] = []
        self._by_id = False
        self._open: tuple[str, ...] = ()
        self._template: dict[str, Any] = {}
        self._pairs = [(own, {}) for own in self._own.values()]
        self._watched = [self._tables[name] for name in CALLED]
        self.children: dict[str, nn.Module | None] = (
            {} if self.shared else vars(original)["_modules"].copy()
        )

    def learn(self, copies: dict[int, nn.Module]) -> None:
        """Take over what the module holds; its children are given by their copies."""
        if self.shared:
            return
        known = self._known = self.original.__dict__.copy()
        self._open = tuple(
            name
            for name, value in known.items()
            if name not in _EVERY_MODULE and not self._wraps and not is_plain(value)
        )
        # A tensor of one element may equal another; to compare any other is an error.
        self._by_id = any(
            isinstance(value, Tensor) and value.numel() == 1 for value in known.values()
        )
        children = {
            name: None if child is None else copies[id(child)]
            for name, child in self.children.items()
        }
        parameters, buffers = known["_parameters"].copy(), known["_buffers"].copy()
        self._pairs = list(zip(self._own.values(), (parameters, buffers, children), strict=True))
        # Of what was taken over, whatever another thread has put there since.
        self._ids = self._identities(known, parameters, buffers, self.children)
        self._template = {**known, **self._fixed}
        if known.get("_compiled_call_impl") is not None:
            self._template["_compiled_call_impl"] = None
        if self._wraps is not None:
            self._template["forward"] = children[self._wraps]
        self.restore()

    def follow(self, copies: dict[int, nn.Module], places: list[tuple[Any, Any]]) -> bool:
        """Whether the module still has the same children; whatever else it holds is taken over.

        Args:
            copies: id of a module → its copy.
            places: (mapping, key) pairs whose values may lead to modules; added to.
        """
        original = self.original
        if self.shared:
            require_shareable(original)
            return type(original) is self._kind
        if type(original) is not self._kind or type(self.module) is not self._kind:
            return False
        held = original.__dict__
        if not self._knows(held):
            if not _same_children(held["_modules"].copy(), self.children):
                return False
            self.learn(copies)
        if self._open:
            attributes = self._attributes
            for name in self._open:
                attributes[name] = held.get(name)
                places.append((attributes, name))
        if (
            held["_forward_hooks"]
            or held["_forward_pre_hooks"]
            or held["_backward_hooks"]
            or held["_backward_pre_hooks"]
        ):
            for name, table in self._tables.items():
                table.update(held[name])
                places += [(table, key) for key, hook in table.items() if not is_plain(hook)]
        for name in self._slots:
            if hasattr(original, name):
                object.__setattr__(self.module, name, getattr(original, name))
        return True

    def _knows(self, held: dict[str, Any]) -> bool:
        try:
            inner = held["_parameters"], held["_buffers"], held["_modules"]
            return held == self._known and self._identities(held, *inner) == self._ids
        except Exception:  # Comparing is the user's code, and of tensors has no truth value.
            return False

    def _identities(
        self,
        held: dict[str, Any],
        parameters: dict[str, Any],
        buffers: dict[str, Any],
        modules: dict[str, Any],
    ) -> list[Any]:
        """Names and identities of what a module holds, where equality does not tell."""
        found: list[Any] = []
        if parameters:
            found += parameters
            found += map(id, parameters.values())
        if buffers:
            found += buffers
            found += map(id, buffers.values())
        if modules:
            found += modules
            found += map(id, modules.values())
        if self._by_id:
            found += map(id, held.values())
        return found

    def restore(self) -> None:
        """Let go of what a forward left."""
        if self.shared:
            return
        attributes, template = self._attributes, self._template
        attributes.update(template)
        if len(attributes) != len(template):
            attributes.clear()
            attributes.update(template)
        (own, contents), (own2, contents2), (own3, contents3) = self._pairs
        if own or contents:
            own.clear()
            own.update(contents)
        if own2 or contents2:
            own2.clear()
            own2.update(contents2)
        if own3 or contents3:
            own3.clear()
            own3.update(contents3)
        a, b, c, d = self._watched
        if a or b or c or d:
            for table in self._tables.values():
                table.clear()


class Shared(nn.Module):
    """Stands in a view for a module that cannot be copied: runs that module itself."""

    def __init__(self, original: nn.Module) -> None:
        super().__init__()
        self.__dict__["_original"] = original
        self.training = False

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        require_shareable(self.__dict__["_original"])
        return self.__dict__["_original"](*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["_original"], name)


def held_roots(module: nn.Module) -> list[tuple[str, list[Any]]]:
    """What a module holds beside its children and tensors, by name; its hooks by their table's."""
    held = vars(module)
    tables = [(name, list(held.get(name, {}).values())) for name in CALLED]
    own = [
        (name, [value])
        for name, value in held.copy().items()
        if name not in _EVERY_MODULE and not isinstance(value, Tensor)
    ]
    return [(name, values) for name, values in (*tables, *own) if values]


def require_shareable(original: nn.Module) -> None:
    """Raise where a module that is run itself is in training mode."""
    if any(module.training for module in original.modules()):
        raise TapError(
            f"the model holds a {type(original).__name__}, which cannot be copied and is in "
            "training mode: call model.eval() first."
        )


def _made(kind: type[nn.Module]) -> nn.Module | None:
    """An empty module of a class, or None where that cannot be made."""
    try:
        return object.__new__(kind)
    except TypeError:  # of a class that also inherits from one made in C
        return None


def _same_children(now: dict[str, Any], before: dict[str, Any]) -> bool:
    return list(now) == list(before) and all(map(is_, now.values(), before.values()))


def _uncompiled(module: nn.Module) -> dict[str, Any]:
    """Methods of a module whose class had them compiled, as they were before."""
    found: dict[str, Any] = {}
    for parent in type(module).__mro__:
        if parent is nn.Module:
            break
        for name, method in vars(parent).items():
            original = compiled_original(method)
            if original is not None and name not in found:
                found[name] = MethodType(original, module)
    return found
