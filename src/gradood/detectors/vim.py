"""ViM."""

import logging
from dataclasses import dataclass
from typing import Literal, final

import torch
from torch import Tensor

from gradood.detectors._shared.banks import (
    bounded_rows,
    check_samples,
    sample_state,
    samples_note,
)
from gradood.detectors._shared.subspaces import (
    check_fit,
    principal_dimension,
    residual_norm,
    residual_space,
)
from gradood.detectors.base import Learner, Plan, State, require
from gradood.errors import DataError
from gradood.evidence import FEATURES, KEYS, LOGITS, Evidence
from gradood.functional.kept_rows import KeptRows
from gradood.functional.logits import energy
from gradood.functional.moments import ClassMoments
from gradood.taps import Network

__all__ = ["ViM"]

_LOG = logging.getLogger(__name__)
_CHUNK = 4096


def _mean_residual(features: Tensor, state: State) -> Tensor:
    """Over the kept fit features, which lie outside the principal space or tell nothing."""
    parts = [residual_norm(rows, state) for rows in features.split(_CHUNK)]
    mean = torch.cat(parts).mean()
    origin = state["origin"]
    sizes = [
        torch.linalg.vector_norm(rows.double() - origin, dim=1) for rows in features.split(_CHUNK)
    ]
    length = torch.cat(sizes).mean()
    if not float(mean) > 1e-9 * float(length):
        raise DataError(
            "vim compares a feature's length outside the principal space with that of the fit "
            f"features, and all {len(features)} of those lie inside; give more samples, or a "
            "smaller dimension."
        )
    return mean


@dataclass(frozen=True, eq=False, slots=True)
class _Statistics:
    """Moments of the features, and features with largest logits to take α from."""

    moments: ClassMoments
    kept: KeptRows


@final
class ViM(Learner[_Statistics]):
    """Free energy with the length outside the principal space as one more logit [wang2022vim].

    Reads the features, the logits and, in a fit, the head; learns the principal space of the fit
    features. Assumes that known inputs stay in few directions of the features. The paper's
    high-is-ID score, negated once here; its softmax probability of the virtual logit is a monotone
    function of this.

    ``score = α ‖R (h − o)‖₂ − logsumexp(z)`` with ``o = −W⁺ b``, R projecting onto all but the
    first D eigenvectors of the mean of ``(h − o)(h − o)ᵀ``, and α the mean largest logit over the
    mean ``‖R (h − o)‖₂`` of the fit data.

    Where the D-th eigenvalue equals the next (to 1e-10 of the largest), the choice among their
    directions is arbitrary: then all of them count, by the share of them beyond D.

    Args:
        dimension: D ≥ 1, less than the number of features; ``"auto"`` is 1000 for 2048 features and
            more, 512 for 768 and more, as released, and half of the features below that; or a tenth
            of the fit samples, where that is less.
        alpha_samples: how many fit features to keep for α (a seeded selection); None for all, or as
            many as 1 GiB holds, with a warning.

    Cost: the forward pass; width² multiplications per image; state of width². A fit keeps all
    features, up to 1 GiB, or `alpha_samples` of them, until α is known.

    >>> ViM(dimension=32)
    ViM(dimension=32)
    """

    name = "vim"
    title = "Free energy with the length outside the principal space as a logit."
    needs = ("features", "logits", "head")
    cost = (
        "one forward; one fit pass, which keeps fit features up to 1 GiB (or alpha_samples of "
        "them) until it ends; state of width × width"
    )
    fails_when = (
        "The features have no fewer directions than dimensions (small or narrow networks), or the "
        "largest logit is mostly negative, which turns the residual around."
    )
    attribution = (
        "feature path: the straight path of the features from the reference, on which the "
        "logits follow"
    )
    labels = False
    state_shapes = (
        "origin: float features",
        "residual: float features features",
        "alpha: float",
        "kept?: int",
        "seen?: int",
    )

    def __init__(
        self, *, dimension: int | Literal["auto"] = "auto", alpha_samples: int | None = None
    ) -> None:
        whole = isinstance(dimension, int) and dimension >= 1
        require(
            dimension == "auto" or whole, "dimension", dimension, "a whole number ≥ 1, or 'auto'"
        )
        check_samples(alpha_samples, "alpha_samples")
        self.dimension: int | Literal["auto"] = dimension
        self.alpha_samples = alpha_samples

    def plan(self, network: Network, probe: Tensor) -> Plan:
        """Features and logits; content keys in a fit, to order them by."""
        dimension = principal_dimension(network, self.dimension, self.name)
        few = ", or a tenth of the fit samples" if self.dimension == "auto" else ""
        notes = (f"principal space of {dimension} dimensions{few}",)
        return Plan((FEATURES, LOGITS), fit_reads=(FEATURES, LOGITS, KEYS), notes=notes)

    def accumulate(self, evidence: Evidence) -> _Statistics:
        """Mean and scatter; features and largest logits to take α from."""
        features, peak = evidence.features, evidence.logits.amax(1)
        kept = bounded_rows(self.alpha_samples, key=evidence[KEYS], features=features, peak=peak)
        return _Statistics(ClassMoments.together(features, scatter=True), kept)

    def finish(self, seen: _Statistics, network: Network, plan: Plan) -> State:
        """The origin, the projection onto the residual space, and α."""
        moments, kept = seen.moments, seen.kept.table()
        check_fit(moments, self.name)
        samples = int(moments.count.sum())
        dimension = principal_dimension(network, self.dimension, self.name, samples)
        space = residual_space(moments, network, dimension, origin="head")
        peak = kept["peak"].mean()
        alpha = peak / _mean_residual(kept["features"], space)
        if not float(alpha) > 0:
            _LOG.warning(
                "vim: the mean largest logit of the fit data is %.3g; a negative one turns the "
                "residual around.",
                float(peak),
            )
        bound = sample_state(seen.kept, self.name, self.alpha_samples, "alpha_samples")
        return {**space, "alpha": alpha, **(bound if self.alpha_samples is None else {})}

    def notes(self, state: State) -> tuple[str, ...]:
        """How many samples α was taken from, if that was bounded."""
        return tuple(f"{note} (for α alone)" for note in samples_note(state))

    def measure(self, evidence: Evidence, state: State) -> Tensor:
        """Scores (batch,)."""
        virtual = state["alpha"] * residual_norm(evidence.features, state)
        return virtual + energy(evidence.logits)
