"""The classification term, over the in-distribution rows."""

from math import isfinite
from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor

from gradood.detectors.base import require

__all__ = ["CrossEntropy", "LogitNorm"]


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
            return logits.sum()
        return F.cross_entropy(logits, labels, label_smoothing=self.label_smoothing)


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
            return logits.sum()
        length = torch.linalg.vector_norm(logits, dim=1, keepdim=True) + 1e-7
        return F.cross_entropy(logits / (length * self.temperature), labels)
