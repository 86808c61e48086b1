"""Selection of auxiliary outliers by clusters of their features and by energy (GReg+)."""

from dataclasses import dataclass
from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gradood.detectors.base import require
from gradood.errors import DataError
from gradood.functional.logits import energy, joint_energy
from gradood.taps import Inputs, Network, Tap

__all__ = ["Candidates", "ClusterEnergySampler", "candidates", "kmeans"]


@dataclass(frozen=True, eq=False, slots=True)
class Candidates:
    """Features and energies of the auxiliary samples among which to choose.

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
    least like known data are taken. Groups of one and empty groups leave fewer than 2B; the rest is
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
    def choose(self, pool: Candidates, n_id: int, *, generator: torch.Generator) -> Tensor:
        """Indices of the chosen candidates, (2 · n_id,) int64, all different.

        Args:
            pool: at least 2 · n_id candidates.
            n_id: in-distribution samples of the step, at least 1.
            generator: on the CPU.

        Raises:
            DataError: too few candidates, or shapes that do not fit.
        """
        count = len(pool.energy)
        if pool.energy.ndim != 1 or len(pool.features) != count or n_id < 1:
            raise DataError(
                f"features {tuple(pool.features.shape)} and energies "
                f"{tuple(pool.energy.shape)} for {n_id} known samples; expected (n, width), (n,) "
                "and at least 1."
            )
        if count < 2 * n_id:
            raise DataError(
                f"{count} candidates for {n_id} known samples; expected at least {2 * n_id}. "
                "Raise candidates_per_id."
            )
        unit = F.normalize(pool.features.flatten(1), dim=1)
        cluster = kmeans(unit, n_id, generator=generator, iterations=self.iterations)
        chosen = self._ends(cluster, pool.energy)
        free = torch.ones(count, dtype=torch.bool, device=chosen.device)
        free[chosen] = False
        rest = torch.randperm(count, generator=generator).to(chosen.device)
        rest = rest[free[rest]]
        return torch.cat([chosen, rest[: 2 * n_id - len(chosen)]])

    def _ends(self, cluster: Tensor, energies: Tensor) -> Tensor:
        """The first and, if two-way, the last of each cluster in the order of the energy."""
        by_energy = energies.argsort(stable=True)
        order = by_energy[cluster[by_energy].argsort(stable=True)]
        sorted_cluster = cluster[order]
        change = sorted_cluster[1:] != sorted_cluster[:-1]
        edge = torch.ones(1, dtype=torch.bool, device=change.device)
        first, last = torch.cat([edge, change]), torch.cat([change, edge])
        if not self.two_way:
            return order[first]
        return torch.cat([order[first], order[last & ~first]])


def candidates(
    model: nn.Module, network: Network, x: Inputs, *, half: bool = False, batch: int = 1024
) -> Candidates:
    """Features and energies of auxiliary samples, in evaluation mode without gradients.

    Args:
        model: the unwrapped model that `network` was observed on.
        network: with a verified head.
        x: (n, …) on the model's device.
        half: compute the model in bf16.
        batch: samples at once.

    Cost: one forward.
    """
    features: list[Tensor] = []
    energies: list[Tensor] = []
    for rows in x.split(batch):
        with Tap(model) as tap, torch.autocast(x.device.type, torch.bfloat16, enabled=half):
            taken = network.watch_head(tap, rows)
            logits = network.logits_of(tap.run(rows))
            features.append(taken.features(logits))
        scored = joint_energy if network.link == "sigmoid" else energy
        energies.append(scored(logits if logits.dtype == torch.float64 else logits.float()))
    return Candidates(torch.cat(features), torch.cat(energies))


@torch.no_grad()
def kmeans(points: Tensor, k: int, *, generator: torch.Generator, iterations: int = 20) -> Tensor:
    """k-means: the cluster of each point, (n,) int64 from 0 to k − 1.

    Starts from k-means++ [arthur2007kmeans], then alternates assignment and means until no point
    moves. A cluster may end up empty if points coincide.

    Args:
        points: (n ≥ k, d).
        k: clusters, at least 1.
        generator: on the CPU, whatever the points are on.
        iterations: at most so many.

    Raises:
        DataError: fewer points than clusters, or a point is not finite.

    Cost: `iterations` products of (n, d) with (d, k), twice. Sums are matrix products, whose order
    no thread changes, so that a CUDA device gives the same every time too.

    >>> generator = torch.Generator().manual_seed(0)
    >>> points = torch.tensor([[0.0], [0.1], [9.0], [9.1]])
    >>> cluster = kmeans(points, 2, generator=generator)
    >>> bool(cluster[0] == cluster[1] != cluster[2] == cluster[3])
    True
    """
    if points.ndim != 2 or not 1 <= k <= len(points):
        raise DataError(
            f"{k} clusters of {tuple(points.shape)} points; expected (n, d) points with n ≥ k ≥ 1."
        )
    if not bool(points.isfinite().all()):
        raise DataError("points to cluster are not finite; expected numbers.")
    points = points.float() if points.dtype in (torch.float16, torch.bfloat16) else points
    centers = points[_initial_centers(points, k, generator)]
    assigned = _nearest(points, centers)
    for _ in range(iterations):
        membership = F.one_hot(assigned, k).to(points)
        sizes = membership.sum(0)[:, None]
        # An empty cluster keeps its center.
        centers = torch.where(sizes > 0, membership.T @ points / sizes.clamp_min(1), centers)
        reassigned = _nearest(points, centers)
        if torch.equal(reassigned, assigned):
            break
        assigned = reassigned
    return assigned


def _initial_centers(points: Tensor, k: int, generator: torch.Generator) -> Tensor:
    """Indices (k,) of first centers, each drawn by its squared distance from those before."""
    draws = torch.rand(k, generator=generator, dtype=torch.float64).to(points)
    n = len(points)
    index = (draws[0] * n).long().clamp_max(n - 1)
    chosen = [index]
    distance = torch.full((n,), torch.inf).to(points)
    for draw in draws[1:]:
        distance = torch.minimum(distance, (points - points[index]).square().sum(1))
        total = distance.cumsum(0)
        # Where all points coincide with a center, the last is taken; clusters then stay empty.
        index = torch.searchsorted(total, draw * total[-1], right=True).clamp_max(n - 1)
        chosen.append(index)
    return torch.stack(chosen)


def _nearest(points: Tensor, centers: Tensor) -> Tensor:
    # ‖p‖² is the same for all centers.
    return (centers.square().sum(1) - 2 * points @ centers.T).argmin(1)
