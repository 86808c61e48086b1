"""The form of an arena record: checked once, where one is read, so that nobody else need."""

import math
from collections.abc import Callable, Mapping
from itertools import product
from typing import Any

from gradood.bench.matching import members
from gradood.errors import DataError
from gradood.metrics import METRICS

__all__ = ["check_form"]

_Check = Callable[[Any, str], None]
"""Raises DataError unless a value, at a place in the record, is as it should be."""


def check_form(record: Mapping[str, Any]) -> None:
    """Refuse a record that lacks something, or has something else in its place.

    Args:
        record: what a file holds that says it is one; what is not looked for may be anything.

    Raises:
        DataError: says where, what is there, and what was expected.
    """
    _RECORD(record, "")
    suite = record["suite"]
    _check_distinct([one["name"] for one in suite["ood"]], "suite.ood", "name")
    _check_distinct([run["run"] for run in record["runs"]], "runs", "run")
    for number, run in enumerate(record["runs"]):
        where = f"runs[{number}]"
        for part, key, names in (
            ("rows", "ood", [one["name"] for one in suite["ood"]]),
            ("means", "group", list(members(suite))),
        ):
            found = {(row["method"], row[key]) for row in run[part]}
            for method, name in product(run["methods"], names):
                if (method, name) not in found:
                    raise DataError(f"{where}.{part} lacks {method!r} on {name!r}.")


def _table(required: Mapping[str, _Check], optional: Mapping[str, _Check] | None = None) -> _Check:
    """Keys that must be there, and keys that may be absent or null."""

    def check(value: Any, where: str) -> None:
        if not isinstance(value, Mapping):
            raise _wrong(value, where, "a table")
        if missing := [key for key in required if key not in value]:
            raise DataError(f"{where or 'it'} lacks {', '.join(missing)}.")
        for key, inner in required.items():
            inner(value[key], f"{where}.{key}".lstrip("."))
        for key, inner in (optional or {}).items():
            if value.get(key) is not None:
                inner(value[key], f"{where}.{key}".lstrip("."))

    return check


def _values(inner: _Check, *, empty: bool = True) -> _Check:
    """A table of any keys."""

    def check(value: Any, where: str) -> None:
        if not isinstance(value, Mapping):
            raise _wrong(value, where, "a table")
        for key, own in value.items():
            inner(own, f"{where}.{key}")
        if not (value or empty):
            raise _wrong(value, where, "a table that is not empty")

    return check


def _list(inner: _Check, *, empty: bool = True) -> _Check:
    def check(value: Any, where: str) -> None:
        if not isinstance(value, list | tuple) or not (value or empty):
            raise _wrong(value, where, "a list" if empty else "a list that is not empty")
        for number, own in enumerate(value):
            inner(own, f"{where}[{number}]")

    return check


def _kind(kind: type, expected: str) -> _Check:
    def check(value: Any, where: str) -> None:
        if type(value) is not kind:
            raise _wrong(value, where, expected)

    return check


def _anything(value: Any, where: str) -> None:
    pass


def _number(value: Any, where: str) -> None:
    if type(value) not in (int, float) or not math.isfinite(value):
        raise _wrong(value, where, "a finite number")


def _measured(value: Any, where: str) -> None:
    if value not in ("nan", "inf", "-inf"):  # As JSON spells them here.
        _number(value, where)


def _share(value: Any, where: str) -> None:
    _number(value, where)
    if not -_ROUNDING <= value <= 1 + _ROUNDING:
        raise _wrong(value, where, "a number from 0 to 1")


def _interval(value: Any, where: str) -> None:
    _list(_number)(value, where)
    if len(value) != 2 or value[0] > value[1]:
        raise _wrong(value, where, "its two ends, the lower one first")


def _group(value: Any, where: str) -> None:
    if value not in ("near", "far"):
        raise _wrong(value, where, "'near' or 'far'")


def _check_distinct(names: list[str], where: str, key: str) -> None:
    for number, name in enumerate(names):
        if name in names[:number]:
            raise DataError(f"{where}[{number}].{key} is {name!r} once more; expected another.")


def _wrong(value: Any, where: str, expected: str) -> DataError:
    text = "a table" if isinstance(value, Mapping) else repr(value)
    shown = text if len(text) <= 60 else f"{text[:57]}…"
    return DataError(f"{where or 'it'} is {shown}; expected {expected}.")


_ROUNDING = 1e-9
_COSTS = ("time_ratio", "memory_ratio", "fit_passes", "seconds_per_image")
_TEXT, _WHOLE = _kind(str, "a text"), _kind(int, "a whole number")
_TABLE = _values(_anything)
_FIGURES = dict.fromkeys(METRICS, _share)
_FIGURES |= {"method": _TEXT, "intervals": _values(_interval)}
_SAMPLE = {"path": _TEXT, "n": _WHOLE}
_METHOD = _table(
    {"method": _TEXT, "options": _TABLE, "notes": _list(_TEXT), "caveats": _list(_TEXT)},
    {"title": _TEXT, "paper": _TEXT, "pass": _TEXT},
)
_RUN = _table(
    {
        "run": _TEXT,
        "methods": _values(_METHOD, empty=False),
        "rows": _list(_table({**_FIGURES, "ood": _TEXT, "n_id": _WHOLE, "n_ood": _WHOLE})),
        "means": _list(_table({**_FIGURES, "group": _TEXT})),
    },
    {
        "label": _TEXT,
        "seed": _WHOLE,
        "subject": _table({}, {"model": _TEXT, "published_accuracy": _number}),
        "id_accuracy": _share,
        "left_out": _values(_TEXT),
        "cost": _values(_table({}, dict.fromkeys(_COSTS, _measured))),
        "seconds": _values(_measured),
    },
)
_COMPARISON = _table(
    {
        **{"run": _TEXT, "metric": _TEXT, "group": _TEXT, "a": _TEXT, "b": _TEXT},
        **{"difference": _number, "significant": _kind(bool, "true or false")},
    },
    {"interval": _interval, "p": _share, "p_holm": _share},
)
_RECORD = _table(
    {
        "command": _TEXT,
        "suite": _table(
            {
                "name": _TEXT,
                "version": _WHOLE,
                "id": _table(_SAMPLE, {"fit": _list(_table(_SAMPLE))}),
                "ood": _list(_table({**_SAMPLE, "name": _TEXT, "group": _group}), empty=False),
            },
            {"title": _TEXT},
        ),
        "settings": _TABLE,
        "hyper_parameters": _anything,
        "runs": _list(_RUN, empty=False),
        "seeds": _values(_values(_values(_table({"mean": _number, "n": _WHOLE}, {"sd": _number})))),
        "comparisons": _list(_COMPARISON),
        "ranking": _TABLE,
    },
    {"date": _TEXT},
)
