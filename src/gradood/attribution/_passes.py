"""Passes of a network with the activations of a layer seen, replaced or differentiated at."""

from dataclasses import dataclass

import torch
from torch import Tensor

from gradood._engine.rows import selected
from gradood.attribution._mapped_score import MappedScore
from gradood.errors import TapError
from gradood.taps import HeadReading, Inputs, Network, Site, Tap

__all__ = ["Pass", "answered", "gradient_at", "seen_at"]


@dataclass(frozen=True, eq=False, slots=True)
class Pass:
    """What one pass gave.

    Attributes:
        score: (batch,) float64; or, where no score was asked for, the logits (batch, classes).
        seen: site → the tensor there, a copy.
    """

    score: Tensor
    seen: dict[Site, Tensor]


def answered(network: Network, x: Inputs, rows: int) -> Inputs | None:
    """The first inputs that the model makes finite logits of; None if there are none.

    Args:
        network: the observed model.
        x: of a batch, on its device.
        rows: that are looked at together.

    Cost:
        A forward of so many rows, and more only while none of them is answered.
    """
    for some in x.split(rows):
        sound = seen_at(network, some, None).score.isfinite().all(1)
        if bool(sound.any()):
            return some if bool(sound.all()) else selected(some, sound)
    return None


def seen_at(
    network: Network,
    x: Inputs,
    explained: MappedScore | None,
    sites: tuple[Site, ...] = (),
    replaced: tuple[Site, Tensor] | None = None,
) -> Pass:
    """A forward, what is at some sites, and the score.

    Args:
        network: the observed model.
        x: of a batch, on its device.
        explained: the score; None for the logits in its place.
        sites: to look at.
        replaced: a site, and what takes the place of the tensor there.
    """
    seen: dict[Site, Tensor] = {}
    with Tap(network.views) as tap:
        reading = _head(network, tap, x, explained)
        for site in sites:
            tap.value(site, lambda tensor, site=site: seen.update({site: tensor.detach().clone()}))
        if replaced is not None:
            tap.replace(*replaced)
        score = _score(network, tap, x, explained, reading).detach()
    return Pass(score, seen)


def gradient_at(
    network: Network, x: Inputs, explained: MappedScore, site: Site, tensor: Tensor
) -> Tensor:
    """Gradient of the score with respect to what is at a site, with `tensor` there.

    Raises:
        TapError: the score does not depend on it, or autograd cannot follow.
    """
    found: list[Tensor] = []
    with Tap(network.views) as tap:
        reading = _head(network, tap, x, explained)
        tap.replace(site, tensor)
        tap.gradient(site)
        score = _score(network, tap, x, explained, reading)
        tap.backward(score.sum(), {site: lambda gradient: found.append(gradient.detach())})
    return found[0]


def _head(
    network: Network, tap: Tap, x: Inputs, explained: MappedScore | None
) -> HeadReading | None:
    needed = explained is not None and explained.reads_features
    return network.watch_head(tap, x) if needed else None


def _score(
    network: Network,
    tap: Tap,
    x: Inputs,
    explained: MappedScore | None,
    reading: HeadReading | None,
) -> Tensor:
    logits = network.logits_of(tap.run(x.clone() if network.overwrites else x))
    if explained is None:
        return logits.double()
    score = explained.of_features(None if reading is None else reading.features(logits), logits)
    if torch.is_grad_enabled() and not score.requires_grad:
        raise TapError(
            f"the score of {explained.name} has no gradient, as it is a step function of what it "
            'reads; take method="occlusion".'
        )
    return score
