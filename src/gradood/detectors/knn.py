"""Deep nearest neighbors."""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal, final

import torch
from torch import Tensor

from gradood.detectors._shared.attributions import Terms
from gradood.detectors._shared.fit_data import auto_neighbors, check_finite, check_neighbors
from gradood.detectors.base import Learner, Plan, State, require
from gradood.errors import DataError
from gradood.evidence import FEATURES, KEYS, Evidence
from gradood.functional.neighbors import Bank, Polar, kth_distance, polar
from gradood.functional.samples import Rows
from gradood.functional.score_terms import neighbor_terms
from gradood.taps import Network

__all__ = ["KNN"]

_MOST = 50


@final
class KNN(Learner[Rows]):
    """Distance to the k-th nearest training feature [sun2022knn].

    Reads the features; keeps all of the fit data's. Assumes nothing but that known inputs have
    close neighbors.

    ``score = ‖h/‖h‖ − h_(k)/‖h_(k)‖‖₂``, the Euclidean distance to the k-th nearest of the bank.

    Args:
        k: which neighbor; ``"auto"`` is the root of the fit samples per class, from 1 to 50, which
            stays inside of a class. Published: 50 of the 50,000 of CIFAR-10, 1,000 (or 10 of 1 %)
            on ImageNet. With 1 it ranks as the largest cosine with a training instance, which is
            used for texts [zhou2021contrastive].
        normalize: compare directions only.

    Cost: the forward pass and an exact search: samples · width multiplications per image, and as
    many floats kept as the fit data has features.

    >>> KNN(k=10)
    KNN(k=10)
    """

    name = "knn"
    needs = ("features",)
    cost = "one forward; one fit pass; keeps all fit features and searches them exactly"
    fails_when = (
        "The fit data is not what the network will see (other augmentation, other camera), or a k "
        "that is named reaches across its classes (warned of)."
    )
    attribution = (
        "terms: (ĥ_d − n_d)² / ‖ĥ − n‖ with n the k-th nearest of the bank, of directions or "
        "of vectors as they are; the reference value is 0, at n"
    )
    labels = False
    state_shapes = (
        "unit: float samples features",
        "log_length: float samples",
        "k?: int",
    )
    published: ClassVar[Mapping[str, Any]] = {"k": 50}

    def __init__(self, *, k: int | Literal["auto"] = "auto", normalize: bool = True) -> None:
        whole = isinstance(k, int) and k > 0
        require(k == "auto" or whole, "k", k, "a whole number > 0, or 'auto'")
        self.k: int | Literal["auto"] = k
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

    def accumulate(self, evidence: Evidence) -> Rows:
        """All features."""
        vectors = self._vectors(evidence.features)
        return Rows.of(key=evidence[KEYS], unit=vectors.unit, log_length=vectors.log_length)

    def finish(self, rows: Rows, network: Network, plan: Plan) -> State:
        """The bank, sorted."""
        table = rows.tensors()
        check_finite(table["unit"], self.name)
        samples = len(table["unit"])
        bank = Bank.of(Polar(table["unit"], table["log_length"])).vectors
        state = {"unit": bank.unit, "log_length": bank.log_length}
        if self.k == "auto":
            if samples == 0:
                raise DataError("knn was given no fit sample; give in-distribution data.")
            k = auto_neighbors(samples, network.classes, _MOST)
            return {**state, "k": torch.tensor(k, device=bank.unit.device)}
        check_neighbors(samples, self.k, self.name, network.classes)
        return state

    def measure(self, evidence: Evidence, state: State) -> Tensor:
        """Scores (batch,)."""
        bank = Bank(Polar(state["unit"], state["log_length"]))
        k = int(state["k"]) if self.k == "auto" else self.k
        return kth_distance(self._vectors(evidence.features), bank, k)

    def terms(self, evidence: Evidence, state: State, reference: Evidence) -> Terms:
        """See `attribution`."""
        bank = Bank(Polar(state["unit"], state["log_length"]))
        k = int(state["k"]) if self.k == "auto" else self.k
        units = neighbor_terms(self._vectors(evidence.features), bank, k)
        return Terms(units, units.new_zeros(len(units)))
