"""Types and sizes of named tensors, declared in words and compared."""

import re
from collections.abc import Iterable, Iterator, Mapping

import torch
from torch import Tensor

from gradood.errors import DataError

__all__ = ["checked", "integer", "integers", "keyed_table", "misfits"]

_KINDS = {
    "float": (torch.float64, torch.float32, torch.float16, torch.bfloat16),
    "float64": (torch.float64,),
    "bool": (torch.bool,),
    "int": (torch.int64,),
    "byte": (torch.uint8,),
}
_ANY, _EVERY = "_", "any"


def misfits(
    shapes: Iterable[str], state: Mapping[str, Tensor], sizes: Mapping[str, int]
) -> Iterator[str]:
    """How tensors are not as declared, in words.

    Args:
        shapes: name, type and sizes, such as ``"mean: float classes features"``. A name that ends
            in ``?`` may be absent, one with ``*`` stands for several. A type is ``float`` of any
            precision, ``float64``, ``bool``, ``int``, ``byte`` or ``any``. A size with the same
            word is the same throughout; ``_`` is any.
        state: to be compared.
        sizes: word → size, where it is known.

    >>> list(misfits(["mean: float width"], {"mean": torch.zeros(2, 3)}, {"width": 3}))
    ["'mean' is torch.float32 (2, 3); expected float (width,)"]
    """
    known = dict(sizes)
    left = set(state)
    for shape in shapes:
        declared, _, words = shape.partition(": ")
        pattern = re.compile(re.escape(declared.rstrip("?")).replace(r"\*", r"\d+"))
        names = [name for name in state if pattern.fullmatch(name)]
        if not names and not declared.endswith("?"):
            yield f"{declared!r} is missing"
        for name in names:
            left.discard(name)
            if not _fits(state[name], words.split(), known):
                kind, *sides = words.split()
                wanted = f"({', '.join(sides)}{',' * (len(sides) == 1)})"
                found = f"{state[name].dtype} {tuple(state[name].shape)}"
                yield f"{name!r} is {found}; expected {kind} {wanted}"
    for name in sorted(left):
        yield f"{name!r} is unknown"


def checked(
    what: str, tensors: Mapping[str, Tensor], *shapes: str, **sizes: int
) -> Mapping[str, Tensor]:
    """The tensors, if they are as declared.

    Args:
        what: that they are of, for messages.
        tensors: by name.
        shapes: as for `misfits`.
        sizes: word → size, where it is known.

    Raises:
        DataError: they are others.
    """
    odd = list(misfits(shapes, tensors, sizes))
    if odd:
        raise DataError(f"{what} cannot be made of these tensors: {'; '.join(odd[:3])}.")
    return tensors


def integer(what: str, tensors: Mapping[str, Tensor], name: str) -> int:
    """A count or size ≥ 0 that is kept as an int64 tensor of no dimension.

    Raises:
        DataError: it is absent, of another type or negative.
    """
    value = tensors.get(name)
    if value is None or value.dtype != torch.int64 or value.ndim or int(value) < 0:
        raise DataError(f"{what} needs {name!r}, one whole number ≥ 0.")
    return int(value)


def keyed_table(what: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Columns of equal length, sorted by key.

    Raises:
        DataError: they are others.
    """
    key = tensors.get("key")
    if key is None or key.dtype != torch.int64 or key.ndim != 1:
        raise DataError(
            f"{what} cannot be made of these tensors: there is no column of int64 keys."
        )
    odd = [name for name, column in tensors.items() if column.shape[:1] != key.shape]
    if odd or not bool((key[1:] >= key[:-1]).all()):
        why = f"{odd[0]!r} has another length" if odd else "the keys are not in ascending order"
        raise DataError(f"{what} cannot be made of these tensors: {why}.")
    return dict(tensors)


def integers(counts: Mapping[str, int]) -> dict[str, Tensor]:
    """Counts as tensors on the CPU, of which `integer` reads them again."""
    return {
        name: torch.tensor(count, dtype=torch.int64, device="cpu") for name, count in counts.items()
    }


def _fits(tensor: Tensor, words: list[str], known: dict[str, int]) -> bool:
    """Whether a tensor is as declared; sizes that were free are noted."""
    kind, *sides = words
    fits = kind == _EVERY or tensor.dtype in _KINDS[kind]
    if not fits or tensor.ndim != len(sides):
        return False
    return all(
        side == _ANY or known.setdefault(side, size) == size
        for side, size in zip(sides, tensor.shape, strict=True)
    )
