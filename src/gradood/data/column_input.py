"""From the columns of a row to a model's inputs: token ids and tensors.

A row that cannot be used is one of

- ``empty``: a value is absent;
- ``wrong_type``: a value is of another kind, such as a text where numbers are needed;
- ``wrong_size``: not as many values as the shape needs;
- ``too_long``: more tokens than the limit;
- ``out_of_vocabulary``: a token id or a category that the model has no entry for;
- ``nonfinite_input``: NaN or infinity among the values;
- ``unreadable``: the row itself cannot be read;

and of audio also a status of `gradood.data._waves`.
"""

from abc import ABC, abstractmethod
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, ClassVar, Self, TypeAlias, final

import numpy as np
import torch
from torch import Tensor

from gradood.data._column_source import column_names, open_table
from gradood.data._numbers import numbers_in
from gradood.data._padding import padded, stacked
from gradood.errors import BadRowError, ConfigError, suggest

__all__ = ["ColumnInput", "Row", "TensorInput", "TokenInput"]

Row: TypeAlias = Tensor | dict[str, Tensor]
"""The inputs of one row, without a batch dimension; by name where a model takes them so."""


class ColumnInput(ABC):
    """From the values of a row to what a model takes; frozen, and plain values alone.

    Attributes:
        kind: a word for it.
        files: whether a text in a column is the path of a file.
    """

    kind: ClassVar[str]
    files: ClassVar[bool] = False

    @property
    @abstractmethod
    def columns(self) -> tuple[str, ...]:
        """The columns that it reads."""

    @abstractmethod
    def __call__(self, values: Mapping[str, Any]) -> Row:
        """The inputs of a row.

        Args:
            values: column → value.

        Raises:
            BadRowError: it cannot be used; its status and reason say why.
        """

    @property
    @abstractmethod
    def fills(self) -> Mapping[str, float] | None:
        """Name → what rows are padded with; ``""`` of a plain tensor; None if never padded."""

    def opened(self, source: str) -> Self:
        """The same, with what only a table tells, such as its columns of numbers.

        Args:
            source: a table.
        """
        return self

    def form(self, row: Row) -> Hashable:
        """What rows have in common that one batch can hold."""
        named = row if isinstance(row, dict) else {"": row}
        padded = self.fills or {}  # In their first dimension.
        return tuple((n, *leaf.shape[n in padded :], leaf.dtype) for n, leaf in named.items())

    def collate(self, rows: Sequence[Row]) -> Row:
        """Rows as one batch (batch, …), padded where they may be.

        Raises:
            DataError: they differ in shape, and nothing says what to pad them with.
        """
        return stacked(rows) if self.fills is None else padded(rows, self.fills)

    def to_dict(self) -> dict[str, Any]:
        """Plain values from which the same can be made again."""
        return {"kind": self.kind, **asdict(self)}  # type: ignore[call-overload]


