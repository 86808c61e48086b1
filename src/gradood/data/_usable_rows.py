"""Rows of a data set that can be used, and why the others cannot."""

import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar, final

from torch.utils.data import Dataset

from gradood.data._worker_pool import run_chunks
from gradood.data._workers import RowTask
from gradood.data.row_dataset import RowDataset
from gradood.errors import BadRowError, ConfigError, DataError

__all__ = ["Fault", "faults_in", "shown_faults", "usable_rows"]

Fault = tuple[str, str]
"""Status of an item that cannot be used, in a word as `gradood score` writes it; and a reason."""

_Rows = TypeVar("_Rows", bound=RowDataset)
_CHUNK = 64
_SHOWN = 3
_log = logging.getLogger(__name__)


def usable_rows(dataset: _Rows, *, max_bad_fraction: float, workers: int = 0) -> _Rows:
    """The data set without the rows that cannot be used; its `unusable` counts these by status.

    A fit, a calibration or a benchmark otherwise ends at the first of them. What is promised of the
    rest holds for inputs that can be scored: `gradood score` flags any other.

    Args:
        dataset: of images, or of rows of a table.
        max_bad_fraction: share of the rows that may be left out.
        workers: processes that decode.

    Raises:
        ConfigError: `max_bad_fraction` is no share.
        DataError: more rows than that cannot be used, or all; says which, and why.

    Cost: every row is decoded once more. Memory: the numbers of the rows.
    """
    if not 0 <= max_bad_fraction <= 1:
        raise ConfigError(f"max_bad_fraction is {max_bad_fraction!r}; expected a share in [0, 1].")
    size = len(dataset)
    bad = faults_in(dataset, workers=workers)
    if not bad:
        return dataset
    told = shown_faults(bad)
    if len(bad) > max_bad_fraction * size or len(bad) == size:
        limit = "" if len(bad) == size else f", more than {max_bad_fraction:g} of them"
        raise DataError(
            f"{len(bad)} of {size} rows cannot be used{limit}: {told}. Repair or remove them, or "
            "raise max_bad_fraction."
        )
    _log.warning("%d of %d rows are left out: %s", len(bad), size, told)
    usable = dataset.subset(row for row in range(size) if row not in bad)
    counts = Counter(dataset.unusable) + Counter(status for status, _ in bad.values())
    usable.unusable = dict(sorted(counts.items()))
    return usable


def faults_in(
    dataset: Dataset[Any], check: Callable[[Any], None] | None = None, *, workers: int = 0
) -> dict[int, Fault]:
    """Index → why an item cannot be used, of those that cannot.

    Args:
        dataset: map-style.
        check: called with each item; raises `DataError` for one that cannot be used.
        workers: processes that decode; `check` then must pickle.
    """
    size = len(dataset)  # type: ignore[arg-type]
    chunks = [range(at, min(at + _CHUNK, size)) for at in range(0, size, _CHUNK)]
    task = _Check(dataset, check)
    return {
        row: fault
        for found in run_chunks(task, chunks, workers=workers)
        for row, fault in found
        if fault is not None
    }


def shown_faults(bad: Mapping[int, Fault]) -> str:
    """The first few reasons."""
    reasons = [reason.rstrip(".") for _, reason in bad.values()]
    return "; ".join(reasons[:_SHOWN]) + ("; …" if len(reasons) > _SHOWN else "")


@final
class _Check(RowTask[tuple[int, Fault | None], list[tuple[int, Fault | None]]]):
    """Whether items of a data set can be used; if not, why."""

    def __init__(self, dataset: Dataset[Any], check: Callable[[Any], None] | None) -> None:
        self.dataset = dataset
        self.check = check

    def decode(self, row: int) -> tuple[int, Fault | None]:
        try:
            item = self.dataset[row]
            if self.check is not None:
                self.check(item)
        except (DataError, OSError, ValueError) as error:
            named = not isinstance(error, BadRowError)
            return row, (_status(error), str(error) if named else f"item {row}: {error}")
        return row, None

    def stand_in(self, row: int, status: str, reason: str) -> tuple[int, Fault | None]:
        return row, (status, f"item {row}: {reason}")

    def collate(self, items: Sequence[tuple[int, Fault | None]]) -> list[tuple[int, Fault | None]]:
        return list(items)


def _status(error: BaseException) -> str:
    """In a word; that of the row where the error is of one."""
    cause = error if isinstance(error, BadRowError) else error.__cause__
    return cause.status if isinstance(cause, BadRowError) else "unreadable"
