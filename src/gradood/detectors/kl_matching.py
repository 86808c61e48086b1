"""KL matching."""

from typing import final

import torch
from torch import Tensor

from gradood.detectors._shared.labels import present
from gradood.detectors._shared.layers import one_logit
from gradood.detectors.base import Learner, Plan, State
from gradood.evidence import LOGITS, Evidence
from gradood.functional.matching import divergence_from_templates, log_templates
from gradood.functional.moments import ClassMoments
from gradood.taps import Network

__all__ = ["KLMatching"]


@final
class KLMatching(Learner[ClassMoments]):
    """Divergence from the nearest typical posterior [hendrycks2022maxlogit].

    Reads the logits; learns the mean softmax of the samples predicted as each class, without
    labels. Assumes that known inputs of a class are confused with the same other classes. The
    paper's minus sign (high is ID) is left out, once, here.

    ``score = min_k KL(p ‖ d_k)``, p = softmax(z), d_k the mean p of fit samples predicted as k

    A class that is never predicted in the fit has no d_k. The paper takes d from validation data,
    and so does `gradood bench` where it has images that the network was not trained on.

    Cost: the forward pass; classes² multiplications per image; state of classes × classes.

    >>> KLMatching().name
    'kl-matching'
    """

    name = "kl-matching"
    title = "Divergence of the softmax from the nearest typical one."
    needs = ("logits",)
    cost = "one forward; one fit pass; state of classes × classes"
    fails_when = (
        "The fit data is what the network was trained on and fits perfectly, so that every d_k is "
        "one-hot and the score is only a confidence; or there are few classes to be confused."
    )
    attribution = (
        "logit path: the score is of the logits, whose straight path from the reference's is "
        "that of the features; the nearest template may change on the way, a kink"
    )
    labels = False
    held_out = True
    state_shapes = ("logs: float seen classes",)

    def plan(self, network: Network, probe: Tensor) -> Plan:
        """Logits."""
        return Plan((LOGITS,), fit_reads=(LOGITS,), caveats=one_logit(network, self.name))

    def accumulate(self, evidence: Evidence) -> ClassMoments:
        """Sums of softmax probabilities by predicted class."""
        logits = evidence.logits
        p, predicted = torch.softmax(logits, 1), logits.argmax(1)
        return ClassMoments.of(p, predicted, evidence.classes)

    def finish(self, posteriors: ClassMoments, network: Network, plan: Plan) -> State:
        """Log posteriors (classes predicted, classes)."""
        return {"logs": log_templates(posteriors.mean[present(posteriors, self.name)])}

    def measure(self, evidence: Evidence, state: State) -> Tensor:
        """Scores (batch,)."""
        return divergence_from_templates(evidence.logits, state["logs"])
