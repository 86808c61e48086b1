"""VRA."""

from math import isfinite
from typing import ClassVar, Literal, final

from torch import Tensor

from gradood.detectors._shared.attributions import with_features
from gradood.detectors._shared.automatic import chosen, fitted_rows
from gradood.detectors._shared.fit_data import check_finite
from gradood.detectors._shared.shaping import check_score, inner_score, measured, shaped_plan
from gradood.detectors.base import Detector, Learner, Plan, State, require
from gradood.errors import DataError
from gradood.evidence import FEATURES, KEYS, Evidence
from gradood.functional.samples import Selection
from gradood.functional.shaping import rectified, unit_quantiles
from gradood.taps import Network

__all__ = ["VRA"]

_ALPHAS = (0.2, 0.4, 0.5, 0.6, 0.7, 0.8)
_BETAS = (0.99, 0.95, 0.9)
"""Among which ``"auto"`` chooses, the mildest first."""
Quantile = float | Literal["auto"]


@final
class VRA(Learner[Selection]):
    """A logit score after suppressing abnormally small and large activations [xu2023vra].

    Reads the features and the head; learns two quantiles of each unit. Assumes that known inputs
    are told by activations of ordinary strength.

    ``score = s(W v(h) + b)``, ``v(h)_d = 0`` below α_d, β_d above β_d, and ``h_d + γ`` between

    with α and β the quantiles η_α and η_β of each unit over the fit samples, as released for CIFAR
    (0.6 and 0.9; for CIFAR-100 0.6 and 0.95 with ODIN's step; for ImageNet the authors give α and β
    as numbers). Libraries that clip to α from below compute something else.

    Args:
        eta_alpha: η_α, from 0 to below η_β; ``"auto"`` takes the one from 0.2 to 0.8 that best
            tells fit features from surrogate outliers.
        eta_beta: η_β, to 1; likewise, of 0.9, 0.95 and 0.99.
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
    attribution = (
        "shaped: the inner score, by its own rule, on the shaped features; the reference is "
        "shaped in the same way"
    )
    labels = False
    published: ClassVar = {"eta_alpha": 0.6, "eta_beta": 0.9}
    state_shapes = (
        "low: float features",
        "high: float features",
        "eta_alpha?: float",
        "eta_beta?: float",
    )
    rescores = True

    def __init__(
        self,
        *,
        eta_alpha: Quantile = "auto",
        eta_beta: Quantile = "auto",
        gamma: float = 0.0,
        samples: int = 20_000,
        score: str | Detector = "energy",
    ) -> None:
        low = eta_alpha == "auto" or (isinstance(eta_alpha, int | float) and 0 <= eta_alpha < 1)
        require(low, "eta_alpha", eta_alpha, "a number from 0 to below 1, or 'auto'")
        high = eta_beta == "auto" or (isinstance(eta_beta, int | float) and 0 < eta_beta <= 1)
        require(high, "eta_beta", eta_beta, "a number above 0, to 1, or 'auto'")
        bound = f"less than eta_beta={eta_beta}"
        require(bool(_candidates(eta_alpha, eta_beta)), "eta_alpha", eta_alpha, bound)
        require(0 <= gamma and isfinite(gamma), "gamma", gamma, "a number ≥ 0")
        require(isinstance(samples, int) and samples > 0, "samples", samples, "a whole number > 0")
        check_score(score)
        self.eta_alpha: Quantile = eta_alpha
        self.eta_beta: Quantile = eta_beta
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
        pairs = _candidates(self.eta_alpha, self.eta_beta)
        shares = sorted({share for pair in pairs for share in pair})
        bounds = dict(zip(shares, unit_quantiles(features, tuple(shares)), strict=True))
        usable = [pair for pair in pairs if bool((bounds[pair[1]] != 0).any())]
        if not usable:
            raise DataError(
                f"vra would clip all units at quantile {max(shares)} of the fit features, which "
                "is 0 here and leaves nothing to score; give a higher eta_beta."
            )
        states = {pair: {"low": bounds[pair[0]], "high": bounds[pair[1]]} for pair in usable}
        if len(pairs) == 1:
            return states[pairs[0]]
        rows = fitted_rows(kept, self.name)
        alpha, beta = chosen(self, rows, network, plan, states)
        number = bounds[alpha].new_tensor
        return {**states[alpha, beta], "eta_alpha": number(alpha), "eta_beta": number(beta)}

    def measure(self, evidence: Evidence, state: State) -> Tensor:
        """Scores (batch,)."""
        bounds = state["low"], state["high"]
        features = rectified(evidence.features, *bounds, float(self.gamma))
        return measured(self.score, evidence, features=features)

    def shaped(
        self, evidence: Evidence, state: State, sample: Evidence
    ) -> tuple[Detector, Evidence]:
        """See `attribution`."""
        features = rectified(evidence.features, state["low"], state["high"], float(self.gamma))
        return inner_score(self.score), with_features(evidence, features)


def _candidates(alpha: Quantile, beta: Quantile) -> list[tuple[float, float]]:
    """Pairs of quantiles that the options allow, the mildest first."""
    alphas = _ALPHAS if alpha == "auto" else (float(alpha),)
    betas = _BETAS if beta == "auto" else (float(beta),)
    return [(low, high) for low in alphas for high in betas if low < high]
