"""What is to be scored of an input that was scored before: what is new, and what has changed."""

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gradood.batch._columns import counts_of
from gradood.batch._store import Store
from gradood.data._extras import arrow, table_of
from gradood.data._part import part_of
from gradood.data.row_source import RowSource

__all__ = ["Update", "contents_digest", "coded", "updated"]

_CODE = 16
_UNKNOWN = "-" * _CODE


@dataclass(frozen=True, slots=True)
class Update:
    """What a run has to do.

    Attributes:
        source: the rows of this run; some of them may be in finished shards.
        new: rows that no finished shard has.
        changed: of an image whose content is another now; what was said of it was taken out.
        kept: rows that were finished before.
        gone: finished rows of images that are no longer in the input, taken out likewise.
    """

    source: RowSource
    new: int
    changed: int
    kept: int
    gone: int


def coded(stamps: Sequence[str | None]) -> list[str]:
    """Stamps as texts of one length; those of images of which nothing tells a change are alike."""
    known: dict[str | None, str] = {None: _UNKNOWN}
    for stamp in stamps:
        if stamp not in known:
            known[stamp] = hashlib.sha256(str(stamp).encode()).hexdigest()[:_CODE]
    return [known[stamp] for stamp in stamps]


def contents_digest(codes: Sequence[str]) -> str:
    """SHA-256 over all of them."""
    return hashlib.sha256("".join(codes).encode("ascii")).hexdigest()


def updated(
    store: Store, source: RowSource, ids: Mapping[str, str], job: Mapping[str, Any], rows: int
) -> Update:
    """Bring finished shards up to date with the input, and say what is left to score.

    Rows of images that were changed, or of which nothing tells whether they were, or that are gone,
    are taken out of the shards of earlier runs.

    Args:
        store: open.
        source: the input as it is now.
        ids: id of each of its rows → its code, from `coded`.
        job: what the job is made of, with that input.
        rows: of a shard.

    Raises:
        DataError: a finished shard cannot be read.
        OSError: a shard cannot be written.

    Cost: none for a new job; else the ids of all finished rows are read.
    """
    same = store.begun_on is None or store.begun_on == job["input"]
    unknown = any(_UNKNOWN in _codes(entry) for entry in store.done.values())
    if not same or (unknown and store.begun_on is not None):
        store.begin(job, store.update + 1)
    found = Counter[str]()
    old = _brought_up_to_date(store, ids, found)
    left = _left(source, old)
    if store.earlier and not _fits(store, left, rows):
        store.begin(job, store.update + 1)
        old = _brought_up_to_date(store, ids, found)
        left = _left(source, old)
    store.shards = -(-len(left) // rows)
    kept = len(old) + sum(entry["rows"] for entry in store.done.values())
    changed, gone = found["changed"], found["gone"]
    return Update(left, len(source) - kept - changed, changed, kept, gone)


def _left(source: RowSource, old: set[str]) -> RowSource:
    """The rows that no earlier run has finished."""
    if not old:
        return source
    rows = [row for row in range(len(source)) if source.id(row) not in old]
    return part_of(source.source, source, rows)


def _brought_up_to_date(store: Store, ids: Mapping[str, str], found: Counter[str]) -> set[str]:
    """Ids of the rows that stay in the shards of earlier runs; what was taken out is counted."""
    stay: set[str] = set()
    for entry in store.earlier:
        names, codes = _ids(store, entry), _codes(entry)
        keep = []
        for name, code in zip(names, codes, strict=True):
            now = ids.get(name)
            keep.append(now is not None and now == code != _UNKNOWN and name not in stay)
            found["gone"] += now is None
            found["changed"] += now is not None and not keep[-1]
        if not all(keep):
            table = table_of(store.folder.opened(entry["file"]))
            kept = table.filter(arrow().array(keep, arrow().bool_()))
            removed = table.filter(arrow().array([not one for one in keep], arrow().bool_()))
            codes = [code for code, one in zip(codes, keep, strict=True) if one]
            store.rewrite(entry, kept, removed, {**counts_of(kept), "stamps": "".join(codes)})
        stay.update(name for name, one in zip(names, keep, strict=True) if one)
    return stay


def _fits(store: Store, left: RowSource, rows: int) -> bool:
    """Whether the finished shards of this run are those that it would make."""
    for shard, entry in store.done.items():
        places = range(shard * rows, min((shard + 1) * rows, len(left)))
        if _ids(store, entry) != [left.id(row) for row in places]:
            return False
    return True


def _ids(store: Store, entry: Mapping[str, Any]) -> list[str]:
    table = table_of(store.folder.opened(entry["file"]), ["id"])
    return table.column("id").to_pylist()


def _codes(entry: Mapping[str, Any]) -> list[str]:
    text = str(entry.get("stamps", ""))
    if len(text) != _CODE * entry["rows"]:
        return [_UNKNOWN] * entry["rows"]
    return [text[at : at + _CODE] for at in range(0, len(text), _CODE)]
