"""Adaptive scaling by the stability of activations, for both variants of AdaSCALE."""

from collections.abc import Callable
from dataclasses import dataclass
from math import isfinite
from typing import Literal

import torch
from torch import Tensor

from gradood.detectors._shared.automatic import SHARES, fit_rows, fitted_rows
from gradood.detectors._shared.perturbing import try_perturbing
from gradood.detectors.base import Plan, State, require
from gradood.errors import DataError
from gradood.evidence import FEATURES, KEYS, Evidence, Perturbation, Perturbed
from gradood.functional.adascale import activation_shift, adaptive_percentile, scaling_ratio
from gradood.functional.samples import Selection
from gradood.functional.surrogates import best_separating
from gradood.taps import Network

__all__ = ["SHIFT_SHAPES", "AdaptiveScaling", "Percentile", "Shifts"]

_SAMPLES = 5000
"""Fit samples that the distribution is made of, as released; ten do, says the paper."""
_LEAST_STABLE = 60
"""The p_min that the authors keep while they choose p_max."""
SHIFT_SHAPES = (
    "shift: float samples",
    "p_min?: float",
    "p_max?: float",
)
"""The state that `AdaptiveScaling.finish` makes."""
Percentile = float | Literal["auto"]
Scaled = Callable[[Tensor, Tensor], Tensor]
"""(batch, width) features and (batch,) ratio → (batch,) score."""


@dataclass(frozen=True, eq=False, slots=True)
class Shifts:
    """Q' of some samples, and the features of some where a percentile is chosen by them."""

    shifts: Selection
    rows: Selection | None


@dataclass(frozen=True, kw_only=True, slots=True)
class AdaptiveScaling:
    """The options of `AdaScaleA` and `AdaScaleL`, which their docstrings explain.

    Raises:
        ConfigError: one of them is out of its range.
    """

    p_min: Percentile
    p_max: Percentile
    k1: float
    k2: float
    balance: float
    share: float
    epsilon: float
    pixels: Literal["least", "most"]

    def __post_init__(self) -> None:
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

    def plan(self, network: Network, probe: Tensor, method: str) -> Plan:
        """Features of the inputs and of the perturbed inputs; in a fit, keys too.

        Raises:
            TapError: there is no head, or no gradient of the input.
        """
        step = Perturbation(
            "max logit", float(self.epsilon), share=float(self.share), pixels=self.pixels
        )
        read = Perturbed(step, FEATURES)
        caveats = try_perturbing(network, probe, read, method)
        width = network.head.weight.shape[1]
        note = f"scales by the largest of {width} features, how many is learned"
        if self.p_min != "auto" and self.p_max != "auto":
            few, many = (width - round(width * p / 100) for p in (self.p_max, self.p_min))
            note = f"scales by the largest {max(1, few)} to {max(1, many)} of {width} features"
        reads = FEATURES, read
        return Plan(reads, fit_reads=(*reads, KEYS), caveats=caveats, notes=(note,))

    def accumulate(self, evidence: Evidence, method: str) -> Shifts:
        """Shifts of the samples with the smallest content keys.

        Raises:
            DataError: a shift is not finite.
        """
        shift = self._shift(evidence)
        if not bool(shift.isfinite().all()):
            row = int((~shift.isfinite()).nonzero()[0])
            raise DataError(
                f"{method} perturbed row {row} of a batch of {len(shift)} fit inputs, and the "
                "model made features of NaN or infinity of it; give a smaller epsilon, or drop "
                "such inputs."
            )
        rows = fit_rows(evidence) if self.p_max == "auto" else None
        return Shifts(Selection.of(_SAMPLES, key=evidence[KEYS], shift=shift), rows)

    def finish(self, seen: Shifts, method: str, scaled: Scaled) -> State:
        """The shifts, in ascending order, and the percentiles where they are chosen.

        Args:
            seen: merged over all batches.
            method: name of the detector.
            scaled: its score at a ratio.
        """
        shift = seen.shifts.tensors()["shift"].sort().values
        state = {"shift": shift}
        high = self.p_max
        if seen.rows is not None:
            rows = fitted_rows(seen.rows, method)
            high = self._chosen_maximum(rows, scaled)
            state["p_max"] = shift.new_tensor(high)
        if self.p_min == "auto":
            state["p_min"] = shift.new_tensor(min(_LEAST_STABLE, float(high)))
        return state

    def _chosen_maximum(self, rows: Tensor, scaled: Scaled) -> float:
        """The percentile at which the scaled score best tells the rows from surrogates."""
        least = 0 if self.p_min == "auto" else float(self.p_min)
        shares = [share for share in SHARES if share > 0 and share >= least] or [least]

        def at(share: float) -> Callable[[Tensor], Tensor]:
            return lambda h: scaled(h, scaling_ratio(h, h.new_full((len(h),), share)))

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
