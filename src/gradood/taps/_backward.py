"""Errors of a backward through a user's model, in words."""

from gradood.errors import GradoodError, TapError

__all__ = ["OverwrittenError", "failed_backward"]


class OverwrittenError(TapError):
    """A backward needs a value that was changed in place since the forward."""


_OVERWRITTEN = "modified by an inplace operation"
_REENTRANT = "use_reentrant"


def failed_backward(error: RuntimeError) -> RuntimeError:
    """The error where autograd cannot go back through a model; memory and CUDA keep theirs.

    Args:
        error: that autograd raised.
    """
    said = str(error).split("\n")[0].rstrip(".")
    if isinstance(error, GradoodError) or "out of memory" in said or "CUDA" in said:
        return error
    if _OVERWRITTEN in said:
        return OverwrittenError(
            "a value that the gradient needs was changed in place after the forward: another "
            "thread changed the model's weights while it was read, as optimizer.step() does, or "
            "the model overwrites its own activations. Score while no step is taken, or let the "
            f"model compute that out of place. ({said})"
        )
    hint = ""
    if _REENTRANT in said:
        hint = " Let the model call torch.utils.checkpoint.checkpoint with use_reentrant=False."
    return TapError(f"autograd cannot follow the model back from its logits: {said}.{hint}")
