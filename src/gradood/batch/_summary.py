"""Summary of a scoring job."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from gradood.batch._store import Store
from gradood.batch._update import Update
from gradood.data.row_source import RowSource

__all__ = ["Summary", "summary_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """How a job ended.

    Attributes:
        out: its folder.
        source: the input, as the user named it.
        rows: of the input.
        new: of these, that had not been scored.
        changed: whose image is another than when it was scored, and was scored again.
        kept: that were finished before.
        gone: of images that are no longer there; what was said of them is in the folder
            ``_removed``, and of the changed ones too.
        passed_over: how many files of the input are no images, by the end of their names.
        finished: rows in finished shards.
        complete: whether these are all.
        stopped: why they are not, if that was a decision.
        unscored: finished rows that could not be scored.
        statuses: how many finished rows have each status.
        flagged: how many scored rows each detector calls OOD; ``decision`` is that of all together.
        shards: finished ones.
        resumed: those of them that were there before this run.
        seconds: of this run.
    """

    out: str
    source: str
    rows: int
    new: int
    changed: int
    kept: int
    gone: int
    passed_over: Mapping[str, int]
    finished: int
    complete: bool
    stopped: str | None
    unscored: int
    statuses: Mapping[str, int]
    flagged: Mapping[str, int]
    shards: int
    resumed: int
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def summary_of(
    store: Store,
    listing: RowSource,
    update: Update,
    stopped: str | None,
    resumed: int,
    seconds: float,
) -> Summary:
    """How a job ended.

    Args:
        store: with its finished shards.
        listing: the input.
        update: what there was to do.
        stopped: why it is not complete, if that was a decision.
        resumed: shards that were there before.
        seconds: of the run.
    """
    statuses: Counter[str] = Counter()
    flagged: Counter[str] = Counter()
    for entry in store.entries:
        statuses.update(entry["statuses"])
        flagged.update(entry["flagged"])
    finished = sum(entry["rows"] for entry in store.entries)
    return Summary(
        out=str(store.folder),
        source=listing.source,
        rows=len(listing),
        new=update.new,
        changed=update.changed,
        kept=update.kept,
        gone=update.gone,
        passed_over=dict(listing.passed_over),
        finished=finished,
        complete=finished == len(listing),
        stopped=stopped,
        unscored=sum(entry["unscored"] for entry in store.entries),
        statuses=dict(sorted(statuses.items())),
        flagged=dict(flagged),
        shards=len(store.entries),
        resumed=resumed,
        seconds=round(seconds, 3),
    )
