"""Wrappers around a classifier, and the containers it returns its logits in."""

from collections.abc import Callable, Mapping
from typing import Any, Literal, TypeAlias, get_args

import torch
from torch import Tensor, nn
from torch.nn.parallel import DataParallel, DistributedDataParallel

from gradood.errors import ConfigError, GradoodError, TapError, suggest

__all__ = [
    "LINKS",
    "Link",
    "Output",
    "check_link",
    "check_output",
    "described_output",
    "first_matrix",
    "logits_of",
    "unwrap",
    "wrapped_name",
]

Output: TypeAlias = int | str | Callable[[Any], Any]
"""What holds the logits in what a model returns: the index of an item, a key or attribute, or a
function that takes what was returned and gives the logits (batch, classes)."""

Link: TypeAlias = Literal["softmax", "sigmoid", "none"]
"""What makes probabilities of the outputs: a softmax over classes, that exclude one another; a
sigmoid of each, as of labels of which several may hold; or nothing, as in regression and in
embeddings."""
LINKS: tuple[Link, ...] = get_args(Link)


def unwrap(model: nn.Module) -> nn.Module:
    """The module inside `torch.compile`, `DataParallel` and `DistributedDataParallel` wrappers.

    Args:
        model: any module, wrapped or not.

    Returns:
        The innermost module; it shares every parameter with `model`.

    Raises:
        TapError: `model` is no `nn.Module`, or a `ScriptModule`, whose hooks never fire.
    """
    if not isinstance(model, nn.Module):
        raise TapError(f"the model is {_not_a_model(model)}")
    inner: Any = model
    while (name := wrapped_name(inner)) is not None:
        inner = inner._modules[name]
    if isinstance(inner, torch.jit.ScriptModule):
        raise TapError(
            "the model is a TorchScript module, whose layers cannot be tapped; "
            "give the eager nn.Module it was made from."
        )
    return inner


def _not_a_model(model: object) -> str:
    """What was given for a model, and what to type instead."""
    if isinstance(model, type):
        return (
            f"the class {model.__name__}; expected a torch.nn.Module: make one, {model.__name__}()."
        )
    said = f"a {type(model).__name__}; expected a torch.nn.Module."
    if isinstance(model, Mapping):
        return f"{said} Weights alone are none: model.load_state_dict(weights) puts them into one."
    if isinstance(model, str):
        return f"{said} Load it first; the model comes before the detectors."
    return f"{said} It comes first, the detectors or data after it."


def wrapped_name(module: nn.Module) -> str | None:
    """The child that a wrapper stands for, or None of what is no wrapper."""
    if isinstance(module, torch.jit.ScriptModule):
        return None
    if module.__dict__.get("_modules", {}).get("_orig_mod") is not None:
        return "_orig_mod"
    return "module" if isinstance(module, DataParallel | DistributedDataParallel) else None


def logits_of(returned: Any, output: Output | None = None) -> Tensor:
    """The logits (batch, classes) in whatever a classifier returns.

    Args:
        returned: a tensor, also (batch,) of one logit, a mapping with ``"logits"``, an object with
            ``.logits``, or a tuple or list whose first two-dimensional tensor is meant.
        output: which item of it holds them, where that is another.

    Raises:
        TapError: no logits are found there.
    """
    found: Any = returned
    if output is not None:
        found = _item(returned, output)
    elif isinstance(returned, Mapping):
        found = returned.get("logits")
    elif hasattr(returned, "logits"):
        found = returned.logits
    elif isinstance(returned, tuple | list):
        found = next((o for o in returned if isinstance(o, Tensor) and o.ndim == 2), None)
    if isinstance(found, Tensor) and found.ndim == 1:
        found = found[:, None]
    if isinstance(found, Tensor) and found.ndim > 2 and found.shape[2:].numel() == 1:
        found = found.flatten(1)
    if not isinstance(found, Tensor) or found.ndim != 2 or not found.is_floating_point():
        if isinstance(found, Tensor) and found.ndim > 2 and found.is_floating_point():
            raise TapError(_positional(described_output(returned), tuple(found.shape)))
        if output is None:
            raise TapError(
                f"the model returned {described_output(returned)}; expected logits: a floating "
                "tensor (batch, classes), a mapping or object with 'logits', or a tuple that holds "
                "one. Wrap the model in a module that returns its logits, or choose what holds "
                "them with output=."
            )
        raise TapError(
            f"{_chosen(output)} is {described_output(found)}; expected logits: a floating tensor "
            f"(batch, classes). The model returned {described_output(returned)}."
        )
    return found


