"""Calls of a model's own modules while a view of it runs: references that no view could follow."""

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from torch import nn
from torch.nn.modules.module import register_module_forward_pre_hook

from gradood.taps.view import View

__all__ = ["escapes"]

_CALL = nn.Module.__call__.__code__


@contextmanager
def escapes(model: nn.Module, view: View) -> Iterator[list[str]]:
    """Names of the model's modules that this thread runs inside in place of the view's.

    Seen through the thread's profile function, which other threads do not have; where a profiler
    has taken that, through a hook of the process that looks at the thread and changes nothing.

    Args:
        model: the unwrapped model.
        view: of it, which is run.
    """
    names = {id(module): name for name, module in model.named_modules() if view.copies(name)}
    found: list[str] = []
    if sys.getprofile() is not None:
        thread = threading.get_ident()

        def seen(module: nn.Module, _: Any) -> None:
            if threading.get_ident() == thread and id(module) in names:
                found.append(names[id(module)])

        handle = register_module_forward_pre_hook(seen)
        try:
            yield found
        finally:
            handle.remove()
        return

    def profile(frame: FrameType, event: str, _: Any) -> None:
        code = frame.f_code
        if event == "call" and (code is _CALL or code.co_name == "forward") and code.co_argcount:
            module = frame.f_locals.get(code.co_varnames[0])
            if id(module) in names:
                found.append(names[id(module)])

    sys.setprofile(profile)
    try:
        yield found
    finally:
        sys.setprofile(None)
