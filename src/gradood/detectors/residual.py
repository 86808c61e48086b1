"""Residual."""

from typing import Literal, final

from torch import Tensor

from gradood.detectors._shared.subspaces import (
    check_fit,
    principal_dimension,
    residual_norm,
    residual_space,
    warn_of_full_space,
)
from gradood.detectors.base import Learner, Plan, State, require
from gradood.evidence import FEATURES, Evidence
from gradood.functional.moments import ClassMoments
from gradood.taps import Network

__all__ = ["Residual"]


@final
class Residual(Learner[ClassMoments]):
    """Length of the feature outside the principal space of the fit features [wang2022vim].

    Reads the features and, in a fit, the head; learns the principal space of the fit features.
    Assumes that known inputs stay in few directions. As published with ViM, about the origin in
    which the head needs no bias; about the mean it is the feature reconstruction error of
    [ndiour2020subspace].

    ``score = ‖R (h − o)‖₂`` with ``o = −W⁺ b`` and R projecting onto all but the first D
    eigenvectors of the mean of ``(h − o)(h − o)ᵀ``.

    Where the D-th eigenvalue equals the next (to 1e-10 of the largest), the choice among their
    directions is arbitrary: then all of them count, by the share of them beyond D.

    Args:
        dimension: D ≥ 1, less than the number of features; ``"auto"`` is 1000 for 2048 features and
            more, 512 for 768 and more, as released, and half of the features below that.
        origin: ``"head"`` or ``"mean"``.

    Cost: the forward pass; width² multiplications per image; state of width².

    >>> Residual(dimension=32)
    Residual(dimension=32)
    """

    name = "residual"
    needs = ("features", "head")
    cost = "one forward; one fit pass; state of width × width"
    fails_when = (
        "The features have no fewer directions than dimensions (small or narrow networks), or "
        "unknown inputs have short features: the length outside shrinks with the whole."
    )
    attribution = (
        "feature path: the straight path of the features from the reference, on which the "
        "logits follow"
    )
    labels = False
    state_shapes = (
        "origin: float features",
        "residual: float features features",
    )
    links = ("softmax", "sigmoid", "none")

    def __init__(
        self,
        *,
        dimension: int | Literal["auto"] = "auto",
        origin: Literal["head", "mean"] = "head",
    ) -> None:
        whole = isinstance(dimension, int) and dimension >= 1
        require(
            dimension == "auto" or whole, "dimension", dimension, "a whole number ≥ 1, or 'auto'"
        )
        require(origin in ("head", "mean"), "origin", origin, "'head' or 'mean'")
        self.dimension: int | Literal["auto"] = dimension
        self.origin: Literal["head", "mean"] = origin

    def plan(self, network: Network, probe: Tensor) -> Plan:
        """Features."""
        dimension = principal_dimension(network, self.dimension, self.name)
        notes = (f"principal space of {dimension} dimensions",)
        return Plan((FEATURES,), fit_reads=(FEATURES,), notes=notes)

    def accumulate(self, evidence: Evidence) -> ClassMoments:
        """Mean and scatter."""
        return ClassMoments.together(evidence.features, scatter=True)

    def finish(self, moments: ClassMoments, network: Network, plan: Plan) -> State:
        """The origin, and the projection onto the residual space."""
        check_fit(moments, self.name)
        dimension = principal_dimension(network, self.dimension, self.name)
        warn_of_full_space(moments, dimension, self.name)
        return residual_space(moments, network, dimension, origin=self.origin)

    def measure(self, evidence: Evidence, state: State) -> Tensor:
        """Scores (batch,)."""
        return residual_norm(evidence.features, state)
