"""Norms of the Jacobians between representations inside a network, from random projections."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise

import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge, get_gradient_edge

from gradood.errors import TapError
from gradood.evidence.requests import MAX_LOGIT, JacobianNorm
from gradood.taps import Inputs, Network, Reading, Site, Tap, failed_backward

__all__ = ["jacobian_norms"]

_SEED = 0


@dataclass(frozen=True, slots=True)
class _Recorded:
    """What a forward leaves at the sites.

    Attributes:
        values: the tensors, with their graph.
        edges: where a gradient with respect to them is taken.
    """

    values: dict[Site, Tensor] = field(default_factory=dict)
    edges: dict[Site, GradientEdge] = field(default_factory=dict)

    def at(self, site: Site) -> Reading:
        """The reading that records a site."""

        def reading(seen: Tensor) -> None:
            self.edges[site] = get_gradient_edge(seen)
            # The model may go on to change the tensor in place, and with it where it came from.
            self.values[site] = seen.clone()

        return reading


def jacobian_norms(network: Network, x: Inputs, read: JacobianNorm) -> Tensor:
    """Squared Frobenius norms of the Jacobians between representations.

    Args:
        network: the observed model.
        x: (batch, …) on its device.
        read: between which, and from how many projections.

    Returns:
        (batch, pairs) float64.

    Raises:
        TapError: a representation does not depend on the one before, or autograd cannot follow.

    Cost:
        One forward with its graph from the first site on; for each pair, `samples` backward passes
        from the second to the first. Exact: as many as the second has values.
    """
    if network.opaque is not None:
        raise TapError(f"no Jacobian can be taken of this model: {network.opaque}.")
    recorded = _Recorded()
    with Tap(network.views) as tap:
        last = () if read.read is None else (read.read,)
        for site in dict.fromkeys(read.sites + last):
            tap.gradient(site)
            tap.value(site, recorded.at(site))
        logits = network.logits_of(tap.run(x))
        weights = None if read.read is None else _read_positions(logits, read.read, recorded)
        pairs = pairwise(read.sites)
        return torch.stack([_norm(pair, read, recorded, weights) for pair in pairs], 1)


def _read_positions(logits: Tensor, site: Site, recorded: _Recorded) -> Tensor:
    """(batch, positions) one where the largest logit has a gradient, divided by how many do.

    Ones of all positions where it has none at any.
    """
    gradient = _gradient(MAX_LOGIT.of(logits, None), recorded.edges[site])
    if gradient is None:
        raise TapError(
            f"the logits do not depend on {site}; name layers that they are made of, the last last."
        )
    shares = (gradient != 0).flatten(2).any(2) if gradient.ndim > 2 else gradient.new_ones(())
    shares = shares.to(torch.float64)
    if shares.ndim == 2:
        shares = torch.where(shares.sum(1, keepdim=True) > 0, shares, 1.0)
        shares = shares / shares.sum(1, keepdim=True)
    return shares


def _norm(
    pair: tuple[Site, Site], read: JacobianNorm, recorded: _Recorded, weights: Tensor | None
) -> Tensor:
    """(batch,) of one pair of sites."""
    before, after = pair
    pooled, moved = _representation(recorded, before, after, weights)
    width, given = pooled.shape[1], recorded.values[before]
    size = moved(torch.zeros_like(given)).shape[1] if read.two_sided else 0
    total = pooled.new_zeros(len(pooled), dtype=torch.float64)
    count = 0
    for left, right in _projections(width, size, read.samples, pooled):
        gradient = _gradient((pooled * left).sum(), recorded.edges[before])
        if gradient is None:
            raise TapError(
                f"{after} does not depend on {before}; name layers of which each follows from the "
                "one before."
            )
        row = moved(gradient).to(torch.float64)
        total += row.square().sum(1) if right is None else (row @ right.to(row)).square()
        count += 1
    return total if read.samples is None else total / count


def _representation(
    recorded: _Recorded, before: Site, after: Site, weights: Tensor | None
) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
    """The later representation (batch, width), and what a gradient is of the earlier one."""
    value, given = recorded.values[after], recorded.values[before]
    if weights is None or weights.ndim < 2:
        return value.flatten(1), lambda gradient: gradient.flatten(1)
    # A sequence has these positions; what was pooled already has none.
    whole = value.ndim != 3 or value.shape[1] != weights.shape[1]
    each = weights.to(value.dtype)[:, :, None]
    pooled = value.flatten(1) if whole else (value * each).sum(1)
    if given.ndim != 3 or given.shape[1] != weights.shape[1]:
        return pooled, lambda gradient: gradient.flatten(1)
    known = (weights > 0)[:, :, None]
    return pooled, lambda gradient: torch.where(known, gradient, 0).sum(1)


def _projections(
    width: int, size: int, samples: int | None, like: Tensor
) -> Iterator[tuple[Tensor, Tensor | None]]:
    """Vectors of `width`, and of `size` for the other side; the same in every batch.

    Args:
        width: of the later representation.
        size: of the earlier one; 0 for none.
        samples: how many; None for a basis.
        like: whose type and device they have.
    """
    if samples is None:
        for i in range(width):
            unit = like.new_zeros(width)
            unit[i] = 1
            yield unit, None
        return
    generator = torch.Generator("cpu").manual_seed(_SEED)
    for _ in range(samples):
        drawn = torch.randn(width + size, generator=generator, dtype=torch.float64, device="cpu")
        drawn = drawn.to(like.device, like.dtype)
        yield drawn[:width], drawn[width:] if size else None


def _gradient(of: Tensor, edge: GradientEdge) -> Tensor | None:
    """Of a scalar at an edge; None if it does not depend on what is there."""
    if not of.requires_grad:
        return None
    try:
        return torch.autograd.grad(of, (edge,), retain_graph=True, allow_unused=True)[0]
    except torch.cuda.OutOfMemoryError:
        raise
    except RuntimeError as error:
        raise failed_backward(error) from error