@final
@dataclass(frozen=True, kw_only=True)
class TokenInput(ColumnInput):
    """Token ids (length,) and their attention mask.

    Attributes:
        column: of lists of whole numbers, or texts of such.
        argument: name of the model's argument for ids, or None for its first one.
        mask: name of its argument for the mask, or None if it has none.
        padding: id that rows are padded with; in a row, its positions are masked. None: rows are
            padded with 0 where there is a mask, and not at all without.
        vocabulary: ids are below this, or None if unknown.
        max_length: longest row, or None.
        truncate: cut longer rows instead of refusing them.
    """

    kind: ClassVar[str] = "ids"

    column: str
    argument: str | None = None
    mask: str | None = None
    padding: int | None = None
    vocabulary: int | None = None
    max_length: int | None = None
    truncate: bool = False

    @property
    def columns(self) -> tuple[str, ...]:
        return (self.column,)

    @property
    def fills(self) -> Mapping[str, float] | None:
        if self.mask is None:
            return None if self.padding is None else {self.argument or "": self.padding}
        return {self.argument or "input_ids": self.padding or 0, self.mask: 0}

    def __call__(self, values: Mapping[str, Any]) -> Row:
        array = numbers_in(values[self.column], "token ids")
        if not array.size:
            raise BadRowError("it holds no token id; expected some.", "empty")
        if array.dtype.kind != "i":
            raise BadRowError("it holds fractions; expected token ids.", "wrong_type")
        if array.ndim != 1:
            raise BadRowError(f"its ids are {array.shape}; expected a list of some.", "wrong_size")
        if self.max_length is not None and len(array) > self.max_length:
            if not self.truncate:
                raise BadRowError(
                    f"it has {len(array)} tokens, and the limit is {self.max_length}; cut it, or "
                    "give --truncate.",
                    "too_long",
                )
            array = array[: self.max_length]
        low, high = int(array.min()), int(array.max())
        if low < 0 or (self.vocabulary is not None and high >= self.vocabulary):
            wrong = low if low < 0 else high
            limit = "0 or more" if low < 0 else f"below {self.vocabulary}"
            raise BadRowError(f"it holds the id {wrong}; expected {limit}.", "out_of_vocabulary")
        ids = torch.from_numpy(array.astype(np.int64))
        if self.mask is None:
            return ids if self.argument is None else {self.argument: ids}
        attended = torch.ones_like(ids) if self.padding is None else (ids != self.padding).long()
        if not bool(attended.any()):
            raise BadRowError("all of it is padding.", "empty")
        return {self.argument or "input_ids": ids, self.mask: attended}


@final
@dataclass(frozen=True, kw_only=True)
class TensorInput(ColumnInput):
    """A list of numbers, flat or nested, as a tensor of one shape.

    Attributes:
        column: of lists of numbers, or texts of such.
        shape: of the tensor; None for that of the list.
        argument: name of the model's argument, or None for its first one.
        whole: whether numbers are whole (int64), else float32; None for what the table holds.
    """

    kind: ClassVar[str] = "tensor"

    column: str
    shape: tuple[int, ...] | None = None
    argument: str | None = None
    whole: bool | None = None

    def __post_init__(self) -> None:
        if self.shape is not None:
            object.__setattr__(self, "shape", tuple(self.shape))
            if not self.shape or min(self.shape) < 1:
                raise ConfigError(f"shape is {self.shape}; expected sizes of at least 1.")

    @property
    def columns(self) -> tuple[str, ...]:
        return (self.column,)

    @property
    def fills(self) -> Mapping[str, float] | None:
        return None

    def opened(self, source: str) -> "TensorInput":
        if self.whole is not None:
            return self
        return replace(self, whole=whole_numbers(source, self.column))

    def __call__(self, values: Mapping[str, Any]) -> Row:
        array = numbers_in(values[self.column], "numbers")
        if self.shape is not None:
            if array.size != int(np.prod(self.shape)):
                raise BadRowError(
                    f"it has {array.size} values; expected {int(np.prod(self.shape))}, as of the "
                    f"shape {self.shape}.",
                    "wrong_size",
                )
            array = array.reshape(self.shape)
        if self.whole and array.dtype.kind != "i":
            raise BadRowError("it holds fractions; expected whole numbers.", "wrong_type")
        x = torch.from_numpy(array.astype(np.int64 if self.whole else np.float32))
        check_finite(x)
        return x if self.argument is None else {self.argument: x}


def whole_numbers(source: str, column: str) -> bool:
    """Whether a column of a table holds whole numbers, by the first row that tells.

    Raises:
        ConfigError: there is no such column.
    """
    table = open_table(source)
    if column not in column_names(table):
        raise ConfigError(
            f"no column {column!r} in {source!r}: " + suggest(column, column_names(table))
        )
    for row in range(table.rows):
        try:
            return numbers_in(table.value(row, column, (column,)), "numbers").dtype.kind == "i"
        except BadRowError:
            continue
    return False


def check_finite(x: Tensor) -> None:
    """Refuse NaN and infinity.

    Raises:
        BadRowError: there are some.
    """
    wrong = int((~x.isfinite()).sum())
    if wrong:
        raise BadRowError(
            f"{wrong} of its {x.numel()} values are NaN or infinite.", "nonfinite_input"
        )
