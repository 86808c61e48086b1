"""Where the gradient penalty differentiates: at the input, or at its embeddings."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, final

import torch
from torch import Tensor, nn

from gradood.errors import ConfigError
from gradood.taps import Arguments, Inputs, leaves_of
from gradood.taps.attended import stepped

__all__ = ["GradientPoint", "is_discrete"]


def is_discrete(inputs: Inputs) -> bool:
    """Whether no tensor in the inputs is of numbers that a gradient can be taken of."""
    if isinstance(inputs, Tensor):
        return not inputs.is_floating_point()
    return stepped(inputs) is None


@final
class GradientPoint:
    """The tensor that a score's gradient is taken with respect to.

    It is the first floating tensor of the inputs. Where there is none, as of token ids, it is the
    output of the first embedding that is given the ids: a row of it belongs to a row of the batch,
    and the embedding's weights learn as before.

    Args:
        model: unwrapped.
    """

    def __init__(self, model: nn.Module) -> None:
        self._embeddings = [m for m in model.modules() if isinstance(m, nn.Embedding)]
        self._found: Tensor | None = None

    @contextmanager
    def of(self, inputs: Inputs) -> Iterator[Inputs]:
        """The inputs to run the model on inside.

        Args:
            inputs: of a batch.

        Raises:
            ConfigError: they are discrete, and no embedding takes them.
        """
        self._found = None
        if not is_discrete(inputs):
            yield self._leaf(inputs)
            return
        if not self._embeddings:
            raise ConfigError(
                "the inputs are whole numbers, and the model has no torch.nn.Embedding whose "
                "output the gradient penalty could be taken of; expected one. Train without the "
                "penalty (method energy or oe)."
            )
        ids = [leaf for leaf in leaves_of(inputs).values() if leaf.ndim > 1]

        def embedded(_: nn.Module, given: tuple[Any, ...], output: Tensor) -> Tensor | None:
            taken = given and any(_same(given[0], leaf) for leaf in ids)
            if self._found is not None or not taken:
                return None
            self._found = output if output.requires_grad else output.detach().requires_grad_()
            return self._found

        handles = [layer.register_forward_hook(embedded) for layer in self._embeddings]
        try:
            yield inputs
        finally:
            for handle in handles:
                handle.remove()

    @property
    def tensor(self) -> Tensor:
        """(batch, …) what the gradient is taken of, once the model ran.

        Raises:
            ConfigError: no embedding was given the inputs.
        """
        if self._found is None:
            raise ConfigError(
                "no torch.nn.Embedding of the model was given the token ids, so that the gradient "
                "penalty has nothing to be taken of. Train without it (method energy or oe)."
            )
        return self._found

    def _leaf(self, inputs: Inputs) -> Inputs:
        if isinstance(inputs, Arguments):
            name = stepped(inputs)
            assert name is not None
            self._found = inputs.leaves[name].detach().requires_grad_()
            return inputs.replaced({name: self._found})
        self._found = inputs.detach().requires_grad_()
        return self._found


def _same(given: Any, ids: Tensor) -> bool:
    """Whether a layer was given these ids, and not positions of the same shape."""
    return isinstance(given, Tensor) and given.shape == ids.shape and torch.equal(given, ids)
