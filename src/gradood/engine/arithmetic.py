"""A detector's arithmetic: its scores in float64 on the CPU, whatever mode surrounds it."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor

from gradood.detectors.base import Detector, State
from gradood.evidence import Evidence

__all__ = ["detached", "evidence_device", "measured", "state_on"]


def measured(detector: Detector, evidence: Evidence, state: State) -> Tensor:
    """A detector's scores (batch,), float64 on the CPU, +inf where one is not finite.

    Args:
        detector: that scores.
        evidence: what its plan asked for.
        state: what it has learned, on the device of the evidence.
    """
    with detached(evidence_device(evidence)):
        scores = detector.measure(evidence, state).detach().to("cpu", torch.float64)
    return torch.where(scores.isfinite(), scores, torch.inf)


def evidence_device(evidence: Evidence) -> torch.device:
    """Where the readings are."""
    return evidence.readings[0].device


def state_on(device: torch.device, state: State) -> State:
    """A state on the device that the evidence is on, as the model may have moved since the fit."""
    if all(tensor.device == device for tensor in state.values()):
        return state
    return {key: tensor.to(device) for key, tensor in state.items()}


@contextmanager
def detached(device: torch.device | None = None) -> Iterator[None]:
    """No graph and ordinary tensors, in any mode outside.

    Args:
        device: whose autocast to leave out; it is for the model, and must not round scores.
    """
    with ExitStack() as stack:
        if device is not None and torch.is_autocast_enabled(device.type):
            stack.enter_context(torch.autocast(device.type, enabled=False))
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.no_grad())
        yield
