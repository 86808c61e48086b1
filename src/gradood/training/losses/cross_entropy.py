"""Cross-entropies: with classes, of scaled logits, with the uniform distribution, of mixtures."""

from dataclasses import dataclass
from math import isfinite, sqrt
from typing import Literal, final

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from gradood.detectors.base import require
from gradood.errors import DataError
from gradood.training.losses._zero import zero

__all__ = [
    "BinaryCrossEntropy",
    "CrossEntropy",
    "LogitNorm",
    "Mixture",
    "MixtureExposure",
    "OutlierExposure",
    "mix",
]


@final
class CrossEntropy:
    """Cross-entropy with the true classes.

    Args:
        label_smoothing: share of the target spread over all classes, 0 to below 1.

    >>> CrossEntropy()(torch.zeros(2, 4), torch.tensor([0, 1]))
    tensor(1.3863)
    """

    def __init__(self, *, label_smoothing: float = 0.0) -> None:
        require(0 <= label_smoothing < 1, "label_smoothing", label_smoothing, "a number in [0, 1)")
        self.label_smoothing = label_smoothing

    def __call__(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Mean over (batch, classes) logits; a scalar, 0 for an empty batch."""
        if not len(logits):
            return zero(logits)
        return F.cross_entropy(logits, labels, label_smoothing=self.label_smoothing)


@final
class BinaryCrossEntropy:
    """Mean cross-entropy of labels that each hold or not, by a sigmoid of its logit.

    Args:
        label_smoothing: share of each target that is spread over 0 and 1, 0 to below 1.

    >>> BinaryCrossEntropy()(torch.zeros(2, 4), torch.tensor([[0.0, 1, 1, 0], [0, 0, 0, 0]]))
    tensor(0.6931)
    """

    def __init__(self, *, label_smoothing: float = 0.0) -> None:
        require(0 <= label_smoothing < 1, "label_smoothing", label_smoothing, "a number in [0, 1)")
        self.label_smoothing = label_smoothing

    def __call__(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Mean over (batch, classes) logits and as many labels; a scalar, 0 for an empty batch."""
        if not len(logits):
            return zero(logits)
        targets = labels.to(logits) * (1 - self.label_smoothing) + self.label_smoothing / 2
        return F.binary_cross_entropy_with_logits(logits, targets)


@final
class LogitNorm:
    """Cross-entropy of logits brought to one length [wei2022logitnorm].

    ``CE(z / (T ‖z‖₂), y)``: confidence cannot grow with the length of the logits. The network then
    has no meaningful energy; score it by maximum softmax or features.

    Args:
        temperature: T > 0; 0.04 in the paper on CIFAR-10.

    >>> LogitNorm(temperature=1.0)(torch.tensor([[3.0, 4.0]]), torch.tensor([1]))
    tensor(0.5981)
    """

    def __init__(self, *, temperature: float = 0.04) -> None:
        require(
            0 < temperature and isfinite(temperature), "temperature", temperature, "a number > 0"
        )
        self.temperature = temperature

    def __call__(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Mean over (batch, classes) logits; a scalar, 0 for an empty batch."""
        if not len(logits):
            return zero(logits)
        length = torch.linalg.vector_norm(logits, dim=1, keepdim=True) + 1e-7
        return F.cross_entropy(logits / (length * self.temperature), labels)


@final
class OutlierExposure:
    """Cross-entropy from the uniform distribution on outliers [hendrycks2019oe].

    ``mean_aux (logsumexp(z) − mean_c z_c)``

    Cost: none beside the forward.

    >>> OutlierExposure()(torch.zeros(3, 4), n_id=1)
    tensor(1.3863)
    """

    def __call__(self, logits: Tensor, *, n_id: int) -> Tensor:
        """The loss, a scalar; 0 without outliers.

        Args:
            logits: (batch, classes), the first `n_id` rows in-distribution.
            n_id: in-distribution rows, which have no part in it.
        """
        outliers = logits[n_id:]
        if not len(outliers):
            return zero(logits)
        return (torch.logsumexp(outliers, 1) - outliers.mean(1)).mean()


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
            return zero(logits)
        log_p = torch.log_softmax(logits, 1)
        known = log_p.gather(1, labels[:, None])[:, 0]
        return -(share * known + (1 - share) * log_p.mean(1)).mean()
