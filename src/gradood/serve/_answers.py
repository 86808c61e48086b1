"""A monitor's predictions as the arrays that a server answers with."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from gradood.serve._arrays import SENTINEL, Arrays

__all__ = ["KEY", "Answers"]

KEY = "#content_key"
"""Array for the server alone, which a watch needs: a hash of each input."""


class Answers:
    """The rows of a batch, filled by what was predicted of some of them.

    A row that nothing was said about is out-of-distribution: score `SENTINEL`, p-value 0, label -1.

    Args:
        count: rows.
        detectors: names, in order.
        combined: whether they have one decision.
    """

    def __init__(self, count: int, detectors: Sequence[str], *, combined: bool) -> None:
        self._names = tuple(detectors)
        self._combined = combined
        decided = combined or len(self._names) == 1
        heads = ([""] if decided else []) + (list(self._names) if len(self._names) > 1 else [])
        self._heads = heads or list(self._names)
        self._label = np.full(count, -1, np.int64)
        self._key = np.zeros(count, np.int64)
        self._status = [b"unscored"] * count
        self._parts = {
            head: (np.full(count, SENTINEL), np.zeros(count), np.ones(count, bool))
            for head in self._heads
        }

    def note(self, row: int, status: str) -> None:
        """Why a row has no score, or what is to be said of its image."""
        self._status[row] = status.encode()

    def fill(self, rows: Sequence[int], found: Any, remarks: Mapping[int, str]) -> None:
        """What a monitor predicted.

        Args:
            rows: places in the batch.
            found: a result, or a mapping of them, of as many rows.
            remarks: row → what is to be said of an image that was scored.
        """
        places = np.asarray(rows)
        for head, (score, p_value, is_ood) in self._parts.items():
            result = self._of(head, found)
            values = np.asarray(result.score, np.float64)
            finite = np.isfinite(values)
            score[places] = np.where(finite, values, SENTINEL)
            p_value[places] = np.asarray(result.p_value, np.float64)
            is_ood[places] = np.asarray(result.is_ood, bool) | ~finite
        self._label[places] = np.asarray(found.label)
        keys = getattr(found, "content_key", None)
        if keys is None and isinstance(found, Mapping):
            keys = getattr(next(iter(found.values())), "content_key", None)
        if keys is not None:
            self._key[places] = np.asarray(keys)
        status_of = getattr(found, "status", None) or self._of(self._heads[0], found).status
        for row, status in zip(rows, status_of, strict=True):
            self.note(row, remarks.get(row, status) if status == "ok" else status)

    def arrays(self) -> Arrays:
        """All of it by name."""
        made: Arrays = {"label": ("INT64", self._label)}
        for head, (score, p_value, is_ood) in self._parts.items():
            prefix = f"{head}." if head else ""
            made[f"{prefix}score"] = ("FP64", score)
            made[f"{prefix}p_value"] = ("FP64", p_value)
            made[f"{prefix}is_ood"] = ("BOOL", is_ood)
        made["status"] = ("BYTES", self._status)
        made[KEY] = ("INT64", self._key)
        return made

    def _of(self, head: str, found: Any) -> Any:
        """The result of a detector, or of the decision."""
        if head:
            return found[head]
        if self._combined or not isinstance(found, Mapping):
            combined = getattr(found, "combined", None)
            return found if combined is None else combined
        return found[self._names[0]]
