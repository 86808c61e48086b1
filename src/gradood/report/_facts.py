"""Facts about a record, its settings and its networks, as names and values to be listed."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from gradood._io.records import to_plain
from gradood.report._views import RecordView, RunView

__all__ = ["made_with", "run_facts", "told"]

Facts = list[tuple[str, str]]

# Shown elsewhere, or no setting.
_RESULTS = {
    *("format", "command", "runs", "seeds", "comparisons", "ranking", "suite"),
    "hyper_parameters",
}
_RUN_RESULTS = {"run", "methods", "left_out", "rows", "means", "cost", "full_spectrum"}


def made_with(view: RecordView) -> Facts:
    """Of the whole record: date, commit, versions, machine, settings, hyper-parameters, suite."""
    record = to_plain(view.record)
    rest = {key: value for key, value in record.items() if key not in _RESULTS}
    rest["record version"] = rest.pop("version")
    rest["hyper-parameters"] = record["hyper_parameters"]
    suite = record["suite"]
    shown = {k: value for k, value in suite.items() if k not in ("ood", "shifted", "hashes")}
    sets = {
        f"{role}, {given['name']}": {k: v for k, v in given.items() if k != "name"}
        for role, key in (("shifted", "shifted"), ("outliers", "ood"))
        for given in suite.get(key) or ()
    }
    return [*_flat(rest), *_flat({"suite": shown}), *_flat(sets)]


def run_facts(run: RunView) -> Facts:
    """Of one run: network, weights, preprocessing, seconds."""
    return list(_flat({k: v for k, v in to_plain(run.record).items() if k not in _RUN_RESULTS}))


def _flat(values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """One line per entry; an inner mapping is one line, unless it holds mappings itself."""
    for name, value in values.items():
        if isinstance(value, Mapping) and any(isinstance(v, Mapping) for v in value.values()):
            yield from _flat({f"{name}, {key}": inner for key, inner in value.items()})
        else:
            yield str(name).replace("_", " "), told(value)


def told(value: Any) -> str:
    """A plain value in words."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}" if abs(value) >= 10_000 else str(value)
    if isinstance(value, Mapping):
        return (
            ", ".join(f"{str(k).replace('_', ' ')} {told(v)}" for k, v in value.items()) or "none"
        )
    if isinstance(value, list | tuple):
        return ", ".join(map(told, value)) or "none"
    return value if isinstance(value, str) else json.dumps(value)
