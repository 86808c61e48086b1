"""Rows of a benchmark's data sets that cannot be used."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping

from gradood.bench.config import Settings
from gradood.data import RowDataset, usable_rows
from gradood.errors import DataError

__all__ = ["tell_unusable", "without_unusable"]


def without_unusable(what: str, found: RowDataset, settings: Settings) -> RowDataset:
    """The rows of a data set that can be used, where some that cannot may be left out.

    Args:
        what: it is, for the message.
        found: the data set.
        settings: of the run.

    Raises:
        DataError: more cannot be used than may be left out.
    """
    if settings.max_bad_fraction is None or not len(found):
        return found
    share, workers = settings.max_bad_fraction, settings.workers
    try:
        return usable_rows(found, max_bad_fraction=share, workers=workers)
    except DataError as error:
        raise DataError(f"the {what} data: {error}") from error


def tell_unusable(sets: Mapping[str, Iterable[RowDataset]], told: Callable[[str], None]) -> None:
    """Say how many rows of each set were left out.

    Args:
        sets: name → its data sets.
        told: called with a line for each set with some.
    """
    for name, parts in sets.items():
        counts: Counter[str] = Counter()
        for part in parts:
            counts.update(part.unusable)
        if counts:
            statuses = ", ".join(f"{status} {count:,}" for status, count in counts.items())
            told(f"{name}: rows that cannot be used are left out: {statuses}")
