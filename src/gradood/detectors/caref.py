"""CARef."""

from typing import final

import torch
from torch import Tensor

from gradood.detectors._shared.attributions import Terms, at_class
from gradood.detectors._shared.labels import fill_absent
from gradood.detectors.base import Learner, Plan, State
from gradood.evidence import FEATURES, LOGITS, Evidence
from gradood.functional.moments import ClassMoments
from gradood.functional.relative import SHORTEST, relative_error
from gradood.taps import Network

__all__ = ["CARef"]


@final
class CARef(Learner[ClassMoments]):
    """Relative distance to the mean feature of the predicted class [ling2025cadref].

    Reads the features and the logits; learns the mean feature of the fit samples that are predicted
    as each class, whatever their label (arXiv 2503.00325, as in the authors' code). Assumes that a
    known input's feature looks like those that led to the same prediction. The paper's sign (high
    is ID) is turned once, here.

    ``score = ‖h − μ_ĉ‖₁ / ‖h‖₁`` with ĉ = argmax z.

    A class that is predicted for no fit sample takes the mean of all.

    Cost: the forward pass; width operations per image; state of classes · width.

    >>> CARef().name
    'caref'
    """

    name = "caref"
    needs = ("features", "logits", "head")
    cost = "one forward; one fit pass; state of classes × width"
    fails_when = (
        "Unknown inputs resemble one class (near-OOD), or features are signed and sum to little, "
        "so that the division says nothing."
    )
    attribution = "terms: |h − μ_ĉ|_d / ‖h‖₁; the reference value is 0, at the class mean"
    labels = False
    state_shapes = ("means: float classes features",)

    def plan(self, network: Network, probe: Tensor) -> Plan:
        """Features and logits."""
        return Plan((FEATURES, LOGITS), fit_reads=(FEATURES, LOGITS))

    def accumulate(self, evidence: Evidence) -> ClassMoments:
        """Means by predicted class."""
        predicted = evidence.logits.argmax(1)
        return ClassMoments.of(evidence.features, predicted, evidence.classes)

    def finish(self, moments: ClassMoments, network: Network, plan: Plan) -> State:
        """One mean per class."""
        return {"means": fill_absent(moments, f"{self.name}, by predicted class")}

    def measure(self, evidence: Evidence, state: State) -> Tensor:
        """Scores (batch,)."""
        centers = state["means"][evidence.logits.argmax(1)]
        return relative_error(evidence.features, centers)

    def terms(self, evidence: Evidence, state: State, reference: Evidence) -> Terms:
        """See `attribution`."""
        predicted = evidence.logits.argmax(1)
        wide = evidence.features.double()
        length = wide.abs().sum(1, keepdim=True).clamp_min(SHORTEST)
        units = (wide - state["means"][predicted]).abs() / length
        total = units.sum(1)
        classes = at_class(total, predicted, evidence.classes)
        return Terms(units, torch.zeros_like(total), classes=classes)
