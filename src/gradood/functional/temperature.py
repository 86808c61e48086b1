"""The temperature that makes a softmax fit labels [guo2017calibration], from sums over samples."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import exp, log

import torch
from jaxtyping import Float, Int
from torch import Tensor

from gradood.functional._tensor_shapes import checked

__all__ = ["LikelihoodSlope"]

_TEMPERATURES = (1e-3, 1e6)
"""Smallest and largest temperature that a fit can find."""
_POINTS = 208
"""Of the grid: neighbors are a tenth apart in log T, which finds T to 1e-6 of itself."""
_BUDGET = 1 << 18
_LOWEST = -1e30


@dataclass(frozen=True, eq=False, slots=True)
class LikelihoodSlope:
    """Slope and curvature of the negative log-likelihood in β = 1/T, on a fixed grid of β.

    The likelihood is convex in β, so the sign of the slope brackets the best one; sums over samples
    are all that it takes, whatever the order, and no logits are kept.

    Attributes:
        slope: (points,) ``Σ_n (Σ_c p_c(β) z_c − z_y)``.
        curvature: (points,) ``Σ_n Var_p(z)``.
    """

    slope: Tensor
    curvature: Tensor

    @staticmethod
    def of(
        logits: Float[Tensor, "batch classes"], labels: Int[Tensor, " batch"]
    ) -> "LikelihoodSlope":
        """What one batch contributes.

        Cost:
            208 softmaxes of the batch, a few at a time.
        """
        # Minus infinity is a class that the model rules out; it would make 0 · ∞ of the sums.
        z = logits.double().clamp_min(_LOWEST)
        z = z - z.amax(1, keepdim=True)
        true = z.gather(1, labels[:, None])[:, 0]
        betas = _grid().to(z.device)
        slopes: list[Tensor] = []
        curvatures: list[Tensor] = []
        for part in betas.split(max(1, _BUDGET // max(1, z.numel()))):
            p = torch.softmax(part[:, None, None] * z, 2)
            mean = (p * z).sum(2)
            spread = (p * (z - mean[:, :, None]).square()).sum(2)
            slopes.append((mean - true).sum(1))
            curvatures.append(spread.sum(1))
        return LikelihoodSlope(torch.cat(slopes), torch.cat(curvatures))

    def merge(self, other: "LikelihoodSlope") -> "LikelihoodSlope":
        """Of both sets of samples."""
        return LikelihoodSlope(self.slope + other.slope, self.curvature + other.curvature)

    def tensors(self) -> dict[str, Tensor]:
        """Every tensor of this state, by name."""
        return {"slope": self.slope, "curvature": self.curvature}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> "LikelihoodSlope":
        """What `tensors` gave.

        Raises:
            DataError: they are others.
        """
        shapes = ("slope: float64 points", "curvature: float64 points")
        checked("a likelihood", tensors, *shapes, points=_POINTS)
        return cls(tensors["slope"], tensors["curvature"])

    def temperature(self) -> float | None:
        """The T of the highest likelihood, or None if it lies outside the range.

        Between two points of the grid, the slope is the cubic in log β with the right values and
        derivatives at both.
        """
        slope, betas = self.slope.tolist(), _grid().tolist()
        after = next((j for j, value in enumerate(slope) if value > 0), 0)
        if after == 0:
            return None
        ends = slice(after - 1, after + 1)
        low, high = (log(beta) for beta in betas[ends])
        width = high - low
        steep = [
            beta * curve * width
            for beta, curve in zip(betas[ends], self.curvature[ends].tolist(), strict=True)
        ]
        a, b = 0.0, 1.0
        for _ in range(60):
            middle = (a + b) / 2
            below = _cubic(slope[after - 1], slope[after], steep[0], steep[1], middle) < 0
            a, b = (middle, b) if below else (a, middle)
        return exp(-(low + width * (a + b) / 2))


def _grid() -> Tensor:
    """Ascending β; on the CPU, whatever the default device is."""
    low, high = (1.0 / temperature for temperature in reversed(_TEMPERATURES))
    return torch.linspace(log(low), log(high), _POINTS, dtype=torch.float64, device="cpu").exp()


def _cubic(start: float, end: float, rise: float, fall: float, t: float) -> float:
    """Hermite's: values `start` and `end` at 0 and 1, derivatives `rise` and `fall` there."""
    chord = end - start
    bend = (1 - t) * (rise - chord) + t * (chord - fall)
    return start + t * chord + t * (1 - t) * bend
