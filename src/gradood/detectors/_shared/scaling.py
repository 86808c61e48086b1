"""Adaptive scaling by the stability of activations, for both variants of AdaSCALE."""

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from math import isfinite
from typing import ClassVar, Literal

import torch
from torch import Tensor

from gradood.detectors._shared.automatic import SHARES, fit_rows, fitted_rows
from gradood.detectors._shared.perturbing import try_perturbing
from gradood.detectors.base import Learner, Plan, State, require
from gradood.errors import DataError
from gradood.evidence import FEATURES, KEYS, Evidence, Linear, Perturbation, Perturbed
from gradood.functional.adascale import activation_shift, adaptive_percentile, scaling_ratio
from gradood.functional.samples import Selection
from gradood.functional.surrogates import best_separating
from gradood.taps import Network

__all__ = ["AdaptiveScaling"]

_SAMPLES = 5000
"""Fit samples that the distribution is made of, as released; ten do, says the paper."""
_LEAST_STABLE = 60
"""The p_min that the authors keep while they choose p_max."""
Percentile = float | Literal["auto"]


@dataclass(frozen=True, eq=False, slots=True)
class Shifts:
    """Q' of some samples, and the features of some where a percentile is chosen by them."""

    shifts: Selection
    rows: Selection | None


class AdaptiveScaling(Learner[Shifts]):
    """Energy after scaling by the stability of the features; what is scaled is to be given."""

    needs = ("features", "head", "gradient of the input")
    fails_when = (
        "Given percentiles do not fit the network (the paper tunes them), the features are so "
        "few that a percentile is a step, the fit data shifts less than other data of its kind, "
        "or unknown inputs have even activations, which are scaled the most, or weaker ones, whose "
        "correction outweighs their shift (near-OOD on CIFAR-10 networks). Rounding decides which "
        "of the least salient values move, so another device or batch size may change a score a "
        "little."
    )
    labels = False
    published: ClassVar = {"p_min": 75, "p_max": 85}
    state_shapes = ("shift: float samples", "p_min?: float", "p_max?: float")

    def __init__(
        self,
        *,
        p_min: Percentile = "auto",
        p_max: Percentile = "auto",
        k1: float = 1,
        k2: float = 5,
        balance: float = 10,
        share: float = 0.05,
        epsilon: float = 0.5,
        pixels: Literal["least", "most"] = "least",
    ) -> None:
        self.p_min: Percentile = p_min
        self.p_max: Percentile = p_max
        self.k1 = k1
        self.k2 = k2
        self.balance = balance
        self.share = share
        self.epsilon = epsilon
        self.pixels: Literal["least", "most"] = pixels
        self._check()

    def _check(self) -> None:
        low, high = self.p_min, self.p_max
        within = low == "auto" or 0 < float(low) < 100
        require(within, "p_min", low, "a percentile above 0 and below 100, or 'auto'")
        least = 0 if low == "auto" else float(low)
        above = high == "auto" or 0 < max(float(high), least) == float(high) < 100
        require(above, "p_max", high, "from p_min to below 100, or 'auto'")
        for option, percent in (("k1", self.k1), ("k2", self.k2)):
            require(0 < percent <= 100, option, percent, "a percentage above 0, up to 100")
        require(0 <= self.balance and isfinite(self.balance), "balance", self.balance, "≥ 0")
        require(0 < self.share <= 1, "share", self.share, "a number above 0, up to 1")
        require(0 < self.epsilon and isfinite(self.epsilon), "epsilon", self.epsilon, "> 0")
        require(self.pixels in ("least", "most"), "pixels", self.pixels, "'least' or 'most'")

    def plan(self, network: Network, probe: Tensor) -> Plan:
        """Features of the inputs and of the perturbed inputs; in a fit, keys too.

        Raises:
            TapError: there is no head, or no gradient of the input.
        """
        step = Perturbation(
            "max logit", float(self.epsilon), share=float(self.share), pixels=self.pixels
        )
        read = Perturbed(step, FEATURES)
        caveats = try_perturbing(network, probe, read, self.name)
        width = network.head.weight.shape[1]
        note = f"scales by the largest of {width} features, how many is learned"
        if self.p_min != "auto" and self.p_max != "auto":
            few, many = (width - round(width * p / 100) for p in (self.p_max, self.p_min))
            note = f"scales by the largest {max(1, few)} to {max(1, many)} of {width} features"
        reads = FEATURES, read
        return Plan(reads, fit_reads=(*reads, KEYS), caveats=caveats, notes=(note,))

    def accumulate(self, evidence: Evidence) -> Shifts:
        """Shifts of the samples with the smallest content keys.

        Raises:
            DataError: a shift is not finite.
        """
        shift = self._shift(evidence)
        if not bool(shift.isfinite().all()):
            row = int((~shift.isfinite()).nonzero()[0])
            raise DataError(
                f"{self.name} perturbed row {row} of a batch of {len(shift)} fit inputs, and the "
                "model made features of NaN or infinity of it; give a smaller epsilon, or drop "
                "such inputs."
            )
        rows = fit_rows(evidence) if self.p_max == "auto" else None
        return Shifts(Selection.of(_SAMPLES, key=evidence[KEYS], shift=shift), rows)

    def finish(self, seen: Shifts, network: Network, plan: Plan) -> State:
        """Q' of the fit, sorted, and the percentiles where they are chosen."""
        shift = seen.shifts.tensors()["shift"].sort().values
        state = {"shift": shift}
        high = self.p_max
        if seen.rows is not None:
            rows = fitted_rows(seen.rows, self.name)
            high = self._chosen_maximum(rows, Linear(network.head.weight, network.head.bias))
            state["p_max"] = shift.new_tensor(high)
        if self.p_min == "auto":
            state["p_min"] = shift.new_tensor(min(_LEAST_STABLE, float(high)))
        return state

    @abstractmethod
    def scaled(self, features: Tensor, ratio: Tensor, head: Linear) -> Tensor:
        """(batch,) scores of (batch, width) features at a ratio (batch,)."""

    def measure(self, evidence: Evidence, state: State) -> Tensor:
        """Scores (batch,)."""
        return self.scaled(evidence.features, self.ratio(evidence, state), evidence.linear)

    def _chosen_maximum(self, rows: Tensor, head: Linear) -> float:
        """The percentile at which the scaled score best tells the rows from surrogates."""
        least = 0 if self.p_min == "auto" else float(self.p_min)
        shares = [share for share in SHARES if share > 0 and share >= least] or [least]

        def at(share: float) -> Callable[[Tensor], Tensor]:
            return lambda h: self.scaled(h, scaling_ratio(h, h.new_full((len(h),), share)), head)

        return shares[best_separating(rows, [at(float(share)) for share in shares])]

    def ratio(self, evidence: Evidence, state: State) -> Tensor:
        """(batch,) r; NaN where the model made no finite features of a perturbed input."""
        shift = self._shift(evidence)
        low, high = state.get("p_min", self.p_min), state.get("p_max", self.p_max)
        bounds = float(low), float(high)
        percentile = adaptive_percentile(shift, state["shift"], *bounds)
        ratio = scaling_ratio(evidence.features, percentile)
        return torch.where(shift.isfinite(), ratio, torch.nan)

    def _shift(self, evidence: Evidence) -> Tensor:
        percents = {"k1": float(self.k1), "k2": float(self.k2)}
        moved = evidence["perturbed features"]
        return activation_shift(evidence.features, moved, **percents, balance=float(self.balance))
