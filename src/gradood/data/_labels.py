"""Labels as whole numbers, out of whatever a file holds: numbers, or names of classes."""

from collections.abc import Sequence
from typing import Any

from gradood.errors import DataError

__all__ = ["class_labels"]

_LIMIT = 2**63


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
    wholes = [value for value in distinct if _is_whole(value)]
    if texts and len(wholes) < len(distinct) and all(map(_is_number, texts)):
        shown = next(text for text in sorted(texts) if not _is_whole(text))
        raise DataError(
            f"a label is {shown!r}, a fraction; expected whole numbers, or names of classes."
        )
    large = next((value for value in wholes if not -_LIMIT <= int(value) < _LIMIT), None)
    if large is not None:
        raise DataError(f"a label is {large}; expected the number of a class, within 64 bits.")
    if len(wholes) < len(distinct):
        names = tuple(sorted(texts))
        numbers: dict[Any, int] = {name: number for number, name in enumerate(names)}
        return [None if value is None else numbers[value] for value in values], names
    return [None if value is None else int(value) for value in values], None


def _is_whole(value: Any) -> bool:
    """Whether a label is a whole number, or the text of one."""
    if isinstance(value, str):
        return value.strip().removeprefix("-").isdecimal()
    return isinstance(value, int)


def _is_number(text: str) -> bool:
    """Whether a text is a number in digits; ``nan`` may be the name of a class."""
    try:
        float(text)
    except ValueError:
        return False
    return any(map(str.isdigit, text))
