"""Activation subspaces."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, ClassVar, Literal, final

from torch import Tensor

from gradood.detectors._shared.attributions import Terms, feature_terms
from gradood.detectors._shared.fit_data import check_finite, check_neighbors
from gradood.detectors._shared.shaping import check_percentile
from gradood.detectors.base import Learner, Plan, State, require
from gradood.errors import ConfigError, DataError, TapError
from gradood.evidence import FEATURES, KEYS, Evidence
from gradood.functional.actsub import (
    balanced_dimension,
    balanced_power,
    bounded_energy,
    bounded_nearness,
    decisive_score,
    insignificant_score,
    steady_percentile,
)
from gradood.functional.directions import directions
from gradood.functional.gradnorm import linear_logits
from gradood.functional.nnguide import guidance, nearest_guides
from gradood.functional.samples import Selection
from gradood.functional.shaping import stretched
from gradood.functional.subspace import principal, residual
from gradood.taps import Network

__all__ = ["ActSub"]

_RULE = 1000
"""Bank entries that a rule looks at."""


@final
class ActSub(Learner[Selection]):
    """Energy of what the head reads, times nearness of what it does not [zongur2025actsub].

    Reads the features and the head; keeps the directions of a part of the fit features. Assumes
    that near unknown inputs differ in the part that decides on the class, and far ones in the
    other. Equations 4, 7, 9 and 10 of arXiv 2508.21695; the paper scores ID high, negated here.

    ``score = −E · I^λ``, ``E = logsumexp(W SCALE(P h) + b)``, ``I = −log(1 − c)``

    P projects on the first n right singular vectors of W, R on the others; c is the mean of the k
    largest cosines of R h with R h_i in the bank. Where n cuts equal singular values, as of what
    the head does not read, the released code takes an arbitrary basis; here each of the equal
    directions counts by their share.

    Args:
        dimension: n; ``"auto"`` makes both parts equally long on average, as the paper does.
        percentile: of SCALE, from 0 to below 100. ``"auto"`` takes the largest, 95 at most, with
            which the order of the fit samples by E keeps a rank correlation of 0.9 with that
            without SCALE. The paper tunes it: 95 on CIFAR-10 and ResNet-50, 90 to 97.5 elsewhere.
        lam: λ ≥ 0; ``"auto"`` is sd(log E) / sd(log I) over the fit samples, with which both vary
            as much. The paper tunes it on outliers: 2, and 0.5 or 1 on other networks.
        k: neighbors averaged over; the paper's 10.
        samples: size of the bank, at most; chosen by content.

    Cost: the forward pass; bank · width and width² multiplications per image; state of as many.

    >>> ActSub(lam=2)
    ActSub(lam=2)
    """

    name = "actsub"
    title = "Negative energy of what the head reads, times nearness of what it does not."
    needs = ("features", "head")
    cost = "one forward; one fit pass; keeps up to 5,000 fit features; state of width × width"
    fails_when = (
        "The head reads all directions of the features (no more features than classes), or the "
        "bank is so small that it misses classes (raise samples)."
    )
    attribution = (
        "terms: the path of the features from the reference, with SCALE's factor and the "
        "nearest of the bank as the sample has them; the reference value is that of the same "
        "form"
    )
    labels = False
    state_shapes = (
        "decisive: float features features",
        "insignificant: float features features",
        "bank: float samples features",
        "percentile: float",
        "lam: float",
    )
    published: ClassVar[Mapping[str, Any]] = MappingProxyType({"percentile": 95, "lam": 2})

    def __init__(
        self,
        *,
        dimension: int | Literal["auto"] = "auto",
        percentile: float | Literal["auto"] = "auto",
        lam: float | Literal["auto"] = "auto",
        k: int = 10,
        samples: int = 5_000,
    ) -> None:
        whole = isinstance(dimension, int) and dimension >= 1
        auto = dimension == "auto"
        require(whole or auto, "dimension", dimension, "a whole number ≥ 1, or 'auto'")
        if percentile != "auto":
            check_percentile(percentile)
        require(lam == "auto" or 0 <= lam < 100, "lam", lam, "a number from 0 to 100, or 'auto'")
        require(isinstance(k, int) and k > 0, "k", k, "a whole number > 0")
        large = isinstance(samples, int) and samples > k
        require(large, "samples", samples, f"a whole number > k={k}")
        self.dimension: int | Literal["auto"] = dimension
        self.percentile: float | Literal["auto"] = percentile
        self.lam: float | Literal["auto"] = lam
        self.k = k
        self.samples = samples

    def plan(self, network: Network, probe: Tensor) -> Plan:
        """Features; content keys in a fit, to choose the bank by."""
        width = network.head.weight.shape[1]
        if width < 2:
            raise TapError(
                "actsub splits the features into two parts, and this model has one feature; "
                "expected two or more. Leave actsub out."
            )
        if self.dimension != "auto" and self.dimension >= width:
            raise ConfigError(
                f"actsub with dimension={self.dimension} leaves nothing insignificant of this "
                f"model's {width} features; give less than {width}, or dimension='auto'."
            )
        return Plan((FEATURES,), fit_reads=(FEATURES, KEYS))

    def accumulate(self, evidence: Evidence) -> Selection:
        """Features of a selection."""
        return Selection.of(self.samples, key=evidence[KEYS], features=evidence.features)

    def finish(self, kept: Selection, network: Network, plan: Plan) -> State:
        """Both projections, the bank, and the settings."""
        features = kept.columns["features"]
        check_finite(features, self.name)
        if len(features) <= self.k:  # The rule is on fit features, each beside the others.
            raise DataError(
                f"actsub with k={self.k} was fitted on {len(features)} samples; give more than k, "
                "or a smaller k."
            )
        check_neighbors(len(features) - 1, self.k, self.name, network.classes, averaged=True)
        head = network.head.weight.to(features.device).double()
        bias = network.head.bias
        bias = None if bias is None else bias.to(features.device)
        moment = head.T @ head
        dimension = self.dimension
        if dimension == "auto":
            dimension = balanced_dimension(features, moment)
        decisive, insignificant = principal(moment, dimension), residual(moment, dimension)
        bank = directions(features.double() @ insignificant).to(features.dtype)
        if not bool(bank.any()):
            raise DataError(
                "actsub was fitted on features without any part that the head leaves unread, or "
                "that are all zero; give inputs that the network responds to, or a lower dimension."
            )
        parts = features[:_RULE].double() @ decisive
        percentile, lam = self.percentile, self.lam
        if percentile == "auto":
            percentile = steady_percentile(parts, head, bias)
        if lam == "auto":
            near = insignificant_score(bank[:_RULE], bank, self.k, own=True)
            lam = balanced_power(decisive_score(parts, head, bias, float(percentile)), near)
        return {
            "decisive": decisive,
            "insignificant": insignificant,
            "bank": bank,
            "percentile": head.new_tensor(percentile),
            "lam": head.new_tensor(lam),
        }

    def measure(self, evidence: Evidence, state: State) -> Tensor:
        """Scores (batch,)."""
        head = evidence.linear
        features = evidence.features.double()
        parts = features @ state["decisive"]
        energy = decisive_score(parts, head.weight, head.bias, float(state["percentile"]))
        near = insignificant_score(features @ state["insignificant"], state["bank"], self.k)
        return -energy * near.pow(state["lam"])

    def terms(self, evidence: Evidence, state: State, reference: Evidence) -> Terms:
        """See `attribution`."""
        head, wide = evidence.linear, evidence.features.double()
        parts = wide @ state["decisive"]
        stretch = stretched(parts, float(state["percentile"]))
        outer = directions(wide @ state["insignificant"])
        near = state["bank"].double()[nearest_guides(outer, state["bank"], self.k)].mean(1)
        # Of the bank's own type, which 1 − u magnifies.
        rounding = guidance(outer, state["bank"], self.k) - (outer * near).sum(1)

        def score(points: Tensor, rows: Tensor) -> Tensor:
            decisive = points @ state["decisive"] * stretch[rows, None]
            logits = linear_logits(decisive, head.weight, head.bias)
            similar = (directions(points @ state["insignificant"]) * near[rows]).sum(1)
            similar = similar + rounding[rows]
            return -bounded_energy(logits) * bounded_nearness(similar).pow(state["lam"])

        return feature_terms(score, reference.features, wide)
