"""Rows of a batch of inputs: their number, their device, and which hold NaN or infinity.

Whatever a model takes passes through these functions alone; nothing else in the engine looks into
an input. Inputs of another form (a tuple or mapping of tensors) need new cases here, and nowhere
else.
"""

from collections.abc import Sequence
from typing import TypeAlias

import torch
from torch import Tensor

from gradood.errors import DataError

__all__ = [
    "Inputs",
    "described",
    "emptied",
    "finite_rows",
    "jittered",
    "moved",
    "refuse_nonfinite",
    "row",
    "row_count",
    "selected",
    "stacked",
]

Inputs: TypeAlias = Tensor
"""What a model takes for one batch: a tensor (batch, …)."""


def row_count(inputs: Inputs) -> int:
    """Number of rows of a batch."""
    return len(inputs)


def moved(inputs: Inputs, device: torch.device) -> Inputs:
    """The inputs without graph, on a device.

    Raises:
        DataError: they hold no data, or are sparse or nested.
    """
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
    """A copy of one row on the CPU, as a batch of its own."""
    return inputs[place : place + 1].detach().cpu().clone()


def stacked(rows: Sequence[Inputs]) -> Inputs | None:
    """Batches as one; None where there are none, or their rows differ in shape."""
    if len({part.shape[1:] for part in rows}) != 1:
        return None
    return torch.cat(list(rows))


def jittered(inputs: Inputs) -> Inputs | None:
    """The inputs, each number moved by one unit in the last place of the largest, up or down.

    By a seeded draw. None for whole numbers, which cannot be moved so little.
    """
    if not inputs.is_floating_point():
        return None
    generator = torch.Generator(device="cpu").manual_seed(0)
    up = torch.randint(0, 2, inputs.shape, generator=generator, device="cpu").bool()
    unit = torch.finfo(inputs.dtype).eps * inputs.abs().amax()
    return inputs + torch.where(up.to(inputs.device), unit, -unit)


def described(inputs: Inputs) -> str:
    """Shape and type of inputs, for messages."""
    shape = ", ".join(map(str, inputs.shape[1:]))
    return f"(batch, {shape}) {inputs.dtype}".replace("torch.", "")


def finite_rows(inputs: Inputs) -> Tensor:
    """(batch,) bool, whether each row is free of NaN and infinity."""
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
        advice = "drop or repair them" if what == "fit" else "repair them as inputs to come will be"
        raise DataError(
            f"{len(rows)} of a batch of {len(finite)} {what} inputs hold NaN or infinity (row "
            f"{rows[0]}); a {what} needs clean data: {advice}."
        )
