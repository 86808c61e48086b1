"""k-means in torch, on the device of the points, the same for the same seed."""

import torch
from torch import Tensor

from gradood.errors import DataError

__all__ = ["kmeans"]


@torch.no_grad()
def kmeans(points: Tensor, k: int, *, generator: torch.Generator, iterations: int = 20) -> Tensor:
    """The cluster of each point, (n,) int64 from 0 to k − 1.

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
    centers = points[_seeds(points, k, generator)]
    assigned = _nearest(points, centers)
    for _ in range(iterations):
        belongs = torch.nn.functional.one_hot(assigned, k).to(points)
        sizes = belongs.sum(0)[:, None]
        # An empty cluster keeps its center.
        centers = torch.where(sizes > 0, belongs.T @ points / sizes.clamp_min(1), centers)
        moved = _nearest(points, centers)
        if torch.equal(moved, assigned):
            break
        assigned = moved
    return assigned


def _seeds(points: Tensor, k: int, generator: torch.Generator) -> Tensor:
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
