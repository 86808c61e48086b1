"""Deep nearest neighbors."""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal, final

import torch
from torch import Tensor

from gradood.detectors._shared.attributions import Terms
from gradood.detectors._shared.banks import (
    Bits,
    KeptVectors,
    check_bits,
    check_samples,
    coded_bank_state,
    codes_note,
    sample_state,
    samples_note,
    scaled_neighbor,
    search_in,
)
from gradood.detectors._shared.fit_data import auto_neighbors, check_finite, check_neighbors
from gradood.detectors.base import Learner, Plan, State, require
from gradood.errors import DataError
from gradood.evidence import FEATURES, KEYS, Evidence
from gradood.functional.neighbors import AnyBank, Bank, Polar, kth_distance, polar
from gradood.functional.score_terms import followed_distance, neighbor_terms
from gradood.taps import Network

__all__ = ["KNN"]

_MOST = 50
_DENSE = 1 << 26
"""Numbers in a bank up to which a gradient goes through all of it at once."""


@final
class KNN(Learner[KeptVectors]):
    """Distance to the k-th nearest training feature [sun2022knn].

    Reads the features; keeps all of the fit data's. Assumes nothing but that known inputs have
    close neighbors.

    ``score = ‖h/‖h‖ − h_(k)/‖h_(k)‖‖₂``, the Euclidean distance to the k-th nearest of the bank.

    A bank of more than 1 GiB is kept in codes of 4 bits per number, an eighth of the memory, with a
    warning (in 8 bits for features of fewer than 128 units): the coordinates of each direction,
    after a seeded rotation that makes them alike [ailon2009fast], in equal levels
    [max1960quantizing]. The paper's own bound, a part of the samples, is faster and loses more.

    Args:
        k: which neighbor; ``"auto"`` is the root of the fit samples per class, from 1 to 50, which
            stays inside of a class. Published: 50 of the 50,000 of CIFAR-10, 1,000 (or 10 of 1 %)
            on ImageNet. With 1 it ranks as the largest cosine with a training instance, which is
            used for texts [zhou2021contrastive].
        normalize: compare directions only.
        bits: of each number in the bank: 32, which is exact; 8 or 4, in a quarter or an eighth of
            the memory; or ``"auto"``, which is 32 up to 1 GiB.
        samples: fit samples kept at most, chosen by content; None for all. The neighbor compared
            with becomes k · kept / seen.

    Cost: the forward pass and a search of the whole bank: samples · width multiplications per
    image, and as many numbers kept as the fit data has features.

    >>> KNN(k=10)
    KNN(k=10)
    """

    name = "knn"
    needs = ("features",)
    cost = (
        "one forward; one fit pass; keeps all fit features and searches them exactly, above 1 GiB "
        "in 4 or 8 bits per number (bits, samples)"
    )
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
        "unit?: float samples features",
        "codes?: byte samples _",
        "bits?: int",
        "log_length?: float samples",
        "k?: int",
        "kept?: int",
        "seen?: int",
    )
    published: ClassVar[Mapping[str, Any]] = {"k": 50}
    later: ClassVar[Mapping[str, Any]] = {"bits": "auto", "samples": None}

    def __init__(
        self,
        *,
        k: int | Literal["auto"] = "auto",
        normalize: bool = True,
        bits: Bits = "auto",
        samples: int | None = None,
    ) -> None:
        whole = isinstance(k, int) and k > 0
        require(k == "auto" or whole, "k", k, "a whole number > 0, or 'auto'")
        check_bits(bits)
        check_samples(samples)
        self.k: int | Literal["auto"] = k
        self.normalize = normalize
        self.bits: Bits = bits
        self.samples = samples

    def _vectors(self, features: Tensor) -> Polar:
        vectors = polar(features)
        if not self.normalize:
            return vectors
        zero = vectors.unit.abs().amax(1) == 0
        return Polar(vectors.unit, torch.where(zero, vectors.log_length, 0.0))

    def plan(self, network: Network, probe: Tensor) -> Plan:
        """Features; content keys in a fit, to order them by."""
        return Plan((FEATURES,), fit_reads=(FEATURES, KEYS))

    def accumulate(self, evidence: Evidence) -> KeptVectors:
        """All features, or codes of them, or those with the smallest keys."""
        vectors = self._vectors(evidence.features)
        return KeptVectors.of(evidence[KEYS], vectors, self.samples, self.bits)

    def finish(self, kept: KeptVectors, network: Network, plan: Plan) -> State:
        """The bank, sorted."""
        table = kept.rows.table()
        check_finite(table["log_length"], self.name)
        if kept.coded:
            rows = table["codes"], table["log_length"]
            state = coded_bank_state(*rows, kept.bits, self.name, self.bits)
        else:
            state = _exact_bank(table)
        samples, seen = len(table["key"]), kept.rows.seen
        state |= sample_state(kept.rows, self.name, self.samples, "samples")
        if self.k == "auto":
            if samples == 0:
                raise DataError("knn was given no fit sample; give in-distribution data.")
            k = auto_neighbors(samples, network.classes, _MOST)
        else:
            k = scaled_neighbor(self.k, samples, seen) if samples < seen else self.k
            check_neighbors(samples, k, self.name, network.classes)
        if self.k == "auto" or samples < seen:
            state["k"] = torch.tensor(k, device=table["key"].device)
        return state

    def notes(self, state: State) -> tuple[str, ...]:
        """How the bank is bounded."""
        return (*codes_note(state), *samples_note(state))

    def measure(self, evidence: Evidence, state: State) -> Tensor:
        """Scores (batch,)."""
        query, bank, k = self._search(evidence, state)
        if query.unit.requires_grad and len(bank.vectors.unit) * query.unit.shape[1] > _DENSE:
            return followed_distance(query, bank, k)
        return kth_distance(query, bank, k)

    def terms(self, evidence: Evidence, state: State, reference: Evidence) -> Terms:
        """See `attribution`."""
        units = neighbor_terms(*self._search(evidence, state))
        return Terms(units, units.new_zeros(len(units)))

    def _search(self, evidence: Evidence, state: State) -> tuple[Polar, AnyBank, int]:
        """Queries, what they are compared with, and which neighbor counts."""
        stated = self.k == "auto" or "kept" in state
        k = int(state["k"]) if stated else int(self.k)
        return *search_in(state, self._vectors(evidence.features)), k


def _exact_bank(table: dict[str, Tensor]) -> dict[str, Tensor]:
    bank = Bank.of(Polar(table["unit"], table["log_length"])).vectors
    return {"unit": bank.unit, "log_length": bank.log_length}
