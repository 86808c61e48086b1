"""KL matching."""

from typing import ClassVar, final

import torch
from torch import Tensor

from gradood.detectors.base import Learner, Partial, Plan, State
from gradood.detectors.classes import present
from gradood.detectors.defaults import one_logit
from gradood.evidence import LOGITS, Evidence
from gradood.functional.matching import divergence_from_templates, log_templates
from gradood.functional.moments import ClassMoments
from gradood.taps import Network

__all__ = ["KLMatching"]


@final
class KLMatching(Learner):
    """Divergence from the nearest typical posterior [hendrycks2022maxlogit].

    Reads the logits; learns the mean softmax of the samples predicted as each class, without
    labels. Assumes that known inputs of a class are confused with the same other classes. The
    paper's minus sign (high is ID) is left out, once, here.

    ``score = min_k KL(p ‖ d_k)``, p = softmax(z), d_k the mean p of fit samples predicted as k

    A class that is never predicted in the fit has no d_k. The paper takes d from validation data.

    Cost: the forward pass; classes² multiplications per image; state of classes × classes.

    >>> KLMatching().name
    'kl-matching'
    """

    name: ClassVar[str] = "kl-matching"
    title: ClassVar[str] = "Divergence of the softmax from the nearest typical one."
    paper: ClassVar[str] = "hendrycks2022maxlogit"
    needs: ClassVar[tuple[str, ...]] = ("logits",)
    cost: ClassVar[str] = "one forward; one fit pass; state of classes × classes"
    fails_when: ClassVar[str] = (
        "The fit data is what the network was trained on and fits perfectly, so that every d_k is "
        "one-hot and the score is only a confidence; or there are few classes to be confused."
    )
    labels: ClassVar[bool] = False

    def plan(self, network: Network, probe: Tensor) -> Plan:
        """Logits."""
        return Plan((LOGITS,), fit_reads=(LOGITS,), caveats=one_logit(network, self.name))

    def accumulate(self, evidence: Evidence) -> Partial:
        """Sums of softmax probabilities by predicted class."""
        logits = evidence.logits
        p, predicted = torch.softmax(logits, 1), logits.argmax(1)
        return {"posteriors": ClassMoments.of(p, predicted, evidence.classes)}

    def finish(self, partial: Partial, network: Network, plan: Plan) -> State:
        """Log posteriors (classes predicted, classes)."""
        posteriors: ClassMoments = partial["posteriors"]
        return {"logs": log_templates(posteriors.mean[present(posteriors, self.name)])}

    def measure(self, evidence: Evidence, state: State) -> Tensor:
        """Scores (batch,)."""
        return divergence_from_templates(evidence.logits, state["logs"])
