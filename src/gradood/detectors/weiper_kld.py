"""WeiPer+KLD."""

from collections.abc import Mapping
from math import isfinite
from typing import Any, ClassVar, Literal, final

import torch
from torch import Tensor

from gradood.detectors._shared.attributions import Terms
from gradood.detectors._shared.fit_data import check_finite
from gradood.detectors._shared.layers import one_logit
from gradood.detectors.base import Learner, Plan, State, require
from gradood.errors import DataError
from gradood.evidence import FEATURES, KEYS, Evidence
from gradood.functional.balance import balancing_weight
from gradood.functional.gradnorm import linear_logits
from gradood.functional.path_integrals import path_integral, values_of
from gradood.functional.samples import Selection
from gradood.functional.weiper import (
    EPSILON,
    Reference,
    densities,
    density_terms,
    divergence,
    divergence_terms,
    perturbed_weight,
    reference_densities,
)
from gradood.taps import Network

__all__ = ["WeiPerKLD"]

_ROWS = 5000
"""Perturbed weights at most, with automatic repeats, beyond four of each class."""
_PUBLISHED_REPEATS = 100
_CONFIDENCE = 4.0
"""Spread of the confidence term relative to that of each divergence, with automatic weights."""


@final
class WeiPerKLD(Learner[Selection]):
    """Divergence of densities, of features and of perturbed logits [granz2024weiper].

    Reads the features and the head; learns the mean density of the values of a feature vector, and
    of the logits that randomly perturbed head weights give. Assumes that these values of a known
    input are distributed as those of others are, whatever its class.

    ``score = D(h) + λ₁ D(W̃ h + b) − λ₂ MSP`` with ``w̃ = w_k + δ ‖w_k‖ u``, u random unit vectors,
    `repeats` of each class; D the symmetric Kullback-Leibler divergence of a sample's smoothed
    histogram and the mean histogram of the fit samples; MSP the largest softmax probability, mean
    over the perturbations [arXiv 2405.17164, as in the authors' released code].

    Args:
        delta: δ > 0.
        repeats: perturbations of each class; ``"auto"`` takes the published 100, and fewer where
            that makes more than 5,000 logits, but at least 4.
        bins: of the histograms, between the smallest and the largest value of the fit.
        smoothing: bins averaged over, for features and for perturbed logits.
        weights: λ₁ and λ₂; ``"auto"`` makes both divergences spread alike over the fit samples, and
            the MSP four times as much. With the published (2.5, 0.1), which were chosen on
            outliers and wider networks, a width of 64 gives an AUROC near 70.
        samples: how many fit samples it is learned from, at most; a seeded selection.

    Cost: the forward pass and width · repeats · classes multiplications per image; state of as many
    numbers; a fit keeps the features of `samples`.

    >>> WeiPerKLD(delta=2.0)
    WeiPerKLD(delta=2.0)
    """

    name = "weiper-kld"
    title = "Divergence of the densities of features and of perturbed logits from known ones."
    needs = ("features", "head")
    cost = "one forward; one fit pass; state of 5,000 × width at most (auto)"
    fails_when = (
        "The features are few (64): the histogram of one sample is then mostly noise, and the MSP "
        "of the perturbed logits decides. Or the weights are published ones of another network."
    )
    attribution = (
        "terms: of D(h), the path of the density of the features, each a mass of 1 / width; "
        "of the MSP, the path of the perturbed logits, at the classes that answer; D of the "
        "perturbed logits, whose density has no units, is a part"
    )
    labels = False
    state_shapes = (
        "weight: float perturbed features",
        "density: float kinds bins",
        "low: float kinds",
        "high: float kinds",
        "weights: float kinds",
    )
    published: ClassVar[Mapping[str, Any]] = {
        "repeats": _PUBLISHED_REPEATS,
        "smoothing": (4, 15),
        "weights": (2.5, 0.1),
    }

    def __init__(
        self,
        *,
        delta: float = 1.8,
        repeats: int | Literal["auto"] = "auto",
        bins: int = 100,
        smoothing: tuple[int, int] = (8, 15),
        weights: tuple[float, float] | Literal["auto"] = "auto",
        samples: int = 5_000,
    ) -> None:
        require(delta > 0, "delta", delta, "a number > 0")
        require(repeats == "auto" or _whole(repeats), "repeats", repeats, "a whole number > 0")
        require(_whole(bins) and bins > 1, "bins", bins, "a whole number > 1")
        two = isinstance(smoothing, tuple | list) and len(smoothing) == 2
        sizes = two and all(_whole(size) and size <= bins for size in smoothing)
        require(sizes, "smoothing", smoothing, f"two whole numbers from 1 to bins={bins}")
        require(_weights(weights), "weights", weights, "two numbers ≥ 0, or 'auto'")
        require(_whole(samples), "samples", samples, "a whole number > 0")
        self.delta = delta
        self.repeats: int | Literal["auto"] = repeats
        self.bins = bins
        self.smoothing = smoothing
        self.weights: tuple[float, float] | Literal["auto"] = weights
        self.samples = samples

    def plan(self, network: Network, probe: Tensor) -> Plan:
        """Features; content keys in a fit, to select samples by."""
        _ = network.head  # Says itself why there is none.
        caveats = one_logit(network, self.name)
        return Plan((FEATURES,), fit_reads=(FEATURES, KEYS), caveats=caveats)

    def accumulate(self, evidence: Evidence) -> Selection:
        """Features of a selection."""
        return Selection.of(self.samples, key=evidence[KEYS], features=evidence.features)

    def finish(self, kept: Selection, network: Network, plan: Plan) -> State:
        """Perturbed weights, bounds, mean densities, λ₁ and λ₂."""
        features = kept.columns["features"]
        check_finite(features, self.name)
        weight, bias = network.head.linear()
        repeats = self.repeats
        if repeats == "auto":
            repeats = min(_PUBLISHED_REPEATS, max(4, _ROWS // network.classes))
        turned = perturbed_weight(weight.to(features.device), float(self.delta), repeats)
        repeated = _repeated(bias, turned)
        reference = reference_densities(features, turned, repeated, self.bins)
        if reference is None:
            raise DataError(
                "weiper-kld was fitted on features or logits that are all equal, which have no "
                "density; give inputs that the network responds to."
            )
        weights = self.weights
        if weights == "auto":
            smoothing = (self.smoothing[0], self.smoothing[1])
            terms = divergence_terms(
                features, turned, repeated, reference, smoothing, network.classes
            )
            shares = (1.0, _CONFIDENCE)
            weights = tuple(
                balancing_weight(terms[:, 0], terms[:, i + 1], shares[i]) for i in (0, 1)
            )
        return {
            "weight": turned,
            "low": reference.low,
            "high": reference.high,
            "density": reference.density,
            "weights": reference.low.new_tensor(weights),
        }

    def measure(self, evidence: Evidence, state: State) -> Tensor:
        """Scores (batch,)."""
        weight = state["weight"]
        bias = _repeated(evidence.linear.bias, weight)
        reference = Reference(state["low"], state["high"], state["density"])
        smoothing = (self.smoothing[0], self.smoothing[1])
        terms = divergence_terms(
            evidence.features, weight, bias, reference, smoothing, evidence.classes
        )
        first, second = state["weights"]
        return terms[:, 0] + first * terms[:, 1] - second * terms[:, 2]

    def terms(self, evidence: Evidence, state: State, reference: Evidence) -> Terms:
        """See `attribution`."""
        weight, classes = state["weight"], evidence.classes
        bias = _repeated(evidence.linear.bias, weight)
        known = Reference(state["low"], state["high"], state["density"])
        first, second = state["weights"]
        h, r = evidence.features.double(), reference.features.double()
        z, y = linear_logits(h, weight, bias), linear_logits(r, weight, bias)
        top = z.unflatten(1, (-1, classes)).argmax(2, keepdim=True)

        def confidence(points: Tensor, rows: Tensor) -> Tensor:
            p = torch.softmax(points.unflatten(1, (-1, classes)), 2)
            return -second * p.gather(2, top[rows])[..., 0].mean(1)

        units, value, error = density_terms(r, h, known, self.smoothing[0])
        apart, before = (first * self._perturbed(some, known) for some in (z, y))
        found = path_integral(values_of(confidence), y, z)
        units = units + (h - r) * (found.gradient @ weight.double())
        parts = {"perturbed logits": apart - before}
        return Terms(units, value + before + found.start, parts, None, error + found.error)

    def _perturbed(self, logits: Tensor, known: Reference) -> Tensor:
        """D of the perturbed logits."""
        low, high = float(known.low[1]), float(known.high[1])
        density = densities(logits, low, high, self.bins)
        return divergence(density, known.density[1], self.smoothing[1], EPSILON[1])


def _repeated(bias: Tensor | None, weight: Tensor) -> Tensor | None:
    """The bias of every perturbation."""
    return None if bias is None else bias.to(weight.device).repeat(len(weight) // len(bias))


def _whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _weights(value: Any) -> bool:
    """Whether it is "auto", or two finite numbers that are not negative."""
    if isinstance(value, str):
        return value == "auto"
    two = isinstance(value, tuple | list) and len(value) == 2
    return two and all(isinstance(v, int | float) and 0 <= v and isfinite(v) for v in value)
