"""Labels as whole numbers, out of whatever a file holds: numbers, or names of classes."""

import json
from collections.abc import Sequence
from typing import Any

from gradood.errors import DataError

__all__ = ["class_labels", "label_sets", "split_column"]

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


def split_column(label: str, known: Sequence[str]) -> tuple[str, str | None]:
    """The name of a column of labels, and what separates the names in its texts.

    Args:
        label: as the user named it; ``"tags:;"`` is column ``tags`` with ``cat; dog`` in a row.
        known: columns that there are, which are meant as they are written.

    >>> split_column("tags:;", ["tags"]), split_column("a:b", ["a:b"])
    (('tags', ';'), ('a:b', None))
    """
    name, colon, separator = label.rpartition(":")
    if label in known or not (colon and separator) or name not in known:
        return label, None
    return name, separator


def label_sets(
    values: Sequence[Any], separator: str | None
) -> tuple[list[tuple[int, ...] | None], tuple[str, ...] | None] | None:
    """Of each row 0 or 1 for each class, and the names of the classes; None if rows hold one class.

    A row is a list, or the text of one in brackets, or names with a separator, where an empty cell
    says that none holds. Lists of one length
    of 0 and 1 alone are taken as they are; others hold the classes that hold, as names or numbers.

    Args:
        values: of the column; None for a row without labels.
        separator: of names in a text; None where there is none.

    Raises:
        DataError: a value is none of these.

    >>> label_sets([["b", "a"], [], None], None), label_sets(["[1, 0]", "[1, 1]"], None)
    (([(1, 1), (0, 0), None], ('a', 'b')), ([(1, 0), (1, 1)], None))
    >>> label_sets(["x; z", "z"], ";"), label_sets(["x", "y"], None)
    (([(1, 1), (0, 1)], ('x', 'z')), None)
    """
    rows = [_members(value, separator) for value in values]
    if separator is None and not any(isinstance(row, list) for row in rows):
        return None
    wrong = next((row for row in rows if row is not None and not isinstance(row, list)), None)
    if wrong is not None:
        raise DataError(
            f"a label is {wrong!r}; expected a list of the classes that hold, as in other rows."
        )
    known = [row for row in rows if row is not None]
    flags = [row for row in known if all(one in (0, 1) and not isinstance(one, str) for one in row)]
    if known and len(flags) == len(known) and len({len(row) for row in known}) == 1 and known[0]:
        return [None if row is None else tuple(map(int, row)) for row in rows], None
    numbers, names = class_labels([one for row in known for one in row])
    found = [number for number in numbers if number is not None]
    if len(found) < len(numbers) or min(found, default=0) < 0:
        raise DataError("a list of labels holds an empty or a negative one; expected classes.")
    size, at = (max(found, default=-1) + 1) if names is None else len(names), iter(found)
    held = [None if row is None else {next(at) for _ in row} for row in rows]
    return [
        None if row is None else tuple(int(one in row) for one in range(size)) for row in held
    ], names


def _members(value: Any, separator: str | None) -> Any:
    """The classes in a value that holds several; else the value."""
    if value is None and separator is not None:
        return []  # Else a CSV file could not say that none holds.
    if not isinstance(value, str):
        return list(value) if isinstance(value, list | tuple) else value
    if separator is not None:
        return [part for part in map(str.strip, value.split(separator)) if part]
    if not (value.lstrip().startswith("[") and value.rstrip().endswith("]")):
        return value
    try:
        found = json.loads(value)
    except ValueError:
        return value
    return found if isinstance(found, list) else value
