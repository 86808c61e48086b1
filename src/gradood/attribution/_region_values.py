"""Where in each input a score comes from, as values at the places of layers."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from gradood.attribution._grid import upsampled
from gradood.errors import DataError

__all__ = ["Method", "RegionMap", "blank", "joined"]

Method: TypeAlias = Literal["path", "channels", "occlusion", "known"]
"""How a score is led back to places.

``"path"``: Aumann–Shapley values of the positions of some layers, in the mean over these.
The path starts where each position holds half of its own vector and half of the mean over
all positions of that input: what is explained is what the score owes to things being
where they are. Sums to ``score − reference`` at each layer up to `RegionMap.gap`.
``"channels"``: shares of the positions of the last map in the contributions of the units,
from the mean features of known inputs (`known`); exact where the features are a mean over
positions. Coarse.
``"occlusion"``: how much the score falls where a window, or a token, is taken away. Of any
detector; many forwards.
``"known"``: how far the vector at each position of some layers lies from those of known
inputs (`known`), by one Gaussian for each layer; about 1 is ordinary. It points best in
images, and is no part of the score: it tells what is strange, not what the detector saw.
"""


@dataclass(frozen=True, eq=False, slots=True)
class RegionMap:
    """Where in each input a score comes from; higher = more out-of-distribution.

    Attributes:
        low: layer → (N, rows, columns) float64 on the CPU, the values as they were computed, at
            the layer's own resolution; of sequences one row of positions. NaN of inputs that are
            not finite, or have no finite score.
        score: (N,) float64, the score that is explained.
        reference: layer → (N,) the score where the path starts; NaN where there is no path.
        method: as asked for.
        detector: whose score.
        size: height and width of the images; None of sequences.
    """

    low: dict[str, Tensor]
    score: Tensor
    reference: dict[str, Tensor]
    method: Method
    detector: str
    size: tuple[int, int] | None

    def __repr__(self) -> str:
        grids = ", ".join(
            f"{name or 'input'} {v.shape[1]}×{v.shape[2]}" for name, v in self.low.items()
        )
        return f"RegionMap({len(self.score)} of {self.detector} by {self.method}: {grids})"

    @property
    def gap(self) -> dict[str, Tensor]:
        """Layer → (N,) what the values do not sum to: ``score − reference − Σ low``."""
        return {n: self.score - self.reference[n] - v.sum((1, 2)) for n, v in self.low.items()}

    @property
    def pixels(self) -> Tensor:
        """(N, height, width) float64: the mean over the layers, each interpolated bilinearly.

        A contribution is shared by the pixels of its cell, so that sums agree but for what
        interpolation moves at the border.

        Raises:
            DataError: the inputs are no images.
        """
        if self.size is None:
            raise DataError("the inputs are no images; their map is `tokens`.")
        wide = [upsampled(low, self.size) * self._share(low) for low in self.low.values()]
        return torch.stack(wide).mean(0)

    def _share(self, low: Tensor) -> float:
        """Of a cell's value that a pixel gets."""
        if self.size is None or self.method not in ("path", "channels"):
            return 1.0
        return low.shape[1] * low.shape[2] / (self.size[0] * self.size[1])

    @property
    def tokens(self) -> Tensor:
        """(N, positions) float64: the mean over the layers.

        Raises:
            DataError: the inputs are no sequences.
        """
        if self.size is not None:
            raise DataError("the inputs are images; their map is `pixels`.")
        return torch.stack([low[:, 0] for low in self.low.values()]).mean(0)

    @property
    def peak(self) -> Tensor:
        """(N, 2) int64, row and column of the largest pixel; of sequences (N,), the position."""
        if self.size is None:
            return self.tokens.nan_to_num(-torch.inf).argmax(1)
        flat = self.pixels.nan_to_num(-torch.inf).flatten(1).argmax(1)
        return torch.stack([flat // self.size[1], flat % self.size[1]], 1)


def blank(count: int, method: Method, size: tuple[int, int] | None) -> RegionMap:
    """The map of inputs of which nothing is finite, at no layer: `joined` gives it those of others.

    Args:
        count: of the inputs.
        method: as asked for.
        size: height and width of the images; None of sequences.
    """
    score = torch.full((count,), torch.nan, dtype=torch.float64, device="cpu")
    return RegionMap({}, score, {}, method, "", size)


def joined(parts: Sequence[RegionMap]) -> RegionMap:
    """One map of all inputs, in their order.

    Raises:
        DataError: there is none, none of them is finite, or they differ in shape.
    """
    if not parts:
        raise DataError("there is no input to map; give at least one.")
    first = next((part for part in parts if part.low), None)
    if first is None:
        count = sum(len(part.score) for part in parts)
        raise DataError(
            f"of {count} inputs none is finite, or the model makes nothing finite of any: there "
            "is nothing to map. Give at least one that the model answers."
        )
    parts = [part if part.low else _filled(part, first) for part in parts]
    shapes = {tuple((n, v.shape[1:]) for n, v in part.low.items()) for part in parts}
    if len(shapes) > 1 or len({part.size for part in parts}) > 1:
        raise DataError("the inputs differ in shape; map batches of one shape at a time.")
    return RegionMap(
        {name: torch.cat([part.low[name] for part in parts]) for name in first.low},
        torch.cat([part.score for part in parts]),
        {name: torch.cat([part.reference[name] for part in parts]) for name in first.low},
        first.method,
        first.detector,
        first.size,
    )


def _filled(part: RegionMap, like: RegionMap) -> RegionMap:
    """A blank map with NaN at the layers of another."""
    count = len(part.score)
    low = {n: v.new_full((count, *v.shape[1:]), torch.nan) for n, v in like.low.items()}
    return replace(part, low=low, reference=dict.fromkeys(low, part.score))
