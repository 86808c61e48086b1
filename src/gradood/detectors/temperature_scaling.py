"""Temperature scaling."""

import logging
from typing import final

from torch import Tensor

from gradood.detectors._shared.fit_data import warn_of_fit
from gradood.detectors._shared.labels import check_labels
from gradood.detectors._shared.layers import one_logit
from gradood.detectors.base import Learner, Plan, State
from gradood.evidence import LOGITS, Evidence
from gradood.functional.logits import max_softmax
from gradood.functional.temperature import LikelihoodSlope
from gradood.taps import Network

__all__ = ["TemperatureScaling"]

_LOG = logging.getLogger(__name__)


@final
class TemperatureScaling(Learner[LikelihoodSlope]):
    """Maximum softmax probability at a fitted temperature, negated [guo2017calibration].

    Reads the logits; learns the one temperature that makes labels most likely. Assumes that a
    calibrated confidence is lower away from the training data. The paper fits it on validation
    data, and so does `gradood bench` where it has images that the network was not trained on: on
    data that the network has learned by heart, T comes out too small. Below 1 it warns.

    ``score = −max_c softmax(z / T)_c``, T minimizing ``−Σ log softmax(z / T)_y``

    The likelihood is convex in 1/T; its slope is summed on a grid of T from 0.001 to 1e6, so no
    logits are kept, and T is exact to about 1e-6. If the labels are all predicted, or no likelier
    than others, no T is best: it stays 1, and a warning is logged.

    Cost: the forward pass; in a fit, 208 softmaxes of the logits.

    >>> TemperatureScaling().name
    'temperature-scaling'
    """

    name = "temperature-scaling"
    title = "Negative maximum softmax probability at a fitted temperature."
    needs = ("logits", "labels")
    cost = "one forward; one fit pass, with 208 softmaxes of the logits; state of one number"
    fails_when = (
        "The temperature was fitted on the training data, or the network is overconfident on far "
        "inputs, which no temperature changes."
    )
    attribution = (
        "logit path: the score is of the logits, whose straight path from the reference's is "
        "that of the features"
    )
    held_out = True
    state_shapes = ("temperature: float",)

    def plan(self, network: Network, probe: Tensor) -> Plan:
        """Logits."""
        return Plan((LOGITS,), fit_reads=(LOGITS,), caveats=one_logit(network, self.name))

    def accumulate(self, evidence: Evidence) -> LikelihoodSlope:
        """The slope of the likelihood at every temperature of the grid."""
        labels = check_labels(evidence, self.name)
        return LikelihoodSlope.of(evidence.logits, labels)

    def finish(self, likelihood: LikelihoodSlope, network: Network, plan: Plan) -> State:
        """The temperature."""
        temperature = likelihood.temperature()
        if temperature is None:
            _LOG.warning(
                "temperature-scaling: the fit data's labels are all predicted, or no likelier than "
                "others, so no temperature fits them best; T stays 1. Fit on labeled data that the "
                "network was not trained on."
            )
        elif temperature < 1:
            warn_of_fit(
                f"temperature-scaling found T = {temperature:.3g}: below 1, the network is less "
                "sure of the fit data than it should be, as one is of data that it was trained on "
                "and has learned by heart. Fit on labeled data that it was not trained on."
            )
        return {"temperature": likelihood.slope.new_tensor(temperature or 1.0)}

    def measure(self, evidence: Evidence, state: State) -> Tensor:
        """Scores (batch,)."""
        return max_softmax(evidence.logits / state["temperature"])
