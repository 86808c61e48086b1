"""What running a classifier leaves as it was: the model, the grad mode, the random generators."""

import gc
import random
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from itertools import chain

import numpy as np
import torch
from torch import nn

from gradood.errors import TapError
from gradood.taps._escape import refuse_escapes
from gradood.taps._values import same
from gradood.taps.view import View, Views

__all__ = ["Generators", "device_of", "left_as_found", "only_thread"]


def device_of(model: nn.Module) -> torch.device:
    """Where the model computes: the device of its first parameter or buffer, else the CPU.

    Raises:
        TapError: all of them are on the meta device.
    """
    stack = [model]
    while stack:  # As `parameters` goes, at a tenth of its price.
        module = stack.pop()
        for parameter in module._parameters.values():
            if parameter is not None and parameter.device.type != "meta":
                return parameter.device
        stack += [child for child in reversed(module._modules.values()) if child is not None]
    empty = False
    for tensor in chain(model.parameters(), model.buffers()):
        if tensor.device.type != "meta":
            return tensor.device
        empty = True
    if empty:
        raise TapError(
            "the model is on the meta device and holds no weights; expected one that can run: "
            "load its weights first."
        )
    return torch.device("cpu")


@contextmanager
def left_as_found(model: nn.Module | Views) -> Iterator[View]:
    """A view of the model in evaluation mode, to be run without gradients.

    The model itself is not touched: neither its modes nor its hooks, and no parameter, buffer or
    attribute that its forward sets, nor what these hold. ADR 0017 lists what is left: what only
    global variables or the user's hooks lead to, and what changes in a branch not observed.

    Global random generators (torch's of the CPU and of the model's CUDA device; NumPy's and
    Python's, unless the model was seen not to draw from them) are set back to where they were if
    the block drew from them and no other thread runs Python. Beside another thread they are left
    where they are: to set them back would repeat numbers that the other has drawn.

    Args:
        model: the unwrapped model, or views of it.

    Raises:
        TapError: a part of the model cannot be copied and is in training mode, or the forward runs
            a module of the model in its place while that is in training mode.

    Cost:
        Two or three microseconds for each module; where one of the model is in training mode, a
        few more for each that is called.
    """
    views = model if isinstance(model, Views) else Views(model)
    before = Generators.now(views) if only_thread() else None
    modes = _modes()
    try:
        with torch.inference_mode(False) if modes.inference else nullcontext():
            torch._C._set_grad_enabled(False)
            with views.view() as view:
                watched = view.direct or view.in_training
                with refuse_escapes(view) if watched else nullcontext():
                    yield view
    finally:
        # Not by context managers alone: an interrupt may come between their lines.
        modes.restore()
        if before is not None and only_thread():
            before.restore()


@dataclass(frozen=True, slots=True)
class _Modes:
    """Modes of this thread: of autograd, and of autocast by device type."""

    grad: bool
    inference: bool
    cache: bool
    autocast: tuple[tuple[str, bool, torch.dtype], ...]

    def restore(self) -> None:
        """Set back those that are others now."""
        torch._C._set_grad_enabled(self.grad)
        if torch.is_autocast_cache_enabled() != self.cache:
            torch.set_autocast_cache_enabled(self.cache)
        for device, enabled, kind in self.autocast:
            if torch.is_autocast_enabled(device) != enabled:
                torch.set_autocast_enabled(device, enabled)
            if torch.get_autocast_dtype(device) != kind:
                torch.set_autocast_dtype(device, kind)


def _modes() -> _Modes:
    devices = ("cpu", "cuda") if torch.cuda.is_initialized() else ("cpu",)
    return _Modes(
        torch.is_grad_enabled(),
        torch.is_inference_mode_enabled(),
        torch.is_autocast_cache_enabled(),
        tuple((d, torch.is_autocast_enabled(d), torch.get_autocast_dtype(d)) for d in devices),
    )


def only_thread() -> bool:
    """Whether no thread but this one runs Python that could draw random numbers."""
    running = _running_threads()
    if running == 1:
        return True
    # The thread that looks after progress bars draws none, and stays once there was a bar.
    harmless = sum(thread.name == "tqdm_monitor" for thread in threading.enumerate())
    return running - harmless == 1


def _running_threads() -> int:
    """Number of threads that run Python.

    Before Python 3.12 the interpreter waits for itself where memory is collected while it lists
    its threads, and something collected asks for them (CPython issue 106883); a thread-local does.
    """
    collected = gc.isenabled()
    gc.disable()
    try:
        return len(sys._current_frames())
    finally:
        if collected:
            gc.enable()


class Generators:
    """States of the global random generators that a model may draw from.

    Args:
        device: the CUDA device that it is on, or None.
        host: whether NumPy's and Python's are among them.
    """

    def __init__(self, device: torch.device | None, *, host: bool) -> None:
        self._device = device
        self._torch = torch.get_rng_state()
        self._cuda = None if device is None else torch.cuda.get_rng_state(device)
        self._numpy = np.random.get_state(legacy=False) if host else None
        self._python = random.getstate() if host else None

    @staticmethod
    def now(views: Views) -> "Generators":
        """The states as they are, of those that a model may draw from."""
        device = device_of(views.model) if torch.cuda.is_initialized() else None
        on_cuda = device is not None and device.type == "cuda"
        return Generators(device if on_cuda else None, host=views.draws)

    def restore(self) -> None:
        """Set back the generators that were drawn from."""
        if not torch.equal(self._torch, torch.get_rng_state()):
            torch.set_rng_state(self._torch)
        cuda, device = self._cuda, self._device
        if cuda is not None and not torch.equal(cuda, torch.cuda.get_rng_state(device or "cuda")):
            torch.cuda.set_rng_state(cuda, device or "cuda")
        if self._numpy is not None and self.host_drawn:
            np.random.set_state(self._numpy)
            random.setstate(self._python)  # type: ignore[arg-type]

    @property
    def host_drawn(self) -> bool:
        """Whether NumPy's or Python's generator has moved."""
        if self._numpy is None:
            return False
        now = np.random.get_state(legacy=False)
        return self._python != random.getstate() or not same(self._numpy, now)
