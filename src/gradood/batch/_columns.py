"""One shard's rows as columns: what every row has until it is scored, and what a score changes."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, final

import numpy as np

from gradood.batch._decoding import Decoded
from gradood.batch.predictor import Predictor, promises_per_class
from gradood.data._decode import REMARKS
from gradood.data._extras import arrow
from gradood.data.row_source import NAME_REMARK, RowSource

__all__ = ["Columns", "counts_of"]

_SCORED = ("ok", NAME_REMARK, *REMARKS)
"""Statuses of rows that have a score."""
_PARTS = ("score", "p_value", "is_ood")
_REASONS = {
    "nonfinite_input": "its pixels came out of the preprocessing as NaN or infinity",
    "nonfinite_score": "a score of it is NaN or infinite",
}


@final
class Columns:
    """The rows of a shard.

    A row that nothing was said about is out-of-distribution, scores +inf and has no p-value: what
    cannot be scored never reads as in-distribution. Where the promise holds within each predicted
    class, ``class_conditional`` says of each row whether its own class alone decided.

    Args:
        rows: numbers of the rows.
        monitor: that will judge them.
    """

    def __init__(self, rows: range, monitor: Predictor) -> None:
        self.rows = rows
        self._names = tuple(monitor.detectors)
        self._overrides = "; ".join(monitor.overrides) or None
        # One detector's decision is the decision.
        decided = monitor.combine is not None or len(self._names) == 1
        self._heads = (*self._names, *([""] if decided else []))
        count = len(rows)
        self._score = {head: np.full(count, np.inf) for head in self._heads}
        self._p_value = {head: np.full(count, np.nan) for head in self._heads}
        self._is_ood = {head: np.full(count, True) for head in self._heads}
        judged = self._heads if promises_per_class(monitor) else ()
        self._by_class = {head: np.full(count, False) for head in judged}
        self._label = np.full(count, -1, np.int64)
        self._status = ["ok"] * count
        self._error: list[str | None] = [None] * count

    def note(self, item: Decoded) -> None:
        """What decoding says of a row."""
        place = item.row - self.rows.start
        self._status[place], self._error[place] = item.status, item.reason

    def refuse(self, rows: Sequence[int], status: str, reason: str) -> None:
        """Rows that the model cannot take."""
        for row in rows:
            self.note(Decoded(row, None, status, reason))

    def fill(self, rows: Sequence[int], answer: Any) -> None:
        """What a monitor says of some rows.

        Args:
            rows: their numbers.
            answer: a result of as many rows; or a mapping of such, with the decision of all
                together if it is fused.
        """
        places = np.asarray(rows) - self.rows.start
        for head in self._heads:
            result = self._of(head, answer)
            score = np.asarray(result.score, np.float64)
            finite = ~np.isnan(score)
            self._score[head][places] = np.where(finite, score, np.inf)
            self._p_value[head][places] = np.asarray(result.p_value, np.float64)
            self._is_ood[head][places] = np.asarray(result.is_ood, bool) | ~finite
        for head, column in self._by_class.items():
            column[places] = np.asarray(self._of(head, answer).class_conditional, bool)
        self._label[places] = np.asarray(answer.label)
        for place, status in zip(places.tolist(), answer.status, strict=True):
            if status != "ok":
                self._status[place] = status
                self._error[place] = _REASONS.get(status, status)

    def _of(self, head: str, answer: Any) -> Any:
        """The result of a detector, or of all together."""
        if not isinstance(answer, Mapping) or (head == "" and len(self._names) > 1):
            return answer
        return answer[head or next(iter(self._names))]

    def table(self, source: RowSource, artifact: str) -> Any:
        """All of it as a `pyarrow.Table`.

        Args:
            source: that the rows are of.
            artifact: SHA-256 of the detector's file.
        """
        pa = arrow()
        columns: dict[str, Any] = {
            "id": pa.array([source.id(row) for row in self.rows], pa.string()),
            "uri": pa.array([source.uri(row) for row in self.rows], pa.string()),
        }
        for head in self._heads:
            p_value = self._p_value[head]
            values = (
                pa.array(self._score[head]),
                pa.array(p_value, mask=np.isnan(p_value)),
                pa.array(self._is_ood[head]),
            )
            for part, value in zip(_PARTS, values, strict=True):
                columns[f"{head}.{part}" if head else part] = value
            if head in self._by_class:
                part = "class_conditional"
                columns[f"{head}.{part}" if head else part] = pa.array(self._by_class[head])
        count = len(self.rows)
        columns |= {
            "label": pa.array(self._label),
            "status": pa.array(self._status, pa.string()),
            "error": pa.array(self._error, pa.string()),
            "overrides": pa.array([self._overrides] * count, pa.string()),
            "artifact": pa.array([artifact] * count, pa.string()),
        }
        return pa.table(columns)


def counts_of(table: Any) -> dict[str, Any]:
    """Of the rows of a table, as plain values: how many have each status, were not scored, flagged.

    Args:
        table: a `pyarrow.Table` of `Columns.table`, or some of its rows.
    """
    statuses = table.column("status").to_pylist()
    scored = np.array([status in _SCORED for status in statuses], bool)
    flagged = {
        "decision" if name == "is_ood" else name.removesuffix(".is_ood"): int(
            (np.asarray(table.column(name)) & scored).sum()
        )
        for name in table.column_names
        if name == "is_ood" or name.endswith(".is_ood")
    }
    return {
        "rows": len(statuses),
        "unscored": int((~scored).sum()),
        "statuses": dict(sorted(Counter(statuses).items())),
        "flagged": flagged,
    }
