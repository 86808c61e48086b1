"""Exceptions of the user's model, told from those of the machine and of this package."""

import torch

from gradood.errors import DataError, GradoodError
from gradood.taps.arguments import Inputs, described

__all__ = ["is_model_failure", "model_failure", "out_of_memory"]

_MEMORY = ("out of memory", "can't allocate memory", "not enough memory", "alloc_failed")
_LONGEST = 400


def out_of_memory(error: BaseException | None) -> bool:
    """Whether an error, or what caused it, says that memory did not suffice."""
    while error is not None:
        if isinstance(error, MemoryError | torch.cuda.OutOfMemoryError):
            return True
        if any(word in str(error).lower() for word in _MEMORY):
            return True
        error = error.__cause__
    return False


def is_model_failure(error: Exception) -> bool:
    """Whether what a forward raised is the model's own, and neither ours nor want of memory."""
    return not (isinstance(error, GradoodError) or out_of_memory(error))


def model_failure(error: Exception, x: Inputs) -> DataError:
    """The error for an input on which the model raises; to be raised from what it raised.

    Args:
        error: that the model raised.
        x: of a batch, on which it did.
    """
    said = " ".join(str(error).split())
    said = said if len(said) <= _LONGEST else f"{said[:_LONGEST]}…"
    return DataError(
        f"the model raised {type(error).__name__} on the input {described(x)}: "
        f"{said or 'it gave no reason'}"
    )
