"""Whether the auxiliary outliers hold classes that are known: then they teach what is wrong."""

import re
from collections.abc import Sequence
from typing import Any

import torch

__all__ = ["class_names", "overlapping"]

_PER_CLASS = 5
_WORDNET = re.compile(r"n\d{8}")


def overlapping(known: Sequence[str], auxiliary: Sequence[str]) -> list[tuple[str, str]]:
    """Pairs of a known and an auxiliary class of which one names the other.

    Names are compared word by word, without case, plural or punctuation; an auxiliary class may
    list synonyms, as ``"tabby, tabby cat"`` does.

    >>> overlapping(["cat", "truck"], ["tabby, tabby cat", "fire trucks", "cattle"])
    [('cat', 'tabby, tabby cat'), ('truck', 'fire trucks')]
    """
    found = []
    for ours in known:
        words = _words(ours)
        for theirs in auxiliary:
            synonyms = [_words(part) for part in theirs.split(",")]
            if words and any(_inside(words, synonym) for synonym in synonyms):
                found.append((ours, theirs))
    return found


def class_names(dataset: Any) -> tuple[str, ...] | None:
    """Names of a data set's classes: its own, or else those of the folders its items come from.

    Args:
        dataset: `classes` is used if it has any; else, of a `gradood.data` set, the part of its
            items' paths that is the same within a class and differs between classes.

    Returns:
        The names, or None if there are none, or only WordNet numbers.
    """
    parts = getattr(dataset, "datasets", None)
    if parts:  # Several put together, which share their classes.
        return class_names(parts[0])
    names = getattr(dataset, "classes", None)
    if not names:
        names = _from_paths(dataset)
    if not names or all(_WORDNET.fullmatch(str(name)) for name in names):
        return None
    return tuple(map(str, names))


def _from_paths(dataset: Any) -> list[str] | None:
    labels, name = getattr(dataset, "labels", None), getattr(dataset, "name", None)
    if not isinstance(labels, torch.Tensor) or not callable(name) or not len(labels):
        return None
    paths: list[list[list[str]]] = []
    for label in labels.unique().tolist():
        items = (labels == label).nonzero()[:_PER_CLASS, 0].tolist()
        paths.append([re.split(r"[/\\]", str(name(item)))[:-1] for item in items])
    depth = min((len(path) for group in paths for path in group), default=0)
    for level in range(depth):
        groups = [{path[level] for path in group} for group in paths]
        chosen = [group.pop() for group in groups if len(group) == 1]
        if len(chosen) == len(paths) == len(set(chosen)):
            return chosen
    return None


def _words(name: str) -> list[str]:
    words = re.findall(r"[a-z0-9]+", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).lower())
    return [w[:-1] if len(w) > 3 and w.endswith("s") and not w.endswith("ss") else w for w in words]


def _inside(words: list[str], others: list[str]) -> bool:
    """Whether some words stand in a row at the end of others: the head of an English compound."""
    return len(words) <= len(others) and others[-len(words) :] == words