def _positional(given: str, shape: tuple[int, ...]) -> str:
    """What to do with logits at every position, as of tokens or pixels.

    Args:
        given: what the model returned, in words.
        shape: of the logits.
    """
    one, mean = "logits[:, i]", "logits.mean(1)"
    if len(shape) > 3:
        one, mean = "logits[:, :, i, j]", "logits.mean((2, 3))"
    return (
        f"the model returned {given}, with logits {shape} at every position, as a classifier of "
        "tokens or pixels does; expected (batch, classes), as a score and a decision are of a "
        f"whole input. Choose what stands for it: one position, output=lambda out: out.{one}, or "
        f"a mean, output=lambda out: out.{mean}; of a bare tensor without .logits. Wrap the model "
        "in a module that takes one token with its context as an input, and returns that token's "
        "logits, for a decision about every token."
    )


def first_matrix(returned: Any) -> Tensor:
    """`logits_of` without a choice: how files of format 1.0 chose among several items."""
    return logits_of(returned)


def check_link(link: object) -> None:
    """Refuse what is no link.

    Raises:
        ConfigError: it is none of `LINKS`.
    """
    if link is not None and link not in LINKS:
        raise ConfigError(f"link={link!r}; {suggest(str(link), LINKS)}")


def check_output(output: object) -> None:
    """Refuse what cannot choose among the items of an output.

    Raises:
        ConfigError: it is no index, name or function.
    """
    named = isinstance(output, str) and bool(output)
    place = isinstance(output, int) and not isinstance(output, bool)
    if not (output is None or named or place or callable(output)) or isinstance(output, type):
        raise ConfigError(
            f"output={output!r}; expected the index of an item, such as 1, the name of a key or "
            "attribute, such as 'logits', or a function of what the model returns."
        )


def _item(returned: Any, output: Output) -> Any:
    """What `output` chooses of what a model returned.

    Raises:
        TapError: there is no such item.
    """
    if callable(output):
        try:
            return output(returned)
        except (GradoodError, MemoryError):
            raise
        except Exception as error:
            raise TapError(
                f"{_chosen(output)} raised {type(error).__name__} ({error}) on "
                f"{described_output(returned)}; give a function that returns its logits."
            ) from error
    if isinstance(returned, Tensor):
        raise TapError(
            f"{_chosen(output)} was asked for, but the model returned "
            f"{described_output(returned)}, which has no items; leave output out."
        )
    try:
        if isinstance(output, str) and not isinstance(returned, Mapping):
            return getattr(returned, output)
        return returned[output]
    except (AttributeError, IndexError, KeyError, TypeError):
        raise TapError(
            f"{_chosen(output)} is not in what the model returned: {described_output(returned)}; "
            "name what is."
        ) from None


def _chosen(output: Output) -> str:
    return f"output={output!r}" if isinstance(output, str | int) else "the function output="


def described_output(returned: Any) -> str:
    """What a model returned, with its items, for messages."""
    if isinstance(returned, Tensor):
        return f"a tensor {tuple(returned.shape)} of {returned.dtype}"
    if isinstance(returned, Mapping):
        return f"a mapping with keys {sorted(map(str, returned))}"
    if isinstance(returned, tuple | list):
        items = (
            f"{i}: {tuple(one.shape)}" if isinstance(one, Tensor) else f"{i}: {type(one).__name__}"
            for i, one in enumerate(returned[:8])
        )
        return f"a {type(returned).__name__} of {len(returned)} ({', '.join(items)})"
    return f"a {type(returned).__name__}"
