"""How well a monitor's scores separate in-distribution from out-of-distribution data."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from torch import Tensor

from gradood import metrics
from gradood.batches import Data
from gradood.errors import DataError
from gradood.monitor import Monitor

__all__ = ["Row", "Table", "evaluate"]


@dataclass(frozen=True, slots=True)
class Row:
    """One method on one out-of-distribution set.

    Attributes:
        method: the detector's name in the monitor.
        ood: the set's name.
        n_id: in-distribution samples.
        n_ood: out-of-distribution samples.
        summary: the metrics.
    """

    method: str
    ood: str
    n_id: int
    n_ood: int
    summary: metrics.Summary


@dataclass(frozen=True, slots=True)
class Table:
    """Every method on every set.

    Attributes:
        rows: methods in the monitor's order, sets in the order given.
    """

    rows: tuple[Row, ...]

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
        return {
            "rows": [
                {"method": r.method, "ood": r.ood, "n_id": r.n_id, "n_ood": r.n_ood}
                | asdict(r.summary)
                for r in self.rows
            ]
        }

    def markdown(self) -> str:
        """FPR95 (share of OOD kept where 95 % of ID is) / AUROC in percent, and their means."""
        head = ["method", *self.sets, "mean"]
        lines = [" | ".join(head), " | ".join(["---", *["---:"] * (len(head) - 1)])]
        for method in self.methods:
            cells = [self[method, name] for name in self.sets]
            pairs = [(c.fpr_ood_at_tpr_id95, c.auroc) for c in cells]
            pairs.append((_mean([p[0] for p in pairs]), _mean([p[1] for p in pairs])))
            lines.append(
                " | ".join([method, *(f"{100 * f:.2f} / {100 * a:.2f}" for f, a in pairs)])
            )
        return "\n".join(f"| {line} |" for line in lines)

    def __str__(self) -> str:
        return self.markdown()


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)


def evaluate(monitor: Monitor, *, id: Data, ood: Mapping[str, Data]) -> Table:
    """Score each data set once with all detectors and compare.

    Args:
        monitor: fitted where needed.
        id: in-distribution test data, not used in the fit.
        ood: out-of-distribution sets by name.

    Raises:
        DataError: no set, or an empty one.

    Cost:
        One pass per data set.
    """
    if not ood:
        raise DataError("no out-of-distribution set was given; give ood={'name': loader}.")
    names = list(monitor.detectors)
    known = _scores(monitor, id, names)
    rows: list[Row] = []
    for name, data in ood.items():
        unknown = _scores(monitor, data, names)
        for method in names:
            summary = metrics.summary(known[method], unknown[method])
            rows.append(Row(method, name, len(known[method]), len(unknown[method]), summary))
    order = {method: i for i, method in enumerate(names)}
    return Table(tuple(sorted(rows, key=lambda row: order[row.method])))


def _scores(monitor: Monitor, data: Data, names: list[str]) -> dict[str, Tensor]:
    scores = monitor.score(data)
    return {names[0]: scores} if isinstance(scores, Tensor) else scores
