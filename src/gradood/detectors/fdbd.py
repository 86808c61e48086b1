"""Distance to decision boundaries."""

from typing import final

import torch
from torch import Tensor

from gradood.detectors._shared.attributions import Terms, at_class, linear_terms, with_features
from gradood.detectors._shared.centers import Center
from gradood.detectors._shared.layers import one_logit
from gradood.detectors.base import Learner, Plan, State, require
from gradood.evidence import FEATURES, Evidence
from gradood.functional.fdbd import SHORTEST, boundary_distance, inverse_separations
from gradood.functional.gradnorm import linear_logits
from gradood.taps import Network

__all__ = ["FDBD"]


@final
class FDBD(Learner[Center]):
    """Mean distance to the decision boundaries, per distance to the mean feature [liu2024fdbd].

    Reads the features and the head; learns the mean feature. Assumes that unknown inputs lie nearer
    to the boundaries than known ones as far from the mean. The distance to a boundary of a linear
    head is known in closed form. The paper scores ID high; negated once here. The released code
    sums over classes where the paper averages (same ranking).

    ``score = −1/(C − 1) Σ_{c≠ĉ} |z_ĉ − z_c| / ‖w_ĉ − w_c‖₂ / ‖h − μ‖₂`` with ĉ = argmax z and μ the
    mean feature of the fit data.

    Args:
        distance_as_normalizer: divide by ‖h − μ‖₂ as in the paper; False divides by ‖h‖₂, which
            OpenOOD chooses on some networks.

    Cost: the forward pass; state of classes × classes.

    >>> FDBD(distance_as_normalizer=False)
    FDBD(distance_as_normalizer=False)
    """

    name = "fdbd"
    title = "Mean distance to decision boundaries per distance to the mean feature."
    needs = ("features", "head")
    cost = "one forward; one fit pass; state of classes × classes"
    fails_when = (
        "Unknown inputs land near the mean feature, where the division makes small distances to "
        "the boundaries look large."
    )
    attribution = (
        "terms: of the mean over boundaries, linear in the logits, at the sample's class and "
        "length; the reference value is the same sum at the reference, over the same length"
    )
    labels = False
    state_shapes = (
        "mean: float features",
        "inverse: float classes classes",
    )

    def __init__(self, *, distance_as_normalizer: bool = True) -> None:
        require(
            isinstance(distance_as_normalizer, bool),
            "distance_as_normalizer",
            distance_as_normalizer,
            "True or False",
        )
        self.distance_as_normalizer = distance_as_normalizer

    def plan(self, network: Network, probe: Tensor) -> Plan:
        """Features."""
        caveats = one_logit(network, self.name)
        return Plan((FEATURES,), fit_reads=(FEATURES,), caveats=caveats)

    def accumulate(self, evidence: Evidence) -> Center:
        """The mean of the features, and their range."""
        return Center.of(evidence.features)

    def finish(self, seen: Center, network: Network, plan: Plan) -> State:
        """The mean feature, and how far apart the head's rows are."""
        divides = "divides by the distance to the mean feature"
        mean = seen.origin(self.name, divides if self.distance_as_normalizer else None)
        return {"mean": mean, "inverse": inverse_separations(network.head.weight.to(mean.device))}

    def measure(self, evidence: Evidence, state: State) -> Tensor:
        """Scores (batch,)."""
        head = evidence.linear
        features = evidence.features.double()
        origin = state["mean"] if self.distance_as_normalizer else 0.0
        length = torch.linalg.vector_norm(features - origin, dim=1)
        logits = linear_logits(features, head.weight, head.bias)
        return -boundary_distance(logits, state["inverse"], length)

    def terms(self, evidence: Evidence, state: State, reference: Evidence) -> Terms:
        """See `attribution`."""
        head, features = evidence.linear, evidence.features.double()
        origin = state["mean"] if self.distance_as_normalizer else 0.0
        length = torch.linalg.vector_norm(features - origin, dim=1).clamp_min(SHORTEST)
        logits = linear_logits(features, head.weight, head.bias)
        predicted = logits.argmax(1)
        scale = state["inverse"][predicted]
        weights = scale / ((scale > 0).sum(1).clamp_min(1) * length)[:, None]
        weights = weights - at_class(weights.sum(1), predicted, evidence.classes)
        return linear_terms(weights, with_features(evidence, features, logits), reference)
