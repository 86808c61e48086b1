"""Default detectors of a guard, by what the model has and how much data there is."""

from dataclasses import dataclass

import torch

from gradood._engine.binding import planned, probe_of
from gradood._engine.rows import Inputs
from gradood.evidence import FEATURES, gather
from gradood.registry import create
from gradood.taps import Network

__all__ = ["Choice", "Sizes", "default_choice"]

_MANY = 75
"""Samples to fit on from which class means and covariances say more than the logits alone."""
_PER_CLASS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """How much data there is to fit on.

    Attributes:
        rows: samples; None for a data set of its own, which is taken for large.
        fewest: samples of the class with fewest; None if unknown.
        combined: whether the calibration part is large enough for a combination.
    """

    rows: int | None
    fewest: int | None
    combined: bool


@dataclass(frozen=True, slots=True)
class Choice:
    """Names of the detectors, and why these."""

    detectors: tuple[str, ...]
    reason: str


def default_choice(network: Network, inputs: Inputs, sizes: Sizes) -> Choice:
    """The detectors that do well on average over the networks and sets of docs/results/guard.md.

    Args:
        network: the observed model.
        inputs: (batch ≥ 1, …) finite, on its device, as an example.
        sizes: of the data to fit on.
    """
    probe = probe_of(inputs)
    candidates, reason = _candidates(network, probe, sizes)
    chosen: list[str] = []
    for name in candidates:
        plan = planned(create(name), network, probe, trial=True)
        # Cautions of the network hold for every detector; one of its own is a reason against it.
        if not isinstance(plan, Exception) and set(plan.caveats) <= set(network.cautions):
            chosen.append(name)
    names = tuple(chosen) or ("energy",)
    return Choice(names, f"{', '.join(names)}: {reason}")


def _candidates(network: Network, probe: Inputs, sizes: Sizes) -> tuple[tuple[str, ...], str]:
    if not network.head_found:
        return ("energy",), "no linear head was found, so the logits alone can be read"
    signed = _signed(network, probe)
    kind = "signed features" if signed else "features after a ReLU"
    if not sizes.combined:
        return ("energy",), "too few samples for a combination"
    enough = sizes.rows is None or sizes.rows >= _MANY
    if not enough:
        few = f"few samples, so nothing is learned from them; {kind}"
        return (("energy",) if signed else ("energy", "gradnorm")), few
    if not _classes_covered(network, sizes):
        few = f"too few samples of some class for class means; {kind}"
        return ("projection-share", "energy"), few
    return ("mahalanobis++", "nci"), f"a linear head, {kind}, and samples enough of each class"


def _classes_covered(network: Network, sizes: Sizes) -> bool:
    if sizes.fewest is not None:
        return sizes.fewest > 0 and (sizes.rows or 0) >= _PER_CLASS * network.classes
    return sizes.rows is None or sizes.rows >= _PER_CLASS * network.classes


def _signed(network: Network, probe: Inputs) -> bool:
    """Whether features of the probe are negative somewhere."""
    features = gather(network, probe.clone(), (FEATURES,)).features
    return bool((features < 0).any()) or not bool(torch.isfinite(features).all())
