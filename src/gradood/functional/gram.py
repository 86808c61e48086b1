"""Ranges of Gram matrices by predicted class, and deviations from them [sastry2020gram]."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from gradood.errors import DataError
from gradood.functional._tensor_shapes import checked, integer

__all__ = ["Ranges", "deviations"]

_SMALL = 1e-6
_GROUPS = 64
"""Of a class at most, by the leading zeros of a key."""


@dataclass(frozen=True, eq=False, slots=True)
class Ranges:
    """The two smallest and the two largest values per predicted class, of all or a seeded few.

    The second ones tell how far a sample at the edge would lie outside of the range of all others,
    and so the deviation that a new sample is expected to have, without holding any sample out.

    Classes not predicted so far take no room: a batch of a thousand classes has few of them.

    The seeded few of a class are the samples whose content keys begin with so many zero bits that
    there are just enough of them. How many bits that takes is known at the end alone, so samples
    are grouped by the zeros that their keys begin with, and a group is dropped once those with more
    zeros are enough: what is left depends on the samples, and not on their order.

    Attributes:
        count: () samples seen.
        classes: how many there are.
        enough: how many samples of a class are enough; None keeps all.
        rows: (present,) int64 groups, ascending: ``64 · class + leading zeros of the key``.
        sizes: (present,) samples of each group.
        low: (2, present, width), the smallest first; +inf where there are not as many samples.
        high: (2, present, width), the largest first; −inf likewise.
        widths: of each layer, whose values lie side by side.
    """

    count: Tensor
    classes: int
    enough: int | None
    rows: Tensor
    sizes: Tensor
    low: Tensor
    high: Tensor
    widths: tuple[int, ...]

    @staticmethod
    def of(
        layers: Sequence[Float[Tensor, "batch _"]],
        predicted: Int[Tensor, " batch"],
        classes: int,
        *,
        keys: Int[Tensor, " batch"] | None = None,
        enough: int | None = None,
    ) -> "Ranges":
        """Of one batch.

        Args:
            layers: per layer, the sums of its Gram matrices.
            predicted: class of the largest logit.
            classes: how many there are.
            keys: content keys, to choose samples by.
            enough: samples of a class that are kept at least, where there are as many; None keeps
                all.
        """
        values = torch.cat(tuple(layers), 1)
        group = predicted * _GROUPS
        if enough is not None and keys is not None:
            group = group + _leading_zeros(keys)
        rows, sizes = group.unique(return_counts=True)
        low = values.new_full((2, len(rows), values.shape[1]), torch.inf)
        high = -low
        for i, c in enumerate(rows.tolist()):
            ordered = values[group == c].sort(0).values
            few = min(2, len(ordered))
            low[:few, i] = ordered[:few]
            high[:few, i] = ordered.flip(0)[:few]
        count = torch.tensor(len(values), dtype=torch.int64, device=values.device)
        widths = tuple(layer.shape[1] for layer in layers)
        return Ranges(count, classes, enough, rows, sizes, low, high, widths)._thinned()

    def merge(self, other: "Ranges") -> "Ranges":
        """Of both sets of samples."""
        rows = torch.cat([self.rows, other.rows]).unique()
        low = self.low.new_full((2, len(rows), self.low.shape[2]), torch.inf)
        high = -low
        mine, others = (torch.searchsorted(rows, one.rows) for one in (self, other))
        low[:, mine], high[:, mine] = self.low, self.high
        low[:, others] = _two(low[:, others], other.low)
        high[:, others] = -_two(-high[:, others], -other.high)
        sizes = torch.zeros_like(rows)
        sizes[mine] += self.sizes
        sizes[others] += other.sizes
        count = self.count + other.count
        together = replace(self, count=count, rows=rows, sizes=sizes, low=low, high=high)
        return together._thinned()

    def tensors(self) -> dict[str, Tensor]:
        """Every tensor of this state, by name; its numbers too, as tensors on the CPU."""
        parts = {"count": self.count, "rows": self.rows, "sizes": self.sizes}
        numbers = {"classes": self.classes, "widths": self.widths}
        numbers |= {} if self.enough is None else {"enough": self.enough}
        kept = {
            name: torch.tensor(value, dtype=torch.int64, device="cpu")
            for name, value in numbers.items()
        }
        return {**parts, "low": self.low, "high": self.high, **kept}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> "Ranges":
        """What `tensors` gave.

        Raises:
            DataError: they are others.
        """
        what = "ranges of Gram matrices"
        shapes = ("count: int", "classes: int", "enough?: int", "rows: int present")
        more = ("sizes: int present", "low: any two present width", "high: any two present width")
        checked(what, tensors, *shapes, *more, "widths: int layers", two=2)
        classes, rows = integer(what, tensors, "classes"), tensors["rows"]
        enough = integer(what, tensors, "enough") if "enough" in tensors else None
        widths = tuple(tensors["widths"].tolist())
        ascending = bool((rows[1:] > rows[:-1]).all()) and bool((rows >= 0).all())
        fits = sum(widths) == tensors["low"].shape[2] and min(widths, default=1) > 0
        if not fits or not ascending or bool((rows >= classes * _GROUPS).any()):
            raise DataError(f"{what} cannot be made of these tensors: rows or widths are others.")
        low, high = tensors["low"], tensors["high"]
        return cls(tensors["count"], classes, enough, rows, tensors["sizes"], low, high, widths)

    def _thinned(self) -> "Ranges":
        """Without the groups that are not needed to have enough of their class."""
        if self.enough is None:
            return self
        later = self.sizes.flip(0).cumsum(0).flip(0)
        ends = torch.searchsorted(self.rows, (self.rows // _GROUPS + 1) * _GROUPS)
        padded = torch.cat([later, later.new_zeros(1)])
        kept = later - self.sizes - padded[ends] < self.enough
        return replace(
            self,
            rows=self.rows[kept],
            sizes=self.sizes[kept],
            low=self.low[:, kept],
            high=self.high[:, kept],
        )

    def by_class(self) -> "Ranges":
        """The same of whole classes: `rows` are classes, and `count` the samples that were kept."""
        owner = self.rows // _GROUPS
        rows = owner.unique()
        shape = (2, len(rows), self.low.shape[2])
        low, high = self.low.new_empty(shape), self.low.new_empty(shape)
        for i, c in enumerate(rows.tolist()):
            mine = owner == c
            low[:, i] = self.low[:, mine].flatten(0, 1).sort(0).values[:2]
            high[:, i] = self.high[:, mine].flatten(0, 1).sort(0, descending=True).values[:2]
        sizes = torch.zeros_like(rows).index_add_(0, torch.searchsorted(rows, owner), self.sizes)
        return replace(self, count=sizes.sum(), rows=rows, sizes=sizes, low=low, high=high)

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


def _leading_zeros(keys: Tensor) -> Tensor:
    """How many zero bits each key begins with, from 0 to 62; keys count from the least integer."""
    most = _GROUPS - 2
    bounds = [2 ** (64 - zeros) - 2**63 for zeros in range(most, 0, -1)]
    return most - torch.bucketize(keys, torch.tensor(bounds, device=keys.device), right=True)


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
