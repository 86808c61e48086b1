"""What a fit, a calibration or a benchmark does with rows that cannot be used, as an option."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from gradood.cli._groups import option
from gradood.cli._options import RUN, LoadingOptions
from gradood.cli._output import say

if TYPE_CHECKING:
    from gradood.data import RowDataset

__all__ = ["MaxBadFraction", "TolerantLoadingOptions", "source_of", "told", "without"]

MaxBadFraction = Annotated[
    float | None,
    option(
        "SHARE",
        "Leave out images or rows that cannot be used, up to this share of a set; without, the "
        "first one ends the run (explain names those of --data and goes on).",
        least=0,
        most=1,
        panel=RUN,
    ),
]


@dataclass(frozen=True, kw_only=True)
class TolerantLoadingOptions(LoadingOptions):
    """How files become batches, and what becomes of those that cannot."""

    max_bad_fraction: MaxBadFraction = None

    def usable(self, images: "RowDataset") -> "RowDataset":
        """The rows that can be used; says how many of each status are left out.

        Raises:
            DataError: more cannot be used than may be left out.
        """
        if self.max_bad_fraction is None:
            return images
        from gradood.data import usable_rows

        found = usable_rows(images, max_bad_fraction=self.max_bad_fraction, workers=self.workers)
        if found.unusable:
            say(f"left out: {told(found.unusable)} of {len(images):,}")
        return found


def source_of(path: str | None, images: "RowDataset") -> dict[str, Any]:
    """A data set that was read, as a result tells it."""
    return {
        "path": path,
        "n": len(images),
        "passed_over": dict(images.passed_over),
        "unusable": dict(images.unusable),
    }


def told(counts: Mapping[str, int]) -> str:
    """Rows that were left out, as one line.

    >>> told({"empty": 3, "wrong_type": 1})
    '4 rows (empty 3, wrong_type 1)'
    """
    statuses = ", ".join(f"{status} {count:,}" for status, count in counts.items())
    total = sum(counts.values())
    return f"{total:,} row{'' if total == 1 else 's'} ({statuses})"


def without(source: Mapping[str, Any]) -> str:
    """What was left out of a data set, as the end of a line; empty if nothing was.

    Args:
        source: its part of a result.
    """
    return f"; left out {told(source['unusable'])}" if source["unusable"] else ""
