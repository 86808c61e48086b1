"""Which auxiliary samples a step trains on: diverse, and at both ends of the energy."""

from dataclasses import dataclass
from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor

from gradood.detectors.base import require
from gradood.errors import DataError
from gradood.training.kmeans import kmeans

__all__ = ["Candidates", "ClusterEnergySampler"]


@dataclass(frozen=True, eq=False, slots=True)
class Candidates:
    """What is known of the auxiliary samples among which to choose.

    Attributes:
        features: (n, width), penultimate, in evaluation mode.
        energy: (n,).
    """

    features: Tensor
    energy: Tensor


@final
class ClusterEnergySampler:
    """From each cluster the samples of lowest and highest energy, as in GReg+ [sharifi2024greg].

    The candidates' features, brought to length one, are clustered into as many groups as there are
    in-distribution samples, B. Of each group the sample that looks most and the one that looks
    least like known data are taken. What is missing to exactly 2B (groups of one, empty groups) is
    filled with other candidates at random.

    Args:
        candidates_per_id: candidates for each in-distribution sample, at least 2.
        two_way: take both ends; False takes the lowest energies alone, and fills up to 2B.
        iterations: of k-means, at most.

    Raises:
        ConfigError: an option is out of range.

    Cost: a forward of the candidates in evaluation mode without gradients, and k-means.
    """

    def __init__(
        self, *, candidates_per_id: int = 6, two_way: bool = True, iterations: int = 20
    ) -> None:
        require(
            candidates_per_id >= 2, "candidates_per_id", candidates_per_id, "at least 2, for 2B"
        )
        require(iterations >= 1, "iterations", iterations, "at least 1")
        self.candidates_per_id = candidates_per_id
        self.two_way = two_way
        self.iterations = iterations

    def candidates(self, n_id: int) -> int:
        """How many candidates a step with `n_id` in-distribution samples scores."""
        return self.candidates_per_id * n_id

    @torch.no_grad()
    def choose(self, given: Candidates, n_id: int, *, generator: torch.Generator) -> Tensor:
        """Indices of the chosen candidates, (2 · n_id,) int64, all different.

        Args:
            given: at least 2 · n_id candidates.
            n_id: in-distribution samples of the step, at least 1.
            generator: on the CPU.

        Raises:
            DataError: too few candidates, or shapes that do not fit.
        """
        count = len(given.energy)
        if given.energy.ndim != 1 or len(given.features) != count or n_id < 1:
            raise DataError(
                f"features {tuple(given.features.shape)} and energies "
                f"{tuple(given.energy.shape)} for {n_id} known samples; expected (n, width), (n,) "
                "and at least 1."
            )
        if count < 2 * n_id:
            raise DataError(
                f"{count} candidates for {n_id} known samples; expected at least {2 * n_id}. "
                "Raise candidates_per_id."
            )
        unit = F.normalize(given.features.flatten(1), dim=1)
        cluster = kmeans(unit, n_id, generator=generator, iterations=self.iterations)
        taken = self._ends(cluster, given.energy)
        free = torch.ones(count, dtype=torch.bool, device=taken.device)
        free[taken] = False
        rest = torch.randperm(count, generator=generator).to(taken.device)
        rest = rest[free[rest]]
        return torch.cat([taken, rest[: 2 * n_id - len(taken)]])

    def _ends(self, cluster: Tensor, energy: Tensor) -> Tensor:
        """The first, and unless one way, the last of each cluster in the order of the energy."""
        by_energy = energy.argsort(stable=True)
        order = by_energy[cluster[by_energy].argsort(stable=True)]
        sorted_cluster = cluster[order]
        change = sorted_cluster[1:] != sorted_cluster[:-1]
        edge = torch.ones(1, dtype=torch.bool, device=change.device)
        first, last = torch.cat([edge, change]), torch.cat([change, edge])
        if not self.two_way:
            return order[first]
        return torch.cat([order[first], order[last & ~first]])
