"""Ranked activation shift."""

from typing import final

from torch import Tensor

from gradood.detectors._shared.attributions import with_features
from gradood.detectors._shared.fit_data import check_finite
from gradood.detectors._shared.shaping import check_score, inner_score, measured, shaped_plan
from gradood.detectors.base import Detector, Learner, Plan, State
from gradood.errors import DataError
from gradood.evidence import FEATURES, Evidence
from gradood.functional.moments import ClassMoments
from gradood.functional.ras import rank_shifted
from gradood.taps import Network

__all__ = ["RAS"]


@final
class RAS(Learner[ClassMoments]):
    """A logit score of activations that take the values usual at their ranks [guglielmo2026ras].

    Reads the features and the head; learns the mean of the sorted fit features. Assumes that known
    and unknown inputs differ in which units are active, and in how far their activations lie from
    those usual at their rank. Makes no assumption on sign. Equations 7 and 8 (arXiv 2604.08572);
    the authors' code gives the same ranking where no two units are equal.

    ``score = s(W h̃ + b)``, ``h̃_d = m_k`` if ``h_d`` is the k-th smallest unit of h, m the mean over
    the fit samples of their k-th smallest units, s the energy or another logit score

    Units that are equal, such as silent ones, share the mean of the values of their ranks; the
    paper leaves their order open.

    Args:
        score: the logit score s: the name of a detector that reads logits or features alone and
            learns nothing, or an instance of one. A monitor with a name can be saved.

    Cost: the forward pass, a sort of the units and one product with the head; state of one vector.

    >>> RAS(score="max-logit")
    RAS(score='max-logit')
    """

    name = "ras"
    title = "A logit score after every activation takes the value usual at its rank."
    needs = ("features", "head")
    cost = "one forward; one fit pass; state of one vector of features"
    fails_when = (
        "Unknown inputs are told by the length of their features alone, which is taken from them, "
        "or features are few, so that their order says little."
    )
    attribution = (
        "shaped: the inner score, by its own rule, on the shaped features; the reference is "
        "shaped in the same way"
    )
    labels = False
    state_shapes = ("profile: float features",)
    rescores = True

    def __init__(self, *, score: str | Detector = "energy") -> None:
        check_score(score)
        self.score = score

    def plan(self, network: Network, probe: Tensor) -> Plan:
        """Features, and what the score reads."""
        return shaped_plan(self, network, probe, signed=None, fit_reads=(FEATURES,))

    def accumulate(self, evidence: Evidence) -> ClassMoments:
        """The mean of the sorted features."""
        return ClassMoments.together(evidence.features.sort(1).values)

    def finish(self, moments: ClassMoments, network: Network, plan: Plan) -> State:
        """The value usual at each rank."""
        profile = moments.mean[0].clone()
        check_finite(profile, self.name)
        if not bool((profile > profile[0]).any()):
            raise DataError(
                "ras was fitted on features whose units are all equal, so that their order says "
                "nothing; give inputs that the network responds to."
            )
        return {"profile": profile}

    def measure(self, evidence: Evidence, state: State) -> Tensor:
        """Scores (batch,)."""
        features = rank_shifted(evidence.features.double(), state["profile"])
        return measured(self.score, evidence, features=features)

    def shaped(
        self, evidence: Evidence, state: State, sample: Evidence
    ) -> tuple[Detector, Evidence]:
        """See `attribution`."""
        features = rank_shifted(evidence.features.double(), state["profile"])
        return inner_score(self.score), with_features(evidence, features)
