"""Random numbers as functions of where they are used: nothing to save, nothing to restore.

Whatever a run draws depends on its seed, on what for, and on a position. So a run that was killed
goes on exactly, and any number of processes draw what one would.
"""

import hashlib

import torch

__all__ = ["Order", "generator_for", "seed_for"]


def seed_for(*parts: int | str) -> int:
    """A seed of 63 bits from a run's seed, a purpose and positions.

    >>> seed_for(0, "order", 1) == seed_for(0, "order", 1) != seed_for(0, "order", 2)
    True
    """
    text = "/".join(map(str, parts)).encode()
    return int.from_bytes(hashlib.sha256(text).digest()[:8], "little") >> 1


def generator_for(*parts: int | str) -> torch.Generator:
    """A generator on the CPU, seeded by `seed_for`."""
    return torch.Generator().manual_seed(seed_for(*parts))


class Order:
    """An endless sequence of indices: one permutation of all samples after another.

    Args:
        size: number of samples, at least 1.
        seed: of the run.
        purpose: sequences of other names are independent.
    """

    def __init__(self, size: int, *, seed: int, purpose: str) -> None:
        self.size = size
        self._seed = seed
        self._purpose = purpose
        self._kept: dict[int, torch.Tensor] = {}

    def __getitem__(self, position: int) -> int:
        turn, inside = divmod(position, self.size)
        if turn not in self._kept:
            # A batch touches two neighboring permutations at most, unless the set is tiny.
            self._kept = {t: p for t, p in self._kept.items() if t == turn - 1}
            generator = generator_for(self._seed, self._purpose, turn)
            self._kept[turn] = torch.randperm(self.size, generator=generator)
        return int(self._kept[turn][inside])
