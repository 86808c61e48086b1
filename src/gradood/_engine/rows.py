"""Rows of a batch of inputs: their number, their device, and which hold NaN or infinity.

Whatever a model takes passes through these functions alone; nothing else in the engine looks into
an input. Those of a batch are a tensor, or arguments with several tensors (`gradood.taps`).
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from gradood.errors import DataError
from gradood.taps import (
    Arguments,
    Inputs,
    described,
    is_mask,
    joined,
    of_one_length,
    shifted,
    stepped,
    unpadded,
)

__all__ = [
    "Inputs",
    "described",
    "emptied",
    "finite_rows",
    "is_empty",
    "jittered",
    "moved",
    "refuse_nonfinite",
    "row",
    "row_count",
    "selected",
    "stacked",
    "trial_rows",
]


def row_count(inputs: Inputs) -> int:
    """Number of rows of a batch."""
    return len(inputs)


def moved(inputs: Inputs, device: torch.device) -> Inputs:
    """The inputs without graph, on a device.

    Raises:
        DataError: they hold no data, or are sparse or nested.
    """
    if isinstance(inputs, Arguments):
        return inputs.each(lambda leaf: _moved(leaf, device))
    return _moved(inputs, device)


def _moved(inputs: Tensor, device: torch.device) -> Tensor:
    if inputs.is_nested:
        raise DataError(
            "the input is a nested tensor, whose rows differ in shape; give rows of one shape, as "
            "several batches or padded: torch.nested.to_padded_tensor(inputs, 0.0)."
        )
    if inputs.layout != torch.strided:
        raise DataError(
            f"the input is sparse ({inputs.layout}); expected a dense tensor: inputs.to_dense()."
        )
    if inputs.device.type == "meta":
        raise DataError("the input is on the meta device and holds no data; give real tensors.")
    return inputs.detach().to(device)


def selected(inputs: Inputs, rows: Tensor) -> Inputs:
    """The rows of a mask (batch,) bool."""
    return inputs[rows]


def row(inputs: Inputs, place: int) -> Inputs:
    """A copy of one row on the CPU, as a batch of its own, without padding that a mask tells."""
    return unpadded(inputs[place : place + 1].detach().cpu()).clone()


def stacked(rows: Sequence[Inputs], *, pad: bool = False) -> Inputs | None:
    """Batches as one; None where there are none, or their rows differ in shape.

    Args:
        rows: batches.
        pad: whether to pad sequences with a mask to the longest.
    """
    if pad and rows:
        rows = of_one_length(rows)
    return joined(rows) if len(set(map(_shapes, rows))) == 1 else None


def _shapes(inputs: Inputs) -> tuple[torch.Size, ...]:
    """Of the tensors, without the batch."""
    if isinstance(inputs, Arguments):
        return tuple(leaf.shape[1:] for leaf in inputs.leaves.values())
    return (inputs.shape[1:],)


def jittered(inputs: Inputs) -> Inputs | None:
    """The inputs, each number moved by one unit in the last place of the largest, up or down.

    By a seeded draw. None for whole numbers, which cannot be moved so little.
    """
    if isinstance(inputs, Arguments):
        leaves = {n: leaf for n, leaf in inputs.leaves.items() if not is_mask(n)}
        numbers = {n: _jittered(leaf) for n, leaf in leaves.items() if leaf.is_floating_point()}
        return inputs.replaced(numbers) if numbers else None
    return _jittered(inputs) if inputs.is_floating_point() else None


def _jittered(inputs: Tensor) -> Tensor:
    generator = torch.Generator(device="cpu").manual_seed(0)
    up = torch.randint(0, 2, inputs.shape, generator=generator, device="cpu").bool()
    unit = torch.finfo(inputs.dtype).eps * inputs.abs().amax()
    return inputs + torch.where(up.to(inputs.device), unit, -unit)


def is_empty(inputs: Inputs) -> bool:
    """Whether they hold no value."""
    if isinstance(inputs, Arguments):
        return not any(leaf.numel() for leaf in inputs.leaves.values())
    return not inputs.numel()


def trial_rows(inputs: Inputs, rows: int) -> Inputs:
    """At least so many rows to try things on: those given, then shifted and dimmed copies of them.

    Args:
        inputs: of at least one row.
        rows: wanted.
    """
    copies = [inputs]
    while sum(map(len, copies)) < rows:
        copies.append(_dimmed(shifted(inputs, len(copies)), 1.0 - 0.02 * len(copies)))
    return joined(copies)


def _dimmed(inputs: Inputs, factor: float) -> Inputs:
    if isinstance(inputs, Arguments):
        name = stepped(inputs)
        return inputs if name is None else inputs.replaced({name: inputs.leaves[name] * factor})
    return inputs * factor if inputs.is_floating_point() else inputs


def finite_rows(inputs: Inputs) -> Tensor:
    """(batch,) bool, whether each row is free of NaN and infinity."""
    if isinstance(inputs, Arguments):
        leaves = [finite_rows(leaf).to(inputs.device) for leaf in inputs.leaves.values()]
        return torch.stack(leaves).all(0)
    if not inputs.is_floating_point():
        return torch.ones(len(inputs), dtype=torch.bool, device=inputs.device)
    if inputs.ndim == 1:
        return inputs.isfinite()
    # A sum meets every NaN and infinity at a tenth of the price; only overflow needs a second look.
    wide = torch.promote_types(inputs.dtype, torch.float32)
    rows = inputs.flatten(1).sum(1, dtype=wide).isfinite()
    return rows if bool(rows.all()) else inputs.isfinite().flatten(1).all(1)


def emptied(inputs: Inputs, finite: Tensor) -> Inputs:
    """The inputs with zeros for the rows that are not finite, so that they disturb no other row."""
    if isinstance(inputs, Arguments):
        floating = {n: x for n, x in inputs.leaves.items() if x.is_floating_point()}
        return inputs.replaced({name: _emptied(leaf, finite) for name, leaf in floating.items()})
    return _emptied(inputs, finite)


def _emptied(inputs: Tensor, finite: Tensor) -> Tensor:
    return torch.where(finite.reshape(-1, *[1] * (inputs.ndim - 1)), inputs, 0)


def refuse_nonfinite(finite: Tensor, what: str) -> None:
    """Raise where learning would take up NaN or infinity.

    Args:
        finite: (batch,) bool, from `finite_rows`.
        what: the work, such as ``fit``.

    Raises:
        DataError: a row is not finite; says which.
    """
    if not bool(finite.all()):
        rows = (~finite).nonzero()[:, 0].tolist()
        # Such inputs are always flagged, and no promise counts those left out of a calibration.
        later = what not in ("fit", "known")
        advice = "repair them as inputs to come will be" if later else "drop or repair them"
        raise DataError(
            f"{len(rows)} of a batch of {len(finite)} {what} inputs hold NaN or infinity (row "
            f"{rows[0]}); {what} data must be clean: {advice}."
        )
