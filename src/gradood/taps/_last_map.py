"""The map whose mean over positions is the features, by the means of all that layers gave."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from gradood.taps.network import LastMap
from gradood.taps.site import Site

__all__ = ["LayerCall", "last_map"]

_MEANS = {torch.float16: 2e-3, torch.bfloat16: 1e-2}
"""Rounding of a mean in these types, relative to the largest feature; else 1e-4."""


@dataclass(frozen=True, slots=True, eq=False)
class LayerCall:
    """What a layer gave in one call.

    Attributes:
        node: of the autograd graph, or None.
        shape: with the batch; empty if it is no floating tensor.
        channels: dimension of its channels.
        mean: (batch, channels) over positions, or None.
        positive_mean: likewise of its positive part.
    """

    node: Any
    shape: tuple[int, ...]
    channels: int
    mean: Tensor | None
    positive_mean: Tensor | None


def last_map(
    layers: Iterable[str], calls: Mapping[str, Sequence[LayerCall]], features: Tensor | None
) -> LastMap | None:
    """The last map whose mean, or that of its positive part, is the features; None if none is.

    Args:
        layers: names, the last to run first.
        calls: what each layer gave.
        features: (rows, width), or None if there is no head.
    """
    if features is None:
        return None
    target = features.double()
    scale = target.abs().max().clamp_min(1e-9)
    tolerance = _MEANS.get(features.dtype, 1e-4)
    pooled: LastMap | None = None
    for name in layers:
        for call, seen in enumerate(calls[name]):
            if len(seen.shape) < 3 or seen.mean is None or seen.mean.shape != target.shape:
                continue
            for mean in (seen.mean, seen.positive_mean):
                if mean is not None and float((mean - target).abs().max() / scale) < tolerance:
                    count = torch.Size(seen.shape).numel() // target.numel()
                    found = LastMap(Site(name, "output", call), count)
                    if count > 1:
                        return found
                    pooled = pooled or found
    return pooled
