"""The random states of a process as tensors: nothing is pickled."""

import random
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

__all__ = ["load_random_state", "random_state"]


def random_state(device: torch.device) -> dict[str, Tensor]:
    """Of torch, NumPy and Python, and of the device if it has its own.

    Args:
        device: where the model computes.
    """
    version, words, spare = random.getstate()
    del version  # 3 in every Python that this library runs on.
    numbers: Any = np.random.get_state(legacy=False)
    inner = numbers["state"]
    found = {
        "torch": torch.get_rng_state(),
        "python": torch.tensor(words, dtype=torch.int64),
        "python_spare": torch.tensor(
            [spare is not None, 0.0 if spare is None else spare], dtype=torch.float64
        ),
        "numpy": torch.tensor([*inner["key"].tolist(), inner["pos"]], dtype=torch.int64),
        "numpy_spare": torch.tensor([numbers["has_gauss"], numbers["gauss"]], dtype=torch.float64),
    }
    if device.type == "cuda":
        found["cuda"] = torch.cuda.get_rng_state(device)
    return found


def load_random_state(state: Mapping[str, Tensor], device: torch.device) -> None:
    """Go on with a state from `random_state`.

    Args:
        state: of this process.
        device: where the model computes; a state of another kind of device is left out.
    """
    torch.set_rng_state(state["torch"].cpu())
    kept, spare = state["python_spare"].tolist()
    words = tuple(state["python"].tolist())
    random.setstate((3, words, spare if kept else None))
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
