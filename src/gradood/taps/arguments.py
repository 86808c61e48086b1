"""What a model takes for one batch: a tensor, or arguments with tensors among them."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn

from gradood.errors import DataError

__all__ = ["Arguments", "Inputs", "called", "described", "joined", "leaves_of"]


@dataclass(frozen=True, eq=False)
class Arguments:
    """Positional and keyword arguments of one batch; every tensor in them has the batch first.

    Tensors may lie in tuples, lists and mappings; whatever else is there is a constant, which goes
    along unchanged. Rows are selected, copied and moved as those of a tensor are.

    Attributes:
        positional: in order.
        named: by name.
        names: of the parameters that the positional ones are given to, as far as they are known.
    """

    positional: tuple[Any, ...] = ()
    named: Mapping[str, Any] = field(default_factory=dict)
    names: tuple[str, ...] = ()

    def __repr__(self) -> str:
        leaves = (f"{name} {tuple(leaf.shape)}" for name, leaf in self.leaves.items())
        return f"Arguments({', '.join(leaves)})"

    @property
    def leaves(self) -> dict[str, Tensor]:
        """Every tensor, by the name of its argument; such as ``images[1]`` inside a list."""
        return dict(_leaves(self._items()))

    @property
    def constants(self) -> dict[str, Any]:
        """Every argument without a tensor in it, by name."""
        return {name: value for name, value in self._items() if not _has_tensor(value)}

    @property
    def device(self) -> torch.device:
        """Of the first tensor."""
        return self._first.device

    def __len__(self) -> int:
        return len(self._first)

    def __getitem__(self, rows: Any) -> "Arguments":
        """Some rows: a slice, a mask (batch,) bool, or indices (n,).

        Raises:
            DataError: a list has an entry for each row, which would not be taken with its row.
        """
        taken = self.each(lambda leaf: leaf[rows])
        if len(taken) < len(self):
            self._refuse_rows_in_lists()
        return taken

    def each(self, change: Callable[[Tensor], Tensor]) -> "Arguments":
        """The arguments with each tensor changed."""
        return self.replaced({name: change(leaf) for name, leaf in self.leaves.items()})

    def replaced(self, leaves: Mapping[str, Tensor]) -> "Arguments":
        """The arguments with some tensors in place of those of the same name."""
        items = {name: _with(name, value, leaves) for name, value in self._items()}
        places = [self._name(place) for place in range(len(self.positional))]
        named = {name: items[name] for name in self.named}
        return Arguments(tuple(items[name] for name in places), named, self.names)

    def clone(self) -> "Arguments":
        """A copy of each tensor."""
        return self.each(Tensor.clone)

    def detach(self) -> "Arguments":
        """Without graph."""
        return self.each(Tensor.detach)

    def to(self, *target: Any) -> "Arguments":
        """On a device."""
        return self.each(lambda leaf: leaf.to(*target))

    def cpu(self) -> "Arguments":
        """On the CPU."""
        return self.each(Tensor.cpu)

    def split(self, rows: int) -> tuple["Arguments", ...]:
        """Parts of at most so many rows."""
        return tuple(self[start : start + rows] for start in range(0, len(self), rows))

    @property
    def _first(self) -> Tensor:
        return next(iter(_leaves(self._items())))[1]

    def _refuse_rows_in_lists(self) -> None:
        size = len(self)
        for name, value in self.constants.items():
            if isinstance(value, list | np.ndarray) and len(value) == size > 1:
                if all(one is value[0] or _same(one, value[0]) for one in value):
                    continue
                raise DataError(
                    f"{name} is a {type(value).__name__} of {size} entries in a batch of {size} "
                    "rows; an entry would not go with its row. Give a tensor or an array of "
                    "numbers; or a tuple, if it is the same for all rows; or make what the model "
                    "takes with model_input=."
                )

    def _name(self, place: int) -> str:
        return self.names[place] if place < len(self.names) else f"argument {place}"

    def _items(self) -> Iterator[tuple[str, Any]]:
        for place, value in enumerate(self.positional):
            yield self._name(place), value
        yield from self.named.items()


Inputs: TypeAlias = Tensor | Arguments
"""What a model takes for one batch: a tensor (batch, …), or arguments."""


def called(module: nn.Module, inputs: Inputs) -> Any:
    """What a module returns for its inputs."""
    if isinstance(inputs, Tensor):
        return module(inputs)
    return module(*inputs.positional, **inputs.named)


def joined(parts: Sequence[Inputs]) -> Inputs:
    """Batches of the same arguments, with tensors of the same shapes, as one."""
    first = parts[0]
    if isinstance(first, Tensor):
        return torch.cat([part for part in parts if isinstance(part, Tensor)])
    others = [part.leaves for part in parts if isinstance(part, Arguments)]
    names = first.leaves
    return first.replaced({name: torch.cat([leaves[name] for leaves in others]) for name in names})


def leaves_of(inputs: Inputs) -> dict[str, Tensor]:
    """The tensors of inputs, by the name of their argument; ``""`` of a single one."""
    return inputs.leaves if isinstance(inputs, Arguments) else {"": inputs}


def described(inputs: Inputs) -> str:
    """Shape and type of inputs, for messages."""
    if isinstance(inputs, Arguments):
        return ", ".join(f"{name} {described(leaf)}" for name, leaf in inputs.leaves.items())
    shape = ", ".join(map(str, inputs.shape[1:]))
    return f"(batch, {shape}) {inputs.dtype}".replace("torch.", "")


def _parts(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    """What a container holds, by name."""
    if isinstance(value, Mapping):
        yield from ((f"{name}[{key!r}]", part) for key, part in value.items())
    elif isinstance(value, tuple | list):
        yield from ((f"{name}[{place}]", part) for place, part in enumerate(value))


def _leaves(items: Iterator[tuple[str, Any]]) -> Iterator[tuple[str, Tensor]]:
    for name, value in items:
        if isinstance(value, Tensor):
            yield name, value
        else:
            yield from _leaves(_parts(name, value))


def _same(one: Any, other: Any) -> bool:
    """Whether two constants are equal, as far as they say so."""
    try:
        return bool(one == other)
    except (TypeError, ValueError):  # Of arrays.
        return False


def _has_tensor(value: Any) -> bool:
    return any(True for _ in _leaves(iter([("", value)])))


def _with(name: str, value: Any, leaves: Mapping[str, Tensor]) -> Any:
    """A value with other tensors in it; the same one where it has none."""
    if isinstance(value, Tensor):
        return leaves.get(name, value)
    if not _has_tensor(value):
        return value
    parts = [_with(inner, part, leaves) for inner, part in _parts(name, value)]
    if isinstance(value, Mapping):
        return dict(zip(value, parts, strict=True))
    if hasattr(value, "_fields"):  # a named tuple
        return type(value)(*parts)
    return type(value)(parts)
