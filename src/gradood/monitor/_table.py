"""Table of metrics: methods against sets, with intervals, as text, JSON, HTML and a data frame."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from torch import Tensor

from gradood import metrics
from gradood._io import html as html
from gradood._io import markdown as markdown
from gradood._io.dataframe import data_frame
from gradood.errors import DataError
from gradood.monitor._shifted import FULL_SPECTRUM, SHIFTED, ShiftedRow, pooled, shifted_cells

__all__ = ["Row", "Table", "rows_of", "table_of"]


@dataclass(frozen=True, slots=True)
class Row:
    """One method on one out-of-distribution set.

    Attributes:
        method: the detector's name in the monitor, or ``"combined"``.
        ood: the set's name.
        n_id: in-distribution samples.
        n_ood: out-of-distribution samples.
        summary: the metrics.
        intervals: metric name → (low, high); empty if none were asked for.
    """

    method: str
    ood: str
    n_id: int
    n_ood: int
    summary: metrics.Summary
    intervals: Mapping[str, tuple[float, float]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Table:
    """Every method on every set.

    Attributes:
        rows: methods in the monitor's order, sets in the order given.
        full_spectrum: the same table with in-distribution data under covariate shift counted as
            known, in one sample with the rest; None without such data.
        shifted: how much of each shifted set every method flags; empty without such data.
    """

    rows: tuple[Row, ...]
    full_spectrum: "Table | None" = None
    shifted: tuple[ShiftedRow, ...] = ()

    @property
    def methods(self) -> tuple[str, ...]:
        """Names of the methods, in order."""
        return tuple(dict.fromkeys(row.method for row in self.rows))

    @property
    def sets(self) -> tuple[str, ...]:
        """Names of the out-of-distribution sets, in order."""
        return tuple(dict.fromkeys(row.ood for row in self.rows))

    def __getitem__(self, key: tuple[str, str]) -> metrics.Summary:
        """The metrics of (method, set)."""
        for row in self.rows:
            if (row.method, row.ood) == key:
                return row.summary
        raise KeyError(key)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        plain: dict[str, Any] = {
            "rows": [
                {"method": r.method, "ood": r.ood, "n_id": r.n_id, "n_ood": r.n_ood}
                | asdict(r.summary)
                | {"intervals": _listed(r.intervals)}
                for r in self.rows
            ]
        }
        if self.full_spectrum is not None:
            shifted = [asdict(r) | {"intervals": _listed(r.intervals)} for r in self.shifted]
            plain |= {"full_spectrum": self.full_spectrum.to_dict()["rows"], "shifted": shifted}
        return plain

    def markdown(self) -> str:
        """FPR95 (share of OOD kept at 95 % of ID) / AUROC in percent; their means over several.

        With shifted sets, the same over the full spectrum and the flag rates follow.
        """
        parts = [markdown.table(*self._cells())]
        for title, cells in self._shifted_tables():
            parts += [title, markdown.table(*cells)]
        return "\n\n".join(parts)

    def to_pandas(self) -> Any:
        """A ``pandas.DataFrame``, one row per ``method`` and ``ood`` set, with sizes and metrics.

        Raises:
            ModuleNotFoundError: pandas is not installed.
        """
        rows = [
            {"method": r.method, "ood": r.ood, "n_id": r.n_id, "n_ood": r.n_ood} | asdict(r.summary)
            for r in self.rows
        ]
        return data_frame({title: [row[title] for row in rows] for title in rows[0]})

    def _cells(self) -> tuple[list[str], list[list[str]]]:
        """Header and rows of the table."""
        several = len(self.sets) > 1
        head = ["method", *self.sets, *(["mean"] if several else [])]
        rows = []
        for method in self.methods:
            cells = [self[method, name] for name in self.sets]
            pairs = [(c.fpr_ood_at_tpr_id95, c.auroc) for c in cells]
            if several:
                pairs.append((_mean([p[0] for p in pairs]), _mean([p[1] for p in pairs])))
            rows.append([method, *(f"{100 * f:.2f} / {100 * a:.2f}" for f, a in pairs)])
        return head, rows

    def _shifted_tables(self) -> list[tuple[str, tuple[list[str], list[list[str]]]]]:
        """Title and cells of what is shown beside the table, where there are shifted sets."""
        if self.full_spectrum is None:
            return []
        rates = (SHIFTED, shifted_cells(self.shifted))
        return [(FULL_SPECTRUM, self.full_spectrum._cells()), rates]

    def __str__(self) -> str:
        return self.markdown()

    def _repr_html_(self) -> str:
        what = "FPR95 ↓ / AUROC ↑ in percent: share of the set kept where 95 % of ID are / chance "
        what += "that a sample of it scores above one of ID"
        shown = html.table(*self._cells()) + html.paragraph(what)
        for title, cells in self._shifted_tables():
            shown += html.paragraph(title) + html.table(*cells)
        return shown

    def __repr__(self) -> str:
        methods, sets = ", ".join(self.methods), ", ".join(self.sets)
        return f"Table({methods}; {sets})"


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)


def _listed(intervals: Mapping[str, tuple[float, float]]) -> dict[str, list[float]]:
    return {name: list(pair) for name, pair in intervals.items()}


def table_of(
    known: Mapping[str, Tensor],
    unknown: Mapping[str, Mapping[str, Tensor]],
    shifted: Mapping[str, Mapping[str, Tensor]],
    rates: Sequence[ShiftedRow],
    *,
    level: float | None,
) -> Table:
    """The table of scores, with the full spectrum where there are shifted sets.

    Args:
        known: method → scores of the in-distribution data.
        unknown: set → method → scores of outliers.
        shifted: set → method → scores of in-distribution data under covariate shift.
        rates: rows of `shifted_rows`.
        level: coverage of the confidence intervals; None for none.

    Raises:
        DataError: scores that cannot be compared; names the method and the set.
    """
    names = list(known)

    def ordered(inside: Mapping[str, Tensor]) -> tuple[Row, ...]:
        rows = [
            row
            for name, outside in unknown.items()
            for row in rows_of(name, inside, outside, level=level)
        ]
        return tuple(sorted(rows, key=lambda row: names.index(row.method)))

    if not shifted:
        return Table(ordered(known))
    full = Table(ordered(pooled(known, shifted)))
    return Table(
        ordered(known), full, tuple(sorted(rates, key=lambda row: names.index(row.method)))
    )


def rows_of(
    ood: str, known: Mapping[str, Tensor], unknown: Mapping[str, Tensor], *, level: float | None
) -> list[Row]:
    """One row per method, from the scores of two data sets.

    Args:
        ood: name of the out-of-distribution set.
        known: method → scores of the in-distribution data.
        unknown: method → scores of the out-of-distribution data.
        level: coverage of the confidence intervals; None for none.

    Raises:
        DataError: scores that cannot be compared; names the method and the set.
    """
    rows: list[Row] = []
    for method, a in known.items():
        b = unknown[method]
        try:
            summary = metrics.summary(a, b)
        except DataError as error:
            raise DataError(f"{method} on {ood}: {error}") from error
        ranges = {} if level is None else metrics.intervals(a, b, level=level)
        rows.append(Row(method, ood, len(a), len(b), summary, ranges))
    return rows
