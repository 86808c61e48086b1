"""NECO."""

from types import MappingProxyType
from typing import Literal, final

import torch
from torch import Tensor

from gradood.detectors._shared.attributions import Terms
from gradood.detectors._shared.subspaces import check_fit, principal_dimension, warn_of_full_space
from gradood.detectors.base import Learner, Plan, State, require
from gradood.errors import DataError, TapError
from gradood.evidence import FEATURES, LOGITS, Evidence
from gradood.functional.moments import ClassMoments
from gradood.functional.neco import inside_share, spread
from gradood.functional.score_terms import part_norm_terms
from gradood.functional.subspace import explained_dimension, principal
from gradood.taps import Network

__all__ = ["NECO"]

_EXPLAINED = 0.9


@final
class NECO(Learner[ClassMoments]):
    """Share of the feature inside the principal space of the fit features [ben2024neco].

    Reads the features and the logits; learns mean and principal components of the features.
    Assumes neural collapse: known inputs lie in the C − 1 directions that the means of C classes
    span, unknown ones outside of them. High-is-ID in the paper, negated once here.

    ``score = −‖P z‖₂ / ‖z‖₂ · max_c logit_c`` with ``z = h − μ``, and P projecting onto the first d
    principal components of z.

    The released code divides by σ per feature, takes a d of its own for each network, and
    multiplies by the largest logit on all but ResNets. Here all are multiplied: where collapse is
    complete that changes little, and where it is not, d matters less. σ is left out, as in the
    paper's equation: it makes as much of features that hardly vary as of those that tell classes
    apart. For DeiT and Swin the released code also divides by the length of the features as they
    are, which this does not.

    Where the d-th variance equals the next (to 1e-10 of the largest), the choice among their
    directions is arbitrary: then all of them count, by the share of them up to d. A feature that
    does not vary in the fit is not scaled; one that is the mean itself scores 0, the highest
    without logits.

    Args:
        dimension: d ≥ 1, less than the number of features; ``"auto"`` is C − 1, or as many
            components as explain 90 % of the variance if these are fewer, as where classes are
            many; at least one is left out.
        standardize: divide by σ, as released: ``z = (h − μ)/σ``.
        max_logit: multiply by the largest logit; ``"auto"`` does where there are two or more.

    Cost: the forward pass; width² multiplications per image; state of width².

    >>> NECO(dimension=32)
    NECO(dimension=32)
    """

    name = "neco"
    title = "Negative share of the feature inside the fit features' main directions."
    needs = ("features", "logits")
    cost = "one forward; one fit pass; state of width × width"
    fails_when = (
        "The network is far from neural collapse, so that its features fill their space (few "
        "features, many classes, short training); with max_logit, where largest logits are "
        "negative."
    )
    attribution = (
        "terms: −z_d (P P z)_d / (‖P z‖ ‖z‖), times the largest logit where that is used; "
        "the reference value is 0, where nothing lies inside"
    )
    labels = False
    published = MappingProxyType({"standardize": True})
    state_shapes = (
        "mean: float features",
        "scale: float features",
        "principal: float features features",
    )

    def __init__(
        self,
        *,
        dimension: int | Literal["auto"] = "auto",
        standardize: bool = False,
        max_logit: bool | Literal["auto"] = "auto",
    ) -> None:
        whole = isinstance(dimension, int) and dimension >= 1
        require(
            dimension == "auto" or whole, "dimension", dimension, "a whole number ≥ 1, or 'auto'"
        )
        choice = isinstance(max_logit, bool) or max_logit == "auto"
        require(choice, "max_logit", max_logit, "True, False or 'auto'")
        self.dimension: int | Literal["auto"] = dimension
        self.standardize = standardize
        self.max_logit: bool | Literal["auto"] = max_logit

    def plan(self, network: Network, probe: Tensor) -> Plan:
        """Features, and logits where the share is multiplied by the largest."""
        if network.head.width < 2:
            raise TapError(
                "neco compares directions of the features, and this model has one; expected two or "
                "more. Leave neco out."
            )
        if self.dimension != "auto":
            principal_dimension(network, self.dimension, self.name)
        times = network.classes > 1 if self.max_logit == "auto" else self.max_logit
        reads = (FEATURES, LOGITS) if times else (FEATURES,)
        notes = ("multiplied by the largest logit",) if times else ()
        return Plan(reads, fit_reads=(FEATURES,), notes=notes)

    def accumulate(self, evidence: Evidence) -> ClassMoments:
        """Mean and scatter."""
        return ClassMoments.together(evidence.features, scatter=True)

    def finish(self, moments: ClassMoments, network: Network, plan: Plan) -> State:
        """Mean, scale, and the projection onto the principal space."""
        check_fit(moments, self.name)
        assert moments.scatter is not None
        covariance = moments.scatter / int(moments.count.sum())
        mean = moments.overall_mean
        scale = spread(mean, covariance.diagonal())
        varies = covariance.diagonal().clamp_min(0.0).sqrt() >= scale
        if not bool(varies.any()):
            raise DataError(
                f"neco was fitted on {int(moments.count.sum())} samples without variance; give "
                "several different samples."
            )
        if not self.standardize:
            scale = torch.ones_like(scale)
        moment = covariance / torch.outer(scale, scale)
        dimension = self.dimension
        if dimension == "auto":
            spanned = network.classes - 1 if network.classes > 1 else len(mean)
            explained = explained_dimension(moment, _EXPLAINED)
            dimension = min(spanned, explained, len(mean) - 1)
        else:
            warn_of_full_space(moments, dimension, self.name)
        return {"mean": mean, "scale": scale, "principal": principal(moment, dimension)}

    def measure(self, evidence: Evidence, state: State) -> Tensor:
        """Scores (batch,)."""
        share = inside_share(evidence.features, state["mean"], state["scale"], state["principal"])
        if LOGITS in evidence.reads:
            share = share * evidence.logits.amax(1)
        return -share

    def terms(self, evidence: Evidence, state: State, reference: Evidence) -> Terms:
        """See `attribution`."""
        vectors = (evidence.features.double() - state["mean"]) / state["scale"]
        units = -part_norm_terms(vectors, state["principal"])
        length = torch.linalg.vector_norm(vectors, dim=1, keepdim=True)
        units = units / torch.where(length > 0, length, 1.0)
        if LOGITS in evidence.reads:
            units = units * evidence.logits.amax(1, keepdim=True)
        return Terms(units, units.new_zeros(len(units)))
