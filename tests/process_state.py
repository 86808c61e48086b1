"""The state of the process and of a model that belongs to the user, to be compared."""

import os
import random
import signal
import sys
import warnings
from contextlib import contextmanager

import numpy as np
import torch
from torch import nn

__all__ = ["DRAWN_BY_CHECKS", "changes", "snapshot", "unchanged"]

DRAWN_BY_CHECKS = "Python's generator"
"""What the checks of types and shapes that tests switch on draw from themselves."""

_GLOBAL_HOOKS = [
    name
    for name, value in vars(nn.modules.module).items()
    if name.startswith("_global_") and isinstance(value, dict)
]


def snapshot(model: nn.Module | None = None) -> dict[str, object]:
    """What is of the process, and of the model, by name; comparable with ``==``."""
    found: dict[str, object] = {
        "torch's generator": torch.get_rng_state().numpy().tobytes(),
        "NumPy's generator": repr(np.random.get_state(legacy=False)),
        "Python's generator": random.getstate(),
        "gradients": torch.is_grad_enabled(),
        "inference mode": torch.is_inference_mode_enabled(),
        "anomaly mode": torch.is_anomaly_enabled(),
        "autocast": torch.is_autocast_enabled("cpu"),
        "default type": torch.get_default_dtype(),
        "default device": torch.get_default_device(),
        "determinism": torch.are_deterministic_algorithms_enabled(),
        "threads": torch.get_num_threads(),
        "products": torch.get_float32_matmul_precision(),
        "convolutions": (torch.backends.cudnn.benchmark, torch.backends.mkldnn.enabled),
        "folder": os.getcwd(),
        "environment": dict(os.environ),
        "search path": list(sys.path),
        "recursion": sys.getrecursionlimit(),
        "switch interval": sys.getswitchinterval(),
        "warning filters": list(warnings.filters),
        "warnings shown by": warnings.showwarning,
        "excepthook": sys.excepthook,
        "signals": {
            number: signal.getsignal(number) for number in signal.valid_signals() if number < 32
        },
        "global hooks": {n: dict(getattr(nn.modules.module, n)) for n in _GLOBAL_HOOKS},
    }
    return found if model is None else found | _of_model(model)


def _of_model(model: nn.Module) -> dict[str, object]:
    found: dict[str, object] = {}
    for name, module in model.named_modules():
        own = vars(module)
        hooks = {key: dict(value) for key, value in own.items() if "_hooks" in key and value}
        plain = {
            key: value if isinstance(value, int | float | str | bool | None) else id(value)
            for key, value in own.items()
            if not isinstance(value, dict | torch.Tensor)
        }
        found[f"module {name!r}"] = (sorted(own), hooks, plain, module.training)
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        gradient = tensor.grad
        kept = None if gradient is None else gradient.tolist()
        found[f"tensor {name!r}"] = (
            *(id(tensor), tensor.data_ptr(), tensor.requires_grad, tensor.tolist(), kept),
            tensor._version,
        )
    return found


def changes(before: dict[str, object], after: dict[str, object]) -> list[str]:
    """What differs, by name."""
    return [name for name in before | after if before.get(name) != after.get(name)]


@contextmanager
def unchanged(model: nn.Module | None = None, *, but: tuple[str, ...] = (DRAWN_BY_CHECKS,)):
    """Whatever is done inside, also if it raises, leaves the state as it was.

    Args:
        model: the user's.
        but: names of what may change.
    """
    before = snapshot(model)
    try:
        yield
    finally:
        found = [n for n in changes(before, snapshot(model)) if not n.startswith(but)]
        assert not found, f"changed: {', '.join(found)}"
