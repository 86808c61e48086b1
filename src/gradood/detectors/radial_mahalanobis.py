"""Mahalanobis distance of radially scaled features."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, final

from torch import Tensor

from gradood.detectors._shared.attributions import Terms
from gradood.detectors._shared.gaussians import (
    CLASS_SHAPES,
    class_distance,
    class_distance_terms,
    class_gaussians,
    class_moments,
)
from gradood.detectors.base import Learner, Plan, State, require
from gradood.errors import DataError
from gradood.evidence import FEATURES, Evidence
from gradood.functional.moments import ClassMoments
from gradood.functional.radial import effective_rank, radially_scaled
from gradood.taps import Network

__all__ = ["RadialMahalanobis"]

_GRID = (0.0, 0.5, 1.0, 1.25, 1.5, 2.0)
"""The β among which the automatic rule chooses."""


@dataclass(frozen=True, eq=False, slots=True)
class _Moments:
    """Class moments of the features, scaled by one β after the other."""

    each: tuple[ClassMoments, ...]

    def merge(self, other: "_Moments") -> "_Moments":
        """Of both sets of samples."""
        pairs = zip(self.each, other.each, strict=True)
        return _Moments(tuple(a.merge(b) for a, b in pairs))

    def tensors(self) -> dict[str, Tensor]:
        """Every tensor of this state, by name."""
        return {
            f"{name}_{i}": tensor
            for i, moments in enumerate(self.each)
            for name, tensor in moments.tensors().items()
        }

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> "_Moments":
        """What `tensors` gave.

        Raises:
            DataError: they are others.
        """
        groups: dict[str, dict[str, Tensor]] = {}
        for name, tensor in tensors.items():
            part, _, number = name.rpartition("_")
            groups.setdefault(number, {})[part] = tensor
        numbers = [str(i) for i in range(len(groups))]
        if not groups or groups.keys() != set(numbers):
            raise DataError("moments for each β cannot be made of these tensors.")
        return cls(tuple(ClassMoments.from_tensors(groups[number]) for number in numbers))


@final
class RadialMahalanobis(Learner[_Moments]):
    """Squared Mahalanobis distance of radially scaled features [janiak2025geometry].

    Reads the features; learns class means and one within-class covariance of the scaled features,
    shrunk as that of `mahalanobis++`. Assumes that some scaling of lengths makes the classes
    Gaussian with that covariance.

    ``score = min_c (φ(h) − μ_c)ᵀ Σ⁻¹ (φ(h) − μ_c)`` with ``φ(h) = h / ‖h‖₂^β``, μ and Σ taken from
    φ(h) [arXiv 2510.15202, abstract]. β = 0 is `mahalanobis`, β = 1 is `mahalanobis++`.

    The paper chooses β from the geometry of known samples; its rule could not be read. The
    automatic choice is our own rule, not the paper's: of 0, ½, 1, 1¼, 1½ and 2, the β for which the
    within-class covariance has the largest effective rank (the exponential of the entropy of its
    eigenvalues), the smallest of equal ones.

    A zero feature vector has no direction and is scored at the origin.

    Args:
        beta: β ≥ 0, or ``"auto"``.

    Cost: the forward pass; width² multiplications per image, in a fit with automatic β six times
    that; state of width² + classes · width.

    >>> RadialMahalanobis(beta=0.5)
    RadialMahalanobis(beta=0.5)
    """

    name = "radial-mahalanobis"
    title = "Squared Mahalanobis distance of features scaled by a power of their length."
    needs = ("features", "labels")
    cost = "one forward; one fit pass with six scatters (auto); state of width × width"
    fails_when = (
        "Fewer samples than dimensions were given, so that shrinkage decides, or unknown inputs "
        "lie inside a class in every scaling (near-OOD)."
    )
    attribution = (
        "terms: (h − μ)_d (Σ⁻¹ (h − μ))_d of the class that answers; the reference value is "
        "0, at its mean; units of h / ‖h‖^β"
    )
    state_shapes = (*CLASS_SHAPES, "beta: float")
    links = ("softmax", "sigmoid", "none")

    def __init__(self, *, beta: float | Literal["auto"] = "auto") -> None:
        number = isinstance(beta, int | float) and not isinstance(beta, bool)
        allowed = beta == "auto" or (number and 0 <= float(beta) < float("inf"))
        require(allowed, "beta", beta, "a number ≥ 0, or 'auto'")
        self.beta: float | Literal["auto"] = beta

    def _betas(self) -> tuple[float, ...]:
        return _GRID if self.beta == "auto" else (float(self.beta),)

    def plan(self, network: Network, probe: Tensor) -> Plan:
        """Features."""
        return Plan((FEATURES,), fit_reads=(FEATURES,))

    def accumulate(self, evidence: Evidence) -> _Moments:
        """Counts, means and scatter of the scaled features, for every β in question."""
        features = evidence.features
        scaled = (radially_scaled(features, beta) for beta in self._betas())
        return _Moments(tuple(class_moments(values, evidence, self.name) for values in scaled))

    def finish(self, moments: _Moments, network: Network, plan: Plan) -> State:
        """A whitening transform, the whitened class means and β."""
        chosen = 0
        if len(moments.each) > 1:
            # Refused first, with a reason, where a scatter says nothing.
            class_gaussians(moments.each[0], self.name, "oas")
            ranks = [effective_rank(m.scatter) for m in moments.each if m.scatter is not None]
            # As shards are merged in any order, a lead within rounding is none.
            chosen = next(i for i, rank in enumerate(ranks) if rank >= max(ranks) * (1 - 1e-9))
        state = class_gaussians(moments.each[chosen], self.name, "oas")
        return {**state, "beta": state["shrinkage"].new_tensor(self._betas()[chosen])}

    def measure(self, evidence: Evidence, state: State) -> Tensor:
        """Scores (batch,)."""
        return class_distance(radially_scaled(evidence.features, float(state["beta"])), state)

    def terms(self, evidence: Evidence, state: State, reference: Evidence) -> Terms:
        """See `attribution`."""
        return class_distance_terms(
            radially_scaled(evidence.features, float(state["beta"])), state, evidence.classes
        )
