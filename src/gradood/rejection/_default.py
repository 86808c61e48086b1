"""Default detectors of a guard, by what the model has and how much data there is."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from gradood._engine.binding import check_classes, planned, probe_of
from gradood._engine.coverage import class_counts
from gradood._engine.rows import Inputs
from gradood.evidence import FEATURES, gather
from gradood.registry import create
from gradood.taps import Link, Network

__all__ = ["LEAST", "Choice", "Sizes", "default_choice", "sizes_of"]

_MANY = 75
"""Samples to fit on from which class means and covariances say more than the logits alone."""
_PER_CLASS = 5


LEAST: Mapping[Link, str] = MappingProxyType(
    {"softmax": "energy", "sigmoid": "joint-energy", "none": "knn"}
)
"""What runs where nothing else can be said, by link."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """How much data there is to fit on.

    Attributes:
        rows: samples, or as many as were counted.
        fewest: samples of the class with fewest; None if unknown.
        combined: whether the calibration part is large enough for a combination.
    """

    rows: int
    fewest: int | None
    combined: bool


def sizes_of(
    batches: Iterable[tuple[Any, Tensor | None]], classes: int, what: str | None, *, combined: bool
) -> Sizes:
    """Sizes of data to fit on, of which no more is read than tells that there is enough.

    Args:
        batches: (x, y) or (x, None).
        classes: of the model.
        what: the data is, in a word; None where labels are not looked at.
        combined: see `Sizes`.

    Raises:
        DataError: labels are no classes of the model.
    """
    rows, labeled = 0, False
    counts = torch.zeros(classes, dtype=torch.int64, device="cpu")
    for x, y in batches:
        rows += len(x)
        if what is not None:
            check_classes(what, y, classes)
        if y is not None:
            labeled = True
            counts += y.cpu().sum(0) if y.ndim == 2 else class_counts(y, classes)
        if rows >= max(_MANY, _PER_CLASS * classes) and (not labeled or int(counts.min()) > 0):
            break
    return Sizes(rows=rows, fewest=int(counts.min()) if labeled else None, combined=combined)


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
    names = tuple(chosen) or (LEAST[network.link],)
    return Choice(names, f"{', '.join(names)}: {reason}")


def _candidates(network: Network, probe: Inputs, sizes: Sizes) -> tuple[tuple[str, ...], str]:
    if network.link != "softmax":
        return _without_softmax(network, sizes)
    if not network.features_found:
        return ("energy",), "no linear head was found, so the logits alone can be read"
    features = gather(network, probe.clone(), (FEATURES,)).features
    if len(features) > 1 and bool((features == features[:1]).all()):
        return ("energy",), "the features are the same for all of the first inputs"
    signed = bool((features < 0).any()) or not bool(torch.isfinite(features).all())
    kind = "signed features" if signed else "features after a ReLU"
    if not sizes.combined:
        return ("energy",), "too few samples for a combination"
    if sizes.rows < _MANY:
        few = f"few samples, so nothing is learned from them; {kind}"
        return (("energy",) if signed else ("energy", "gradnorm")), few
    if not _classes_covered(network, sizes):
        few = f"too few samples of some class for class means; {kind}"
        if sizes.fewest == 0:
            few += "; a class without any sample is flagged more often than promised"
        return ("projection-share", "energy"), few
    if not network.head_found:
        return ("mahalanobis++", "energy"), f"named {kind}, and samples enough of each class"
    return ("mahalanobis++", "nci"), f"a linear head, {kind}, and samples enough of each class"


def _without_softmax(network: Network, sizes: Sizes) -> tuple[tuple[str, ...], str]:
    """Of labels of which several may hold, and of outputs that are no classes."""
    several = network.link == "sigmoid"
    kind = "several labels may hold" if several else "the outputs are of no classes"
    least = LEAST[network.link]
    if several and not network.features_found:
        return (least,), f"{kind}, and no linear head was found"
    if not sizes.combined or sizes.rows < _MANY:
        return (least,), f"{kind}, and there are few samples"
    if several and not _classes_covered(network, sizes):
        return ("knn", least), f"{kind}, and too few samples of some class for class means"
    return ("mahalanobis++", least), f"{kind}, and samples are enough"


def _classes_covered(network: Network, sizes: Sizes) -> bool:
    return sizes.fewest != 0 and sizes.rows >= _PER_CLASS * network.classes
