"""Relative angles."""

from math import pi
from typing import final

import torch
from torch import Tensor

from gradood.detectors._shared.attributions import Terms, feature_terms
from gradood.detectors._shared.centers import Center
from gradood.detectors._shared.layers import one_logit
from gradood.detectors.base import Learner, Plan, State
from gradood.evidence import FEATURES, Evidence
from gradood.functional.gradnorm import linear_logits
from gradood.functional.ora import (
    angle_between,
    boundary_angle,
    squared_separations,
    widest_boundary,
)
from gradood.taps import Network

__all__ = ["ORA"]


@final
class ORA(Learner[Center]):
    """Largest angle to a decision boundary, seen from the mean feature, negated [demirel2025ora].

    Reads the features and the head; learns the mean feature. Assumes that unknown inputs lie, seen
    from there, in directions closer to the boundaries than known ones. As of arXiv 2410.04525; the
    released code takes the mean of the class means, which is the same where classes are balanced.

    ``score = −max_{c≠ĉ} ∠(h − μ, h_c − μ) / π``, ``h_c = h − (z_ĉ − z_c) v / ‖v‖²``

    with ``v = w_ĉ − w_c`` and ĉ = argmax z: ``h_c`` is the projection of h on the boundary between
    ĉ and c. Neither the length of h − μ nor that of the head's rows matters.

    Cost: the forward pass and one product with the head; state of classes × classes.

    >>> ORA().name
    'ora'
    """

    name = "ora"
    title = "Negative largest angle to a decision boundary, seen from the mean feature."
    needs = ("features", "head")
    cost = "one forward; one fit pass; state of classes × classes"
    fails_when = (
        "Unknown inputs are told by the length of their features, which angles leave out, or "
        "resemble one class (near-OOD)."
    )
    attribution = (
        "terms: the path from the sample's projection on the boundary that answers, where "
        "the angle is 0, along its normal; the reference value is 0"
    )
    labels = False
    state_shapes = ("mean: float features", "separations: float classes classes")

    def plan(self, network: Network, probe: Tensor) -> Plan:
        """Features."""
        caveats = one_logit(network, self.name)
        return Plan((FEATURES,), fit_reads=(FEATURES,), caveats=caveats)

    def accumulate(self, evidence: Evidence) -> Center:
        """The mean of the features, and their range."""
        return Center.of(evidence.features)

    def finish(self, seen: Center, network: Network, plan: Plan) -> State:
        """The mean feature, and how far apart the head's rows are."""
        mean = seen.origin(self.name, "looks at features from their mean")
        separations = squared_separations(network.head.weight.to(mean.device))
        return {"mean": mean, "separations": separations}

    def measure(self, evidence: Evidence, state: State) -> Tensor:
        """Scores (batch,)."""
        head = evidence.linear
        features = evidence.features.double()
        centered = features - state["mean"]
        logits = linear_logits(features, head.weight, head.bias)
        projected = linear_logits(centered, head.weight, None)
        length = centered.square().sum(1)
        return -boundary_angle(logits, projected, length, state["separations"]) / pi

    def terms(self, evidence: Evidence, state: State, reference: Evidence) -> Terms:
        """See `attribution`."""
        head, wide = evidence.linear, evidence.features.double()
        logits = linear_logits(wide, head.weight, head.bias)
        centered = wide - state["mean"]
        projected = linear_logits(centered, head.weight, None)
        other = widest_boundary(logits, projected, centered.square().sum(1), state["separations"])
        weight = head.weight.double()
        predicted = logits.argmax(1)
        normal = weight[predicted] - weight[other]
        size = normal.square().sum(1)
        gap = logits.gather(1, predicted[:, None])[:, 0] - logits.gather(1, other[:, None])[:, 0]
        shift = torch.where(size > 0, gap / torch.where(size > 0, size, 1.0), 0.0)
        foot = wide - shift[:, None] * normal

        def angle(points: Tensor, rows: Tensor) -> Tensor:
            base, own = foot[rows] - state["mean"], points - foot[rows]
            return -angle_between(base, own, normal[rows]) / pi

        return feature_terms(angle, foot, wide)
