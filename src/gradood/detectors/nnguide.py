"""Nearest neighbor guidance."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, final

import torch
from torch import Tensor

from gradood.detectors._shared.attributions import Terms, feature_terms
from gradood.detectors._shared.banks import (
    Bits,
    KeptVectors,
    check_bits,
    check_samples,
    codes_note,
    codes_state,
    sample_state,
    samples_note,
)
from gradood.detectors._shared.fit_data import check_finite, check_neighbors
from gradood.detectors.base import Learner, Plan, State, require
from gradood.errors import DataError
from gradood.evidence import FEATURES, KEYS, LOGITS, Evidence
from gradood.functional.codes import CodedVectors, Codes, rotated
from gradood.functional.directions import directions
from gradood.functional.gradnorm import linear_logits
from gradood.functional.logits import energy
from gradood.functional.nnguide import Guides, guidance, nearest_guides
from gradood.functional.samples import Selection
from gradood.taps import Network

__all__ = ["NNGuide"]

_LEAST = 500
_MOST = 10


@dataclass(frozen=True, eq=False, slots=True)
class _Statistics:
    """Scaled directions of a share of the samples, and of the least that make a bank."""

    share: KeptVectors
    least: Selection


@final
class NNGuide(Learner[_Statistics]):
    """Energy times the similarity to the nearest confident training features [park2023nnguide].

    Reads the features and the logits; keeps a seeded part of the fit data's features, each as a
    direction scaled by its own log-sum-exp. Assumes that unknown inputs with a low energy point
    away from the features the network is sure of. The paper scores ID high; negated once here.

    ``score = −logsumexp(z) · 1/k Σ_(i) logsumexp(z_i) · cos(h, h_i)`` over the k bank entries with
    which the product is largest.

    Args:
        k: entries averaged over; ``"auto"`` is the released code's 10 (OpenOOD takes 100), or half
            of the bank where that is fewer.
        alpha: share of the fit data in the bank, above 0 to 1, chosen by content; 500 samples at
            least, or all. 1 % in the paper's ImageNet setting and in OpenOOD.
        samples: in the bank at most, if that share is more; None for the share.
        bits: of each number in the bank: 32; 8 or 4, in a quarter or an eighth of the memory; or
            ``"auto"``, which is 32 up to 1 GiB.

    Cost: the forward pass; bank · width multiplications per image, and as many numbers kept.

    >>> NNGuide(k=100)
    NNGuide(k=100)
    """

    name = "nnguide"
    title = "Energy times the mean similarity to the nearest confident features."
    needs = ("features", "logits")
    cost = (
        "one forward; one fit pass; keeps 1 % of the fit features (alpha, samples), above 1 GiB in "
        "4 or 8 bits per number (bits)"
    )
    fails_when = (
        "The log-sum-exp of the logits has no common sign, so that the product of two of them "
        "loses its meaning, or the bank is so small that it misses classes (raise alpha)."
    )
    attribution = (
        "terms: the path of the features from the reference, of the energy times the mean "
        "similarity to the guides that answer; the reference value is that of the same "
        "guides"
    )
    labels = False
    state_shapes = (
        "guides?: float samples features",
        "codes?: byte samples _",
        "bits?: int",
        "length?: float samples",
        "kept?: int",
        "seen?: int",
    )
    published: ClassVar[Mapping[str, Any]] = {"k": 10}
    later: ClassVar[Mapping[str, Any]] = {"bits": "auto", "samples": None}

    def __init__(
        self,
        *,
        k: int | Literal["auto"] = "auto",
        alpha: float = 0.01,
        samples: int | None = None,
        bits: Bits = "auto",
    ) -> None:
        whole = isinstance(k, int) and k > 0
        require(k == "auto" or whole, "k", k, "a whole number > 0, or 'auto'")
        require(0 < alpha <= 1, "alpha", alpha, "a number above 0, at most 1")
        self.k: int | Literal["auto"] = k
        self.alpha = alpha
        check_samples(samples)
        check_bits(bits)
        self.samples = samples
        self.bits: Bits = bits

    def _k(self, bank: int) -> int:
        return max(1, min(_MOST, bank // 2)) if self.k == "auto" else self.k

    def plan(self, network: Network, probe: Tensor) -> Plan:
        """Features and logits; content keys in a fit, to choose the bank by."""
        return Plan((FEATURES, LOGITS), fit_reads=(FEATURES, LOGITS, KEYS))

    def accumulate(self, evidence: Evidence) -> _Statistics:
        """Scaled directions of the samples with the smallest keys: a share, and 500 at least."""
        keys = evidence[KEYS]
        features = evidence.features
        # In the features' own precision: the bank is searched in it.
        guides = (directions(features) * -energy(evidence.logits)[:, None]).to(features.dtype)
        fewest = _LEAST if self.samples is None else min(_LEAST, self.samples)
        chosen = keys <= max(-(2**63), round(self.alpha * 2**64) - 2**63 - 1)
        return _Statistics(
            share=KeptVectors.of(keys[chosen], guides[chosen], self.samples, self.bits),
            least=Selection.of(max(self._k(fewest), fewest), key=keys, guides=guides),
        )

    def finish(self, seen: _Statistics, network: Network, plan: Plan) -> State:
        """The bank."""
        share, least = seen.share.rows.table(), seen.least.tensors()
        few = len(share["key"]) < len(least["key"])
        coded = seen.share.coded
        if len(share["key"]) <= len(least["key"]):
            kept = KeptVectors.of(least["key"], least["guides"], None, self.bits)
            share, coded = kept.rows.table(), kept.coded
        size = len(share["key"])
        check_neighbors(size, self._k(size), self.name, network.classes, averaged=True)
        lengths = share["log_length"].exp() if coded else share["vectors"]
        check_finite(lengths, self.name, "features or logits")
        if not bool((lengths != 0).any()):
            raise DataError(
                "nnguide was fitted on features that are all zero, to which every feature is as "
                "similar; give inputs that the network responds to."
            )
        if coded:
            state = codes_state(share["codes"], seen.share.bits, self.name, self.bits)
            state["length"] = lengths.float()
        else:
            state = {"guides": share["vectors"].clone(memory_format=torch.contiguous_format)}
        if not few:
            state |= sample_state(seen.share.rows, self.name, self.samples, "samples")
        return state

    def notes(self, state: State) -> tuple[str, ...]:
        """How the bank is bounded."""
        return (*codes_note(state), *samples_note(state))

    def measure(self, evidence: Evidence, state: State) -> Tensor:
        """Scores (batch,)."""
        guides = _guides(state, evidence)
        units = directions(evidence.features)
        similar = guidance(_turned(units, guides), guides, self._k(len(guides)))
        return energy(evidence.logits) * similar

    def terms(self, evidence: Evidence, state: State, reference: Evidence) -> Terms:
        """See `attribution`."""
        units, guides = directions(evidence.features), _guides(state, evidence)
        query, k = _turned(units, guides), self._k(len(guides))
        near = guides[nearest_guides(query, guides, k)].double().mean(1)
        if isinstance(guides, CodedVectors):
            near = near @ rotated(torch.eye(near.shape[1]).to(near)).T
        head = evidence.linear
        beyond = evidence.logits - linear_logits(evidence.features, head.weight, head.bias)
        # Of the guides' own type.
        rounding = guidance(query, guides, k) - (units * near).sum(1)

        def score(points: Tensor, rows: Tensor) -> Tensor:
            logits = linear_logits(points, head.weight, head.bias) + beyond[rows]
            similar = (directions(points) * near[rows]).sum(1) + rounding[rows]
            return energy(logits) * similar

        return feature_terms(score, reference.features, evidence.features)


def _guides(state: State, evidence: Evidence) -> Guides:
    """The bank."""
    if "codes" not in state:
        return state["guides"]
    codes = Codes(state["codes"], evidence.features.shape[1], int(state["bits"]))
    return CodedVectors(codes, state["length"])


def _turned(units: Tensor, guides: Guides) -> Tensor:
    """Directions as the guides are kept."""
    return rotated(units) if isinstance(guides, CodedVectors) else units
