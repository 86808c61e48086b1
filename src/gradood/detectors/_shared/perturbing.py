"""Whether a model can be read on inputs moved along their gradient, tried out before the first."""

from collections.abc import Sequence
from math import isfinite
from typing import Literal

import torch
from torch import Tensor

from gradood.detectors.base import require
from gradood.errors import TapError
from gradood.evidence import Perturbed, gather
from gradood.taps import Network

__all__ = ["Deviation", "check_step", "step_scale", "try_perturbing"]

Deviation = Sequence[float] | Literal["auto"] | None
"""What divides a step in each channel; ``"auto"`` for the preprocessing's, None for nothing."""
_ROWS = 4


def check_step(temperature: float, noise: float, std: Deviation) -> None:
    """Check the options of a step along the gradient of a tempered softmax.

    Raises:
        ConfigError: one has a wrong value.
    """
    for option, value in (("temperature", temperature), ("noise", noise)):
        require(0 < value and isfinite(value), option, value, "a number > 0")
    numbers = std is None or isinstance(std, str) or all(0 < s and isfinite(s) for s in std)
    known = std == "auto" if isinstance(std, str) else std is None or len(std) > 0
    require(known and numbers, "std", std, "'auto', None, or a number > 0 per channel")


def step_scale(
    network: Network, probe: Tensor, std: Deviation
) -> tuple[tuple[float, ...], tuple[str, ...]]:
    """What a step is divided by in each channel, and notes on how that was chosen.

    Args:
        network: the observed model.
        probe: (batch, channels, …) inputs.
        std: the option.
    """
    if std is None:
        return (1.0,), ()
    if not isinstance(std, str):
        return tuple(map(float, std)), ()
    if network.normalizes_input:
        return (1.0,), ("the model normalizes its inputs itself: the step is on these as they are",)
    known = network.input_std
    if known is not None and len(known) in (1, probe.shape[1] if probe.ndim > 1 else 1):
        return known, (f"the step is divided by the preprocessing's std {known}",)
    return (1.0,), (
        "the preprocessing is not known, so the step is on the inputs as the model gets them: give "
        "std, or preprocess to the monitor",
    )


def try_perturbing(
    network: Network, probe: Tensor, read: Perturbed, method: str
) -> tuple[str, ...]:
    """Read some rows of the probe; a caveat if no step changes what the model gives.

    Raises:
        TapError: autograd does not lead from the logits to the input; names the method.

    Cost:
        Two forwards and a backward of four rows.
    """
    try:
        seen = gather(network, probe[:_ROWS], (read, read.what))
    except TapError as error:
        raise TapError(f"{method} moves inputs along their gradient: {error}") from error
    if not torch.equal(seen[read], seen[read.what]):
        return ()
    return (
        f"{method} does not move the inputs of this model by a step that it could tell: the "
        "gradient of its largest logit with respect to them is zero, or the step too small.",
    )
