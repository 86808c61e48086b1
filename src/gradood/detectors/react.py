"""ReAct."""

from math import isfinite
from typing import final

import torch
from torch import Tensor

from gradood.detectors._shared.shaping import check_score, measured, shaped_plan
from gradood.detectors.base import Detector, Learner, Plan, State, require
from gradood.errors import DataError
from gradood.evidence import FEATURES, Evidence
from gradood.functional.quantiles import Histogram
from gradood.taps import Network

__all__ = ["ReAct"]


@final
class ReAct(Learner[Histogram]):
    """A logit score after clipping large activations [sun2021react].

    Reads the features and the head; learns one percentile of all fit activations. Assumes that
    unknown inputs excite a few units beyond what training ever did.

    ``score = s(W min(h, c) + b)``, c the percentile, s the energy or another logit score

    Args:
        percentile: of the fit activations, from 0 to 100.
        score: the logit score s: the name of a detector that reads logits or features alone and
            learns nothing, or an instance of one. A monitor with a name can be saved.

    Cost: the forward pass and one product with the head; state of one number.

    >>> ReAct(percentile=95, score="msp")
    ReAct(percentile=95, score='msp')
    """

    name = "react"
    needs = ("features", "head")
    cost = "one forward; one fit pass; state of one number"
    fails_when = (
        "Unknown inputs have small activations, so that there is nothing to clip, or features are "
        "signed (transformers), where large negative ones are left alone."
    )
    labels = False
    state_shapes = ("clip: float",)

    def __init__(self, *, percentile: float = 90, score: str | Detector = "energy") -> None:
        require(0 <= percentile <= 100, "percentile", percentile, "a number from 0 to 100")
        check_score(score)
        self.percentile = percentile
        self.score = score

    def plan(self, network: Network, probe: Tensor) -> Plan:
        """Features, and what the score reads."""
        signed = "clips from above alone; this network's features are signed, also far below zero."
        return shaped_plan(self, network, probe, signed=signed, fit_reads=(FEATURES,))

    def accumulate(self, evidence: Evidence) -> Histogram:
        """A histogram of all activations."""
        return Histogram.of(evidence.features)

    def finish(self, activations: Histogram, network: Network, plan: Plan) -> State:
        """The clipping value."""
        low, clip = activations.quantile(0.0), activations.quantile(self.percentile / 100)
        if not (isfinite(low) and isfinite(activations.quantile(1.0))):
            raise DataError(
                "react was fitted on features with NaN or infinity, which the model made of finite "
                "inputs; drop those inputs, or run the model in a wider type."
            )
        # Zeros share a bin with numbers below the smallest normal one.
        tiny = torch.finfo(torch.float32).tiny
        if -tiny < low and clip < tiny:
            raise DataError(
                f"react would clip at percentile {self.percentile} of the fit features, which is 0 "
                "here and leaves nothing to score; give a higher percentile."
            )
        return {"clip": activations.counts.new_tensor(clip, dtype=torch.float64)}

    def measure(self, evidence: Evidence, state: State) -> Tensor:
        """Scores (batch,)."""
        features = evidence.features.double().clamp(max=state["clip"])
        return measured(self.score, evidence, features=features)
