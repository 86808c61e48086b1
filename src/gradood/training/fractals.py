"""Pictures of Julia sets, for mixing where no pictures are given."""

import math
import random
from typing import Any, final

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from gradood.detectors.base import require
from gradood.training._randomness import seed_for

__all__ = ["FractalPictures"]

_ITERATIONS = 48
_ESCAPE = 1e3


@final
class FractalPictures(Dataset[Any]):
    """Pictures of Julia sets, each a function of the seed and its index alone.

    Of ``z → z² + c`` with c near the border of the Mandelbrot set, seen through a window at random;
    the number of steps until z escapes, smoothed, is colored by three cosines of different phase.
    A stand-in for the pictures of fractals and feature visualizations of PixMix
    [hendrycks2022pixmix], which are not part of this library.

    Args:
        count: pictures.
        size: height and width in pixels.
        seed: other seeds give other pictures.

    Raises:
        ConfigError: a number is out of range.
        IndexError: there is no picture of an index.

    Cost: 48 complex products per pixel for each read; about 2 ms for 36 × 36 pixels.

    >>> FractalPictures(count=10, size=8)[3].shape
    torch.Size([3, 8, 8])
    """

    def __init__(self, *, count: int = 1000, size: int = 36, seed: int = 0) -> None:
        require(count >= 1, "count", count, "a whole number ≥ 1")
        require(size >= 1, "size", size, "pixels ≥ 1")
        self.count = count
        self.size = size
        self.seed = seed

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Tensor:
        """The picture (3, size, size) of an index, float32 from 0 to 1."""
        if not 0 <= index < self.count:
            raise IndexError(f"no picture {index} of {self.count}.")
        rng = random.Random(seed_for(self.seed, "fractal", index))
        steps = self._steps(rng)
        frequency, phases = rng.uniform(0.1, 0.6), [rng.uniform(0, 2 * math.pi) for _ in range(3)]
        colors = [0.5 + 0.5 * np.cos(frequency * steps + phase) for phase in phases]
        return torch.from_numpy(np.stack(colors)).float()

    def _steps(self, rng: random.Random) -> Any:
        """Smoothed steps until each point of a window escapes."""
        turn, distance = rng.uniform(0, 2 * math.pi), rng.uniform(1.0, 1.1)
        unit = complex(math.cos(turn), math.sin(turn))
        c = distance * (unit / 2 - unit * unit / 4)  # Of the main cardioid's border.
        span = math.exp(rng.uniform(math.log(0.4), math.log(3.0)))
        tilt = rng.uniform(0, 2 * math.pi)
        center = complex(rng.uniform(-0.8, 0.8), rng.uniform(-0.8, 0.8))
        line = (np.arange(self.size) + 0.5) / self.size - 0.5
        z = span * (line[None, :] + 1j * line[:, None]) * complex(math.cos(tilt), math.sin(tilt))
        z = z + center
        steps = np.full(z.shape, float(_ITERATIONS))
        for step in range(_ITERATIONS):
            z = z * z + c
            size = np.abs(z)
            gone = (size > _ESCAPE) & (steps == _ITERATIONS)
            steps[gone] = step + 1 - np.log2(np.log(size[gone]) / math.log(_ESCAPE))
            z[size > _ESCAPE] = _ESCAPE  # Stays beyond, and finite.
        return steps
