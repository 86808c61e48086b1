"""DAVIS."""

from math import isfinite
from typing import Literal, final

import torch
from torch import Tensor

from gradood.detectors._shared.attributions import with_features
from gradood.detectors._shared.shaping import check_score, inner_score, measured, shaped_plan
from gradood.detectors.base import Detector, Plan, State, require
from gradood.evidence import (
    FEATURES,
    MEAN,
    Activation,
    Evidence,
    Reads,
    gather,
    largest_value,
    standard_deviation,
)
from gradood.taps import LastMap, Network

__all__ = ["DAVIS"]


@final
class DAVIS(Detector):
    """A logit score on features pooled by spread or by maximum, not by the mean [hassan2026davis].

    Reads the features, the head, and the standard deviation or the maximum of the map whose mean
    over positions is the features. Assumes that known inputs excite few positions strongly, where
    unknown ones excite many weakly with the same mean.

    ``score = s(W g + b)`` with ``g = mean_i F_i + γ std_i F_i`` (n − 1) or ``g = max_i F_i`` over
    the positions i of the last map F [arXiv 2601.22703; as in the authors' released code].

    Where no map is averaged into the features (networks of vectors, class tokens) the features
    stand for a map of one position, and the score is s.

    Args:
        statistic: ``"mean+std"`` or ``"max"``.
        gamma: γ ≥ 0 of ``"mean+std"``; the authors take 0.5 to 4, by network and score, chosen on
            outliers, and 1 for the energy on CIFAR ResNets and DenseNets.
        score: the logit score s: the name of a detector that reads logits or features alone and
            learns nothing, or an instance of one. A monitor with a name can be saved.

    Cost: the forward pass, one reduction of the last map and one product with the head.

    >>> DAVIS(statistic="max", score="msp")
    DAVIS(statistic='max', score='msp')
    """

    name = "davis"
    title = "A logit score on features pooled by spread or by maximum, not by the mean."
    needs = ("features", "last map", "head")
    cost = "one forward and one reduction of the last map"
    fails_when = (
        "The last map has few positions, or none is averaged into the features, so that nothing is "
        "added to the score inside."
    )
    attribution = (
        "shaped: the inner score, by its own rule, on the pooled features; the reference "
        "stands for such as it is"
    )
    rescores = True

    def __init__(
        self,
        *,
        statistic: Literal["mean+std", "max"] = "mean+std",
        gamma: float = 1.0,
        score: str | Detector = "energy",
    ) -> None:
        kinds = ("mean+std", "max")
        require(statistic in kinds, "statistic", statistic, "'mean+std' or 'max'")
        require(0 <= gamma and isfinite(gamma), "gamma", gamma, "a number ≥ 0")
        check_score(score)
        self.statistic: Literal["mean+std", "max"] = statistic
        self.gamma = gamma
        self.score = score

    def plan(self, network: Network, probe: Tensor) -> Plan:
        """Features, what the score reads, and the statistic of the last map."""
        signed = "enlarges features by their spread; this network's are signed, so some shrink."
        plan = shaped_plan(self, network, probe, signed=signed)
        last = network.last_map
        if last is None:
            note = "no map is averaged into the features, so that they are taken as they are"
            return Plan(plan.reads, caveats=plan.caveats, notes=(*plan.notes, note))
        rectified = not _is_mean(network, last, probe)
        make = largest_value if self.statistic == "max" else standard_deviation
        read = Activation(last.site, make(rectified=rectified))
        note = f"last map: {last.site}, {last.positions} positions"
        reads = plan.reads + Reads((read,))
        return Plan(reads, caveats=plan.caveats, notes=(*plan.notes, note))

    def measure(self, evidence: Evidence, state: State) -> Tensor:
        """Scores (batch,)."""
        return measured(self.score, evidence, features=self._pooled(evidence))

    def _pooled(self, evidence: Evidence) -> Tensor:
        features = evidence.features.double()
        if "largest values" in evidence:
            features = evidence["largest values"].double()
        elif "standard deviations" in evidence:
            features = features + float(self.gamma) * evidence["standard deviations"].double()
        return features

    def shaped(
        self, evidence: Evidence, state: State, sample: Evidence
    ) -> tuple[Detector, Evidence]:
        """See `attribution`."""
        features = self._pooled(evidence)
        return inner_score(self.score), with_features(evidence, features)


def _is_mean(network: Network, last: LastMap, probe: Tensor) -> bool:
    """Whether the features are the mean of what is seen there; else, of that after a ReLU."""
    mean = Activation(last.site, MEAN)
    seen = gather(network, probe[:2].clone(), (mean, FEATURES))
    return torch.allclose(seen[mean].to(seen.features), seen.features, rtol=1e-3, atol=1e-5)
