"""Pixels as they are decoded, scaled and normalized inside a graph."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from gradood.errors import ConfigError, DataError

__all__ = ["Scaling"]

_CHANNELS = {"RGB": 3, "L": 1}


@dataclass(frozen=True, eq=False)
class Scaling:
    """What `gradood.data.Preprocess` does to pixels once they have their size, to the same bits.

    Attributes:
        mean: (channels, 1, 1) float32.
        std: (channels, 1, 1) float32.
    """

    mean: Tensor
    std: Tensor

    @staticmethod
    def of(preprocess: Mapping[str, Any] | None) -> "Scaling":
        """As a detector says.

        Args:
            preprocess: options of `gradood.data.Preprocess`.

        Raises:
            ConfigError: the detector does not say how pixels become inputs.
        """
        channels = _CHANNELS.get((preprocess or {}).get("mode", ""))
        if preprocess is None or channels is None:
            raise ConfigError(
                "part='pixels' needs a detector that says how pixels become inputs: give "
                "Monitor(preprocess=...), as gradood fit does, or export part='model'."
            )
        mean, std = preprocess.get("mean") or (0.0,) * channels, preprocess.get("std")
        each = (mean, std or (1.0,) * channels)
        return Scaling(*(torch.tensor(v, dtype=torch.float32).view(-1, 1, 1) for v in each))

    def __call__(self, pixels: Tensor) -> Tensor:
        """(batch, height, width, channels) uint8 as the model's input, (batch, channels, …)."""
        x = pixels.permute(0, 3, 1, 2).to(torch.float32, memory_format=torch.contiguous_format)
        return (x / 255 - self.mean) / self.std

    def check(self, pixels: Tensor) -> None:
        """Refuse what are no pixels.

        Raises:
            DataError: says what is expected.
        """
        channels = len(self.mean)
        if pixels.dtype != torch.uint8 or pixels.ndim != 4 or pixels.shape[3] != channels:
            raise DataError(
                f"example has shape {tuple(pixels.shape)} and type {pixels.dtype}; for "
                f"part='pixels' expected (batch, height, width, {channels}) of torch.uint8."
            )
