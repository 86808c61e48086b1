"""JSON with one spelling for each value: no duplicate keys, no NaN, bounded before it is parsed."""

import json
import math
from collections import Counter
from typing import Any, NoReturn

from gradood.errors import ArtifactError

__all__ = ["MAX_DEPTH", "MAX_NODES", "check_plain", "encode", "inside", "parse"]

MAX_DEPTH = 24
"""How deep lists and objects may nest."""
MAX_NODES = 1_000_000
"""How many values one document may hold."""
_INTEGERS = range(-(2**63), 2**64)


def encode(value: Any) -> str:
    """The canonical text: ASCII, keys sorted, no spaces; equal values have equal texts.

    Args:
        value: plain, see `check_plain`.
    """
    return json.dumps(
        value, ensure_ascii=True, allow_nan=False, sort_keys=True, separators=(",", ":")
    )


def parse(text: str, what: str, *, canonical: bool = True) -> Any:
    """The value of a text.

    Args:
        text: such as `encode` gives.
        what: the text's name in errors.
        canonical: whether it must be the very text that `encode` gives.

    Raises:
        ArtifactError: it is no JSON, or JSON in another spelling, or too large or too deep.

    >>> parse('{"a":[1,2.5]}', "the example")
    {'a': [1, 2.5]}
    """
    # Every value but the first follows one of these, so parsing cannot make more values than this.
    if sum(map(text.count, ",[{:")) > MAX_NODES:
        raise ArtifactError(f"{what} holds more than {MAX_NODES:,} values; the file is refused.")
    try:
        value = json.loads(text, object_pairs_hook=_unique, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        why = "too deeply nested" if isinstance(error, RecursionError) else str(error)
        raise ArtifactError(f"{what} is no strict JSON ({why}); the file is damaged.") from None
    check_plain(value, what)
    if canonical and encode(value) != text:
        raise ArtifactError(
            f"{what} is JSON, but not in the one canonical spelling that gradood writes; "
            "the file was changed, save it again from the monitor."
        )
    return value


def check_plain(value: Any, what: str) -> None:
    """Whether a value is made of JSON's types alone, finite and bounded.

    Args:
        value: None, bool, int of 64 bits, finite float, str, list, or dict with str keys.
        what: its name in errors.

    Raises:
        ArtifactError: with the place of what is wrong.
    """
    stack: list[tuple[Any, str, int]] = [(value, what, 0)]
    nodes = 0
    while stack:
        item, where, depth = stack.pop()
        nodes += 1
        if nodes > MAX_NODES or depth > MAX_DEPTH:
            limit = f"{MAX_DEPTH} levels deep" if depth > MAX_DEPTH else f"{MAX_NODES:,} values"
            raise ArtifactError(f"{what} exceeds {limit}; store large things as tensors.")
        if isinstance(item, dict):
            for key, inner in item.items():
                _check_text(key, f"a key in {where}")
                stack.append((inner, inside(where, key), depth + 1))
        elif isinstance(item, list):
            stack.extend((inner, f"{where}[{i}]", depth + 1) for i, inner in enumerate(item))
        else:
            _check_scalar(item, where)


def inside(where: str, key: str) -> str:
    """The place of a key in an object, for errors; whatever the key, it stays readable."""
    plain = key.isprintable() and len(key) <= 80
    return f"{where}.{key}" if plain else f"{where}[{key[:80]!r}]"


def _check_scalar(item: Any, where: str) -> None:
    if item is None or item is True or item is False:
        return
    if type(item) is int:
        if item not in _INTEGERS:
            raise ArtifactError(f"{where} is an integer beyond 64 bits; expected a smaller one.")
    elif type(item) is float:
        if not math.isfinite(item):
            raise ArtifactError(f"{where} is {item}; expected a finite number.")
    else:
        _check_text(item, where)


def _check_text(item: Any, where: str) -> None:
    if type(item) is not str:
        raise ArtifactError(
            f"{where} is of type {type(item).__name__}; expected plain JSON: null, a boolean, "
            "a number, a string, a list, or an object with string keys."
        )
    if any("\ud800" <= character <= "\udfff" for character in item) if not item.isascii() else 0:
        raise ArtifactError(f"{where} holds half a character (a lone surrogate); remove it.")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        counts = Counter(key for key, _ in pairs)
        twice = next(key for key, count in counts.items() if count > 1)
        raise ValueError(f"the key {twice[:80]!r} occurs twice")
    return found


def _no_constant(literal: str) -> NoReturn:
    raise ValueError(f"the literal {literal} is not allowed")
