"""Types and ranges of arguments, checked where a function of the public interface begins."""

import operator
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from gradood.errors import ConfigError, DataError

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "as_array",
    "described",
    "file_path",
    "instance",
    "plain",
    "real",
    "text",
    "type_named",
    "whole",
]

_T = TypeVar("_T")
_SHORT = (bool, int, float, str, type(None))


def type_named(value: object) -> str:
    """What a value is, with an article: ``a list``, ``the class KNN``."""
    if isinstance(value, type):
        return f"the class {value.__name__}"
    return f"a {type(value).__name__}"


def described(value: object) -> str:
    """A plain value as it is written, another one by its type."""
    return repr(value)[:80] if isinstance(value, _SHORT) else type_named(value)


def plain(value: Any) -> Any:
    """A NumPy scalar as the Python value that it is; what is none, as it is."""
    return value.item() if isinstance(value, np.generic) else value


def real(value: object) -> float | None:
    """The real number that a value is, of Python or of NumPy; None for others and truth values."""
    number = plain(value)
    known = isinstance(number, int | float) and not isinstance(number, bool)
    return number if known else None


def whole(value: object, name: str, *, least: int = 0, most: int | None = None) -> int:
    """A whole number within a range, of whichever integer type.

    Args:
        value: as it was given.
        name: of the argument.
        least: smallest that is allowed.
        most: largest that is allowed; None for any.

    Raises:
        ConfigError: it is none.
    """
    given: Any = value
    try:
        number = None if isinstance(value, bool) else operator.index(given)
    except TypeError:
        number = None
    if number is None or number < least or (most is not None and number > most):
        end = " or more" if most is None else f" to {most}"
        raise ConfigError(f"{name}={described(value)}; expected a whole number, {least}{end}.")
    return number


def file_path(value: object, name: str, what: str = "the name of a file") -> Path:
    """The path of a file or a folder.

    Args:
        value: as it was given.
        name: of the argument.
        what: was expected.

    Raises:
        ConfigError: it names none.
    """
    named = os.fspath(value) if isinstance(value, str | os.PathLike) else None
    if not isinstance(named, str) or not named or "\0" in named:
        raise ConfigError(f"{name}={described(value)}; expected {what}.")
    return Path(named)


def text(value: object, name: str, what: str = "a text") -> str:
    """A text.

    Args:
        value: as it was given.
        name: of the argument.
        what: was expected.

    Raises:
        ConfigError: it is none.
    """
    if not isinstance(value, str):
        raise ConfigError(f"{name}={described(value)}; expected {what}.")
    return value


def instance(
    value: object, kinds: type[_T] | tuple[type[_T], ...], name: str, what: str, hint: str = ""
) -> _T:
    """A value of some class.

    Args:
        value: as it was given.
        kinds: of which it must be.
        name: of the argument.
        what: was expected.
        hint: a sentence that says what to do.

    Raises:
        ConfigError: it is of another class.
    """
    if not isinstance(value, kinds):
        more = f" {hint}" if hint else ""
        raise ConfigError(f"{name} is {type_named(value)}; expected {what}.{more}")
    return value


def as_array(value: Any, name: str) -> "NDArray[Any]":
    """What was given for an input, as an array.

    Args:
        value: an array, or what NumPy makes one of; a tensor too that records gradients.
        name: of the input, for the message.

    Raises:
        DataError: there is no array of it, or some entries are masked.
    """
    if np.ma.is_masked(value):
        raise DataError(f"{name} has masked entries, which a graph does not know; fill them.")
    try:
        return np.asarray(value.detach() if hasattr(value, "detach") else value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise DataError(f"{name} is no array ({error}); give a NumPy array.") from error
