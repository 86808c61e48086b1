"""Deep nearest neighbors."""

from typing import ClassVar, final

import torch
from torch import Tensor

from gradood.detectors.base import Learner, Partial, Plan, State, require
from gradood.errors import DataError
from gradood.evidence import FEATURES, KEYS, Evidence
from gradood.functional.neighbors import Bank, Polar, kth_distance, polar
from gradood.functional.samples import Rows
from gradood.taps import Network

__all__ = ["KNN"]


@final
class KNN(Learner):
    """Distance to the k-th nearest training feature [sun2022knn].

    Reads the features; keeps all of the fit data's. Assumes nothing but that known inputs have
    close neighbors.

    ``score = ‖h/‖h‖ − h_(k)/‖h_(k)‖‖₂``, the Euclidean distance to the k-th nearest of the bank.

    Args:
        k: which neighbor.
        normalize: compare directions only.

    Cost: the forward pass and an exact search: samples · width multiplications per image, and as
    many floats kept as the fit data has features.

    >>> KNN(k=10)
    KNN(k=10)
    """

    name: ClassVar[str] = "knn"
    title: ClassVar[str] = "Distance to the k-th nearest training feature."
    paper: ClassVar[str] = "sun2022knn"
    needs: ClassVar[tuple[str, ...]] = ("features",)
    cost: ClassVar[str] = (
        "one forward; one fit pass; keeps all fit features and searches them exactly"
    )
    fails_when: ClassVar[str] = (
        "The fit data is not what the network will see (other augmentation, other camera), or is "
        "so small that k neighbors reach across classes."
    )
    labels: ClassVar[bool] = False

    def __init__(self, *, k: int = 50, normalize: bool = True) -> None:
        require(isinstance(k, int) and k > 0, "k", k, "a whole number > 0")
        self.k = k
        self.normalize = normalize

    def _vectors(self, features: Tensor) -> Polar:
        vectors = polar(features)
        if not self.normalize:
            return vectors
        zero = vectors.unit.abs().amax(1) == 0
        return Polar(vectors.unit, torch.where(zero, vectors.log_length, 0.0))

    def plan(self, network: Network, probe: Tensor) -> Plan:
        """Features; content keys in a fit, to order them by."""
        return Plan((FEATURES,), fit_reads=(FEATURES, KEYS))

    def accumulate(self, evidence: Evidence) -> Partial:
        """All features."""
        vectors = self._vectors(evidence.features)
        return {
            "bank": Rows.of(key=evidence[KEYS], unit=vectors.unit, log_length=vectors.log_length)
        }

    def finish(self, partial: Partial, network: Network, plan: Plan) -> State:
        """The bank, sorted."""
        table = partial["bank"].tensors()
        if not bool(table["unit"].isfinite().all()):
            raise DataError(
                "knn was fitted on features with NaN or infinity, which the model made of finite "
                "inputs; drop those inputs, or run the model in a wider type."
            )
        if len(table["unit"]) < self.k:
            raise DataError(
                f"knn with k={self.k} was fitted on {len(table['unit'])} samples; "
                "give at least k, or a smaller k."
            )
        bank = Bank.of(Polar(table["unit"], table["log_length"]))
        return {"unit": bank.vectors.unit, "log_length": bank.vectors.log_length}

    def measure(self, evidence: Evidence, state: State) -> Tensor:
        """Scores (batch,)."""
        bank = Bank(Polar(state["unit"], state["log_length"]))
        return kth_distance(self._vectors(evidence.features), bank, self.k)
