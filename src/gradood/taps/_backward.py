"""Marks where gradients are taken in a user's model, and errors of a backward, in words."""

from collections.abc import Iterable

from torch.autograd.graph import GradientEdge

from gradood.errors import GradoodError, TapError
from gradood.taps.site import Site

__all__ = ["Mark", "OverwrittenError", "failed_backward", "unconnected"]


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


def unconnected(sites: Iterable[Site]) -> TapError:
    """The error where an objective does not depend on what is at some sites."""
    names = ", ".join(sorted(map(str, sites)))
    return TapError(
        f"the objective is not connected to {names}; name layers it depends on, and none that the "
        "model itself runs under torch.no_grad() or before a layer without derivative, such as a "
        "quantized one."
    )


class Mark:
    """Where the gradient at a site enters the graph, and the marked sites above it."""

    __slots__ = ("edge", "upstream")

    def __init__(self, edge: GradientEdge, upstream: Iterable[Site]) -> None:
        self.edge = edge
        self.upstream = frozenset(upstream)
