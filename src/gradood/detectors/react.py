"""ReAct."""

from dataclasses import dataclass
from math import isfinite
from typing import ClassVar, final

import torch
from torch import Tensor

from gradood.detectors._shared.attributions import with_features
from gradood.detectors._shared.automatic import CLIPS, ROW_READS, chosen, fit_rows, fitted_rows
from gradood.detectors._shared.shaping import (
    Percentile,
    check_score,
    inner_score,
    measured,
    shaped_plan,
)
from gradood.detectors.base import Detector, Learner, Plan, State, require
from gradood.errors import DataError
from gradood.evidence import FEATURES, Evidence
from gradood.functional.quantiles import Histogram
from gradood.functional.samples import Selection
from gradood.taps import Network

__all__ = ["ReAct"]


# Zeros share a bin with numbers below the smallest normal one.
_TINY = torch.finfo(torch.float32).tiny


@dataclass(frozen=True, eq=False, slots=True)
class _Activations:
    """All activations, and some samples where the percentile is chosen by them."""

    all: Histogram
    rows: Selection | None


@final
class ReAct(Learner[_Activations]):
    """A logit score after clipping large activations [sun2021react].

    Reads the features and the head; learns one percentile of all fit activations. Assumes that
    unknown inputs excite a few units beyond what training ever did.

    ``score = s(W min(h, c) + b)``, c the percentile, s the energy or another logit score

    Args:
        percentile: of the fit activations, from 0 to 100; ``"auto"`` takes the one from 90, the
            paper's, to 100 that best tells fit features from surrogate outliers.
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
    attribution = (
        "shaped: the inner score, by its own rule, on the shaped features; the reference is "
        "shaped in the same way"
    )
    labels = False
    published: ClassVar = {"percentile": 90}
    state_shapes = (
        "clip: float",
        "percentile?: float",
    )
    rescores = True

    def __init__(
        self, *, percentile: Percentile = "auto", score: str | Detector = "energy"
    ) -> None:
        number = isinstance(percentile, int | float) and 0 <= percentile <= 100
        expected = "a number from 0 to 100, or 'auto'"
        require(percentile == "auto" or number, "percentile", percentile, expected)
        check_score(score)
        self.percentile: Percentile = percentile
        self.score = score

    def plan(self, network: Network, probe: Tensor) -> Plan:
        """Features, and what the score reads."""
        signed = "clips from above alone; this network's features are signed, also far below zero."
        reads = ROW_READS if self.percentile == "auto" else (FEATURES,)
        return shaped_plan(self, network, probe, signed=signed, fit_reads=reads)

    def accumulate(self, evidence: Evidence) -> _Activations:
        """A histogram of all activations; features of some samples if the percentile is chosen."""
        rows = fit_rows(evidence) if self.percentile == "auto" else None
        return _Activations(Histogram.of(evidence.features), rows)

    def finish(self, seen: _Activations, network: Network, plan: Plan) -> State:
        """The clipping value."""
        low, high = seen.all.quantile(0.0), seen.all.quantile(1.0)
        if not (isfinite(low) and isfinite(high)):
            raise DataError(
                "react was fitted on features with NaN or infinity, which the model made of finite "
                "inputs; drop those inputs, or run the model in a wider type."
            )
        percentiles = CLIPS if self.percentile == "auto" else (float(self.percentile),)
        clips = {p: seen.all.quantile(p / 100) for p in percentiles}
        usable = {p: c for p, c in clips.items() if not (-_TINY < low and c < _TINY)}
        if not usable:
            raise DataError(
                f"react would clip at percentile {max(percentiles):g} of the fit features, which "
                "is 0 here and leaves nothing to score; give a higher percentile, or fit on inputs "
                "that the network responds to."
            )
        number = seen.all.counts.new_tensor
        states = {
            p: {
                "clip": number(c, dtype=torch.float64),
                "percentile": number(p, dtype=torch.float64),
            }
            for p, c in usable.items()
        }
        if seen.rows is None:
            return {"clip": states[percentiles[0]]["clip"]}
        rows = fitted_rows(seen.rows, self.name)
        return states[chosen(self, rows, network, plan, states)]

    def measure(self, evidence: Evidence, state: State) -> Tensor:
        """Scores (batch,)."""
        features = evidence.features.double().clamp(max=state["clip"])
        return measured(self.score, evidence, features=features)

    def shaped(
        self, evidence: Evidence, state: State, sample: Evidence
    ) -> tuple[Detector, Evidence]:
        """See `attribution`."""
        features = evidence.features.double().clamp(max=state["clip"])
        return inner_score(self.score), with_features(evidence, features)
