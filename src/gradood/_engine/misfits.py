"""Inputs that do not fit a model, in words that say what to do."""

import torch
from torch import Tensor, nn

from gradood._engine.rows import Inputs, described
from gradood.taps import Arguments, Network, leaves_of

__all__ = ["changed_input", "misfit"]

_FIRST = (nn.modules.conv._ConvNd, nn.Linear, nn.Embedding)
_SINGLE = " (a single input needs a batch axis: x[None])"


def misfit(module: nn.Module, inputs: Inputs) -> str | None:
    """How the input plainly does not fit the model's first layer, if so.

    Args:
        module: the unwrapped model.
        inputs: (batch, …).
    """
    if isinstance(inputs, Arguments):
        return None
    parameter = next(module.parameters(), None)
    first = next((m for m in module.modules() if isinstance(m, _FIRST)), None)
    expected: list[str] = []
    hint = ""
    floating = True
    if isinstance(first, nn.Embedding):
        floating = False
        if inputs.is_floating_point():
            expected.append("whole numbers")
    elif isinstance(first, nn.modules.conv._ConvNd):
        rank = len(first.kernel_size) + 2
        if inputs.ndim != rank or inputs.shape[1] != first.in_channels:
            expected.append(f"{rank} dimensions with {first.in_channels} channels")
            hint = _axes(inputs, rank, first.in_channels)
    elif isinstance(first, nn.Linear) and inputs.shape[1:].numel() != first.in_features:
        expected.append(f"{first.in_features} features")
        if inputs.numel() == first.in_features:
            hint = _SINGLE
    if floating and parameter is not None and inputs.dtype != parameter.dtype:
        expected.append(f"{parameter.dtype}".replace("torch.", ""))
        hint = hint or _type(inputs)
    if not expected:
        return None
    return f"the input is {described(inputs)}; the model expects {' and '.join(expected)}{hint}"


def changed_input(network: Network, inputs: Inputs) -> str | None:
    """How inputs differ from those a model was observed on, in rank, type or channels; or None.

    Args:
        network: the observed model.
        inputs: (batch, …) that are to be read now.
    """
    example = network.example
    if isinstance(inputs, Arguments) or isinstance(example, Arguments):
        return _changed_arguments(example, inputs)
    alike = inputs.ndim == example.ndim and inputs.dtype == example.dtype
    # Whole numbers in two dimensions are token ids, whose second dimension is a length.
    channels = inputs.ndim > 2 or (inputs.ndim == 2 and inputs.is_floating_point())
    if alike and not (channels and inputs.shape[1] != example.shape[1]):
        return None
    said = f"the input is {described(inputs)}; expected {described(example)} as before"
    module = network.module
    if misfit(module, example) is not None and misfit(module, inputs) is None:
        return f"{said}. The model itself was changed since: make a new monitor and fit it."
    hint = _axes(inputs, example.ndim, example.shape[1] if example.ndim > 1 else None)
    return f"{said}{hint or (_type(inputs) if inputs.dtype != example.dtype else '')}."


def _changed_arguments(example: Inputs, inputs: Inputs) -> str | None:
    """As `changed_input`, of several tensors; their lengths may vary."""
    before, now = _kinds(example), _kinds(inputs)
    if before == now:
        return None
    return f"the input is {described(inputs)}; expected {described(example)} as before."


def _kinds(inputs: Inputs) -> dict[str, tuple[torch.dtype, int]]:
    return {name: (leaf.dtype, leaf.ndim) for name, leaf in leaves_of(inputs).items()}


def _axes(inputs: Tensor, rank: int, channels: int | None) -> str:
    """What to type where axes are missing or in another order; empty if that is not plain."""
    if inputs.ndim == rank - 1 and (channels is None or rank < 3 or inputs.shape[0] == channels):
        return _SINGLE
    if inputs.ndim == rank == 4 and inputs.shape[-1] == channels:
        return " (channels come first: x.permute(0, 3, 1, 2))"
    return ""


def _type(inputs: Tensor) -> str:
    if inputs.is_floating_point():
        return ""
    return " (convert and normalize images as in training, such as x.float() / 255)"
