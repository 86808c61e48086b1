"""Uniform numbers by place: a seeded hash, so that no state of a generator need be kept."""

from functools import lru_cache
from typing import Any

import numpy as np

__all__ = ["CALIBRATION_TIES", "CLASSES", "GROUPS", "NOISE", "TIES", "mixed", "uniform", "uniforms"]

Integers = np.ndarray[Any, np.dtype[np.uint64]]

NOISE, TIES, CALIBRATION_TIES, GROUPS, CLASSES = range(1, 6)
"""Streams of numbers: place within a cell; order among equal scores of the stream, and of the
calibration; which item stands for its group; which class an input without one is compared with."""

_STEP = np.uint64(0x9E3779B97F4A7C15)
_FACTORS = (np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB))
_SHIFTS = (np.uint64(30), np.uint64(27), np.uint64(31))
_WHOLE = (int(_STEP), *map(int, _FACTORS), (1 << 64) - 1)


def uniforms(seed: int, stream: int, places: Any) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Numbers strictly between 0 and 1, by SplitMix64 (Steele, Lea and Flood 2014).

    Args:
        seed: from 0 to 2⁶⁴ − 1.
        stream: one of those above.
        places: (N,) whole numbers of 64 bits.

    Returns:
        (N,) float64, multiples of 2⁻⁵³ plus 2⁻⁵⁴.
    """
    bits = mixed(_start(seed, stream), np.asarray(places)) >> np.uint64(11)
    return (bits.astype(np.float64) + 0.5) * 2.0**-53


def uniform(seed: int, stream: int, place: int) -> float:
    """The one of `uniforms` at a place, in whole numbers of Python: a tenth of the time of one.

    Args:
        seed: from 0 to 2⁶⁴ − 1.
        stream: one of those above.
        place: a whole number of 64 bits.
    """
    step, first, second, every = _WHOLE
    value = (int(_start(seed, stream)) + (place + 1) * step) & every
    value = ((value ^ (value >> 30)) * first) & every
    value = ((value ^ (value >> 27)) * second) & every
    return float(((value ^ (value >> 31)) >> 11) + 0.5) * 2.0**-53


@lru_cache
def _start(seed: int, stream: int) -> np.uint64:
    return mixed(np.uint64(seed), np.array([stream]))[0]


def mixed(start: np.uint64, places: Any) -> Integers:
    """(N,) uint64: the numbers at some places of the sequence that begins at `start`.

    Args:
        start: of the sequence.
        places: (N,) whole numbers of 64 bits, signed or not.
    """
    value = start + (places.astype(np.uint64) + np.uint64(1)) * _STEP  # Modulo 2**64.
    for shift, factor in zip(_SHIFTS, _FACTORS, strict=False):
        value = (value ^ (value >> shift)) * factor
    return value ^ (value >> _SHIFTS[2])
