"""Virtual outliers (VOS): feature vectors sampled where the density of their class is low."""

from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gradood.detectors.base import require
from gradood.training.losses._zero import zero

__all__ = ["VirtualOutliers"]


@final
class VirtualOutliers(nn.Module):
    """Energies of known features against those of virtual outliers [du2022vos].

    The last `queue` features of each class give class means and one shared covariance. Of `drawn`
    samples from each class's Gaussian, the least likely becomes a virtual outlier. A logistic
    regression on the weighted energy ``−log Σ_c relu(w_c) exp(z_c)`` tells them from known samples.
    It needs no auxiliary data. Before every class has a full queue the loss is 0.

    Args:
        classes: number of logits.
        width: of the features.
        queue: features kept per class.
        drawn: samples from each class, of which one is kept.

    Raises:
        ConfigError: an option is out of range.

    Cost: `classes` × `drawn` × `width` numbers, and a Cholesky factor of (width, width) each step.
    """

    features: Tensor
    counts: Tensor

    def __init__(self, *, classes: int, width: int, queue: int = 1000, drawn: int = 10_000) -> None:
        super().__init__()
        require(queue >= 2, "queue", queue, "at least 2 features")
        require(drawn >= 1, "drawn", drawn, "at least 1 sample")
        self.drawn = drawn
        self.weight = nn.Parameter(torch.ones(classes))
        self.slope = nn.Parameter(torch.tensor(-1.0))
        self.offset = nn.Parameter(torch.tensor(0.0))
        self.register_buffer("features", torch.zeros(classes, queue, width))
        self.register_buffer("counts", torch.zeros(classes, dtype=torch.int64))

    @property
    def ready(self) -> bool:
        """Whether every class has a full queue."""
        return bool((self.counts >= self.features.shape[1]).all())

    @torch.no_grad()
    def remember(self, features: Tensor, labels: Tensor) -> None:
        """Put features (n, width) of known samples into the queues of their classes."""
        size = self.features.shape[1]
        for row, label in zip(features.detach().to(self.features), labels.tolist(), strict=True):
            self.features[label, int(self.counts[label]) % size] = row
            self.counts[label] += 1

    @torch.no_grad()
    def imagine(self, generator: torch.Generator) -> Tensor:
        """One virtual outlier per class, (classes, width).

        Args:
            generator: on the CPU, so that every device gives the same.
        """
        mean = self.features.mean(1)
        centered = (self.features - mean[:, None]).flatten(0, 1)
        covariance = centered.T @ centered / len(centered)
        covariance += 1e-4 * torch.eye(len(covariance)).to(covariance)
        factor = torch.linalg.cholesky(covariance)
        outliers = []
        for center in mean:
            noise = torch.randn(self.drawn, len(center), generator=generator).to(center)
            # The density falls with the distance measured by the covariance: that of the noise.
            furthest = noise.square().sum(1).argmax()
            outliers.append(center + factor @ noise[furthest])
        return torch.stack(outliers)

    def forward(self, known: Tensor, virtual: Tensor | None, *, total: int | None = None) -> Tensor:
        """The loss, a scalar.

        Args:
            known: (n, classes) logits of in-distribution samples.
            virtual: (m, classes) logits of the head on virtual outliers, or None before there are.
            total: in-distribution rows of the whole batch, if these are a part of it.
        """
        if virtual is None or not len(virtual):
            # Parameters that take no part would make distributed training wait for them.
            return zero(known, *self.parameters())
        count = len(known) if total is None else total
        share = count / (count + len(virtual))
        inside = F.softplus(-self._logit(known)).mean() if len(known) else zero(known)
        outside = F.softplus(self._logit(virtual)).mean()
        return share * inside + (1 - share) * outside

    def _logit(self, logits: Tensor) -> Tensor:
        """Log odds of being known, (n,)."""
        weight = self.weight.to(logits).relu().clamp_min(1e-12)
        energy = -torch.logsumexp(logits + weight.log(), 1)
        return self.slope.to(logits) * energy + self.offset.to(logits)
