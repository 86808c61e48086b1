"""Which parts of two records belong together, and whether they may be compared at all."""

from collections.abc import Mapping, Sequence
from typing import Any

from gradood.errors import ConfigError

__all__ = ["changed_options", "check_suites", "matched", "members"]


def members(suite: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    """Group → its sets."""
    found = {"all": tuple(one["name"] for one in suite["ood"])}
    for group in ("near", "far"):
        if names := tuple(one["name"] for one in suite["ood"] if one["group"] == group):
            found[group] = names
    return found


def matched(
    before: Sequence[Mapping[str, Any]], after: Sequence[Mapping[str, Any]]
) -> list[tuple[str, Mapping[str, Any], Mapping[str, Any]]]:
    """Label, and its run in both; one without methods where a record has none.

    Raises:
        ConfigError: no label is in both, and there are several.
    """
    first, second = ({run["run"]: run for run in runs} for runs in (before, after))
    if not first.keys() & second.keys():
        if len(first) == len(second) == 1:
            (a, one), (b, other) = first.popitem(), second.popitem()
            return [(f"{a} → {b}", one, other)]
        raise ConfigError(
            f"the records have no network in common: {', '.join(first) or 'none'}; "
            f"{', '.join(second) or 'none'}; expected the same labels, or one network in each."
        )
    labels = dict.fromkeys([*first, *second])
    none: dict[str, Any] = {"methods": {}, "rows": [], "means": []}
    return [(label, first.get(label, none), second.get(label, none)) for label in labels]


def changed_options(
    before: Mapping[str, Any], after: Mapping[str, Any]
) -> dict[str, tuple[dict[str, Any], dict[str, Any]]]:
    """Methods that were run with other options, with those before and after."""
    told = [
        {name: {"method": m["method"], **m["options"]} for name, m in methods.items()}
        for methods in (before, after)
    ]
    return {
        name: (own, told[1][name])
        for name, own in told[0].items()
        if name in told[1] and told[1][name] != own
    }


def check_suites(before: Mapping[str, Any], after: Mapping[str, Any]) -> None:
    """Refuse records of other suites or images; hashes count where both are known.

    Raises:
        ConfigError: what differs.
    """
    for key in ("name", "version"):
        if before[key] != after[key]:
            raise ConfigError(
                f"the records are of suites with another {key}, {before[key]!r} and "
                f"{after[key]!r}; expected the same: figures of other data cannot be compared."
            )
    one, other = (
        {"id": suite["id"]} | {own["name"]: own for own in suite["ood"]}
        for suite in (before, after)
    )
    if one.keys() != other.keys():
        raise ConfigError(
            f"the records are of different sets, {', '.join(one)} and {', '.join(other)}; "
            "expected the same."
        )
    for name, own in one.items():
        for key in ("n", "group", "sha256"):
            values = own.get(key), other[name].get(key)
            if values[0] != values[1] and None not in values:
                raise ConfigError(
                    f"the records have different data in set {name!r}: {key} {values[0]} and "
                    f"{values[1]}; expected the same images in both."
                )
