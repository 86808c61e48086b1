"""What surrounds a classifier: wrappers, output containers, and the state it must be left in."""

import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DataParallel, DistributedDataParallel

from gradood.errors import TapError

__all__ = ["left_as_found", "logits_of", "unwrap"]


def unwrap(model: nn.Module) -> nn.Module:
    """The module inside `torch.compile`, `DataParallel` and `DistributedDataParallel` wrappers.

    Args:
        model: any module, wrapped or not.

    Returns:
        The innermost module; it shares every parameter with `model`.

    Raises:
        TapError: `model` is no `nn.Module`, or a `ScriptModule`, whose hooks never fire.
    """
    if not isinstance(model, nn.Module):
        raise TapError(f"the model is a {type(model).__name__}; expected a torch.nn.Module.")
    inner: Any = model
    while not isinstance(inner, torch.jit.ScriptModule):
        original = inner.__dict__.get("_modules", {}).get("_orig_mod")
        if original is not None:
            inner = original
        elif isinstance(inner, DataParallel | DistributedDataParallel):
            inner = inner.module
        else:
            break
    if isinstance(inner, torch.jit.ScriptModule):
        raise TapError(
            "the model is a TorchScript module, whose layers cannot be tapped; "
            "give the eager nn.Module it was made from."
        )
    return inner


def logits_of(output: Any) -> Tensor:
    """The logits (batch, classes) in whatever a classifier returns.

    Args:
        output: a tensor, a mapping with ``"logits"``, an object with ``.logits``, or a
            tuple or list whose first two-dimensional tensor is meant.

    Raises:
        TapError: no logits are found there.
    """
    found: Any = output
    if isinstance(output, Mapping):
        found = output.get("logits")
    elif hasattr(output, "logits"):
        found = output.logits
    elif isinstance(output, tuple | list):
        found = next((o for o in output if isinstance(o, Tensor) and o.ndim == 2), None)
    if isinstance(found, Tensor) and found.ndim > 2 and found.shape[2:].numel() == 1:
        found = found.flatten(1)
    if not isinstance(found, Tensor) or found.ndim != 2 or not found.is_floating_point():
        given = _describe(output)
        raise TapError(
            f"the model returned {given}; expected logits: a floating tensor (batch, classes), "
            "a mapping or object with 'logits', or a tuple that holds one. "
            "Wrap the model in a module that returns its logits."
        )
    return found


def _describe(output: Any) -> str:
    if isinstance(output, Tensor):
        return f"a tensor {tuple(output.shape)} of {output.dtype}"
    if isinstance(output, Mapping):
        return f"a mapping with keys {sorted(map(str, output))}"
    return f"a {type(output).__name__}"


@contextmanager
def left_as_found(model: nn.Module, device: torch.device) -> Iterator[None]:
    """Evaluation mode inside; training flags, grad mode and RNG as before outside.

    Training flags are set one by one rather than by `eval()`, because some layers rewrite their
    weights when their mode changes (merged adapters, for instance).

    Args:
        model: the unwrapped model.
        device: where it computes; that device's generator is restored too.
    """
    devices = [device] if device.type == "cuda" else []
    with ExitStack() as stack:
        stack.enter_context(torch.random.fork_rng(devices=devices))
        if torch.is_inference_mode_enabled():
            stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.no_grad())
        stack.enter_context(_eager(model))
        stack.enter_context(_evaluating(model))
        yield


_LOOKING: dict[int, tuple[int, list[nn.Module]]] = {}
"""Model, by id → how many look at it now, and its modules that were in training mode."""
_LOCK = threading.Lock()


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """Training flags off, until the last of several threads that look at once has finished."""
    key = id(model)
    counted = False
    try:
        with _LOCK:
            looking, training = _LOOKING.get(key) or (0, [m for m in model.modules() if m.training])
            _LOOKING[key] = looking + 1, training
            counted = True
            for module in training:
                module.training = False
        yield
    finally:
        if counted:
            with _LOCK:
                looking, training = _LOOKING.pop(key)
                if looking > 1:
                    _LOOKING[key] = looking - 1, training
                else:
                    for module in training:
                        module.training = True


@contextmanager
def _eager(model: nn.Module) -> Iterator[None]:
    """Compiled parts run eagerly: hooks added after compilation would be ignored silently."""
    compiled = any(
        getattr(m, "_compiled_call_impl", None) is not None or "_orig_mod" in m._modules
        for m in model.modules()
    )
    if not compiled:
        yield
        return
    set_stance = getattr(torch.compiler, "set_stance", None)
    if set_stance is None:
        raise TapError(
            "parts of the model are compiled, and this torch cannot run them eagerly; "
            "give the model from before torch.compile, or use torch 2.6 or newer."
        )
    with set_stance("force_eager"):
        yield
