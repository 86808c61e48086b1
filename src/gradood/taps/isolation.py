"""What running a classifier leaves as it was: the model, the grad mode, the random generators."""

import random
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import chain
from typing import Any

import numpy as np
import torch
from torch import nn

from gradood.errors import TapError
from gradood.taps.view import View, Views

__all__ = ["device_of", "left_as_found", "only_thread"]


def device_of(model: nn.Module) -> torch.device:
    """Where the model computes: the device of its first parameter or buffer, else the CPU.

    Raises:
        TapError: all of them are on the meta device.
    """
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

    The model itself is not touched: neither its modes nor its hooks, and no buffer or attribute
    that its forward sets. The global random generators of torch (the CPU's and that of the model's
    CUDA device), NumPy and Python are set back to where they were if the block drew from them and
    no other thread runs Python; beside another thread they are left where they are, as setting
    them back would repeat numbers that the other has drawn.

    Args:
        model: the unwrapped model, or views of it.

    Raises:
        TapError: a part of the model cannot be copied and is in training mode.

    Cost:
        A few microseconds for each module.
    """
    views = model if isinstance(model, Views) else Views(model)
    with ExitStack() as stack:
        stack.enter_context(_generators_kept(device_of(views.model)))
        if torch.is_inference_mode_enabled():
            stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.no_grad())
        yield stack.enter_context(views.view())


def only_thread() -> bool:
    """Whether no thread but this one runs Python."""
    return threading.active_count() == 1 and len(sys._current_frames()) == 1


@contextmanager
def _generators_kept(device: torch.device) -> Iterator[None]:
    if not only_thread():
        yield
        return
    before = _states(device)
    try:
        yield
    finally:
        if only_thread():
            _restore(device, before)


def _states(device: torch.device) -> tuple[Any, ...]:
    cuda = torch.cuda.get_rng_state(device) if device.type == "cuda" else None
    return torch.get_rng_state(), cuda, np.random.get_state(legacy=False), random.getstate()


def _restore(device: torch.device, before: tuple[Any, ...]) -> None:
    """Set back the generators that were drawn from."""
    now = _states(device)
    if not torch.equal(before[0], now[0]):
        torch.set_rng_state(before[0])
    if before[1] is not None and not torch.equal(before[1], now[1]):
        torch.cuda.set_rng_state(before[1], device)
    if not _same(before[2], now[2]):
        np.random.set_state(before[2])
    if before[3] != now[3]:
        random.setstate(before[3])


def _same(a: Any, b: Any) -> bool:
    """Whether two states of NumPy's generator are equal."""
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(_same(a[key], b[key]) for key in a)
    return bool(np.array_equal(a, b))
