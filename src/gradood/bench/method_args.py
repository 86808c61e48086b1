"""Detectors named in words, as on a command line: which, and with what options."""

import inspect
import types
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from gradood.detectors.base import Detector, Learner
from gradood.errors import ConfigError, UnknownNameError, suggest
from gradood.registry import create, detector_class, methods

__all__ = ["Selection", "parse_option", "select"]

_TRUE, _FALSE = ("true", "yes", "on", "1"), ("false", "no", "off", "0")


@dataclass(frozen=True, slots=True)
class Selection:
    """Detectors to compare.

    Attributes:
        detectors: by the name they have in the table.
        required: those asked for by name; one that cannot be run is an error. The others, which
            came with ``all``, are left out with the reason.
    """

    detectors: Mapping[str, Detector]
    required: frozenset[str]

    @property
    def held_out(self) -> bool:
        """Whether one of them is fitted on held-out images where there are any."""
        learners = (d for d in self.detectors.values() if isinstance(d, Learner))
        return any(learner.held_out for learner in learners)


def select(names: str = "all", options: Iterable[str] = ()) -> Selection:
    """The detectors asked for.

    Args:
        names: separated by commas: ``all``, a method, or ``label=method`` for one more row of a
            method under another label.
        options: such as ``line.clip=auto``: label, option, value.

    Raises:
        UnknownNameError: no such method or option; suggests the closest.
        ConfigError: a label twice, or a value that does not fit its option.

    Example:
        >>> select("energy,line-1=line", ["line-1.clip=1.0"]).detectors["line-1"]
        LINe(clip=1.0)
    """
    chosen, required = _labels(names)
    values: dict[str, dict[str, Any]] = {label: {} for label in chosen}
    for given in options:
        label, option, text = _split(given)
        if label not in chosen:
            raise UnknownNameError(
                f"option {given!r} is for {label!r}, which is not among the methods; "
                f"{suggest(label, chosen)}"
            )
        if option in values[label]:
            raise ConfigError(f"option {given!r}: {label}.{option} was given twice; give it once.")
        values[label][option] = parse_option(chosen[label], option, text)
    made = {label: _created(label, chosen[label], values[label]) for label in chosen}
    return Selection(made, frozenset(required))


def parse_option(method: str, option: str, text: str) -> Any:
    """The value of a constructor's option from its text, by the option's declared type.

    ``none`` is None; names of a list are separated by commas.

    Raises:
        UnknownNameError: no such method or option.
        ConfigError: the text is none of what the option takes.

    Example:
        >>> parse_option("gaia-z", "layers", "layer2,layer3")
        ['layer2', 'layer3']
    """
    chosen = detector_class(method)
    known = inspect.signature(chosen).parameters
    if option not in known:
        raise UnknownNameError(f"{method} has no option {option!r}; {suggest(option, known)}")
    kinds = _members(_declared(chosen, option, known[option].default))
    for kind in kinds:
        found = _parsed(kind, text)
        if found:
            return found[0]
    choices = [str(c) for kind in kinds if get_origin(kind) is Literal for c in get_args(kind)]
    hint = suggest(text, choices)
    words = " or ".join(dict.fromkeys(word for kind in kinds if (word := _in_words(kind))))
    more = f"; {hint}" if hint.startswith("did") else "."
    raise ConfigError(f"{method}.{option}={text!r}; expected {words}{more}")


def _labels(names: str) -> tuple[dict[str, str], set[str]]:
    """Label → method, and the labels asked for by name."""
    known = [method.name for method in methods()]
    chosen: dict[str, str] = {}
    required: set[str] = set()
    parts = [part.strip() for part in names.split(",") if part.strip()]
    for part in parts:
        if part == "all":
            chosen |= {name: name for name in known if name not in chosen}
            continue
        label, equals, method = part.partition("=")
        label, method = label.strip(), (method if equals else label).strip()
        detector_class(method)
        if not label or label in required or (label in chosen and chosen[label] != method):
            raise ConfigError(
                f"methods {names!r}: the label {label!r} stands for two rows; give each its own, "
                f"such as {method}-2={method}."
            )
        chosen[label] = method
        required.add(label)
    if not chosen:
        raise ConfigError(f"methods {names!r} names none; {suggest(names, known)}")
    return chosen, required


def _split(given: str) -> tuple[str, str, str]:
    name, equals, text = given.partition("=")
    label, dot, option = name.strip().rpartition(".")
    if not (equals and dot and label and option):
        raise ConfigError(f"option {given!r}; expected NAME.key=value, such as line.clip=auto.")
    return label, option, text.strip()


def _created(label: str, method: str, options: dict[str, Any]) -> Detector:
    try:
        return create(method, **options)
    except ConfigError as error:
        raise ConfigError(f"{label}: {str(error).removeprefix(f'{method}: ')}") from error


def _declared(chosen: type[Detector], option: str, default: Any) -> Any:
    """The option's annotation, or the type of its default."""
    try:
        hints = get_type_hints(chosen.__init__)
    except NameError:  # Annotations of a foreign detector may name what only type checkers import.
        hints = {}
    return hints.get(option, str if default is None else type(default))


def _members(kind: Any) -> list[Any]:
    """The types in a union, those that take any text last."""
    inner = get_args(kind) if get_origin(kind) in (Union, types.UnionType) else (kind,)
    return sorted(inner, key=lambda member: (_is_names(member), member is str))


def _is_names(kind: Any) -> bool:
    return get_origin(kind) in (Sequence, list, tuple)


def _number_of(kind: Any) -> Any:
    """The type of number that a sequence is of; None if it is of names."""
    return next((one for one in get_args(kind) if one in (int, float)), None)


def _parsed(kind: Any, text: str) -> tuple[Any, ...]:
    """The value in a tuple; an empty one if the text is no such value."""
    low = text.lower()
    if kind is types.NoneType:
        return (None,) if low == "none" else ()
    if kind is bool:
        return (low in _TRUE,) if low in (*_TRUE, *_FALSE) else ()
    if get_origin(kind) is Literal:
        return tuple(choice for choice in get_args(kind) if str(choice) == text)
    if _is_names(kind):
        names = [name.strip() for name in text.split(",")]
        number = _number_of(kind)
        values = [(name,) if number is None and name else _parsed(number, name) for name in names]
        return ([value for (value,) in values],) if all(values) else ()
    if kind in (int, float):
        try:
            return (kind(text),)
        except ValueError:
            return ()
    return (text,) if kind is str and text else ()


def _in_words(kind: Any) -> str:
    """What a type takes, for messages; empty for what a text cannot give."""
    if get_origin(kind) is Literal:
        return " or ".join(repr(choice) for choice in get_args(kind))
    if _is_names(kind):
        what = "names" if _number_of(kind) is None else "numbers"
        return f"{what} separated by commas"
    words = {bool: "true or false", int: "a whole number", float: "a number", str: "a name"}
    return "'none'" if kind is types.NoneType else words.get(kind, "")
