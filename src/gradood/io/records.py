"""Dataclasses from plain JSON, strictly: every key known, none missing, every type as declared."""

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from types import NoneType, UnionType
from typing import Any, TypeVar, get_args, get_origin

from gradood.errors import ArtifactError, suggest
from gradood.io.canonical import inside

__all__ = ["SINCE", "decode", "to_plain"]

SINCE = "since"
"""Key in a field's metadata: the format version, (major, minor), that brought it.

Files of older formats lack the field and get its default.
"""
T = TypeVar("T")


def decode(kind: type[T], value: Any, where: str, version: tuple[int, int]) -> T:
    """A dataclass out of plain JSON.

    Understands fields declared as str, int, float, bool, ``X | None``, ``tuple[X, ...]``,
    ``Mapping[str, X]``, a dataclass, or Any (free plain JSON).

    Args:
        kind: the dataclass.
        value: plain, see `check_plain`.
        where: its name in errors.
        version: format of the file.

    Raises:
        ArtifactError: a key is unknown or missing, or a value has another type; names it.
    """
    if type(value) is not dict:
        raise ArtifactError(f"{where} is {_shown(value)}; expected an object.")
    known = {field.name: field for field in fields(kind)}  # type: ignore[arg-type]
    for key in value:
        if key not in known:
            raise ArtifactError(f"{where} has an unknown key {key[:80]!r}; {suggest(key, known)}")
    given: dict[str, Any] = {}
    for name, field in known.items():
        if name in value:
            given[name] = _value(field.type, value[name], f"{where}.{name}", version)
        elif version >= field.metadata.get(SINCE, (0, 0)):
            raise ArtifactError(f"{where} lacks the key {name!r}; the file is incomplete.")
    return kind(**given)


def _value(kind: Any, value: Any, where: str, version: tuple[int, int]) -> Any:
    origin, inner = get_origin(kind), get_args(kind)
    if kind is Any:
        return value
    if origin is UnionType and NoneType in inner:
        if value is None:
            return None
        return _value(next(k for k in inner if k is not NoneType), value, where, version)
    if origin is tuple:
        if type(value) is not list:
            raise ArtifactError(f"{where} is {_shown(value)}; expected a list.")
        return tuple(
            _value(inner[0], item, f"{where}[{i}]", version) for i, item in enumerate(value)
        )
    if origin is Mapping:
        if type(value) is not dict:
            raise ArtifactError(f"{where} is {_shown(value)}; expected an object.")
        return {
            key: _value(inner[1], item, inside(where, key), version) for key, item in value.items()
        }
    if is_dataclass(kind):
        return decode(kind, value, where, version)  # type: ignore[arg-type]
    if type(value) is not kind and not (kind is float and type(value) is int):
        raise ArtifactError(f"{where} is {_shown(value)}; expected {_NAMES[kind]}.")
    return value


def to_plain(value: Any) -> Any:
    """A dataclass, and all within it, as plain JSON; tuples become lists."""
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: to_plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {key: to_plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [to_plain(inner) for inner in value]
    return value


_NAMES = {str: "a string", int: "an integer", float: "a number", bool: "true or false"}


def _shown(value: Any) -> str:
    if type(value) in (dict, list):
        return "an object" if type(value) is dict else "a list"
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}…"
