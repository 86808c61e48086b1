"""Float64 array types and the one conversion that every oracle applies to its inputs."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

Array = NDArray[np.float64]
Labels = NDArray[np.int64]


def to_array(values: Any) -> Array:
    """`values` (tensor, array or nested list) as a float64 array."""
    if isinstance(values, torch.Tensor):
        values = values.detach().cpu().to(torch.float64).numpy()
    return np.asarray(values, dtype=np.float64)


def to_labels(values: Any) -> Labels:
    """`values` (tensor, array or list of integers) as an int64 array."""
    if isinstance(values, torch.Tensor):
        values = values.detach().cpu().numpy()
    return np.asarray(values, dtype=np.int64)
