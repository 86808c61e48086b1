"""Distances of positions of a layer from those of known inputs [defard2021padim]."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from gradood.attribution._grid import Grid, image_size
from gradood.attribution._passes import seen_at
from gradood.attribution._path import LayerMap
from gradood.errors import DataError
from gradood.taps import Inputs, Network, Site, attended

__all__ = ["KnownPositions", "known_positions", "require_finite"]

_PER_BATCH = 4096
"""Positions that are kept of a batch, by a seeded draw."""
_RIDGE = 1e-3
"""Of the mean variance, added to each."""


@dataclass(frozen=True, eq=False, slots=True)
class KnownPositions:
    """A Gaussian for each layer, of the vectors at all positions of known inputs.

    Attributes:
        network: the observed model.
        places: site → how it lies.
        gaussians: site → mean (width,) and precision (width, width), float64.
    """

    network: Network
    places: Mapping[Site, Grid]
    gaussians: Mapping[Site, tuple[Tensor, Tensor]]

    def distances(self, x: Inputs) -> dict[str, LayerMap]:
        """Squared Mahalanobis distance by width, for each layer: at most about 1 is ordinary.

        Cost: one forward, and width² multiplications for each position.
        """
        seen = seen_at(self.network, x, None, tuple(self.places)).seen
        mask = attended(x)
        nan = torch.full((len(x),), torch.nan, dtype=torch.float64)
        found: dict[str, LayerMap] = {}
        for site, place in self.places.items():
            grid = place.over(seen[site], image_size(x))
            mean, precision = (each.to(seen[site].device) for each in self.gaussians[site])
            away = grid.positions(seen[site]).double() - mean
            distance = ((away @ precision) * away).sum(-1) / len(mean)
            if mask is not None and mask.shape == distance.shape:
                distance = distance.masked_fill(~mask.to(distance.device), 0.0)
            found[str(site)] = LayerMap(grid.folded(distance), nan, nan)
        return found


def known_positions(
    network: Network, places: Mapping[Site, Grid], batches: Iterable[Inputs]
) -> KnownPositions:
    """The Gaussians of known inputs.

    Args:
        network: the observed model.
        places: where to look.
        batches: known inputs, on the device of the model.

    Raises:
        DataError: there are no two positions, or the model makes nothing finite of one.
    """
    generator = torch.Generator("cpu").manual_seed(0)
    parts: dict[Site, list[Tensor]] = {site: [] for site in places}
    for x in batches:
        found = seen_at(network, x, None, tuple(places))
        require_finite(found.score)
        seen, mask = found.seen, attended(x)
        for site, place in places.items():
            grid = place.over(seen[site], image_size(x))
            vectors = grid.positions(seen[site])
            counted = torch.ones(vectors.shape[:2], dtype=torch.bool, device=vectors.device)
            if mask is not None and mask.shape == counted.shape:
                counted = mask.to(counted.device)
            rows = vectors[:, grid.first :][counted[:, grid.first :]]
            drawn = torch.randperm(len(rows), generator=generator, device="cpu")[:_PER_BATCH]
            parts[site].append(rows[drawn.to(rows.device)].double())
    gaussians: dict[Site, tuple[Tensor, Tensor]] = {}
    for site, kept in parts.items():
        rows = torch.cat(kept) if kept else torch.zeros(0, 1)
        if len(rows) < 2:
            raise DataError("known= holds no input; give some that the model knows.")
        spread = torch.cov(rows.T).reshape(rows.shape[1], rows.shape[1])
        ridge = _RIDGE * spread.diagonal().mean().clamp_min(1e-12)
        spread = spread + ridge * torch.eye(len(spread), dtype=spread.dtype, device=spread.device)
        gaussians[site] = rows.mean(0), torch.linalg.inv(spread)
    return KnownPositions(network, places, gaussians)


def require_finite(values: Tensor) -> None:
    """Refuse known inputs of which the model makes NaN or infinity.

    Args:
        values: (rows, width) logits or features of them.

    Raises:
        DataError: a row is not finite.
    """
    if not bool(values.isfinite().all()):
        raise DataError(
            "known= has inputs of which the model makes NaN or infinity, though they are finite; "
            "drop such inputs, or repair the model."
        )
