"""Strict conversion between frozen dataclasses and the plain values of JSON or TOML."""

import types
from collections.abc import Callable, Mapping
from dataclasses import MISSING, Field, dataclass, field, fields, is_dataclass
from functools import cache
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from gradood._io.canonical import inside
from gradood.errors import ConfigError, GradoodError, suggest

__all__ = [
    "Expect",
    "Extensible",
    "KEY",
    "OMIT",
    "OPTIONS",
    "Rules",
    "SINCE",
    "Words",
    "decode",
    "shortened",
    "to_plain",
]

KEY, OMIT, SINCE = "key", "omit", "since"
"""Keys of a field's metadata. KEY: its name in the file, where that is no Python name. OMIT: True
if it is not written when None, and may be absent. SINCE: the format version, (major, minor), that
brought it; files of older formats lack it and get its default."""
T = TypeVar("T")
_LONGEST = 60


@dataclass(frozen=True, kw_only=True, slots=True)
class Extensible:
    """Base of dataclasses whose files may come from an earlier or a later version.

    What is read is what is written again: unknown keys are kept, and keys that the file lacked stay
    absent.

    Attributes:
        extra: keys that this version does not know.
        absent: names of the fields that the file lacked, which have their defaults.
    """

    extra: Mapping[str, Any] = field(default_factory=dict, repr=False)
    absent: frozenset[str] = field(default=frozenset(), repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class Expect:
    """A condition on a value, as metadata of `typing.Annotated`.

    Attributes:
        holds: whether the decoded value is as it should be.
        words: what is expected, for messages.
        numerals: texts that stand for a number that JSON lacks, such as ``"inf"``.
    """

    holds: Callable[[Any], bool]
    words: str
    numerals: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Words:
    """The vocabulary of messages about one kind of file.

    Attributes:
        text: a string.
        whole: an integer.
        number: a float.
        flag: a boolean.
        table: a mapping.
        options: a mapping that becomes a dataclass.
        unknown: template of ``where``, ``key``, ``hint``.
        missing: template of ``where``, ``key`` (the first), ``keys`` (all of them).
    """

    text: str = "a text"
    whole: str = "a whole number"
    number: str = "a number"
    flag: str = "true or false"
    table: str = "a table"
    options: str = "a table"
    unknown: str = "{where} has an unknown key {key!r}; {hint}"
    missing: str = "{where} lacks {keys}."


@dataclass(frozen=True, kw_only=True, slots=True)
class Rules:
    """What differs between the files that `decode` reads.

    Attributes:
        error: class of the error for a faulty value.
        words: vocabulary of its message.
        defaults: whether a field with a default may be absent.
        nested: whether an error that a dataclass itself raises is prefixed with its place.
        version: format of the file, for fields that a later format brought.
    """

    error: type[GradoodError]
    words: Words = Words()
    defaults: bool = True
    nested: bool = False
    version: tuple[int, int] | None = None

    def wrong(self, value: Any, where: str, expected: str) -> GradoodError:
        """The error for a value of another type or range than expected."""
        shown = self.words.table if isinstance(value, Mapping) else shortened(value)
        return self.error(f"{where or 'it'} is {shown}; expected {expected}.")

    def optional(self, known: Field[Any]) -> bool:
        """Whether a field may be absent."""
        if self.version is not None and self.version < known.metadata.get(SINCE, (0, 0)):
            return True
        if known.metadata.get(OMIT) and known.default is None:
            return True
        default = known.default is not MISSING or known.default_factory is not MISSING
        return self.defaults and default


OPTIONS = Rules(
    error=ConfigError,
    nested=True,
    words=Words(
        options="a table of options",
        unknown="{where} has no option {key!r}; {hint}",
        missing="{where} lacks the option {key!r}; set it.",
    ),
)
"""Of files that users write: options by name, of which those with a default may be left out."""


def decode(kind: type[T], value: Any, where: str, rules: Rules = OPTIONS) -> T:
    """A dataclass from plain values.

    Understands fields declared as str, int, float, bool, Literal, unions, ``tuple[X, ...]``,
    ``Mapping[str, X]``, dataclasses, None, `Annotated` with `Expect`, and Any, which is left to the
    dataclass. An integer is taken for a float; a boolean is no integer.

    Args:
        kind: the dataclass, whose ``__post_init__`` checks ranges.
        value: plain.
        where: its name in messages; may be empty.
        rules: what the file allows.

    Raises:
        GradoodError: of the class in `rules`: a key is unknown or missing, or a value of another
            type or out of range; names the place.
    """
    if not isinstance(value, Mapping):
        raise rules.wrong(value, where, rules.words.options)
    known = _fields(kind)
    extra = {key: inner for key, inner in value.items() if key not in known}
    if extra and not issubclass(kind, Extensible):
        key = next(iter(extra))
        hint = suggest(str(key), known)
        told = {"where": where or "it", "key": str(key)[:80], "hint": hint}
        raise rules.error(rules.words.unknown.format(**told))
    missing = [k for k, (own, _) in known.items() if k not in value and not rules.optional(own)]
    if missing:
        told = {"where": where or "it", "key": missing[0], "keys": ", ".join(missing)}
        raise rules.error(rules.words.missing.format(**told))
    values: dict[str, Any] = {
        own.name: _value(hint, value[key], _inside(where, key), rules)
        for key, (own, hint) in known.items()
        if key in value
    }
    if issubclass(kind, Extensible):
        absent = frozenset(own.name for key, (own, _) in known.items() if key not in value)
        values |= {"extra": extra, "absent": absent}
    try:
        return kind(**values)
    except rules.error as error:
        if not rules.nested:
            raise
        raise rules.error(f"{where}: {error}") from error


def to_plain(value: Any) -> Any:
    """Plain values of a dataclass, and of all within it; tuples become lists."""
    if is_dataclass(value) and not isinstance(value, type):
        left_out = value.absent if isinstance(value, Extensible) else ()
        plain: dict[str, Any] = {}
        for key, (own, _) in _fields(type(value)).items():
            inner = getattr(value, own.name)
            if own.name in left_out or (inner is None and own.metadata.get(OMIT)):
                continue
            plain[key] = to_plain(inner)
        return plain | (to_plain(value.extra) if isinstance(value, Extensible) else {})
    if isinstance(value, Mapping):
        return {key: to_plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [to_plain(inner) for inner in value]
    return value


def shortened(value: Any) -> str:
    """The representation of a value, at most 60 characters."""
    text = repr(value)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}…"


@cache
def _fields(kind: type) -> dict[str, tuple[Field[Any], Any]]:
    """Key in the file → field and its declared type; without the fields of `Extensible`."""
    hints = get_type_hints(kind, include_extras=True)
    hidden = {own.name for own in fields(Extensible)} if issubclass(kind, Extensible) else set()
    return {
        own.metadata.get(KEY, own.name): (own, hints[own.name])
        for own in fields(kind)  # type: ignore[arg-type]
        if own.name not in hidden
    }


def _inside(where: str, key: str) -> str:
    """The place of a key."""
    return inside(where, key).removeprefix(".") if not where else inside(where, key)


def _value(hint: Any, value: Any, where: str, rules: Rules, expected: str | None = None) -> Any:
    """A value of a declared type; `expected` says what is, where the type alone does not."""
    origin, inner, words = get_origin(hint), get_args(hint), rules.words
    if hint is Any:
        return value
    if origin is Annotated:
        return _checked(inner[0], hint.__metadata__, value, where, rules)
    if origin in (Union, types.UnionType):
        return _either(inner, value, where, rules)
    if origin is Literal:
        if not any(type(value) is type(choice) and value == choice for choice in inner):
            if expected is not None:
                raise rules.wrong(value, where, expected)
            hinted = suggest(str(value), map(str, inner))
            raise rules.error(f"{where} is {shortened(value)}; {hinted}")
        return value
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise rules.wrong(value, where, expected or "a list")
        if inner[0] in (str, int) and all(type(item) is inner[0] for item in value):
            return tuple(value)  # Some are very long.
        return tuple(_value(inner[0], item, f"{where}[{i}]", rules) for i, item in enumerate(value))
    if origin in (dict, Mapping):
        if not isinstance(value, Mapping):
            raise rules.wrong(value, where, expected or words.table)
        return {k: _value(inner[1], v, _inside(where, k), rules) for k, v in value.items()}
    if is_dataclass(hint):
        return decode(hint, value, where, rules)  # type: ignore[arg-type]
    if type(value) is hint:
        return value
    if hint is float and type(value) is int:
        return float(value)
    raise rules.wrong(value, where, expected or _described(hint, words))


def _checked(
    hint: Any, conditions: tuple[Expect, ...], value: Any, where: str, rules: Rules
) -> Any:
    """A value of an annotated type that meets its conditions, in their order."""
    for condition in conditions:
        if isinstance(value, str) and value in condition.numerals:
            return float(value)
    decoded = _value(hint, value, where, rules, conditions[0].words)
    for condition in conditions:
        if not condition.holds(decoded):
            raise rules.wrong(value, where, condition.words)
    return decoded


def _either(hints: tuple[Any, ...], value: Any, where: str, rules: Rules) -> Any:
    """A value of the first of several types that takes it."""
    if value is None and types.NoneType in hints:
        return None
    others = [hint for hint in hints if hint is not types.NoneType]
    tables = [hint for hint in others if is_dataclass(hint)]
    if isinstance(value, Mapping) and len(tables) == 1:
        others = tables
    errors: list[GradoodError] = []
    for hint in others:
        try:
            return _value(hint, value, where, rules)
        except rules.error as error:
            errors.append(error)
    if len(errors) == 1:
        raise errors[0]
    raise rules.wrong(value, where, " or ".join(_described(hint, rules.words) for hint in others))


def _described(hint: Any, words: Words) -> str:
    """A type, for messages."""
    if get_origin(hint) is Literal:
        return " or ".join(map(repr, get_args(hint)))
    names = {str: words.text, int: words.whole, float: words.number, bool: words.flag}
    return names.get(hint, words.table)
