"""Gram matrices."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, final

import torch
from torch import Tensor

from gradood.detectors._shared.attributions import Terms, layer_terms
from gradood.detectors._shared.fit_data import check_finite, warn_of_fit
from gradood.detectors._shared.layers import recorded_layers, require_names
from gradood.detectors.base import Learner, Plan, State, require
from gradood.errors import DataError
from gradood.evidence import (
    KEYS,
    LOGITS,
    MAX_POWER,
    NONZERO_SHARE,
    POSITIVE_SHARE,
    Activation,
    Evidence,
    gather,
    gram_sums,
)
from gradood.functional.gram import Ranges, deviations
from gradood.taps import Network, Site

__all__ = ["Gram"]

_LEAST = 1e-7
_ABSENT = 0.5
"""Of the classes, without a range of their own, from which on a warning is given."""


@final
class Gram(Learner[Ranges]):
    """Deviation of Gram matrices from their range in the predicted class [sastry2020gram].

    Reads, per layer, channel and power p, the row sum of the p-th order Gram matrix, reduced while
    the forward pass runs; learns its smallest and largest value per predicted class. Assumes that
    correlations between channels stay inside the ranges of the class that the network predicts.
    As in the released code: row sums instead of single correlations, deviations divided by the
    largest softmax probability. The expected deviation, for which that code takes a tenth of the
    test set, is that of each fit sample from the range of the others in its class: known from the
    two outermost values, so that no sample is held out and none is kept. A class never predicted
    in the fit has the range of all.

    The range of more samples is wider, until nothing leaves it and all scores are 0: 84 % of
    CIFAR-10 test images after 20,000 fit samples. So ranges are those of a seeded few of each
    class, the same whatever the order of the data; in the published setting, of all.

    ``score = 1/max p · Σ_l δ_l / (E[δ_l] + 1e-7)`` with ``δ_l = Σ_{p,i} dev(s_{l,p,i})``, where
    ``s_{l,p,i} = (Σ_j (F^p F^pᵀ)_{ij})^(1/p)`` and dev(s) is how far s lies outside of its range,
    relative to the bound that it crosses.

    Args:
        layers: module names; None takes three blocks of each stage (or its output, where the stage
            is no sequence of blocks, or classes × channels exceed two million), or, in networks
            without stages, the normalization layers. The released code records every layer inside
            every block.
        powers: p, whole numbers. At layers with negative values odd ones are left out (where there
            are even ones): sums that cancel are rooted, which magnifies rounding.
        samples: fit samples of each predicted class, chosen by content, of which ranges are: as
            many at least, and twice as many on average at most; None takes all.

    Cost: the forward pass and a few operations per element and power of the layers read; state of
    2 · classes · powers · channels, during the fit about 16 times that.

    >>> Gram(powers=(1, 2, 3))
    Gram(powers=(1, 2, 3))
    """

    name = "gram"
    needs = ("layers", "logits")
    cost = (
        "one forward and a few operations per element and power; one fit pass; state of "
        "2 · classes × powers · channels"
    )
    fails_when = (
        "Fit samples are few per class: ranges are too narrow, and every input leaves them. They "
        "are predicted to be of a part of the classes (warned of from half on): inputs of the "
        "others are held against the range of all samples, and look known. Or, "
        "with samples=None, so many that few inputs leave them, and the others tie at 0. Or "
        "unknown inputs have a known texture: CIFAR-100 on the authors' CIFAR-10 ResNet-34 has "
        "AUROC 79.0, SVHN 99.5."
    )
    attribution = (
        "layers: deviation / expected deviation / the largest softmax probability, of each layer; "
        "the reference value is 0, inside of all ranges"
    )
    labels = False
    published: ClassVar[Mapping[str, Any]] = {"samples": None}
    state_shapes = (
        "low: float classes statistics",
        "high: float classes statistics",
        "expected: float layers",
    )

    def __init__(
        self,
        *,
        layers: Sequence[str] | None = None,
        powers: Sequence[int] = (1, 2, 3, 4, 5, 6, 7, 8, 9, 10),
        samples: int | None = 64,
    ) -> None:
        some = isinstance(samples, int) and samples >= 2
        require(samples is None or some, "samples", samples, "a whole number ≥ 2, or None")
        require_names(layers, "at least one module name", least=1)
        require(
            len(powers) > 0 and all(isinstance(p, int) and 0 < p <= MAX_POWER for p in powers),
            "powers",
            powers,
            f"whole numbers from 1 to {MAX_POWER}, at least one",
        )
        self.layers = layers
        self.powers = powers
        self.samples = samples

    def plan(self, network: Network, probe: Tensor) -> Plan:
        """One reading per layer, of the powers that its signs allow."""
        sites = recorded_layers(network, self.layers, self.name)
        signed = _signed(network, probe, sites)
        powers = sorted(set(self.powers))
        even = [p for p in powers if p % 2 == 0] or powers
        reads = tuple(
            Activation(site, gram_sums(even if negative else powers))
            for site, negative in zip(sites, signed, strict=True)
        )
        notes = (f"Gram matrices of {', '.join(map(str, sites))}",)
        if any(signed) and even != powers:
            notes += (f"even powers alone at {sum(signed)} layers with negative values",)
        return Plan((LOGITS, *reads), fit_reads=(LOGITS, *reads, KEYS), notes=notes)

    def accumulate(self, evidence: Evidence) -> Ranges:
        """Ranges per predicted class, of the batch's share of the seeded few."""
        predicted = evidence.logits.argmax(1)
        sums, classes = evidence.group("gram sums"), evidence.classes
        return Ranges.of(sums, predicted, classes, keys=evidence[KEYS], enough=self.samples)

    def finish(self, ranges: Ranges, network: Network, plan: Plan) -> State:
        """Ranges, and the expected deviation of each layer."""
        ranges = ranges.by_class()
        low, high = ranges.filled()
        check_finite(torch.stack([low, high]), self.name, "activations")
        expected = ranges.expected()
        if not bool((expected > 0).any()):
            raise DataError(
                f"gram was fitted on {int(ranges.count)} samples of which no two that differ are "
                "predicted to be of one class; give many different samples of each class."
            )
        _warn_of_classes(len(ranges.rows), network.classes, int(ranges.count))
        return {"low": low, "high": high, "expected": expected}

    def measure(self, evidence: Evidence, state: State) -> Tensor:
        """Scores (batch,)."""
        confidence, predicted = torch.softmax(evidence.logits, 1).max(1)
        found = deviations(evidence.group("gram sums"), predicted, state["low"], state["high"])
        return (found / (state["expected"] + _LEAST)).sum(1) / confidence

    def terms(self, evidence: Evidence, state: State, reference: Evidence) -> Terms:
        """See `attribution`."""
        confidence, predicted = torch.softmax(evidence.logits, 1).max(1)
        found = deviations(evidence.group("gram sums"), predicted, state["low"], state["high"])
        shares = found / (state["expected"] + _LEAST) / confidence[:, None]
        return layer_terms(evidence.sites("gram sums"), shares.unbind(1), evidence)


def _warn_of_classes(predicted: int, classes: int, samples: int) -> None:
    """Warn where many classes have no range of their own, or all have too few samples.

    Args:
        predicted: classes that the model predicted of fit samples.
        classes: of the model.
        samples: that ranges are of.
    """
    if classes - predicted >= _ABSENT * classes:
        warn_of_fit(
            f"gram says little here: the {samples} fit samples are predicted to be of {predicted} "
            f"of {classes} classes, and an input that is predicted to be of another is held "
            "against the range of all samples, which is wider than that of a class, so that it "
            "looks known. Fit on many samples of every class, or leave gram out."
        )
    elif samples < 2 * classes:
        warn_of_fit(
            f"gram takes ranges of each of {classes} classes from {samples} samples, fewer than "
            "two of each; fit on many of each class."
        )


def _signed(network: Network, probe: Tensor, sites: Sequence[Site]) -> list[bool]:
    """Which layers hold negative values on the probe."""
    reads = [Activation(site, share) for site in sites for share in (NONZERO_SHARE, POSITIVE_SHARE)]
    shares = gather(network, probe, reads).tensors
    return [bool((a > b).any()) for a, b in zip(shares[::2], shares[1::2], strict=True)]
