"""Share of a feature inside the space of the classes [ben2024neco]."""

import torch
from jaxtyping import Float
from torch import Tensor

from gradood.functional.subspace import part_share

__all__ = ["inside_share", "spread"]

_CONSTANT = 1e-9


def spread(
    mean: Float[Tensor, " width"], variance: Float[Tensor, " width"]
) -> Float[Tensor, " width"]:
    """Standard deviation per feature; one where a feature does not vary.

    A feature that varies by less than 1e-9 of its mean is constant up to rounding.

    Args:
        mean: over the fit data.
        variance: over the fit data, divided by the number of samples.
    """
    deviation = variance.clamp_min(0.0).sqrt()
    return torch.where(deviation > _CONSTANT * mean.abs(), deviation, 1.0)


def inside_share(
    features: Float[Tensor, "batch width"],
    mean: Float[Tensor, " width"],
    scale: Float[Tensor, " width"],
    operator: Float[Tensor, "width width"],
) -> Float[Tensor, " batch"]:
    """``‖P z‖ / ‖z‖`` with ``z = (h − mean) / scale``, from 0 to 1; 0 where z is zero.

    Args:
        features: h.
        mean: subtracted.
        scale: divided by.
        operator: P, from `gradood.functional.subspace.principal`.
    """
    return part_share((features.double() - mean) / scale, operator)
