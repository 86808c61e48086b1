"""Labels as whole numbers, out of whatever a file holds: numbers, or names of classes."""

from collections.abc import Sequence
from typing import Any

from gradood.errors import DataError

__all__ = ["class_labels"]


def class_labels(values: Sequence[Any]) -> tuple[list[int | None], tuple[str, ...] | None]:
    """Of each row its class as a number, and the names of the classes if these are names.

    Names that are all whole numbers are those numbers, so that ``"10"`` does not come before
    ``"2"``; other names are numbered as they sort.

    Args:
        values: whole numbers or texts; None for a row without a label.

    Raises:
        DataError: a value is neither.

    >>> class_labels(["dog", "cat", None]), class_labels(["10", "2"])
    (([1, 0, None], ('cat', 'dog')), ([10, 2], None))
    """
    distinct = {value for value in values if value is not None}
    wrong = next((value for value in distinct if not isinstance(value, int | str)), None)
    if wrong is not None or len({isinstance(value, str) for value in distinct}) > 1:
        shown = repr(wrong) if wrong is not None else "a text in one row and a number in another"
        raise DataError(
            f"a label is {shown}; expected whole numbers, or names of classes, in all rows."
        )
    texts = {value for value in distinct if isinstance(value, str)}
    if texts and not all(text.strip().isdecimal() for text in texts):
        names = tuple(sorted(texts))
        numbers: dict[Any, int] = {name: number for number, name in enumerate(names)}
        return [None if value is None else numbers[value] for value in values], names
    return [None if value is None else int(value) for value in values], None
