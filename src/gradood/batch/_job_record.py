"""Description of a scoring job on disk, held against the job that is to go on with it."""

import json
from collections.abc import Mapping
from typing import Any

from gradood.errors import ConfigError, DataError

__all__ = ["check_same", "job_in"]

_MAY_CHANGE = ("input.rows", "input.names", "input.contents", "update")
"""What the input held when a run began; another input makes an update."""


def check_same(folder: str, before: Any, now: Mapping[str, Any]) -> None:
    """Refuse to mix the results of two jobs.

    Args:
        folder: of the results, for messages.
        before: what `job_in` gave.
        now: the same of the job that is to go on.

    Raises:
        ConfigError: they differ; says in what.
    """
    if not isinstance(before, dict):
        before = {}
    old, new = (
        {key: value for key, value in _flat(one).items() if key not in _MAY_CHANGE}
        for one in (before, now)
    )
    differing = sorted(key for key in old.keys() | new.keys() if old.get(key) != new.get(key))
    if differing:
        shown = "; ".join(
            f"{key} was {_short(old.get(key))} and is {_short(new.get(key))}" for key in differing
        )
        raise ConfigError(
            f"{folder!r} holds results of another job: {shown}. Run it as before to go on "
            "with it, or name another folder."
        )


def _flat(value: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, inner in value.items():
        if isinstance(inner, Mapping):
            found |= _flat(inner, f"{prefix}{key}.")
        else:
            found[prefix + key] = json.loads(json.dumps(inner))  # Tuples are lists when read back.
    return found


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:20]}…{text[-8:]}"


def job_in(content: bytes, name: str) -> Any:
    """The description in a file.

    Args:
        content: of the file.
        name: of it, for messages.

    Raises:
        DataError: it is none.
    """
    try:
        return json.loads(content)
    except ValueError as error:
        raise DataError(
            f"{name!r} cannot be read: {error}; expected what gradood wrote. Name another "
            "folder, or delete this one."
        ) from error
