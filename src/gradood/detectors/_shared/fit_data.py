"""Fit data that cannot be learned from: too few samples, or values that are not finite."""

from torch import Tensor

from gradood.errors import DataError

__all__ = ["check_finite", "check_neighbors"]


def check_finite(values: Tensor, method: str, what: str = "features") -> None:
    """Check what the model made of the fit inputs, which were finite.

    Args:
        values: any shape.
        method: name of the detector.
        what: they are.

    Raises:
        DataError: one is NaN or infinite.
    """
    if not bool(values.isfinite().all()):
        raise DataError(
            f"{method} was fitted on {what} with NaN or infinity, which the model made of finite "
            "inputs; drop those inputs, or run the model in a wider type."
        )


def check_neighbors(samples: int, k: int, method: str) -> None:
    """Check that there is a k-th nearest among the fit samples.

    Raises:
        DataError: there are fewer.
    """
    if samples < k:
        raise DataError(
            f"{method} with k={k} was fitted on {samples} samples; give at least k, or a smaller k."
        )
