"""Distance to decision boundaries."""

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from gradood.detectors._shared.labels import present
from gradood.detectors._shared.layers import one_logit
from gradood.detectors.base import Learner, Plan, State, require
from gradood.errors import DataError
from gradood.evidence import FEATURES, Evidence
from gradood.functional.fdbd import boundary_distance, inverse_separations
from gradood.functional.gradnorm import linear_logits
from gradood.functional.moments import ClassMoments, Extremes
from gradood.taps import Network

__all__ = ["FDBD"]

_ROUNDING = 1e-6
"""Range, relative to size, that float32 features have where nothing differs."""


@dataclass(frozen=True, eq=False, slots=True)
class _Statistics:
    """Of the features: the mean, and the range of each."""

    mean: ClassMoments
    range: Extremes


@final
class FDBD(Learner[_Statistics]):
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

    def accumulate(self, evidence: Evidence) -> _Statistics:
        """The mean of the features, and their range."""
        features = evidence.features
        bounds = Extremes(features.amin(0), features.amax(0))
        return _Statistics(ClassMoments.together(features), bounds)

    def finish(self, seen: _Statistics, network: Network, plan: Plan) -> State:
        """The mean feature, and how far apart the head's rows are."""
        moments, bounds = seen.mean, seen.range
        present(moments, self.name)
        size = torch.maximum(bounds.low.abs(), bounds.high.abs()).amax()
        if self.distance_as_normalizer and not bool(
            ((bounds.high - bounds.low) > _ROUNDING * size).any()
        ):
            raise DataError(
                "fdbd divides by the distance to the mean feature, and all "
                f"{int(moments.count[0])} fit samples have the same features, which are that mean; "
                "give several different samples that the network responds to."
            )
        inverse = inverse_separations(network.head.weight.to(moments.mean.device))
        return {"mean": moments.mean[0].clone(), "inverse": inverse}

    def measure(self, evidence: Evidence, state: State) -> Tensor:
        """Scores (batch,)."""
        head = evidence.linear
        features = evidence.features.double()
        origin = state["mean"] if self.distance_as_normalizer else 0.0
        length = torch.linalg.vector_norm(features - origin, dim=1)
        logits = linear_logits(features, head.weight, head.bias)
        return -boundary_distance(logits, state["inverse"], length)
