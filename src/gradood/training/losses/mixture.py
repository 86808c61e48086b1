"""MixOE: outliers between the known and the unknown."""

from dataclasses import dataclass
from math import sqrt
from typing import Literal, final

import numpy as np
import torch
from torch import Tensor

from gradood.errors import DataError

__all__ = ["Mixture", "MixtureExposure", "mix"]


@dataclass(frozen=True, slots=True)
class Mixture:
    """Inputs mixed of known samples and outliers.

    Attributes:
        x: (n, …).
        share: of the known sample in each, 0 to 1.
    """

    x: Tensor
    share: float


def mix(
    known: Tensor,
    outliers: Tensor,
    *,
    kind: Literal["linear", "cut"],
    alpha: float,
    rng: np.random.Generator,
) -> Mixture:
    """Mix each known sample with one outlier [zhang2023mixoe].

    Args:
        known: (n, …).
        outliers: of the same shape.
        kind: ``"linear"`` blends pixels, ``"cut"`` replaces a box of (…, height, width).
        alpha: of the Beta(α, α) that the share is drawn from, > 0.
        rng: of the share and the box.

    Raises:
        DataError: the shapes differ.
    """
    if known.shape != outliers.shape:
        raise DataError(
            f"{tuple(known.shape)} known samples and {tuple(outliers.shape)} outliers cannot be "
            "mixed; expected the same shape. Set aux_per_id = 1."
        )
    share = float(rng.beta(alpha, alpha))
    if kind == "linear":
        return Mixture(share * known + (1 - share) * outliers, share)
    height, width = known.shape[-2:]
    rows, columns = (round(side * sqrt(1 - share)) for side in (height, width))
    top = int(rng.integers(height - rows + 1))
    left = int(rng.integers(width - columns + 1))
    box = (..., slice(top, top + rows), slice(left, left + columns))
    mixed = known.clone()
    mixed[box] = outliers[box]
    return Mixture(mixed, 1 - rows * columns / (height * width))


@final
class MixtureExposure:
    """Cross-entropy with labels as mixed as the inputs [zhang2023mixoe].

    ``−share · log p_y − (1 − share) · mean_c log p_c``, over rows made by `mix`.
    """

    def __call__(self, logits: Tensor, labels: Tensor, *, share: float) -> Tensor:
        """The loss, a scalar; 0 for an empty batch.

        Args:
            logits: (n, classes) of the mixed inputs.
            labels: (n,) of their known samples.
            share: of the known sample in each.
        """
        if not len(logits):
            return logits.sum()
        log_p = torch.log_softmax(logits, 1)
        known = log_p.gather(1, labels[:, None])[:, 0]
        return -(share * known + (1 - share) * log_p.mean(1)).mean()
