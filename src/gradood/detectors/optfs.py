"""Optimal feature shaping."""

from typing import Literal, final

import torch
from torch import Tensor

from gradood.detectors._shared.attributions import Terms, at_class, head_terms, with_features
from gradood.detectors._shared.fit_data import check_finite
from gradood.detectors.base import Learner, Plan, State, require
from gradood.errors import DataError
from gradood.evidence import FEATURES, KEYS, Evidence
from gradood.functional.gradnorm import linear_logits
from gradood.functional.logits import energy
from gradood.functional.optfs import bin_contributions, pooled_quantile, stepwise
from gradood.functional.samples import Selection
from gradood.taps import Network

__all__ = ["OptFS"]

_TAIL = 1e-3
_LENGTH = 1000.0


@final
class OptFS(Learner[Selection]):
    """Largest logit after each activation is scaled by what its range contributes [zhao2024optfs].

    Reads the features and the head; learns a factor for each range of activations. Assumes that
    what contributes to the predicted logits of known inputs tells them from unknown ones. Equation
    14 of arXiv 2402.00865, which fixes θ up to its length; that is the released one, 1000.

    ``score = −Σ_d w_ĉd θ(h_d) h_d`` with ``θ_j ∝ mean_i Σ_{d: h_id in bin j} w_ĉd h_id``

    The bins are equally wide between the 0.1 % and the 99.9 % quantile of all fit activations; θ is
    0 outside of them, and ĉ = argmax z. Nothing is tuned, and features may be signed.

    Args:
        score: ``"vanilla"``, as above, or ``"energy"``, the energy of ``W (θ ⊙ h) + b``.
        bins: how many.
        samples: how many fit samples are learned from, at most; a seeded selection.

    Cost: the forward pass; in a fit, the features of `samples` are kept; state of `bins` numbers.

    >>> OptFS(score="energy")
    OptFS(score='energy')
    """

    name = "optfs"
    title = "Negative largest logit after scaling activations by what their range contributes."
    needs = ("features", "head")
    cost = "one forward; one fit pass, which keeps the features of 20,000 samples; small state"
    fails_when = (
        "Unknown inputs excite the same ranges of activation as known ones, only in other units."
    )
    attribution = (
        "terms: −w_ĉd θ(h_d) h_d, from 0; with score='energy', the path of the shaped "
        "features from the reference's"
    )
    labels = False
    state_shapes = ("theta: float _", "low: float", "high: float")

    def __init__(
        self,
        *,
        score: Literal["vanilla", "energy"] = "vanilla",
        bins: int = 100,
        samples: int = 20_000,
    ) -> None:
        require(score in ("vanilla", "energy"), "score", score, "'vanilla' or 'energy'")
        require(isinstance(bins, int) and bins > 0, "bins", bins, "a whole number > 0")
        require(isinstance(samples, int) and samples > 0, "samples", samples, "a whole number > 0")
        self.score: Literal["vanilla", "energy"] = score
        self.bins = bins
        self.samples = samples

    def plan(self, network: Network, probe: Tensor) -> Plan:
        """Features; content keys in a fit, to select samples by."""
        return Plan((FEATURES,), fit_reads=(FEATURES, KEYS))

    def accumulate(self, evidence: Evidence) -> Selection:
        """Features of a selection."""
        return Selection.of(self.samples, key=evidence[KEYS], features=evidence.features)

    def finish(self, kept: Selection, network: Network, plan: Plan) -> State:
        """One factor per bin."""
        features = kept.columns["features"]
        check_finite(features, self.name)
        low, high = (pooled_quantile(features, share) for share in (_TAIL, 1.0 - _TAIL))
        weight, bias = network.head.weight.to(features.device), network.head.bias
        logits = linear_logits(features, weight, None if bias is None else bias.to(weight.device))
        contributions = torch.zeros(self.bins, dtype=torch.float64, device=weight.device)
        if high > low:
            edges = low, high, self.bins
            contributions = bin_contributions(features, weight, logits.argmax(1), edges)
        length = float(torch.linalg.vector_norm(contributions))
        if not length > 0:
            raise DataError(
                "optfs was fitted on features of which all but the outermost 0.1 % are equal, or "
                "contribute nothing to the logits; give inputs that the network responds to."
            )
        bounds = {"low": contributions.new_tensor(low), "high": contributions.new_tensor(high)}
        return {"theta": contributions * (_LENGTH / length), **bounds}

    def measure(self, evidence: Evidence, state: State) -> Tensor:
        """Scores (batch,)."""
        head = evidence.linear
        bounds = float(state["low"]), float(state["high"])
        shaped = stepwise(evidence.features, state["theta"], *bounds)
        if self.score == "energy":
            return energy(linear_logits(shaped, head.weight, head.bias))
        predicted = linear_logits(evidence.features, head.weight, head.bias).argmax(1)
        return -(head.weight.double()[predicted] * shaped).sum(1)

    def terms(self, evidence: Evidence, state: State, reference: Evidence) -> Terms:
        """See `attribution`."""
        bounds = state["theta"], float(state["low"]), float(state["high"])
        shaped = stepwise(evidence.features, *bounds)
        if self.score == "energy":
            start = with_features(reference, stepwise(reference.features, *bounds))
            return head_terms(energy, with_features(evidence, shaped), start)
        head = evidence.linear
        predicted = linear_logits(evidence.features, head.weight, head.bias).argmax(1)
        units = -head.weight.double()[predicted] * shaped
        total = units.sum(1)
        classes = at_class(total, predicted, evidence.classes)
        return Terms(units, torch.zeros_like(total), classes=classes)
