"""Mahalanobis distances of inner layers after a step up each one's confidence, as a plug-in."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from gradood.detectors.base import Learner, Plan, State, check_labels, require
from gradood.errors import DataError
from gradood.evidence import MEAN, Activation, Evidence, FittedScore, Perturbation, Perturbed
from gradood.functional.covariance import oracle_shrinkage, squared_distances, whitening
from gradood.functional.moments import ClassMoments
from gradood.taps import Network

__all__ = ["LeeMahalanobis"]


@dataclass(frozen=True)
class Layers:
    """Moments of each layer's class means."""

    first: ClassMoments
    second: ClassMoments


@final
class LeeMahalanobis(Learner[Layers]):
    """Distances to the nearest class mean at two layers of a moved input [lee2018mahalanobis].

    Reads the spatial means of two layers, each of the input moved up its own confidence, as
    published; where the paper weighs layers by a regression on known outliers, they are summed.

    ``score = Σ_l −M_l(x + ε · sign(∇ₓ M_l(x)))`` with
    ``M_l(x) = max_c −(f_l − μ_c)ᵀ Σ⁻¹ (f_l − μ_c)``

    Args:
        layers: names of the two.
        noise: ε.

    Cost: a forward, and for each layer a backward to the input and a forward more.
    """

    name = "lee-mahalanobis"
    needs = ("layers", "labels", "gradient of the input")
    cost = "a pass of its own: three forwards and two backwards; one fit pass"
    fails_when = "The step does not suit the network and its preprocessing."
    attribution = "none: the score is of layers after a step of the input"

    def __init__(self, *, layers: Sequence[str] = ("conv2", "relu2"), noise: float = 0.01) -> None:
        require(len(layers) == 2, "layers", layers, "two module names")
        require(noise > 0, "noise", noise, "a number > 0")
        self.layers = layers
        self.noise = noise

    def plan(self, network: Network, probe: Tensor) -> Plan:
        """Means of the layers, of the input in a fit and of moved inputs for a score."""
        means = [Activation(network.layer(name).output, MEAN) for name in self.layers]
        moved = [
            Perturbed(Perturbation(FittedScore(f"layer_{i}", (mean,)), self.noise), mean)
            for i, mean in enumerate(means)
        ]
        return Plan({"moved": moved}, fit_reads={"layers": means})

    def accumulate(self, evidence: Evidence) -> Layers:
        """Moments by class."""
        labels, classes = check_labels(evidence, self.name), evidence.classes
        first, second = evidence.group("layers")
        return Layers(
            ClassMoments.of(first, labels, classes, scatter=True),
            ClassMoments.of(second, labels, classes, scatter=True),
        )

    def finish(self, layers: Layers, network: Network, plan: Plan) -> State:
        """A whitening transform and the whitened class means of each layer."""
        state: dict[str, Tensor] = {}
        for i, moments in enumerate((layers.first, layers.second)):
            samples, seen = int(moments.count.sum()), moments.count > 0
            if moments.scatter is None or float(moments.scatter.diagonal().sum()) <= 1e-9 * samples:
                raise DataError("lee-mahalanobis needs samples that differ inside their classes.")
            covariance, _ = oracle_shrinkage(moments.scatter / samples, samples)
            transform, _ = whitening(covariance)
            state[f"transform_{i}"] = transform
            state[f"centers_{i}"] = moments.mean[seen] @ transform
        return state

    def objective(self, name: str, evidence: Evidence, state: State) -> Tensor:
        """M of the layer that the name ends in."""
        return -_distance(evidence["means"], state, int(name.removeprefix("layer_")))

    def measure(self, evidence: Evidence, state: State) -> Tensor:
        """Scores (batch,)."""
        moved = evidence.group("moved")
        return torch.stack([_distance(mean, state, i) for i, mean in enumerate(moved)]).sum(0)


def _distance(features: Tensor, state: State, layer: int) -> Tensor:
    return squared_distances(features, state[f"transform_{layer}"], state[f"centers_{layer}"]).amin(
        1
    )
