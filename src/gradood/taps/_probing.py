"""Linear maps of modules without a weight of their own, by what they make of unit vectors.

A low-rank adapter, a cosine head or a weight under another name is a linear map like any other:
``f(e_i) − f(0)`` is a column of its weight. Whether it is one is verified on what the module took.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from gradood.taps.isolation import left_as_found
from gradood.taps.view import Views

__all__ = ["inputs_of", "probed_linear"]

_ROWS = 1024


def probed_linear(module: nn.Module, seen: Tensor, *, unit: bool) -> tuple[Tensor, Tensor | None]:
    """Weight (classes, width) and bias (classes,) that a module has if it is a linear map.

    Args:
        module: of a view, in evaluation mode.
        seen: (rows, width) or (rows, positions, width), of the type and device that it takes.
        unit: whether it divides what it takes by its length, so that zero says nothing.

    Cost:
        The module on width + 1 rows.
    """
    width = seen.shape[-1]
    shape = (-1, *[1] * (seen.ndim - 2), width)

    def made(rows: Tensor) -> Tensor:
        return module(rows.to(seen).reshape(shape).clone()).detach().reshape(len(rows), -1).double()

    vectors = torch.eye(width, device=seen.device)
    if unit:
        bias = (made(vectors[:1]) + made(-vectors[:1])) / 2
    else:
        bias = made(torch.zeros_like(vectors[:1]))
    weight = torch.cat([made(part) - bias for part in vectors.split(_ROWS)]).T
    kind = torch.promote_types(seen.dtype, torch.float32)
    return weight.to(kind), None if not bool((bias != 0).any()) else bias[0].to(kind)


def inputs_of(views: Views, names: Sequence[str], run: Any) -> dict[str, Tensor]:
    """What modules take in one forward: a single tensor of rows or of positions, else left out.

    Args:
        views: of the model.
        names: of modules that run once.
        run: runs a view's module on a few rows.

    Cost:
        A forward.
    """
    seen: dict[str, Tensor] = {}

    def watch(name: str, module: nn.Module) -> Any:
        def hook(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any] | None = None) -> None:
            given = [a for a in (*args, *(kwargs or {}).values()) if isinstance(a, Tensor)]
            if len(given) == 1 and given[0].ndim in (2, 3) and given[0].is_floating_point():
                seen[name] = given[0].detach().clone()

        return module.register_forward_pre_hook(hook, with_kwargs=True)

    with left_as_found(views) as view:
        found = {name: view.find(name) for name in names}
        handles = [watch(name, module) for name, module in found.items() if module is not None]
        try:
            run(view.module)
        finally:
            for handle in handles:
                handle.remove()
    return seen
