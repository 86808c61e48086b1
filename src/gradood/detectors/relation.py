"""Relation."""

from collections.abc import Mapping
from typing import Any, ClassVar, final

import torch
from torch import Tensor

from gradood.detectors._shared.attributions import Terms, feature_terms
from gradood.detectors._shared.fit_data import check_finite
from gradood.detectors._shared.layers import one_logit
from gradood.detectors.base import Learner, Plan, State, require
from gradood.errors import DataError
from gradood.evidence import FEATURES, KEYS, LOGITS, Evidence
from gradood.functional.directions import directions
from gradood.functional.gradnorm import linear_logits
from gradood.functional.relation import balanced_weights, relation
from gradood.functional.samples import Selection
from gradood.taps import Network

__all__ = ["Relation"]


@final
class Relation(Learner[Selection]):
    """Negative likeness to a bank, of features times of predictions [kim2023relation].

    Reads the features and the logits; keeps the directions and the softmaxes of fit samples.
    Assumes that known inputs point where fit samples do that are predicted as they are.

    ``score = −Σ_i w_i r_i^t`` with ``r_i = max(0, cos(h, h_i)) (p · p_i)``, of which those of at
    most `cut` do not count [arXiv 2301.12321, as in the authors' released code, where a
    reciprocal gives the same order].

    Args:
        temperature: t > 0; 1, as the authors take it for outliers.
        cut: from 0 to below 1.
        balanced: whether every class has the same share of the weights w, also where the bank's
            samples are seldom predicted to be of it; if not, ``w_i = 1 / samples`` as released.
            With 500 fit samples of CIFAR-10 that is 10 points of AUROC; with as many of each class
            the two are the same.
        samples: size of the bank at most; a seeded selection. The paper keeps all.

    Cost: the forward pass; bank · (width + classes) multiplications per image, and as many numbers
    kept.

    >>> Relation(samples=5_000)
    Relation(samples=5000)
    """

    name = "relation"
    title = "Negative likeness of features times likeness of predictions, over a bank."
    needs = ("features", "logits")
    cost = "one forward; one fit pass; keeps features and softmaxes of 10,000 samples"
    fails_when = (
        "Unknown inputs look like those of one class in all the network keeps of them (near-OOD), "
        "or the softmax is so flat that every relation falls below the cut."
    )
    attribution = (
        "terms: the path of the features from the reference, of the relations that are above "
        "the cut for the sample; the reference value is that of the same relations, of either "
        "sign there"
    )
    labels = False
    state_shapes = (
        "unit: float samples features",
        "probability: float samples classes",
        "weight: float samples",
    )
    published: ClassVar[Mapping[str, Any]] = {"balanced": False}

    def __init__(
        self,
        *,
        temperature: float = 1.0,
        cut: float = 0.03,
        balanced: bool = True,
        samples: int = 10_000,
    ) -> None:
        require(temperature > 0, "temperature", temperature, "a number > 0")
        require(0 <= cut < 1, "cut", cut, "a number from 0 to below 1")
        require(isinstance(balanced, bool), "balanced", balanced, "True or False")
        require(isinstance(samples, int) and samples > 0, "samples", samples, "a whole number > 0")
        self.temperature = temperature
        self.cut = cut
        self.balanced = balanced
        self.samples = samples

    def plan(self, network: Network, probe: Tensor) -> Plan:
        """Features and logits; content keys in a fit, to select the bank by."""
        caveats = one_logit(network, self.name)
        return Plan((FEATURES, LOGITS), fit_reads=(FEATURES, LOGITS, KEYS), caveats=caveats)

    def accumulate(self, evidence: Evidence) -> Selection:
        """Directions and softmaxes of a selection."""
        unit = directions(evidence.features).float()
        probability = torch.softmax(evidence.logits, 1).float()
        return Selection.of(self.samples, key=evidence[KEYS], unit=unit, probability=probability)

    def finish(self, kept: Selection, network: Network, plan: Plan) -> State:
        """The bank, and how much each sample counts."""
        bank = kept.columns
        unit, probability = bank["unit"], bank["probability"]
        check_finite(unit, self.name)
        check_finite(probability, self.name, "logits")
        if not bool((unit != 0).any()):
            raise DataError(
                "relation was fitted on features that are all zero, to which every feature is as "
                "similar; give inputs that the network responds to."
            )
        weight = probability.new_full((len(unit),), 1.0 / len(unit), dtype=torch.float64)
        if self.balanced:
            weight = balanced_weights(probability)
        return {"unit": unit, "probability": probability, "weight": weight}

    def measure(self, evidence: Evidence, state: State) -> Tensor:
        """Scores (batch,)."""
        return -relation(
            directions(evidence.features),
            torch.softmax(evidence.logits, 1),
            state["unit"],
            state["probability"],
            state["weight"],
            temperature=float(self.temperature),
            cut=float(self.cut),
        )

    def terms(self, evidence: Evidence, state: State, reference: Evidence) -> Terms:
        """See `attribution`."""
        head, bank = evidence.linear, state["unit"].double().T
        known = state["probability"].double().T
        beyond = evidence.logits - linear_logits(evidence.features, head.weight, head.bias)

        def found(points: Tensor, logits: Tensor) -> Tensor:
            alike = directions(points) @ bank
            # On the way a likeness may fall below 0: a kink for each, where a power must be taken.
            alike = alike if self.temperature == 1 else alike.clamp_min(0.0)
            return alike * (torch.softmax(logits, 1) @ known)

        counts = found(evidence.features, evidence.logits) > float(self.cut)
        weight = torch.where(counts, state["weight"].double(), 0.0)

        def score(points: Tensor, rows: Tensor) -> Tensor:
            logits = linear_logits(points, head.weight, head.bias) + beyond[rows]
            powers = found(points, logits).pow(float(self.temperature))
            return -(powers * weight[rows]).sum(1)

        return feature_terms(score, reference.features, evidence.features)
