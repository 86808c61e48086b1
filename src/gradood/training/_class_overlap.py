"""Overlap of auxiliary with in-distribution classes, by their names."""

import logging
import re
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from gradood.errors import DataError, GradoodWarning

__all__ = ["class_names", "overlapping", "read_class_names", "warn_of_overlap"]

_PER_CLASS, _SHOWN = 5, 12
_log = logging.getLogger(__name__)
_WORDNET = re.compile(r"n\d{8}")


def overlapping(known: Sequence[str], auxiliary: Sequence[str]) -> list[tuple[str, str]]:
    """Pairs of a known and an auxiliary class of which one names the other.

    Names are compared word by word, without case, plural or punctuation; an auxiliary class may
    list synonyms, as ``"tabby, tabby cat"`` does.

    >>> overlapping(["cat", "truck"], ["tabby, tabby cat", "fire trucks", "cattle"])
    [('cat', 'tabby, tabby cat'), ('truck', 'fire trucks')]
    """
    pairs = []
    for known_name in known:
        words = _words(known_name)
        for auxiliary_name in auxiliary:
            synonyms = [_words(part) for part in auxiliary_name.split(",")]
            if words and any(_is_head_of(words, synonym) for synonym in synonyms):
                pairs.append((known_name, auxiliary_name))
    return pairs


def warn_of_overlap(known: Sequence[str] | None, auxiliary: Sequence[str] | None) -> None:
    """Warn of classes in both sets; without names, log that they were not compared."""
    if known is None or auxiliary is None:
        kind, option = ("known", "id") if known is None else ("auxiliary", "aux")
        _log.warning(
            "whether known classes are among the outliers was not checked, as the %s classes have "
            "no names; give them (--%s-classes, TrainingData.%s_classes).",
            kind,
            option,
            option,
        )
        return
    pairs = overlapping(known, auxiliary)
    if pairs:
        shown = ", ".join(f"{a!r} ({b!r})" for a, b in pairs[:_SHOWN])
        more = f" and {len(pairs) - _SHOWN} more" if len(pairs) > _SHOWN else ""
        warnings.warn(
            f"{len(pairs)} auxiliary classes look like known ones: {shown}{more}. Training would "
            "call known things unknown; leave these out of the auxiliary set.",
            GradoodWarning,
            stacklevel=2,
        )


def read_class_names(file: Path) -> tuple[str, ...]:
    """Names of classes from a file, one on each line.

    Args:
        file: where a line has a tab, as ``n02124075<tab>Egyptian cat``, the name is what follows.

    Raises:
        DataError: it cannot be read.
    """
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{str(file)!r} cannot be read: {error}.") from error
    return tuple(line.rpartition("\t")[2].strip() for line in lines if line.strip())


def class_names(dataset: Any) -> tuple[str, ...] | None:
    """Names of a data set's classes: its own, or else those of the folders its items come from.

    Args:
        dataset: `classes` is used if it has any; else, of a `gradood.data` set, the part of its
            items' paths that is the same within a class and differs between classes.

    Returns:
        The names, or None if there are none, or only WordNet numbers.
    """
    parts = getattr(dataset, "datasets", None)
    if parts:  # A concatenation, whose parts share their classes.
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


def _is_head_of(words: list[str], others: list[str]) -> bool:
    """Whether some words are the last of others: the head of an English compound."""
    return len(words) <= len(others) and others[-len(words) :] == words
