"""Fit data that cannot be learned from: too few samples, or values that are not finite."""

from math import isqrt

from torch import Tensor

from gradood.errors import DataError, MeaninglessScoreWarning, warn_caller

__all__ = ["auto_neighbors", "check_finite", "check_neighbors", "warn_of_fit"]

_SHARE = 0.1
"""Of a bank, that the k nearest may be where a class has fewer samples."""


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


def auto_neighbors(samples: int, classes: int, most: int) -> int:
    """Which neighbor is compared with, by the size of the bank: ``√(samples / classes)``.

    It grows more slowly than a class does, so that it stays inside of one, also of a small one.

    Args:
        samples: of the bank.
        classes: of the model.
        most: the largest, as published for a large bank.

    Returns:
        From 1 to `most`.
    """
    return max(1, min(most, isqrt(samples // max(1, classes))))


def check_neighbors(
    samples: int, k: int, method: str, classes: int, *, averaged: bool = False
) -> None:
    """Check that the k-th nearest among the fit samples is near: warns if it is of another class.

    A neighbor further than all of its class says where the classes lie and not how far from them.

    Args:
        samples: of the bank.
        k: which neighbor.
        method: name of the detector.
        classes: of the model.
        averaged: whether the score is a mean over all k, which bears more of them.

    Raises:
        DataError: there are fewer than k.
    """
    if samples < k:
        raise DataError(
            f"{method} with k={k} was fitted on {samples} samples; give at least k, or a smaller k."
        )
    share = 0.5 if averaged else max(_SHARE, 1 / max(1, classes))
    if k > share * samples and k > 1:
        fit = max(1, int(share * samples / 2))
        warn_of_fit(
            f"{method} with k={k} looks further than a class reaches: its bank has {samples} "
            f"samples of {classes} classes. Fit on {round(k / share)} or more, or give a smaller "
            f"k, such as k={fit}."
        )


def warn_of_fit(message: str) -> None:
    """Warn that the settings of a detector do not suit its fit data, such as too few samples.

    Args:
        message: which, and what to do.
    """
    warn_caller(message, MeaninglessScoreWarning)
