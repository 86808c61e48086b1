"""Nearest neighbor guidance."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, final

import torch
from torch import Tensor

from gradood.detectors._shared.attributions import Terms, feature_terms
from gradood.detectors._shared.banks import (
    bounded_rows,
    check_samples,
    sample_state,
    samples_note,
)
from gradood.detectors._shared.fit_data import check_finite, check_neighbors
from gradood.detectors.base import Learner, Plan, State, require
from gradood.errors import DataError
from gradood.evidence import FEATURES, KEYS, LOGITS, Evidence
from gradood.functional.directions import directions
from gradood.functional.gradnorm import linear_logits
from gradood.functional.kept_rows import KeptRows
from gradood.functional.logits import energy
from gradood.functional.nnguide import guidance, nearest_guides
from gradood.functional.samples import Selection
from gradood.taps import Network

__all__ = ["NNGuide"]

_LEAST = 500
_MOST = 10


@dataclass(frozen=True, eq=False, slots=True)
class _Statistics:
    """Scaled directions of a share of the samples, and of the least that make a bank."""

    share: KeptRows
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
        samples: in the bank at most, if that share is more; None for the share, or as many as 1 GiB
            holds, with a warning.

    Cost: the forward pass; bank · width multiplications per image, and as many numbers kept.

    >>> NNGuide(k=100)
    NNGuide(k=100)
    """

    name = "nnguide"
    title = "Energy times the mean similarity to the nearest confident features."
    needs = ("features", "logits")
    cost = "one forward; one fit pass; keeps 1 % of the fit features (alpha), up to 1 GiB (samples)"
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
    state_shapes = ("guides: float samples features", "kept?: int", "seen?: int")
    published: ClassVar[Mapping[str, Any]] = {"k": 10}
    later: ClassVar[Mapping[str, Any]] = {"samples": None}

    def __init__(
        self,
        *,
        k: int | Literal["auto"] = "auto",
        alpha: float = 0.01,
        samples: int | None = None,
    ) -> None:
        whole = isinstance(k, int) and k > 0
        require(k == "auto" or whole, "k", k, "a whole number > 0, or 'auto'")
        require(0 < alpha <= 1, "alpha", alpha, "a number above 0, at most 1")
        self.k: int | Literal["auto"] = k
        self.alpha = alpha
        check_samples(samples)
        self.samples = samples

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
        chosen = keys <= round(self.alpha * 2**64) - 2**63 - 1
        return _Statistics(
            share=bounded_rows(self.samples, key=keys[chosen], guides=guides[chosen]),
            least=Selection.of(max(self._k(fewest), fewest), key=keys, guides=guides),
        )

    def finish(self, seen: _Statistics, network: Network, plan: Plan) -> State:
        """The bank."""
        share, least = (kept.tensors()["guides"] for kept in (seen.share, seen.least))
        guides = share if len(share) > len(least) else least
        check_neighbors(
            len(guides), self._k(len(guides)), self.name, network.classes, averaged=True
        )
        check_finite(guides, self.name, "features or logits")
        if not bool((guides != 0).any()):
            raise DataError(
                "nnguide was fitted on features that are all zero, to which every feature is as "
                "similar; give inputs that the network responds to."
            )
        state = {"guides": guides.clone(memory_format=torch.contiguous_format)}
        if len(share) >= len(least):
            state |= sample_state(seen.share, self.name, self.samples, "samples")
        return state

    def notes(self, state: State) -> tuple[str, ...]:
        """How the bank is bounded."""
        return samples_note(state)

    def measure(self, evidence: Evidence, state: State) -> Tensor:
        """Scores (batch,)."""
        k = self._k(len(state["guides"]))
        similar = guidance(directions(evidence.features), state["guides"], k)
        return energy(evidence.logits) * similar

    def terms(self, evidence: Evidence, state: State, reference: Evidence) -> Terms:
        """See `attribution`."""
        units, k = directions(evidence.features), self._k(len(state["guides"]))
        near = state["guides"].double()[nearest_guides(units, state["guides"], k)].mean(1)
        head = evidence.linear
        beyond = evidence.logits - linear_logits(evidence.features, head.weight, head.bias)
        # Of the guides' own type.
        rounding = guidance(units, state["guides"], k) - (units * near).sum(1)

        def score(points: Tensor, rows: Tensor) -> Tensor:
            logits = linear_logits(points, head.weight, head.bias) + beyond[rows]
            similar = (directions(points) * near[rows]).sum(1) + rounding[rows]
            return energy(logits) * similar

        return feature_terms(score, reference.features, evidence.features)
