"""Flagged items in groups: clusters of features, or alike by class and detectors."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gradood.triage._items import Details, Items

__all__ = ["Group", "groups"]

_MOST_CLUSTERS, _ROUNDS = 24, 50
_CLEAR = 0.05
"""P-value below which a detector is named in a profile."""
_FEW = 3
"""Profiles with fewer items are put together."""


@dataclass(frozen=True, eq=False, slots=True)
class Group:
    """Items that are alike.

    Attributes:
        title: what they have in common, in words.
        members: places among all items, by p-value.
        representatives: the first three to look at: nearest to the mean of the cluster, or spread
            over the p-values of a profile.
    """

    title: str
    members: tuple[int, ...]
    representatives: tuple[int, ...]


def groups(items: Items, chosen: Sequence[int], details: Details, seed: int) -> list[Group]:
    """Some items in groups; the same for the same items and seed, whatever their order.

    Args:
        items: all of the job.
        chosen: places of those to group.
        details: clusters are made of the items that have features; the others are grouped by their
            predicted class and by the detectors that find them unusual.
        seed: of the clusters' first centers.

    Returns:
        The group of the smallest p-value first; those without a p-value last, by status.

    Cost:
        Clusters: at most 50 · 24 distances for each item.
    """
    tested = [i for i in chosen if items.tested[i]]
    tested.sort(key=lambda i: (items.p_value[i], items.ids[i]))
    untested = sorted((i for i in chosen if not items.tested[i]), key=lambda i: items.ids[i])
    placed = [i for i in tested if items.ids[i] in details.features]
    found = _clusters(items, placed, details, seed) if placed else []
    found += _profiles(items, [i for i in tested if items.ids[i] not in details.features])
    found.sort(key=lambda group: (items.p_value[group.members[0]], items.ids[group.members[0]]))
    for status in items.unscored:
        members = tuple(i for i in untested if items.status[i] == status)
        if members:
            title = f"Without a p-value: not scored ({status.replace('_', ' ')})"
            found.append(Group(title, members, members[:3]))
    return found


def _clusters(items: Items, tested: list[int], details: Details, seed: int) -> list[Group]:
    by_id = sorted(tested, key=lambda i: items.ids[i])
    rows = np.stack([details.features[items.ids[i]] for i in by_id]).astype(np.float64)
    rows = np.nan_to_num(rows)
    rows /= np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
    count = int(min(_MOST_CLUSTERS, max(1, round(np.sqrt(len(rows) / 2)))))
    centers = _means(rows, count, np.random.default_rng(seed))
    distances = _distances(rows, centers)
    own = distances.argmin(1)
    found: list[Group] = []
    for number in np.unique(own):
        inside = np.flatnonzero(own == number)
        members = sorted((by_id[i] for i in inside), key=lambda i: (items.p_value[i], items.ids[i]))
        near = inside[np.argsort(distances[inside, number], kind="stable")[:3]]
        labels, counts = np.unique(items.label[members], return_counts=True)
        share = counts.max() / len(members)
        title = f"Near in feature space; {share:.0%} taken for class {labels[counts.argmax()]}"
        found.append(Group(title, tuple(members), tuple(by_id[i] for i in near)))
    return found


def _means(rows: np.ndarray, count: int, generator: np.random.Generator) -> np.ndarray:
    """Centers by k-means++ and Lloyd's rounds."""
    centers = rows[[int(generator.integers(len(rows)))]]
    while len(centers) < count:
        weight = _distances(rows, centers).min(1)
        if not weight.sum() > 0:
            break
        centers = np.concatenate(
            [centers, rows[[int(generator.choice(len(rows), p=weight / weight.sum()))]]]
        )
    before = None
    for _ in range(_ROUNDS):
        own = _distances(rows, centers).argmin(1)
        if before is not None and (own == before).all():
            break
        before = own
        used = np.unique(own)
        centers = np.stack([rows[own == number].mean(0) for number in used])
    return centers


def _distances(rows: np.ndarray, centers: np.ndarray) -> np.ndarray:
    """(rows, centers) squared."""
    return np.stack([((rows - center) ** 2).sum(1) for center in centers], 1)


def _profiles(items: Items, tested: list[int]) -> list[Group]:
    """By predicted class, and by the detectors that find an item unusual."""
    parts: dict[tuple[int, tuple[str, ...]], list[int]] = {}
    for i in tested:
        clear = tuple(
            name for name, p in zip(items.names, items.each[:, i], strict=True) if p <= _CLEAR
        )
        parts.setdefault((int(items.label[i]), clear), []).append(i)
    merged: dict[tuple[int, str], list[int]] = {}
    for (label, clear), members in parts.items():
        text = ", ".join(clear) if clear else "no detector alone"
        if len(clear) == len(items.names) > 1:
            text = "all detectors"
        merged.setdefault((label, text if len(members) >= _FEW else "other profiles"), []).extend(
            members
        )
    found: list[Group] = []
    for (label, text), members in merged.items():
        members.sort(key=lambda i: (items.p_value[i], items.ids[i]))
        spread = {0, len(members) // 2, len(members) - 1}
        shown = tuple(members[i] for i in sorted(spread))
        found.append(Group(f"Taken for class {label}; unusual to {text}", tuple(members), shown))
    return found
