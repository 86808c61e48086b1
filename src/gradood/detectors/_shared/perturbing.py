"""Whether a model can be read on inputs moved along their gradient, tried out before the first."""

import torch
from torch import Tensor

from gradood.errors import TapError
from gradood.evidence import Perturbed, gather
from gradood.taps import Network

__all__ = ["try_perturbing"]

_ROWS = 4


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
