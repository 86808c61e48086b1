"""A module of a view: an empty object of the same class, which copies one module at a time."""

from collections import OrderedDict
from types import MethodType
from typing import Any

import torch
from torch import nn

from gradood.errors import TapError
from gradood.taps.copying import compiled_original, is_plain, slot_names
from gradood.taps.wrap import wrapped_name

__all__ = ["Shared", "Shell"]

_EVERY_MODULE = vars(nn.Module())
_HOOK_TABLES = tuple(
    name
    for name, value in _EVERY_MODULE.items()
    if isinstance(value, dict) and ("forward" in name or "backward" in name)
)
_SHARDED = frozenset({"FullyShardedDataParallel", "FSDPModule"})


class Shell:
    """A module of a view, which stands for one module of the model at a time."""

    def __init__(self, original: nn.Module) -> None:
        kind = self._kind = type(original)
        if not _SHARDED.isdisjoint(parent.__name__ for parent in kind.__mro__):
            raise TapError(
                f"a {kind.__name__} holds parts of its parameters only, so that its layers cannot "
                "be read; give the model from before it was sharded."
            )
        script = isinstance(original, torch.jit.ScriptModule)
        made = None if script else _made(kind)
        self.module = Shared(original) if made is None else made
        self.wraps = wrapped_name(original)
        self.attributes = self.module.__dict__
        self.children: dict[str, Any] = {}
        self.places: list[tuple[Any, Any]] = []
        self._shared = made is None
        self._parameters: dict[str, Any] = {}
        self._buffers: dict[str, Any] = {}
        self._tables: list[tuple[str, dict[Any, Any]]] = [(n, OrderedDict()) for n in _HOOK_TABLES]
        self._slots = slot_names(kind)
        self._own: dict[str, Any] = {
            **dict(self._tables),
            **({} if self._shared else _uncompiled(self.module)),
            "training": False,
            "_parameters": self._parameters,
            "_buffers": self._buffers,
            "_modules": self.children,
        }
        self._known: dict[str, Any] | None = None
        self._open: tuple[str, ...] = ()

    def fits(self, original: nn.Module) -> bool:
        """Whether this shell can stand for a module."""
        kind = type(original)
        return kind is self._kind and (self._shared or kind is type(self.module))

    def fill(self, original: nn.Module) -> None:
        """Become a copy of a module; `children` are still the module's own."""
        if self._shared:
            _require_shareable(original)
            return
        held, attributes = original.__dict__, self.attributes
        if not _equal(held, self._known):
            attributes.clear()
            known = self._known = held.copy()
            self._open = (
                ()
                if self.wraps
                else tuple(
                    name
                    for name, value in known.items()
                    if name not in _EVERY_MODULE and not is_plain(value)
                )
            )
        attributes.update(held)
        attributes.update(self._own)
        if held["_parameters"]:
            self._parameters.update(held["_parameters"])
        if held["_buffers"]:
            self._buffers.update(held["_buffers"])
        if held["_modules"]:
            self.children.update(held["_modules"])
        if "_compiled_call_impl" in held:
            attributes["_compiled_call_impl"] = None
        self.places = [(attributes, name) for name in self._open]
        if (
            held["_forward_hooks"]
            or held["_forward_pre_hooks"]
            or held["_backward_hooks"]
            or held["_backward_pre_hooks"]
        ):
            for name, table in self._tables:
                table.update(held[name])
                self.places += [(table, key) for key, hook in table.items() if not is_plain(hook)]
        for name in self._slots:
            if hasattr(original, name):
                object.__setattr__(self.module, name, getattr(original, name))

    def empty(self) -> None:
        """Let go of what the forward left; what is then looked up is the model's own."""
        known = self._known
        if known is None:
            return
        if len(self.attributes) != len(known):
            self.attributes.clear()
        self.attributes.update(known)
        self._parameters.clear()
        self._buffers.clear()
        self.children.clear()
        for _, table in self._tables:
            if table:
                table.clear()
        self.places = []


class Shared(nn.Module):
    """Stands in a view for a module that cannot be copied: runs that module itself."""

    def __init__(self, original: nn.Module) -> None:
        super().__init__()
        self.__dict__["_original"] = original
        self.training = False

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.__dict__["_original"](*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["_original"], name)


def _require_shareable(original: nn.Module) -> None:
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


def _equal(held: dict[str, Any], known: dict[str, Any] | None) -> bool:
    """Whether attributes are the same, or at least of the same kind and value."""
    try:
        return held == known
    except Exception:  # Comparing is the user's code, and of tensors has no truth value.
        return False


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
