"""From features in columns of their own to a model's input."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import isfinite
from typing import Any, ClassVar, final

import torch

from gradood.data._column_source import column_names, numeric_columns, open_table
from gradood.data._numbers import number_of
from gradood.data.column_input import ColumnInput, Row, check_finite
from gradood.errors import BadRowError, ConfigError, suggest

__all__ = ["FeatureInput"]


@final
@dataclass(frozen=True, kw_only=True)
class FeatureInput(ColumnInput):
    """Features in columns of their own: numbers (features,) and categories (categories,).

    Attributes:
        numbers: columns of numbers, in the order of the model's; None for all that a table has.
        categories: column → its categories in the order of their codes; None if its values are the
            codes. Empty ones are taken from the table that is opened first, as they sort.
        arguments: names of the model's arguments for the numbers and for the categories; None for
            its first one, if there is but one kind.
    """

    kind: ClassVar[str] = "features"

    numbers: tuple[str, ...] | None = None
    categories: Mapping[str, tuple[str, ...] | None] = field(default_factory=dict)
    arguments: tuple[str, str] | None = None

    def __post_init__(self) -> None:
        if self.numbers is not None:
            object.__setattr__(self, "numbers", tuple(self.numbers))
        categories = {k: None if v is None else tuple(v) for k, v in self.categories.items()}
        object.__setattr__(self, "categories", categories)
        if self.arguments is not None:
            object.__setattr__(self, "arguments", tuple(self.arguments))

    @property
    def columns(self) -> tuple[str, ...]:
        return (*(self.numbers or ()), *self.categories)

    @property
    def fills(self) -> Mapping[str, float] | None:
        return None

    def opened(self, source: str) -> "FeatureInput":
        table = open_table(source)
        numbers, known = self.numbers, column_names(table)
        if numbers is None:
            numbers = tuple(n for n in numeric_columns(table) if n not in self.categories)
        categories = dict(self.categories)
        for name, codes in categories.items():
            if codes == ():
                if name not in known:
                    raise ConfigError(f"no column {name!r} in {source!r}: {suggest(name, known)}")
                values = [value for value in table.values(name) if value is not None]
                whole = all(isinstance(value, int) for value in values)
                categories[name] = None if whole else tuple(sorted({str(v) for v in values}))
        if not numbers and not categories:
            raise ConfigError(f"no column of numbers in {source!r}; name the feature columns.")
        return replace(self, numbers=numbers, categories=categories)

    def __call__(self, values: Mapping[str, Any]) -> Row:
        x = torch.tensor([_number(name, values[name]) for name in self.numbers or ()])
        check_finite(x)
        if not self.categories:
            return x if self.arguments is None else {self.arguments[0]: x}
        codes = [_code(name, values[name], known) for name, known in self.categories.items()]
        c = torch.tensor(codes, dtype=torch.int64)
        if self.arguments is None:
            return c
        return {self.arguments[0]: x, self.arguments[1]: c} if len(x) else {self.arguments[1]: c}


def _number(name: str, value: Any) -> float:
    if value is None:
        raise BadRowError(f"it has no value in {name!r}; expected a number.", "empty")
    try:
        return number_of(value)
    except (TypeError, ValueError, OverflowError):
        shown = repr(value)[:40]
        raise BadRowError(f"it has {shown} in {name!r}; expected a number.", "wrong_type") from None


def _code(name: str, value: Any, known: Sequence[str] | None) -> int:
    if value is None:
        raise BadRowError(f"it has no value in {name!r}; expected a category.", "empty")
    if known is not None:
        if str(value) not in known:
            shown = repr(value)[:40]
            raise BadRowError(
                f"it has {shown} in {name!r}, which is none of its {len(known)} categories.",
                "out_of_vocabulary",
            )
        return known.index(str(value))
    number = _number(name, value)
    if not isfinite(number):
        raise BadRowError(f"it has {value!r} in {name!r}; expected a code.", "nonfinite_input")
    if number != int(number) or not 0 <= number < 2**63:
        raise BadRowError(
            f"it has {value!r} in {name!r}; expected a code, 0 or more.", "wrong_type"
        )
    return int(number)
