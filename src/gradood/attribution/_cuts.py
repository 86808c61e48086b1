"""Layers through whose output alone the answer of a network depends on its input."""

from collections.abc import Iterator, Sequence
from typing import Any

from torch import Tensor

from gradood.attribution._grid import Grid, grid_of, image_size
from gradood.attribution._mixing import mixed
from gradood.attribution._passes import seen_at
from gradood.detectors._shared.blocks import block_outputs, repeated_blocks
from gradood.errors import TapError
from gradood.taps import Inputs, Network, Site, attended, joined, shifted

__all__ = ["cuts", "default_places", "grids_of"]

_ROUNDING = 1e-5
"""Relative to the largest logit; the two rows of a trial may be rounded apart."""
_MOST = 48
"""Layers that are tried at most."""
_MAPPED = 6
"""Layers that are mapped at most."""


def grids_of(network: Network, names: Sequence[str], x: Inputs) -> dict[Site, Grid]:
    """The sites of named layers, and how they lie over the input.

    Raises:
        TapError: a layer cannot be read, or has no positions.
    """
    found: dict[Site, Grid] = {}
    for name in names:
        layer = network.layer(name)
        grid = grid_of(layer.shape, layer.channels, image_size(x))
        if grid is None:
            raise TapError(
                f"layer {name!r} gives {layer.shape} for each input, which has no positions over "
                "it; name a layer that gives a map (channels, rows, columns) or tokens (positions, "
                "width)."
            )
        found[Site(name)] = grid
    return found


def default_places(network: Network, x: Inputs, *, pixels: bool = False) -> dict[Site, Grid]:
    """At most six of the `cuts`, evenly spread, at which the places of things matter.

    They do not at a map that is averaged next, nor where only a class token is taken from.

    Args:
        network: the observed model.
        x: at least one row, on its device.
        pixels: whether maps with a position for each pixel are among them, even if there are
            others; gradients there differ from pixel to pixel.

    Raises:
        TapError: there is none; says why.
    """
    rows = x[:1]
    places = cuts(network, x)
    plain = seen_at(network, rows, None, tuple(places))
    found: list[Site] = []
    for site, grid in places.items():
        other = mixed(plain.seen[site], grid, attended(rows))
        logits = seen_at(network, rows, None, replaced=(site, other)).score
        if float((logits - plain.score).abs().max()) > _ROUNDING * float(plain.score.abs().max()):
            found.append(site)
    if not found:
        raise TapError(
            "no layer of this model holds places that its answer depends on but those of the map "
            'that is averaged last; take method="channels" for that one, or method="occlusion".'
        )
    size = image_size(x)
    coarse = [s for s in found if size is None or places[s].size < size[0] * size[1]]
    found = found if pixels else coarse or found
    count = min(_MAPPED, len(found))
    chosen = [found[-(-(i + 1) * len(found) // count) - 1] for i in range(count)]
    return {site: places[site] for site in chosen}


def cuts(network: Network, x: Inputs) -> dict[Site, Grid]:
    """Sites that everything passes through, in the order they run, with how they lie.

    Blocks, stages and the like are tried; single layers only where there are no two such. A site is
    one if two inputs get the same logits once they have the same tensor there.

    Args:
        network: the observed model.
        x: at least one row, on its device.

    Raises:
        TapError: there is none; says why.

    Cost:
        A forward of two rows for each layer tried, of which there are 48 at most.
    """
    rows = joined([x[:1], shifted(x[:1], 1)])
    order = list(network.layers)
    holders = [n for n in order if n and any(m.startswith(f"{n}.") for m in order)]
    one: Any = rows[:1]
    blocks = block_outputs(network, repeated_blocks(network), one) if network.attends else ()
    found = _tried(network, rows, [*blocks, *map(Site, holders)])
    if len(found) < 2:
        leaves = [n for n in order if n and n not in holders]
        found |= _tried(network, rows, [Site(n) for n in leaves])
    if not found:
        raise TapError(
            "no layer of this model holds positions of the input that all of the answer passes "
            "through, as after a flattening or in parallel branches: there is no map along its "
            'layers. Take method="occlusion", which needs the scores alone.'
        )
    place = {name: i for i, name in enumerate(order)}
    return dict(sorted(found.items(), key=lambda item: (place[item[0].layer], item[0].port)))


def _tried(network: Network, rows: Inputs, sites: Sequence[Site]) -> dict[Site, Grid]:
    candidates = dict(_candidates(network, rows, sites))
    values = seen_at(network, rows, None, tuple(candidates)).seen
    found: dict[Site, Grid] = {}
    tensors: list[Tensor] = []
    for site, grid in candidates.items():
        tensor = values[site]
        same = tensor[:1].expand_as(tensor)
        if bool((tensor[:1] == tensor[1:]).all()) or any(_equal(tensor, t) for t in tensors):
            continue
        logits = seen_at(network, rows, None, replaced=(site, same)).score
        apart = (logits[0] - logits[1]).abs().max()
        if float(apart) <= _ROUNDING * float(logits.abs().max()):
            found[site] = grid
            tensors.append(tensor)
    return found


def _candidates(
    network: Network, rows: Inputs, sites: Sequence[Site]
) -> Iterator[tuple[Site, Grid]]:
    usable = []
    for site in dict.fromkeys(sites):
        layer = network.layers[site.layer]
        if layer.calls != 1 or not layer.connected:
            continue
        shape = layer.shape
        if site.port == "input":
            shape = tuple(seen_at(network, rows[:1], None, (site,)).seen[site].shape[1:])
        grid = grid_of(shape, layer.channels, image_size(rows)) if shape else None
        if grid is not None:
            usable.append((site, grid))
    step = -(-len(usable) // _MOST) or 1
    yield from usable[::-step][::-1]


def _equal(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and bool((a == b).all())
