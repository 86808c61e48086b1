"""VRA++."""

from collections.abc import Mapping
from dataclasses import replace
from math import isfinite
from typing import Any, ClassVar, Literal, final

from torch import Tensor

from gradood.detectors._shared.attributions import Terms, head_terms, with_features
from gradood.detectors._shared.fit_data import check_finite
from gradood.detectors.base import Learner, Plan, State, require
from gradood.evidence import FEATURES, KEYS, Evidence, Linear, gather
from gradood.functional.balance import balancing_weight
from gradood.functional.gradnorm import linear_logits
from gradood.functional.logits import energy
from gradood.functional.quantiles import Histogram
from gradood.functional.samples import Selection
from gradood.functional.shaping import rectified, unit_quantiles
from gradood.taps import Network

__all__ = ["VRAPlusPlus"]

_CENTER_QUANTILE = 0.99
_SHARE = 0.25
_PROBED = 8


@final
class VRAPlusPlus(Learner[Selection]):
    """Energy of rectified features, and the squared distance of the features to m [xu2023vra].

    Reads the features and the head; learns two quantiles of each unit. Assumes that known inputs
    have activations near a strength m that unknown ones do not reach.

    ``score = −logsumexp(W v(h) + b) + a Σ_d (h_d − m)²`` with ``v(h)_d = 0`` below α_d, β_d above
    β_d, ``h_d`` between; α, β the quantiles η_α, η_β of each unit over the fit samples.

    The paper [arXiv 2302.11716] is known here by its abstract; the score is that of the authors'
    released code (``zeroQiaoba/VRA``, method ``vnorm``). It gives a and m as numbers for each
    network, chosen on outliers. The automatic values are ours: m is the 99th percentile of all fit
    activations, and a makes the standard deviation of the term over the fit samples a quarter of
    that of the energy.

    Args:
        eta_alpha: η_α, from 0 to below η_β.
        eta_beta: η_β, to 1.
        a: weight a ≥ 0 of the quadratic term; ``"auto"`` follows the rule above.
        m: strength m, in the units of the features; ``"auto"`` as above.
        samples: how many fit samples all of it is taken from, at most; a seeded selection.

    Cost: the forward pass and one product with the head; a fit keeps the features of `samples`.

    >>> VRAPlusPlus(a=0.01, m=4.0)
    VRAPlusPlus(a=0.01, m=4.0)
    """

    name = "vra++"
    title = "Energy of rectified features, and the squared distance of the features to m."
    needs = ("features", "head")
    cost = "one forward; one fit pass, which keeps the features of 20,000 samples; small state"
    fails_when = (
        "Unknown inputs have activations as strong as known ones (near-OOD), or a given m and a do "
        "not fit the scale of the features, so that the quadratic term alone decides."
    )
    attribution = (
        "terms: of the energy, along the path of the rectified features from the "
        "reference's; and a (h_d − m)² less a (r_d − m)²"
    )
    labels = False
    state_shapes = ("low: float features", "high: float features", "a: float", "m: float")
    published: ClassVar[Mapping[str, Any]] = {"a": 0.01, "m": 4.0}

    def __init__(
        self,
        *,
        eta_alpha: float = 0.5,
        eta_beta: float = 0.85,
        a: float | Literal["auto"] = "auto",
        m: float | Literal["auto"] = "auto",
        samples: int = 20_000,
    ) -> None:
        require(0 <= eta_alpha < 1, "eta_alpha", eta_alpha, "a number from 0 to below 1")
        require(0 < eta_beta <= 1, "eta_beta", eta_beta, "a number above 0, to 1")
        require(eta_alpha < eta_beta, "eta_alpha", eta_alpha, f"less than eta_beta={eta_beta}")
        require(a == "auto" or (_number(a) and a >= 0), "a", a, "a number ≥ 0, or 'auto'")
        require(m == "auto" or _number(m), "m", m, "a number, or 'auto'")
        require(isinstance(samples, int) and samples > 0, "samples", samples, "a whole number > 0")
        self.eta_alpha = eta_alpha
        self.eta_beta = eta_beta
        self.a: float | Literal["auto"] = a
        self.m: float | Literal["auto"] = m
        self.samples = samples

    def plan(self, network: Network, probe: Tensor) -> Plan:
        """Features; content keys in a fit, to select samples by."""
        features = gather(network, probe[:_PROBED], (FEATURES,)).features
        caveats: tuple[str, ...] = ()
        if bool((features < 0).any()):
            caveats = (
                "vra++ sets units below a quantile to zero; this network's are signed, and raised "
                "by it.",
            )
        return Plan((FEATURES,), fit_reads=(FEATURES, KEYS), caveats=caveats)

    def accumulate(self, evidence: Evidence) -> Selection:
        """Features of a selection."""
        return Selection.of(self.samples, key=evidence[KEYS], features=evidence.features)

    def finish(self, kept: Selection, network: Network, plan: Plan) -> State:
        """Two quantiles per unit, a and m."""
        features = kept.columns["features"]
        check_finite(features, self.name)
        low, high = unit_quantiles(features, (float(self.eta_alpha), float(self.eta_beta)))
        m = Histogram.of(features).quantile(_CENTER_QUANTILE) if self.m == "auto" else self.m
        a = self.a
        if a == "auto":
            weight, bias = network.head.linear()
            head = Linear(weight.to(low), None if bias is None else bias.to(low))
            score = _rectified_energy(features, low, high, head)
            a = balancing_weight(score, _squared_distance(features, float(m)), _SHARE)
        return {"low": low, "high": high, "a": low.new_tensor(a), "m": low.new_tensor(m)}

    def measure(self, evidence: Evidence, state: State) -> Tensor:
        """Scores (batch,)."""
        features = evidence.features
        score = _rectified_energy(features, state["low"], state["high"], evidence.linear)
        return score + state["a"] * _squared_distance(features, float(state["m"]))

    def terms(self, evidence: Evidence, state: State, reference: Evidence) -> Terms:
        """See `attribution`."""
        bounds, m = (state["low"], state["high"], 0.0), float(state["m"])
        rows, start = (
            with_features(some, rectified(some.features.double(), *bounds))
            for some in (evidence, reference)
        )
        found = head_terms(energy, rows, start)
        squares, before = (
            state["a"] * (some.features.double() - m).square() for some in (evidence, reference)
        )
        value = found.reference + before.sum(1)
        return replace(found, units=found.units + squares - before, reference=value, classes=None)


def _rectified_energy(features: Tensor, low: Tensor, high: Tensor, head: Linear) -> Tensor:
    shaped = rectified(features, low, high, 0.0)
    return energy(linear_logits(shaped, head.weight, head.bias))


def _squared_distance(features: Tensor, m: float) -> Tensor:
    return (features.double() - m).square().sum(1)


def _number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value)
