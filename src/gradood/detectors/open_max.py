"""OpenMax."""

import logging
from collections.abc import Mapping
from math import isfinite
from types import MappingProxyType
from typing import Any, ClassVar, Literal, final

import torch
from torch import Tensor

from gradood.detectors._shared.attributions import Terms, head_terms
from gradood.detectors._shared.banks import (
    check_samples,
    rows_within,
    samples_note,
    warn_of_bound,
)
from gradood.detectors._shared.fit_data import warn_of_fit
from gradood.detectors._shared.labels import check_labels
from gradood.detectors.base import Learner, Plan, State, require
from gradood.errors import DataError
from gradood.evidence import KEYS, LOGITS, Evidence
from gradood.functional.farthest_rows import FarthestRows
from gradood.functional.openmax import (
    Distance,
    bounded,
    class_models,
    distances_to,
    rank_shares,
    revised_log_odds,
    tail_models,
    unknown_log_odds,
)
from gradood.functional.weibull import TRANSLATION, Weibull
from gradood.taps import Network

__all__ = ["OpenMax"]

_LOG = logging.getLogger(__name__)
_FEW = 10
"""Samples of a class, below which known inputs are far from the means (few-samples.md)."""


@final
class OpenMax(Learner[FarthestRows]):
    """Log-odds of an unknown class, by extreme-value theory in logit space [bendale2016openmax].

    Reads the logits; learns each class's mean activation vector μ_c from its correctly classified
    samples, and a Weibull distribution F_c of the largest distances to it, shifted to begin at
    `translation` and fitted by maximum likelihood. Assumes that known inputs stay near their class
    mean in logit space.

    ``score = z_0 − logsumexp(z')``, ``z'_c = z_c (1 − r_c F_c(d(z, μ_c)))``, ``z_0 = Σ z_c − z'_c``

    with ``r_c = (α + 1 − i)/α`` for the class of rank i ≤ α, else 0. This is the log-odds of the
    paper's probability of the unknown class, which saturates; ranks are the same. Weights r as
    released (the paper's text has (α − i)/α). A class with too few samples to fit F_c counts as
    F_c = 1: nothing is known of it.

    The defaults are those released with the paper, but for small classes, where twenty distances
    are all that there are and no tail. OpenOOD has ``OpenMax(tailsize=20, alpha=3, translation=1,
    distance="euclidean")``.

    Args:
        tailsize: how many of the largest distances are fitted; ``"auto"`` takes 2 % of those of a
            class, from 3 to the published 20, which classes of 1,000 have.
        alpha: α, how many top classes are revised.
        distance: ``"eucos"``, the released sum of euclidean / 200 and cosine; ``"cosine"``; or
            ``"euclidean"``, as in OpenOOD.
        samples: ``"correct"`` as in the paper, or ``"all"``.
        translation: t > 0, where the fitted distribution begins; not in the paper's text. libMR
            shifted by 10,000 when OpenMax was released, and libmr 0.1.9, which OpenOOD installs,
            by 1: another shape, and F_c = 0 below the tail.
        tail_samples: fit samples whose logits are kept at most: of each class as many, those
            farthest from its mean so far; None for all, or as many as 1 GiB holds, with a warning.
            Tails are those of all samples as long as a class keeps more than its tail.

    Cost: the forward pass; classes² operations per image; a fit keeps the logits of all samples,
    up to 1 GiB.

    >>> OpenMax(alpha=3)
    OpenMax(alpha=3)
    """

    name = "open-max"
    title = "Log-odds of an unknown class, by the distance to class mean logits."
    needs = ("logits", "labels")
    cost = "one forward; one fit pass, which keeps fit logits up to 1 GiB; small state"
    fails_when = (
        "Unknown inputs have smaller logits rather than other ones, classes have fewer correctly "
        "classified samples than the tail (below ten it warns), or logits are negative, which are "
        "revised upward."
    )
    attribution = (
        "terms: the path of the logits, which is that of the features, with the ranks that the "
        "classes have for the sample; the reference value is that of the same ranks"
    )
    published = MappingProxyType({"tailsize": 20})
    state_shapes = (
        "centers: float classes classes",
        "start: float classes",
        "shape: float classes",
        "log_scale: float classes",
        "kept?: int",
        "seen?: int",
    )
    later: ClassVar[Mapping[str, Any]] = {"tail_samples": None}

    def __init__(
        self,
        *,
        tailsize: int | Literal["auto"] = "auto",
        alpha: int = 10,
        distance: Distance = "eucos",
        samples: Literal["correct", "all"] = "correct",
        translation: float = TRANSLATION,
        tail_samples: int | None = None,
    ) -> None:
        counted = isinstance(tailsize, int) and tailsize > 1
        require(counted or tailsize == "auto", "tailsize", tailsize, "a number > 1, or 'auto'")
        require(isinstance(alpha, int) and alpha > 0, "alpha", alpha, "a whole number > 0")
        kinds = ("euclidean", "cosine", "eucos")
        require(distance in kinds, "distance", distance, "'euclidean', 'cosine' or 'eucos'")
        require(samples in ("correct", "all"), "samples", samples, "'correct' or 'all'")
        shifted = 0 < translation and isfinite(translation)
        require(shifted, "translation", translation, "a number > 0")
        self.tailsize: int | Literal["auto"] = tailsize
        self.alpha = alpha
        self.distance: Distance = distance
        self.samples: Literal["correct", "all"] = samples
        self.translation = translation
        check_samples(tail_samples, "tail_samples")
        self.tail_samples = tail_samples

    def plan(self, network: Network, probe: Tensor) -> Plan:
        """Logits; content keys in a fit, to order them by."""
        return Plan((LOGITS,), fit_reads=(LOGITS, KEYS))

    def accumulate(self, evidence: Evidence) -> FarthestRows:
        """Logits and labels of the correctly classified."""
        labels, logits = check_labels(evidence, self.name), evidence.logits
        kept = labels == logits.argmax(1) if self.samples == "correct" else labels >= 0
        rows = bounded(logits[kept])
        columns = {"key": evidence[KEYS][kept], "labels": labels[kept], "rows": rows}
        size = self.tail_samples or rows_within(rows.shape[1] * rows.element_size())
        return FarthestRows.of(size, self.distance, evidence.classes, columns)

    def finish(self, rows: FarthestRows, network: Network, plan: Plan) -> State:
        """Class means and their Weibull distributions; a shape of 0 for classes without one."""
        rows = rows.trimmed()
        table, bound = rows.table(), self._bound(rows)
        logits, labels = table["rows"], table["labels"]
        tailsize = None if self.tailsize == "auto" else self.tailsize
        translation = float(self.translation)
        if bound:
            centers, weibull = tail_models(
                logits, labels, rows.moments, self.distance, tailsize, translation
            )
        else:
            centers, weibull = class_models(
                logits, labels, network.classes, self.distance, tailsize, translation
            )
        missing = int((weibull.shape == 0).sum())
        if missing == network.classes:
            raise DataError(
                f"open-max found no class with three samples ({self.samples}) at unequal distances "
                f"from their mean, among {len(labels)} in all; give more labeled training data, "
                "or samples='all'."
            )
        if missing:
            _LOG.warning("open-max: too few %s samples of %d classes.", self.samples, missing)
        self._check_classes(rows.moments.count)
        return {
            "centers": centers,
            "start": weibull.start,
            "shape": weibull.shape,
            "log_scale": weibull.log_scale,
            **bound,
        }

    def _check_classes(self, counts: Tensor) -> None:
        """Warn where classes have few samples, whose distances from their own mean are short."""
        filled = counts[counts > 0]
        typical = int(filled.median())
        if typical < _FEW:
            warn_of_fit(
                f"open-max says little here: half of the classes have {typical} {self.samples} fit "
                f"samples or fewer, and new ones of a class are farther from its mean than those "
                f"that it is of. Fit on {_FEW} or more of each class, or leave open-max out."
            )

    def _bound(self, rows: FarthestRows) -> State:
        """``{"kept", "seen"}`` if samples were dropped, with a warning if nobody asked."""
        if rows.held == rows.seen:
            return {}
        counts = {"kept": rows.held, "seen": rows.seen}
        device = rows.moments.count.device
        state = {name: torch.tensor(count, device=device) for name, count in counts.items()}
        if self.tail_samples is None:
            otherwise = f"tail_samples={rows.seen} to keep them, or {rows.size} if it is meant"
            warn_of_bound(self.name, self.notes(state)[0], otherwise)
        return state

    def notes(self, state: State) -> tuple[str, ...]:
        """How many logits the tails were taken from, if that was bounded."""
        return samples_note(state, "distance")

    def measure(self, evidence: Evidence, state: State) -> Tensor:
        """Scores (batch,)."""
        logits = bounded(evidence.logits)
        outlying = self._outlying(logits, state)
        return unknown_log_odds(logits, outlying, min(self.alpha, evidence.classes))

    def terms(self, evidence: Evidence, state: State, reference: Evidence) -> Terms:
        """See `attribution`."""
        shares = rank_shares(bounded(evidence.logits), min(self.alpha, evidence.classes))

        def score(points: Tensor, rows: Tensor) -> Tensor:
            logits = bounded(points)
            return revised_log_odds(logits, self._outlying(logits, state), shares[rows])

        return head_terms(None, evidence, reference, score)

    def _outlying(self, logits: Tensor, state: State) -> Tensor:
        """(batch, classes) the probability that logits are too far from those of each class."""
        distances = distances_to(logits, state["centers"], self.distance)
        weibull = Weibull(
            state["start"], state["shape"], state["log_scale"], float(self.translation)
        )
        return torch.where(state["shape"] > 0, weibull.cdf(distances), 1.0)
