"""Seeds by purpose and position, random orders of samples, and the states of the generators.

Whatever a run draws itself depends on its seed, a purpose and a position. So a run that was killed
goes on exactly, and any number of processes draw what a single process would. Only modules that
draw in their forward (dropout) use the global generators, whose states a checkpoint keeps.
"""

import hashlib
import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor

__all__ = [
    "Order",
    "generator_for",
    "load_random_state",
    "preserved_random_state",
    "random_state",
    "seed_for",
    "seeded",
]


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


@contextmanager
def seeded(*parts: int | str) -> Iterator[None]:
    """Global generators of torch's CPU, NumPy and Python seeded by `seed_for`, and then put back.

    For code of others that draws from them, so that what it draws depends on a position alone, and
    not on the process that runs it or on what was drawn before.
    """
    states = torch.get_rng_state(), random.getstate(), np.random.get_state()
    seed = seed_for(*parts)
    torch.default_generator.manual_seed(seed)
    random.seed(seed)
    np.random.seed(seed % 2**32)
    try:
        yield
    finally:
        torch.set_rng_state(states[0])
        random.setstate(states[1])
        np.random.set_state(states[2])


class Order:
    """An endless sequence of indices: successive permutations of all samples.

    Args:
        size: number of samples, at least 1.
        seed: of the run.
        purpose: sequences of other purposes are independent.
    """

    def __init__(self, size: int, *, seed: int, purpose: str) -> None:
        self.size = size
        self._seed = seed
        self._purpose = purpose
        self._permutations: dict[int, Tensor] = {}

    def __getitem__(self, position: int) -> int:
        turn, offset = divmod(position, self.size)
        if turn not in self._permutations:
            # A batch touches two neighboring permutations at most, unless the set is tiny.
            self._permutations = {t: p for t, p in self._permutations.items() if t == turn - 1}
            generator = generator_for(self._seed, self._purpose, turn)
            self._permutations[turn] = torch.randperm(self.size, generator=generator)
        return int(self._permutations[turn][offset])


def random_state(device: torch.device) -> dict[str, Tensor]:
    """States of the generators of torch, NumPy and Python as tensors, so nothing is pickled.

    Args:
        device: where the model computes; a CUDA device's own generator is included.
    """
    version, words, gauss = random.getstate()
    del version  # 3 in every Python that this library runs on.
    numpy_state: Any = np.random.get_state(legacy=False)
    twister = numpy_state["state"]
    state = {
        "torch": torch.get_rng_state(),
        "python": torch.tensor(words, dtype=torch.int64),
        "python_spare": torch.tensor(
            [gauss is not None, 0.0 if gauss is None else gauss], dtype=torch.float64
        ),
        "numpy": torch.tensor([*twister["key"].tolist(), twister["pos"]], dtype=torch.int64),
        "numpy_spare": torch.tensor(
            [numpy_state["has_gauss"], numpy_state["gauss"]], dtype=torch.float64
        ),
    }
    if device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state(device)
    return state


def load_random_state(state: Mapping[str, Tensor], device: torch.device) -> None:
    """Set the generators to a state from `random_state`.

    Args:
        state: of this process.
        device: where the model computes; the state of another kind of device is ignored.
    """
    torch.set_rng_state(state["torch"].cpu())
    has_python_gauss, python_gauss = state["python_spare"].tolist()
    words = tuple(state["python"].tolist())
    random.setstate((3, words, python_gauss if has_python_gauss else None))
    *key, position = state["numpy"].tolist()
    has_gauss, gauss = state["numpy_spare"].tolist()
    np.random.set_state(
        {
            "bit_generator": "MT19937",
            "state": {"key": np.array(key, dtype=np.uint32), "pos": position},
            "has_gauss": int(has_gauss),
            "gauss": gauss,
        }
    )
    if device.type == "cuda" and "cuda" in state:
        torch.cuda.set_rng_state(state["cuda"].cpu(), device)


@contextmanager
def preserved_random_state(device: torch.device) -> Iterator[None]:
    """Global generators may be seeded inside; outside they are as before, also after an error.

    Args:
        device: where the model computes.
    """
    state = random_state(device)
    try:
        yield
    finally:
        load_random_state(state, device)
