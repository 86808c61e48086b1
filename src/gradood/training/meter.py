"""Means over steps, which a checkpoint keeps."""

from collections.abc import Mapping

import torch
from torch import Tensor

__all__ = ["Meter"]


class Meter:
    """Sums of named values and how many there were."""

    def __init__(self) -> None:
        self._sums: dict[str, float] = {}
        self._counts: dict[str, int] = {}

    def add(self, values: Mapping[str, float]) -> None:
        """Count one step."""
        for name, value in values.items():
            self._sums[name] = self._sums.get(name, 0.0) + value
            self._counts[name] = self._counts.get(name, 0) + 1

    def means(self, *, clear: bool = False) -> dict[str, float]:
        """Of each value since the last clearing, by name in order."""
        found = {name: total / self._counts[name] for name, total in sorted(self._sums.items())}
        if clear:
            self._sums, self._counts = {}, {}
        return found

    def tensors(self) -> dict[str, Tensor]:
        """Name → (sum, count)."""
        return {
            name: torch.tensor([total, self._counts[name]], dtype=torch.float64)
            for name, total in self._sums.items()
        }

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Go on from `tensors`, in whatever order they come."""
        self._sums = {name: float(pair[0]) for name, pair in tensors.items()}
        self._counts = {name: int(pair[1]) for name, pair in tensors.items()}
