"""Numbers in a value of a table: a list, flat or nested, or a text of one."""

import json
from typing import Any

import numpy as np

from gradood.errors import BadRowError

__all__ = ["number_of", "numbers_in"]


def number_of(value: Any) -> float:
    """A number, or the text of one; not one that Python alone writes so, such as ``1_000``.

    Raises:
        TypeError, ValueError, OverflowError: it is something else.
    """
    if isinstance(value, str) and "_" in value:
        raise ValueError(value)
    return float(value)


def numbers_in(value: Any, what: str) -> np.ndarray:
    """An array of whole numbers (int64), or of fractions (float64).

    Args:
        value: a list, flat or nested; or a text such as ``[1, 2]`` or ``1 2``; None for none.
        what: is expected, for messages.

    Raises:
        BadRowError: there is none, a number is absent, or it is something else.
    """
    if value is None:
        raise BadRowError(f"it has no value; expected {what}.", "empty")
    if isinstance(value, str):
        value = _parsed(value, what)
    try:
        array = np.asarray(value)
    except (ValueError, OverflowError):  # Ragged.
        array = np.asarray(None)
    if array.dtype.kind in "iu" and array.dtype != np.uint64 and not isinstance(value, bytes):
        return array.astype(np.int64)
    if array.dtype.kind == "f":
        return array.astype(np.float64)
    absent = array.ravel().tolist().count(None) if array.ndim else 0
    if absent:
        raise BadRowError(f"{absent} of its {array.size} values are absent.", "empty")
    shown = f"a {type(value).__name__}"
    if isinstance(value, list) and value:
        shown = f"a list that holds {_odd(value)}"
    raise BadRowError(f"it has {shown}; expected {what}.", "wrong_type")


def _parsed(text: str, what: str) -> Any:
    try:
        if text.lstrip().startswith("["):
            return json.loads(text)
        parts = text.replace(",", " ").split()
        whole = all(part.removeprefix("-").isdecimal() for part in parts)
        return [int(part) if whole else number_of(part) for part in parts]
    except (ValueError, RecursionError):
        raise BadRowError(
            f"it has the text {text[:40]!r}; expected {what}.", "wrong_type"
        ) from None


def _odd(values: list[Any]) -> str:
    odd = next((v for v in values if not isinstance(v, int | float) or isinstance(v, bool)), None)
    if odd is None:
        return "a number beyond 64 bits"
    return "lists that differ in length" if isinstance(odd, list) else repr(odd)[:40]
