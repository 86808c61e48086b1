"""Vectors in four or eight bits per coordinate, after a rotation that makes all alike.

A rotation by random signs and Hadamard transforms [ailon2009fast] makes the coordinates of any
direction look normal, with one variance, so that one uniform quantizer suits them all. Nothing is
learned from the data: each row is coded by itself, whatever others there are.
"""

import random
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from gradood.evidence.tracing import tracing

__all__ = ["CodedVectors", "Codes", "rotated"]

_STEP = {4: 0.3352, 8: 0.0308}
"""Width of a level with which 2^bits of them lose least of a standard normal variable."""

_ROWS = 128
"""Rotated at a time, which stay in the cache."""


@dataclass(frozen=True, eq=False, slots=True)
class Codes:
    """Directions in few bits per coordinate; indexed as the tensor (rows, width) they stand for.

    Attributes:
        packed: uint8; of 8 bits (rows, width), of 4 bits (rows, ⌈width/2⌉) with the first half of
            the coordinates in the low four bits.
        width: of the vectors.
        bits: of a coordinate.
    """

    packed: Tensor
    width: int
    bits: int

    @staticmethod
    def of(
        units: Float[Tensor, "rows width"], bits: Literal[4, 8], *, turned: bool = False
    ) -> "Codes":
        """The nearest code of each row; of a zero vector an arbitrary one.

        Args:
            units: directions.
            bits: of a coordinate.
            turned: they are `rotated` already.

        Cost:
            rows · width · log₂(width) additions; each row by itself, so that no batching changes
            a bit.
        """
        parts = units.float().split(_ROWS)
        packed = torch.cat([_packed(p if turned else _turned(p), bits) for p in parts])
        return Codes(packed, units.shape[1], bits)

    @property
    def shape(self) -> tuple[int, int]:
        """Of the tensor they stand for."""
        return self.packed.shape[0], self.width

    def __len__(self) -> int:
        return self.packed.shape[0]

    def __getitem__(self, index: Tensor | slice) -> Tensor:
        """(…, width) float32 directions of some rows, as `rotated` turned them."""
        levels = self._levels(self.packed[index])
        levels -= (2**self.bits - 1) / 2
        levels /= torch.linalg.vector_norm(levels, dim=-1, keepdim=True)
        return levels

    def _levels(self, packed: Tensor) -> Tensor:
        """(…, width) float32, from 0 to 2^bits − 1."""
        if self.bits == 8:
            return packed.float()
        if tracing():  # Exporters give shifted bytes another type.
            packed = packed.float()
            high = (packed / 16).floor()
            return torch.cat([packed - 16 * high, high], -1)[..., : self.width]
        half = packed.shape[-1]
        levels = packed.new_empty((*packed.shape[:-1], 2 * half), dtype=torch.float32)
        levels[..., :half] = packed & 0xF
        levels[..., half:] = packed >> 4
        return levels[..., : self.width]


@dataclass(frozen=True, eq=False, slots=True)
class CodedVectors:
    """Vectors of any length; indexed as the tensor (rows, width) that they stand for.

    Attributes:
        codes: of the directions.
        length: (rows,) float32.
    """

    codes: Codes
    length: Tensor

    dtype = torch.float32
    """Of the tensor they stand for."""

    def __len__(self) -> int:
        return len(self.codes)

    def __getitem__(self, index: Tensor | slice) -> Tensor:
        """(…, width) float32 vectors of some rows, as `rotated` turned them."""
        return self.codes[index] * self.length[index][..., None]


def _packed(turned: Tensor, bits: Literal[4, 8]) -> Tensor:
    """uint8, as `Codes.packed`."""
    width, most = turned.shape[1], 2**bits - 1
    level = turned * (width**0.5 / _STEP[bits]) + most / 2
    level = level.round_().clamp_(0, most).nan_to_num_(nan=0.0).to(torch.uint8)
    if bits == 8:
        return level
    half = (width + 1) // 2
    low, high = level[:, :half], level[:, half:]
    if high.shape[1] < half:
        high = torch.nn.functional.pad(high, (0, half - high.shape[1]))
    return low | (high << 4)


def rotated(vectors: Float[Tensor, "rows width"]) -> Float[Tensor, "rows width"]:
    """Each row turned by one seeded rotation: distances stay.

    Signs, then Hadamard transforms of the first and of the last coordinates, as many as the largest
    power of two that the width holds; twice, where that is not all.
    """
    if tracing():
        return _turned(vectors)
    return torch.cat([_turned(part) for part in vectors.split(_ROWS)])


def _turned(vectors: Tensor) -> Tensor:
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
    width = vectors.shape[1]
    for _ in range(width.bit_length() - 1):
        a, b = vectors[:, 0::2], vectors[:, 1::2]
        vectors = torch.cat([a + b, a - b], 1)
    return vectors / width**0.5
