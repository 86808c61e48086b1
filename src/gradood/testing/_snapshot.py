"""Everything of a model, and of the process, that a look at it must not change."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules import module as _globals

__all__ = ["Snapshot", "left_alone"]


class Snapshot:
    """Weights, buffers, gradients, flags, hooks, random state and grad mode, as they are now.

    Args:
        model: any module.
    """

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._found = dict(_of_model(model)) | dict(_of_process())

    def changes(self) -> list[str]:
        """What is different now, in words."""
        now = dict(_of_model(self._model)) | dict(_of_process())
        keys = dict.fromkeys((*self._found, *now))
        return [key for key in keys if not _same(self._found.get(key), now.get(key))]


@contextmanager
def left_alone(model: nn.Module, during: str) -> Iterator[None]:
    """Raise if anything of the model differs after the block; an error inside goes first."""
    before = Snapshot(model)
    yield
    changes = before.changes()
    assert not changes, f"{during} changed {', '.join(changes[:6])}"


def _of_model(model: nn.Module) -> Iterator[tuple[str, Any]]:
    for name, module in model.named_modules():
        label = name or "the model"
        yield f"the training flag of {label}", module.training
        yield f"the attributes of {label}", sorted(vars(module))
        for key, value in vars(module).items():
            if "hook" in key and isinstance(value, Mapping):
                yield f"{key} of {label}", [(k, id(hook)) for k, hook in value.items()]
    for name, parameter in model.named_parameters():
        yield f"the gradient of {name}", _copy(parameter.grad)
        yield f"requires_grad of {name}", parameter.requires_grad
        yield f"the hooks of {name}", list(parameter._backward_hooks or ())
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        yield f"the values of {name}", _copy(tensor)
        yield f"the identity of {name}", (id(tensor), tensor.data_ptr(), tensor._version)


def _of_process() -> Iterator[tuple[str, Any]]:
    yield "torch's random state", torch.get_rng_state()
    numbers: Any = np.random.get_state(legacy=False)
    yield "NumPy's random state", (numbers["state"]["key"].tobytes(), numbers["state"]["pos"])
    yield "the grad mode", torch.is_grad_enabled()
    yield "the inference mode", torch.is_inference_mode_enabled()
    yield "the default dtype", torch.get_default_dtype()
    for key, value in vars(_globals).items():
        if key.startswith("_global") and isinstance(value, Mapping):
            yield f"torch's {key}", list(value)


def _copy(tensor: Tensor | None) -> Tensor | None:
    return None if tensor is None else tensor.detach().clone()


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        return a.dtype == b.dtype and torch.equal(a.nan_to_num(), b.nan_to_num())
    return not isinstance(a, Tensor) and not isinstance(b, Tensor) and bool(a == b)
