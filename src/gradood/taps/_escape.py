"""Calls of a model's own modules while a view of it runs: references that no view could follow."""

import inspect
import sys
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import CodeType, FrameType
from typing import Any

from torch import nn
from torch.nn.modules.module import register_module_forward_pre_hook

from gradood.errors import TapError
from gradood.taps.view import View

__all__ = ["escapes", "refuse_escapes"]

_CALL = nn.Module.__call__.__code__
_OTHERS = frozenset({"torch", "builtins", "typing", "abc", "collections"})


@contextmanager
def escapes(view: View) -> Iterator[list[str]]:
    """Names of the model's modules that this thread runs in place of the view's.

    Nothing where `refuse_escapes` looks already.

    Args:
        view: which is run.
    """
    found: list[str] = []
    names = {} if view.direct or view.in_training else view.names()

    def seen(module: object) -> None:
        if id(module) in names:
            found.append(names[id(module)])

    with _calls(seen, lambda code: code.co_name == "forward", watch=bool(names)):
        yield found


@contextmanager
def refuse_escapes(view: View) -> Iterator[None]:
    """Let no module of the model run in training mode: the call is refused before it begins.

    A view is watched where a module of the model is in training mode, the model itself always, as
    another thread may change its mode.

    Args:
        view: which is run.

    Raises:
        TapError: the forward called a module of the model that is in training mode.

    Cost:
        Nothing for a view of a model in evaluation mode; else a few microseconds for each call of a
        module.
    """
    refused: list[nn.Module] = []
    originals = view.originals

    def seen(module: object) -> None:
        if originals.get(id(module)) is module and isinstance(module, nn.Module):
            if module.training or not view.direct:
                refused.append(module)
                raise _Refused

    codes = _method_codes(originals.values()) if view.in_training else frozenset()

    def is_method(code: CodeType) -> bool:
        return code.co_name == "forward" or id(code) in codes

    try:
        with _calls(seen, is_method, watch=view.direct or view.in_training):
            yield
    except (Exception, _Refused):
        if refused:
            raise _refusal(view, refused[0]) from None
        raise
    if refused:  # and caught by the model
        raise _refusal(view, refused[0])


class _Refused(BaseException):
    """Ends a forward; no `except Exception` of the model takes it."""


def _refusal(view: View, module: nn.Module) -> TapError:
    name = view.names().get(id(module), type(module).__name__)
    if view.direct:
        return TapError(
            f"the model was switched to training mode while it was read, by another thread or by "
            f"its own forward ({name!r} is in that mode); a view of this model cannot be run, so "
            "keep it in evaluation mode meanwhile, or let it call its modules through its "
            "attributes."
        )
    return TapError(
        f"the model's forward runs its own module {name!r} through references that cannot be "
        "followed, such as global variables, or an object that was given the module later, so that "
        "it can be run in evaluation mode only: call model.eval() first, or let the model call its "
        "modules through its attributes."
    )


@contextmanager
def _calls(
    seen: Callable[[object], None], is_method: Callable[[CodeType], bool], *, watch: bool
) -> Iterator[None]:
    """Show the first argument of each call of a module, or of a method, in this thread.

    Seen through the thread's profile function, which other threads do not have; where a profiler
    has taken that, through a hook of the process that looks at the thread and changes nothing.
    """
    if not watch:
        yield
    elif sys.getprofile() is not None:
        thread = threading.get_ident()

        def before(module: nn.Module, _: Any) -> None:
            if threading.get_ident() == thread:
                seen(module)

        handle = register_module_forward_pre_hook(before)
        try:
            yield
        finally:
            handle.remove()
    else:

        def profile(frame: FrameType, event: str, _: Any) -> None:
            if event == "call":
                code = frame.f_code
                if (code is _CALL or is_method(code)) and code.co_argcount:
                    seen(frame.f_locals.get(code.co_varnames[0]))

        try:
            sys.setprofile(profile)
            yield
        finally:
            sys.setprofile(None)


def _method_codes(modules: Iterable[nn.Module]) -> frozenset[int]:
    """Ids of the code of methods that classes outside torch have beside those of `nn.Module`."""
    kinds = {parent for kind in set(map(type, modules)) for parent in kind.__mro__}
    ours = (kind for kind in kinds if kind.__module__.partition(".")[0] not in _OTHERS)
    return frozenset().union(*map(_own_codes, ours))


_CODES: "weakref.WeakKeyDictionary[type, frozenset[int]]" = weakref.WeakKeyDictionary()


def _is_own(name: str) -> bool:
    special = name.startswith("__") and name.endswith("__")
    return name == "__call__" or not (special or hasattr(nn.Module, name))


def _own_codes(kind: type) -> frozenset[int]:
    found = _CODES.get(kind)
    if found is None:
        methods = [
            inspect.unwrap(method)
            for name, method in list(vars(kind).items())
            if inspect.isfunction(method) and _is_own(name)
        ]
        found = frozenset(id(m.__code__) for m in methods if inspect.isfunction(m))
        _CODES[kind] = found
    return found
