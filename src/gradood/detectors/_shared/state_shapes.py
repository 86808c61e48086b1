"""What a detector's state is made of: types and sizes, declared in words and compared."""

import re
from collections.abc import Iterable, Iterator, Mapping

import torch
from torch import Tensor

__all__ = ["misfits"]

_KINDS = {
    "float": (torch.float64, torch.float32, torch.float16, torch.bfloat16),
    "bool": (torch.bool,),
    "byte": (torch.uint8,),
    "int": (torch.int64,),
}
_ANY = "_"


def misfits(
    shapes: Iterable[str], state: Mapping[str, Tensor], sizes: Mapping[str, int]
) -> Iterator[str]:
    """How a state is not as declared, in words.

    Args:
        shapes: name, type and sizes, such as ``"mean: float classes features"``. A name that ends
            in ``?`` may be absent, one with ``*`` stands for several. A size with the same word is
            the same throughout; ``_`` is any.
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


def _fits(tensor: Tensor, words: list[str], known: dict[str, int]) -> bool:
    """Whether a tensor is as declared; sizes that were free are noted."""
    kind, *sides = words
    if tensor.dtype not in _KINDS[kind] or tensor.ndim != len(sides):
        return False
    return all(
        side == _ANY or known.setdefault(side, size) == size
        for side, size in zip(sides, tensor.shape, strict=True)
    )
