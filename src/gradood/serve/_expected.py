"""The one input of a served model, against what a client says that it sends."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gradood.serve._arrays import NUMPY_TYPES, packed_bytes, split_bytes
from gradood.serve._refusal import Refusal

__all__ = ["Expected", "expect", "is_size", "numbers", "size_of"]


@dataclass(frozen=True)
class Expected:
    """The one input that a model takes.

    Attributes:
        name: of the tensor.
        datatype: of the protocol: ``"FP32"``, ``"UINT8"``, or ``"BYTES"`` for files of images.
        limit: rows that one request may have.
    """

    name: str
    datatype: str
    limit: int

    @property
    def images(self) -> bool:
        """Whether files of images are expected."""
        return self.datatype == "BYTES"

    def rows(self, name: Any, datatype: Any, shape: Any) -> int:
        """Rows of what a client says that it sends.

        Args:
            name: of its tensor.
            datatype: of it.
            shape: of it, in whole numbers.

        Raises:
            Refusal: it is another than is expected.
        """
        expect(name == self.name, f"expected the input {self.name!r}.")
        expect(datatype == self.datatype, f"{self.name} has another datatype than {self.datatype}.")
        expect(_is_shape(shape), f"{self.name} has no shape of whole numbers from 0.")
        expect(1 <= shape[0], f"{self.name} is empty; expected at least one row.")
        if shape[0] > self.limit:
            raise Refusal(
                413, f"{self.name} has {shape[0]} rows; at most {self.limit} are answered at once."
            )
        if self.images:
            expect(list(shape) in ([shape[0]], [shape[0], 1]), "image has another shape than [N].")
        else:
            expect(len(shape) >= 2, "input has one dimension; expected the batch and more.")
        return shape[0]

    def raw(self, data: memoryview, shape: Sequence[int]) -> bytes:
        """The body of a request that came in the protocol's binary form.

        Args:
            data: as it came.
            shape: that `rows` has checked.

        Raises:
            Refusal: it has another length than its shape.
        """
        if self.images:
            try:
                return packed_bytes(split_bytes(data, shape[0]))
            except ValueError as error:
                raise Refusal(400, f"image: {error}.") from error
        size = np.dtype(NUMPY_TYPES[self.datatype]).itemsize * math.prod(shape)
        expect(len(data) == size, f"input has {len(data)} bytes; its shape has {size}.")
        return bytes(data)


def numbers(data: Any, shape: Sequence[int], datatype: str) -> bytes:
    """Numbers as the body of a request.

    Args:
        data: flat, or nested as the shape is.
        shape: of the tensor.
        datatype: of the protocol.

    Raises:
        Refusal: they do not fit the shape or the type.
    """
    count = math.prod(shape)
    try:
        values = np.asarray(data)
    except ValueError as error:
        raise Refusal(400, "the data of input is ragged.") from error
    whole = datatype == "UINT8"
    expect(values.dtype.kind in ("iu" if whole else "iuf"), "the data of input are no numbers.")
    fits = values.size == count and (values.ndim == 1 or list(values.shape) == list(shape))
    expect(fits, f"the data of input has {values.size} numbers; its shape has {count}.")
    if whole:
        expect(
            not count or 0 <= values.min() <= values.max() <= 255, "pixels are numbers of 0 to 255."
        )
    with np.errstate(over="ignore"):
        return np.ascontiguousarray(values, NUMPY_TYPES[datatype]).tobytes()


def expect(held: bool, message: str) -> None:
    """Refuse a malformed request, unless something held."""
    if not held:
        raise Refusal(400, message)


def is_size(value: Any) -> bool:
    """Whether something is a whole number from 0 that a size may be."""
    return type(value) is int and 0 <= value < 2**48


def size_of(text: str) -> int | None:
    """The size that a header says; None if it says none that may be."""
    # Python takes a second for the digits of a long number, or refuses them.
    digits = text.isascii() and text.isdigit() and len(text) <= 18
    return int(text) if digits else None


def _is_shape(value: Any) -> bool:
    return (
        isinstance(value, list | tuple)
        and 1 <= len(value) <= 8
        and all(is_size(side) for side in value)
        and math.prod(value) < 2**40
    )
