"""Frozen dataclasses from tables: every key known, every type as declared, defaults as written."""

import types
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from gradood.errors import ConfigError, suggest

__all__ = ["from_table", "to_table"]

T = TypeVar("T")


def from_table(kind: type[T], table: Any, where: str) -> T:
    """A dataclass out of what TOML or JSON gives.

    Understands str, int, float, bool, Literal, unions, ``tuple[X, ...]``, ``Mapping[str, X]``,
    dataclasses, None, and Any, which is left to the dataclass.

    Args:
        kind: the dataclass, whose ``__post_init__`` checks ranges.
        table: plain values.
        where: what to call it in errors.

    Raises:
        ConfigError: a key is unknown or missing, or a value of another type or out of range.
    """
    if not isinstance(table, Mapping):
        raise ConfigError(f"{where} is {_shown(table)}; expected a table of options.")
    hints = get_type_hints(kind)
    known = {field.name: field for field in fields(kind)}  # type: ignore[arg-type]
    for key in table:
        if key not in known:
            raise ConfigError(f"{where} has no option {key!r}; {suggest(str(key), known)}")
    given = {key: _value(hints[key], value, f"{where}.{key}") for key, value in table.items()}
    for name, field in known.items():
        required = field.default is MISSING and field.default_factory is MISSING
        if required and name not in given:
            raise ConfigError(f"{where} lacks the option {name!r}; set it.")
    try:
        return kind(**given)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from error


def to_table(value: Any) -> Any:
    """A dataclass, and all within it, as plain values; tuples become lists."""
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: to_table(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {key: to_table(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [to_table(inner) for inner in value]
    return value


def _value(kind: Any, value: Any, where: str) -> Any:
    origin, inner = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        return _either(inner, value, where)
    if origin is Literal:
        if not any(type(value) is type(choice) and value == choice for choice in inner):
            hint = suggest(str(value), map(str, inner))
            raise ConfigError(f"{where} is {_shown(value)}; {hint}")
        return value
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise ConfigError(f"{where} is {_shown(value)}; expected a list.")
        return tuple(_value(inner[0], item, f"{where}[{i}]") for i, item in enumerate(value))
    if kind is Any:
        return value
    if origin in (dict, Mapping):
        if not isinstance(value, Mapping):
            raise ConfigError(f"{where} is {_shown(value)}; expected a table.")
        return {key: _value(inner[1], item, f"{where}.{key}") for key, item in value.items()}
    if is_dataclass(kind):
        return from_table(kind, value, where)  # type: ignore[arg-type]
    if type(value) is kind:
        return value
    if kind is float and type(value) is int:
        return float(value)
    raise ConfigError(f"{where} is {_shown(value)}; expected {_NAMES[kind]}.")


def _either(kinds: tuple[Any, ...], value: Any, where: str) -> Any:
    if value is None and types.NoneType in kinds:
        return None
    others = [kind for kind in kinds if kind is not types.NoneType]
    errors = []
    for kind in others:
        try:
            return _value(kind, value, where)
        except ConfigError as error:
            errors.append(error)
    if len(errors) == 1:
        raise errors[0]
    expected = " or ".join(_described(kind) for kind in others)
    raise ConfigError(f"{where} is {_shown(value)}; expected {expected}.")


_NAMES = {str: "a text", int: "a whole number", float: "a number", bool: "true or false"}


def _described(kind: Any) -> str:
    if get_origin(kind) is Literal:
        return " or ".join(map(repr, get_args(kind)))
    return _NAMES.get(kind, "a table")


def _shown(value: Any) -> str:
    if isinstance(value, Mapping | list | tuple):
        return "a table" if isinstance(value, Mapping) else "a list"
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}…"
