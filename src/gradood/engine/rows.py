"""Rows of a batch that hold NaN or infinity; detectors computing on their own terms."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor

from gradood.detectors.base import Detector, State
from gradood.errors import DataError
from gradood.evidence import Evidence

__all__ = ["emptied", "finite_rows", "measured", "own_terms", "refuse_nonfinite", "state_for"]


def finite_rows(x: Tensor) -> Tensor:
    """(batch,) bool, whether each row of (batch, …) is free of NaN and infinity."""
    if not x.is_floating_point():
        return torch.ones(len(x), dtype=torch.bool, device=x.device)
    if x.ndim == 1:
        return x.isfinite()
    # A sum meets every NaN and infinity at a tenth of the price; only overflow needs a second look.
    rows = x.flatten(1).sum(1, dtype=torch.promote_types(x.dtype, torch.float32)).isfinite()
    return rows if bool(rows.all()) else x.isfinite().flatten(1).all(1)


def emptied(x: Tensor, finite: Tensor) -> Tensor:
    """`x` with zeros for the rows that are not finite, so that they disturb no other row."""
    return torch.where(finite.reshape(-1, *[1] * (x.ndim - 1)), x, 0)


def measured(detector: Detector, evidence: Evidence, state: State, device: torch.device) -> Tensor:
    """A detector's scores (batch,), float64 on the CPU, +inf where one is not finite.

    Args:
        detector: that scores.
        evidence: what it asked for.
        state: what it has learned.
        device: whose autocast to leave out.
    """
    with own_terms(device):
        found = detector.measure(evidence, state).detach().to("cpu", torch.float64)
    return torch.where(found.isfinite(), found, torch.inf)


def state_for(states: dict[str, State], name: str, evidence: Evidence) -> State:
    """The state, on the device the evidence is on (the model may have moved), and kept there."""
    state = states.get(name, {})
    device = evidence.readings[0].device
    if any(tensor.device != device for tensor in state.values()):
        state = {key: tensor.to(device) for key, tensor in state.items()}
        states[name] = state
    return state


def refuse_nonfinite(x: Tensor, what: str) -> None:
    """Raise where learning would take up NaN or infinity.

    Args:
        x: (batch, …).
        what: such as ``fit``.

    Raises:
        DataError: a row is not finite; says which.
    """
    finite = finite_rows(x)
    if not bool(finite.all()):
        rows = (~finite).nonzero()[:, 0].tolist()
        raise DataError(
            f"{len(rows)} of a batch of {len(x)} {what} inputs hold NaN or infinity (row "
            f"{rows[0]}); a {what} needs clean data: drop or repair them."
        )


@contextmanager
def own_terms(device: torch.device | None = None) -> Iterator[None]:
    """A detector's arithmetic keeps no graph and makes ordinary tensors, in any mode outside.

    Args:
        device: whose autocast to leave out; it is for the model, and must not round scores.
    """
    with ExitStack() as stack:
        if device is not None and torch.is_autocast_enabled(device.type):
            stack.enter_context(torch.autocast(device.type, enabled=False))
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.no_grad())
        yield
