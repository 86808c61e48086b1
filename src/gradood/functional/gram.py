"""Ranges of Gram matrices by predicted class, and deviations from them [sastry2020gram]."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

__all__ = ["Ranges", "deviations"]

_SMALL = 1e-6


@dataclass(frozen=True, eq=False, slots=True)
class Ranges:
    """The two smallest and the two largest values per predicted class.

    The second ones tell how far a sample at the edge would lie outside of the range of all others,
    and so the deviation that a new sample is expected to have, without holding any sample out.

    Classes not predicted so far take no room: a batch of a thousand classes has few of them.

    Attributes:
        count: () samples seen.
        classes: how many there are.
        rows: (present,) int64 classes predicted so far, ascending.
        low: (2, present, width), the smallest first; +inf where there are not as many samples.
        high: (2, present, width), the largest first; −inf likewise.
        widths: of each layer, whose values lie side by side.
    """

    count: Tensor
    classes: int
    rows: Tensor
    low: Tensor
    high: Tensor
    widths: tuple[int, ...]

    @staticmethod
    def of(
        layers: Sequence[Float[Tensor, "batch _"]], predicted: Int[Tensor, " batch"], classes: int
    ) -> "Ranges":
        """Of one batch.

        Args:
            layers: per layer, the sums of its Gram matrices.
            predicted: class of the largest logit.
            classes: how many there are.
        """
        values = torch.cat(tuple(layers), 1)
        rows = predicted.unique()
        low = values.new_full((2, len(rows), values.shape[1]), torch.inf)
        high = -low
        for i, c in enumerate(rows.tolist()):
            ordered = values[predicted == c].sort(0).values
            few = min(2, len(ordered))
            low[:few, i] = ordered[:few]
            high[:few, i] = ordered.flip(0)[:few]
        count = torch.tensor(len(values), dtype=torch.int64, device=values.device)
        return Ranges(count, classes, rows, low, high, tuple(layer.shape[1] for layer in layers))

    def merge(self, other: "Ranges") -> "Ranges":
        """Of both sets of samples."""
        rows = torch.cat([self.rows, other.rows]).unique()
        low = self.low.new_full((2, len(rows), self.low.shape[2]), torch.inf)
        high = -low
        mine, others = (torch.searchsorted(rows, one.rows) for one in (self, other))
        low[:, mine], high[:, mine] = self.low, self.high
        low[:, others] = _two(low[:, others], other.low)
        high[:, others] = -_two(-high[:, others], -other.high)
        return Ranges(self.count + other.count, self.classes, rows, low, high, self.widths)

    def tensors(self) -> dict[str, Tensor]:
        """Every tensor of this state, by name."""
        return {"count": self.count, "rows": self.rows, "low": self.low, "high": self.high}

    def filled(self) -> tuple[Tensor, Tensor]:
        """(classes, width) low and high; a class never predicted has the range of all samples."""
        low, high = self.low[0], self.high[0]
        lowest, highest = (bound.repeat(self.classes, 1) for bound in (low.amin(0), high.amax(0)))
        lowest[self.rows], highest[self.rows] = low, high
        return lowest, highest

    def expected(self) -> Float[Tensor, " layers"]:
        """Mean deviation per layer of a sample from the range of all others in its class.

        Only the samples at the edges deviate from the others, each by the distance to the next. A
        class with one sample says nothing of it.
        """
        parts: list[Tensor] = []
        lows, highs = self.low.split(self.widths, 2), self.high.split(self.widths, 2)
        for low, high in zip(lows, highs, strict=True):
            several = low[1].isfinite()
            below, above = (
                torch.where(several, one, 0.0).double().diff(dim=0)[0].abs()
                / (torch.where(several, one[1], 0.0).double().abs() + _SMALL)
                for one in (low, high)
            )
            parts.append((below + above).sum())
        return torch.stack(parts) / self.count


def _two(a: Tensor, b: Tensor) -> Tensor:
    """The two smallest of two ascending pairs, along the first dimension."""
    second = torch.minimum(torch.maximum(a[0], b[0]), torch.minimum(a[1], b[1]))
    return torch.stack([torch.minimum(a[0], b[0]), second])


def deviations(
    layers: Sequence[Float[Tensor, "batch _"]],
    predicted: Int[Tensor, " batch"],
    low: Float[Tensor, "classes width"],
    high: Float[Tensor, "classes width"],
) -> Float[Tensor, "batch layers"]:
    """``δ_l = Σ relu(low − s) / |low| + relu(s − high) / |high|``, per layer.

    The bounds are those of the predicted class; 1e-6 is added to both denominators.

    Args:
        layers: per layer, the sums of its Gram matrices.
        predicted: class of the largest logit.
        low: smallest sums per class, all layers side by side.
        high: largest sums per class.
    """
    parts: list[Tensor] = []
    start = 0
    for layer in layers:
        columns = slice(start, start + layer.shape[1])
        least, most = low[predicted, columns].double(), high[predicted, columns].double()
        values = layer.double()
        below = (least - values).clamp_min(0) / (least.abs() + _SMALL)
        above = (values - most).clamp_min(0) / (most.abs() + _SMALL)
        parts.append((below + above).sum(1))
        start += layer.shape[1]
    return torch.stack(parts, 1)
