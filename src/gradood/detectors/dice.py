"""DICE."""

from dataclasses import replace
from typing import ClassVar, final

import torch
from torch import Tensor

from gradood.detectors._shared.attributions import with_features
from gradood.detectors._shared.labels import present
from gradood.detectors._shared.shaping import (
    Percentile,
    check_percentile,
    check_score,
    inner_score,
    measured,
    shaped_plan,
)
from gradood.detectors.base import Detector, Learner, Plan, State
from gradood.evidence import FEATURES, Evidence, Linear
from gradood.functional.moments import ClassMoments
from gradood.functional.shaping import contribution_mask
from gradood.taps import Network

__all__ = ["DICE"]


@final
class DICE(Learner[ClassMoments]):
    """A logit score of a head with its most contributing weights alone [sun2022dice].

    Reads the features and the head; learns the mean of the features over all fit samples. Assumes
    that weights which contribute little on known inputs carry noise on unknown ones.

    ``score = s((W ⊙ M) h + b)``, M = 1 where ``W ⊙ h̄`` exceeds its percentile over all weights

    Args:
        percentile: share of weights removed, 0 to below 100; the paper's is 90 on CIFAR, 70 on
            ImageNet. ``"auto"`` removes the weights that on average speak against their class,
            ``W ⊙ h̄ ≤ 0``.
        score: the logit score s: the name of a detector that reads logits or features alone and
            learns nothing, or an instance of one. A monitor with a name can be saved.

    Cost: the forward pass and one product with the head; state of a flag per weight.

    >>> DICE(percentile=70)
    DICE(percentile=70)
    """

    name = "dice"
    needs = ("features", "head")
    cost = "one forward; one fit pass; state of classes × width"
    fails_when = (
        "Features are so few that a percentile leaves nothing of some classes, or signed, whose "
        "mean says little of how much a weight contributes."
    )
    attribution = "shaped: the inner score, by its own rule, on the masked head"
    labels = False
    published: ClassVar = {"percentile": 90}
    state_shapes = ("mask: bool classes features",)
    rescores = True

    def __init__(
        self, *, percentile: Percentile = "auto", score: str | Detector = "energy"
    ) -> None:
        check_percentile(percentile)
        check_score(score)
        self.percentile: Percentile = percentile
        self.score = score

    def plan(self, network: Network, probe: Tensor) -> Plan:
        """Features, and what the score reads."""
        signed = (
            "ranks weights by mean features; this network's are signed, and their means cancel."
        )
        return shaped_plan(self, network, probe, signed=signed, fit_reads=(FEATURES,))

    def accumulate(self, evidence: Evidence) -> ClassMoments:
        """The mean of the features, over all classes."""
        features = evidence.features
        one = torch.zeros(len(features), dtype=torch.int64, device=features.device)
        return ClassMoments.of(features, one, 1)

    def finish(self, means: ClassMoments, network: Network, plan: Plan) -> State:
        """Which weights are kept (classes, width)."""
        present(means, self.name)
        weight = network.head.weight.detach().to(means.mean.device)
        percentile = None if self.percentile == "auto" else float(self.percentile)
        return {"mask": contribution_mask(means.mean[0], weight, percentile)}

    def measure(self, evidence: Evidence, state: State) -> Tensor:
        """Scores (batch,)."""
        head = evidence.linear
        return measured(self.score, evidence, head=Linear(head.weight * state["mask"], head.bias))

    def shaped(
        self, evidence: Evidence, state: State, sample: Evidence
    ) -> tuple[Detector, Evidence]:
        """See `attribution`."""
        head = evidence.linear
        masked = replace(evidence, head=Linear(head.weight * state["mask"], head.bias))
        return inner_score(self.score), with_features(masked, evidence.features)
