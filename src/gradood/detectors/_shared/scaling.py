"""Adaptive scaling by the stability of activations, for both variants of AdaSCALE."""

from dataclasses import dataclass
from math import isfinite
from typing import Literal

import torch
from torch import Tensor

from gradood.detectors._shared.perturbing import try_perturbing
from gradood.detectors.base import Plan, State, require
from gradood.errors import DataError
from gradood.evidence import FEATURES, KEYS, Evidence, Perturbation, Perturbed
from gradood.functional.adascale import activation_shift, adaptive_percentile, scaling_ratio
from gradood.functional.samples import Selection
from gradood.taps import Network

__all__ = ["AdaptiveScaling"]

_SAMPLES = 5000
"""Fit samples that the distribution is made of, as released; ten do, says the paper."""


@dataclass(frozen=True, kw_only=True, slots=True)
class AdaptiveScaling:
    """The options of `AdaScaleA` and `AdaScaleL`, which their docstrings explain.

    Raises:
        ConfigError: one of them is out of its range.
    """

    p_min: float
    p_max: float
    k1: float
    k2: float
    balance: float
    share: float
    epsilon: float
    pixels: Literal["least", "most"]

    def __post_init__(self) -> None:
        require(0 < self.p_min < 100, "p_min", self.p_min, "a percentile above 0 and below 100")
        require(self.p_min <= self.p_max < 100, "p_max", self.p_max, "from p_min to below 100")
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
        few, many = (width - round(width * p / 100) for p in (self.p_max, self.p_min))
        note = f"scales by the largest {max(1, few)} to {max(1, many)} of {width} features"
        reads = FEATURES, read
        return Plan(reads, fit_reads=(*reads, KEYS), caveats=caveats, notes=(note,))

    def accumulate(self, evidence: Evidence, method: str) -> Selection:
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
        return Selection.of(_SAMPLES, key=evidence[KEYS], shift=shift)

    def finish(self, shifts: Selection) -> State:
        """The shifts, in ascending order."""
        return {"shift": shifts.tensors()["shift"].sort().values}

    def ratio(self, evidence: Evidence, state: State) -> Tensor:
        """(batch,) r; NaN where the model made no finite features of a perturbed input."""
        shift = self._shift(evidence)
        bounds = float(self.p_min), float(self.p_max)
        percentile = adaptive_percentile(shift, state["shift"], *bounds)
        ratio = scaling_ratio(evidence.features, percentile)
        return torch.where(shift.isfinite(), ratio, torch.nan)

    def _shift(self, evidence: Evidence) -> Tensor:
        percents = {"k1": float(self.k1), "k2": float(self.k2)}
        moved = evidence["perturbed features"]
        return activation_shift(evidence.features, moved, **percents, balance=float(self.balance))
