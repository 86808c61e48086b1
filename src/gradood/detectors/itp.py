"""ITP."""

from collections.abc import Mapping
from typing import Any, ClassVar, final

import torch
from torch import Tensor

from gradood.detectors._shared.attributions import Terms, contribution_terms
from gradood.detectors._shared.labels import check_labels, fill_absent
from gradood.detectors.base import Learner, Plan, State, require
from gradood.evidence import FEATURES, Evidence
from gradood.functional.itp import ClassSpreads, contribution_limits, limited_logits
from gradood.functional.logits import energy
from gradood.functional.moments import ClassMoments
from gradood.taps import Network

__all__ = ["ITP"]


@final
class ITP(Learner[ClassSpreads]):
    """Energy without contributions that are too small on average, or too large here [xu2025itp].

    Reads the features and the head; learns mean and standard deviation of every unit in each class.
    Assumes that a known input of class k contributes to logit k as the fit samples of class k do,
    and that unknown inputs have contributions above that.

    ``score = −logsumexp_k(Σ_d c_kd [μ_kd > θ] [c_kd < μ_kd + λ σ_kd] + b_k)`` with c_kd = W_kd h_d,
    μ and σ its mean and standard deviation over the fit samples of class k, and θ a percentile of
    all μ [arXiv 2412.12566; as in the authors' released code].

    A class of fewer than ten samples has the standard deviation within all classes together.

    Args:
        percentile: of the means at or below which contributions are removed, 0 to below 100.
        deviations: λ > 0.

    The published values are 10 and 2.2 for CIFAR-10, 20 and 1.6 for CIFAR-100, 30 and 1.5 for
    ImageNet, chosen on outliers; the defaults were chosen on three CIFAR-10 networks.

    Cost: the forward pass; classes · width products and comparisons per image; state of as many
    numbers, three times that in a fit.

    >>> ITP(percentile=10)
    ITP(percentile=10)
    """

    name = "itp"
    title = "Energy without contributions that are too small on average, or too large here."
    needs = ("features", "head", "labels")
    cost = "one forward, classes × width operations per image; one fit pass; state of as many"
    fails_when = (
        "Unknown inputs contribute less than known ones, not more (near-OOD), or λ is so small "
        "that the contributions of known inputs are cut as well."
    )
    attribution = (
        "terms: by the contributions c_kd that count, the path of the logits from the "
        "reference's: Σ_k (c_kd − c_kd(r)) ∫ ∂s/∂z_k"
    )
    state_shapes = ("limits: float classes features",)
    published: ClassVar[Mapping[str, Any]] = {"percentile": 10}

    def __init__(self, *, percentile: float = 30, deviations: float = 2.2) -> None:
        require(0 <= percentile < 100, "percentile", percentile, "a number from 0 to below 100")
        require(deviations > 0, "deviations", deviations, "a number > 0")
        self.percentile = percentile
        self.deviations = deviations

    def plan(self, network: Network, probe: Tensor) -> Plan:
        """Features."""
        _ = network.head  # Says itself why there is none.
        return Plan((FEATURES,), fit_reads=(FEATURES,))

    def accumulate(self, evidence: Evidence) -> ClassSpreads:
        """Counts, means and squared deviations of each class."""
        labels = check_labels(evidence, self.name)
        return ClassSpreads.of(evidence.features, labels, evidence.classes)

    def finish(self, spreads: ClassSpreads, network: Network, plan: Plan) -> State:
        """What every contribution must stay below."""
        mean = fill_absent(ClassMoments(spreads.count, spreads.mean, None), self.name)
        weight, _ = network.head.linear()
        limits = contribution_limits(
            mean,
            spreads.deviations(),
            weight.to(mean.device),
            float(self.percentile),
            float(self.deviations),
        )
        return {"limits": limits}

    def measure(self, evidence: Evidence, state: State) -> Tensor:
        """Scores (batch,)."""
        head = evidence.linear
        limits = state["limits"]
        return energy(limited_logits(evidence.features, head.weight, head.bias, limits))

    def terms(self, evidence: Evidence, state: State, reference: Evidence) -> Terms:
        """See `attribution`."""
        weight, limits = evidence.linear.weight.double(), state["limits"].double()

        def made(some: Evidence, row: int) -> Tensor:
            products = some.features[row].double() * weight
            return torch.where(products < limits, products, 0.0)

        return contribution_terms(energy, made, evidence, reference)
