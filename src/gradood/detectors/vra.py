"""VRA."""

from math import isfinite
from typing import final

from torch import Tensor

from gradood.detectors._shared.fit_data import check_finite
from gradood.detectors._shared.shaping import check_score, measured, shaped_plan
from gradood.detectors.base import Detector, Learner, Plan, State, require
from gradood.errors import DataError
from gradood.evidence import FEATURES, KEYS, Evidence
from gradood.functional.samples import Selection
from gradood.functional.shaping import rectified, unit_quantiles
from gradood.taps import Network

__all__ = ["VRA"]


@final
class VRA(Learner[Selection]):
    """A logit score after suppressing abnormally small and large activations [xu2023vra].

    Reads the features and the head; learns two quantiles of each unit. Assumes that known inputs
    are told by activations of ordinary strength.

    ``score = s(W v(h) + b)``, ``v(h)_d = 0`` below α_d, β_d above β_d, and ``h_d + γ`` between

    with α and β the quantiles η_α and η_β of each unit over the fit samples, as released for CIFAR
    (for ImageNet the authors give α and β as numbers). Libraries that clip to α from below
    compute something else.

    Args:
        eta_alpha: η_α, from 0 to below η_β.
        eta_beta: η_β, to 1.
        gamma: γ ≥ 0, which amplifies; 0 is VRA, more is VRA+ (0.6 on CIFAR, with η_β = 0.95).
        samples: how many fit samples the quantiles are taken from, at most; a seeded selection.
        score: the logit score s: the name of a detector that reads logits or features alone and
            learns nothing, or an instance of one. A monitor with a name can be saved.

    Cost: the forward pass and one product with the head; a fit keeps the features of `samples`.

    >>> VRA(gamma=0.6, eta_beta=0.95)
    VRA(eta_beta=0.95, gamma=0.6)
    """

    name = "vra"
    title = "A logit score after suppressing small and large activations."
    needs = ("features", "head")
    cost = "one forward; one fit pass, which keeps the features of 20,000 samples; small state"
    fails_when = (
        "Most units are active on few classes, so that the lower quantile removes what is typical "
        "of a class, or features are signed, where η_α cuts into negative ones."
    )
    labels = False
    state_shapes = (
        "low: float features",
        "high: float features",
    )

    def __init__(
        self,
        *,
        eta_alpha: float = 0.6,
        eta_beta: float = 0.9,
        gamma: float = 0.0,
        samples: int = 20_000,
        score: str | Detector = "energy",
    ) -> None:
        require(0 <= eta_alpha < 1, "eta_alpha", eta_alpha, "a number from 0 to below 1")
        require(0 < eta_beta <= 1, "eta_beta", eta_beta, "a number above 0, to 1")
        require(eta_alpha < eta_beta, "eta_alpha", eta_alpha, f"less than eta_beta={eta_beta}")
        require(0 <= gamma and isfinite(gamma), "gamma", gamma, "a number ≥ 0")
        require(isinstance(samples, int) and samples > 0, "samples", samples, "a whole number > 0")
        check_score(score)
        self.eta_alpha = eta_alpha
        self.eta_beta = eta_beta
        self.gamma = gamma
        self.samples = samples
        self.score = score

    def plan(self, network: Network, probe: Tensor) -> Plan:
        """Features, and what the score reads; content keys in a fit, to select samples by."""
        signed = "sets units below a quantile to zero; this network's are signed, and raised by it."
        return shaped_plan(self, network, probe, signed=signed, fit_reads=(FEATURES, KEYS))

    def accumulate(self, evidence: Evidence) -> Selection:
        """Features of a selection."""
        features, keys = evidence.features, evidence[KEYS]
        return Selection.of(self.samples, key=keys, features=features)

    def finish(self, kept: Selection, network: Network, plan: Plan) -> State:
        """Two quantiles per unit."""
        features = kept.columns["features"]
        check_finite(features, self.name)
        low, high = unit_quantiles(features, (float(self.eta_alpha), float(self.eta_beta)))
        if not bool((high != 0).any()):
            raise DataError(
                f"vra would clip all units at quantile {self.eta_beta} of the fit features, which "
                "is 0 here and leaves nothing to score; give a higher eta_beta."
            )
        return {"low": low, "high": high}

    def measure(self, evidence: Evidence, state: State) -> Tensor:
        """Scores (batch,)."""
        bounds = state["low"], state["high"]
        features = rectified(evidence.features, *bounds, float(self.gamma))
        return measured(self.score, evidence, features=features)
