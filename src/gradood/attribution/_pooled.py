"""Contributions of the positions whose mean is the features: the last map, unit by unit."""

from collections.abc import Iterable

import torch
from torch import Tensor

from gradood.attribution._grid import Grid, grid_of, image_size
from gradood.attribution._known_positions import require_finite
from gradood.attribution._mapped_score import MappedScore
from gradood.attribution._passes import seen_at
from gradood.attribution._path import LayerMap
from gradood.errors import DataError, TapError
from gradood.evidence import FEATURES, gather
from gradood.taps import Inputs, Network, Site, attended

__all__ = ["mean_features", "pooled_contributions", "pooled_place"]

_ROUNDING = 1e-3
_STEPS = 64
"""Of the integral, which runs through the detector alone."""


def pooled_place(network: Network, x: Inputs) -> tuple[Site, Grid]:
    """The map whose mean is the features, and how it lies.

    Raises:
        TapError: the features are no such mean.
    """
    last = network.last_map
    grid = None
    if last is not None and last.positions > 1:
        layer = network.layers[last.site.layer]
        grid = grid_of(layer.shape, layer.channels, image_size(x))
    if last is None or grid is None or grid.first:
        raise TapError(
            "the features of this model are no mean over positions, as of a class token or after "
            'a flattening, so its last map has no exact shares; take method="path", which follows '
            "the score back to earlier layers."
        )
    return last.site, grid


def pooled_contributions(
    network: Network, x: Inputs, explained: MappedScore, reference: Tensor
) -> LayerMap:
    """Shares of the positions of the last map in the contributions of the units.

    ``c_p = 1/P Σ_u (c_u + (a_pu − h_u) g_u)`` with c_u the contribution of unit u by the rule of
    the detector, and ``g_u = ∫₀¹ ∂s/∂h_u (r + t (h − r)) dt``. As h is the mean of a over the P
    positions, these sum to c_u for each unit, whatever its rule; where that is Aumann–Shapley, with
    ``c_u = (h_u − r_u) g_u``, they are ``(a_pu − r_u) g_u / P``.

    Args:
        network: the observed model.
        x: of a batch, finite, on its device.
        explained: the score.
        reference: r, (width,) features, such as the mean of known ones.

    Cost:
        Two forwards, and 64 backwards through the detectors alone.
    """
    values, weight, score, grid = _last_values(network, x, explained)
    h = (values * weight[..., None]).sum(1)
    start = reference.to(h).expand_as(h)
    slope = torch.zeros_like(h)
    for number in range(_STEPS):
        point = start + (number + 0.5) / _STEPS * (h - start)
        slope += _slope(network, explained, point) / _STEPS
    units, reached = explained.units(x, reference)
    away = ((values - h[:, None]) * slope[:, None]).sum(-1)
    return LayerMap(grid.folded((units.sum(1, keepdim=True) + away) * weight), score, reached)


def mean_features(network: Network, batches: Iterable[Inputs]) -> Tensor:
    """(width,) float64, the mean features of some inputs.

    Raises:
        DataError: there are none, or the model makes features of one that are not finite.
    """
    sums: list[tuple[Tensor, int]] = []
    for x in batches:
        features = gather(network, x, (FEATURES,)).features.double()
        require_finite(features)
        sums.append((features.sum(0), len(x)))
    count = sum(size for _, size in sums)
    if not count:
        raise DataError("known= holds no input; give some that the model knows.")
    return torch.stack([each for each, _ in sums]).sum(0) / count


def _last_values(
    network: Network, x: Inputs, explained: MappedScore
) -> tuple[Tensor, Tensor, Tensor, Grid]:
    """Values (batch, positions, width) of the last map, weights, scores, and how it lies."""
    site, place = pooled_place(network, x)
    seen = seen_at(network, x, explained, (site, network.head.site))
    grid = place.over(seen.seen[site], image_size(x))
    tensor = grid.positions(seen.seen[site]).double()
    mask = attended(x)
    features = network.head.features(seen.seen[network.head.site], None, mask).double()
    weight = torch.ones_like(tensor[..., 0])
    if mask is not None and mask.shape == weight.shape:
        weight = mask.to(weight)
    weight = weight / weight.sum(1, keepdim=True).clamp_min(1)
    sound = features.isfinite().all(1)
    for values in (tensor, tensor.clamp_min(0)):
        off = ((values * weight[..., None]).sum(1) - features)[sound].abs()
        if not len(off) or float(off.max()) <= _ROUNDING * float(features[sound].abs().max()):
            return values, weight, seen.score, grid
    raise TapError(
        "the features of this batch are not the mean of the last map, as they were on the first "
        'inputs; give a mask if positions are padding, or take method="path".'
    )


def _slope(network: Network, explained: MappedScore, features: Tensor) -> Tensor:
    with torch.enable_grad():
        point = features.detach().requires_grad_()
        score = explained.of_features(point, _logits(network, point))
        if not score.requires_grad:
            raise TapError(
                f"the score of {explained.name} has no gradient, as it is a step function of what "
                'it reads; take method="occlusion".'
            )
        return torch.autograd.grad(score.sum(), point)[0]


def _logits(network: Network, features: Tensor) -> Tensor:
    weight, bias = network.head.linear()
    logits = features @ weight.to(features).T
    return logits if bias is None else logits + bias.to(features)
