"""Vectors in four bits per coordinate, after a rotation that makes all coordinates alike.

A rotation by random signs and Hadamard transforms [ailon2009fast] makes the coordinates of any
direction look normal, with one variance, so that one uniform quantizer suits them all. Nothing is
learned from the data: each row is coded by itself, whatever others there are.
"""

import random
from dataclasses import dataclass
from functools import lru_cache

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["CODED_BYTES", "Codes", "rotated"]

CODED_BYTES = 0.5
"""Of a coordinate."""
_STEP = 0.335
"""Width of a level with which 16 of them lose least of a standard normal variable."""
_LEVELS = 16
_MIDDLE = (_LEVELS - 1) / 2


@dataclass(frozen=True, eq=False, slots=True)
class Codes:
    """Directions in four bits per coordinate; indexed as the tensor (rows, width) they stand for.

    Attributes:
        packed: (rows, ⌈width/2⌉) uint8; the first half of the coordinates in the low four bits.
        width: of the vectors.
    """

    packed: Tensor
    width: int

    @staticmethod
    def of(units: Float[Tensor, "rows width"]) -> "Codes":
        """The nearest code of each row; of a zero vector an arbitrary one.

        Cost:
            rows · width · log₂(width) additions; each row by itself, so that no batching changes
            a bit.
        """
        width = units.shape[1]
        level = rotated(units.float()) * (width**0.5 / _STEP) + _MIDDLE
        level = level.round().clamp(0, _LEVELS - 1).nan_to_num(nan=0.0).to(torch.uint8)
        half = (width + 1) // 2
        low, high = level[:, :half], level[:, half:]
        if high.shape[1] < half:
            high = torch.nn.functional.pad(high, (0, half - high.shape[1]))
        return Codes(low | (high << 4), width)

    @property
    def shape(self) -> tuple[int, int]:
        """Of the tensor they stand for."""
        return self.packed.shape[0], self.width

    def __len__(self) -> int:
        return self.packed.shape[0]

    def __getitem__(self, index: Tensor | slice) -> Tensor:
        """(…, width) float32 directions of some rows, as `rotated` turned them."""
        packed = self.packed[index]
        levels = torch.cat([packed & 0xF, packed >> 4], -1)[..., : self.width].float() - _MIDDLE
        return levels / torch.linalg.vector_norm(levels, dim=-1, keepdim=True)


def rotated(vectors: Float[Tensor, "rows width"]) -> Float[Tensor, "rows width"]:
    """Each row turned by one seeded rotation: distances stay.

    Signs, then Hadamard transforms of the first and of the last coordinates, as many as the largest
    power of two that the width holds; twice, where that is not all.
    """
    width = vectors.shape[1]
    part = 1 << (width.bit_length() - 1)
    for signs in _signs(width, 1 if part == width else 2):
        vectors = vectors * torch.tensor(signs, dtype=vectors.dtype, device=vectors.device)
        vectors = torch.cat([_hadamard(vectors[:, :part]), vectors[:, part:]], 1)
        if part < width:
            rest = width - part
            vectors = torch.cat([vectors[:, :rest], _hadamard(vectors[:, rest:])], 1)
    return vectors


@lru_cache(maxsize=8)
def _signs(width: int, rounds: int) -> tuple[tuple[float, ...], ...]:
    """For each round ±1 by coordinate, the same on every machine."""
    drawn = random.Random(0)
    return tuple(tuple(drawn.choice((-1.0, 1.0)) for _ in range(width)) for _ in range(rounds))


def _hadamard(vectors: Tensor) -> Tensor:
    """The normalized Walsh–Hadamard transform of each row, whose width is a power of two."""
    width, step = vectors.shape[1], 1
    while step < width:
        pairs = vectors.reshape(-1, width // (2 * step), 2, step)
        a, b = pairs[:, :, 0], pairs[:, :, 1]
        vectors = torch.stack([a + b, a - b], 2).reshape(-1, width)
        step *= 2
    return vectors / width**0.5
