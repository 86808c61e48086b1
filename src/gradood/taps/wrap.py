"""Wrappers around a classifier, and the containers it returns its logits in."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DataParallel, DistributedDataParallel

from gradood.errors import TapError

__all__ = ["logits_of", "unwrap", "wrapped_name"]


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
    while (name := wrapped_name(inner)) is not None:
        inner = inner._modules[name]
    if isinstance(inner, torch.jit.ScriptModule):
        raise TapError(
            "the model is a TorchScript module, whose layers cannot be tapped; "
            "give the eager nn.Module it was made from."
        )
    return inner


def wrapped_name(module: nn.Module) -> str | None:
    """The child that a wrapper stands for, or None of what is no wrapper."""
    if isinstance(module, torch.jit.ScriptModule):
        return None
    if module.__dict__.get("_modules", {}).get("_orig_mod") is not None:
        return "_orig_mod"
    return "module" if isinstance(module, DataParallel | DistributedDataParallel) else None


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
