"""The suite of a run as its record tells it: sets with their sizes and hashes."""

from typing import Any

from gradood.bench._record_inputs import (
    OutlierSetRecord,
    SetRecord,
    ShiftedSetRecord,
    SuiteRecord,
    TestSetRecord,
)
from gradood.bench.config import Settings
from gradood.bench.entries import LoadedEntry, inventory_of
from gradood.bench.inventory import Inventory
from gradood.data import RowDataset
from gradood.data._storage import file_digest, joined
from gradood.data.sources import local_file

__all__ = ["suite_record"]


def suite_record(settings: Settings, entry: LoadedEntry) -> SuiteRecord:
    """The suite for the record: sets with their sizes and hashes.

    Raises:
        DataError: the suite's files are not as it says.
    """
    suite = settings.suite
    inventory = Inventory(settings.root, {}, {}, ())
    if settings.check:
        inventory = inventory_of(settings)
        inventory.require(suite)

    def images(path: str, *, rooted: bool = True) -> dict[str, Any]:
        digest = inventory.digests.get(path) if rooted else None
        file = local_file(joined(settings.root, path) if rooted else path)
        if digest is None and file is not None:
            digest = file_digest(file)
        folder = suite.images(path) if rooted else None
        return {"path": path, "rooted": rooted, "sha256": digest, "images": folder}

    fit, val = zip(suite.id.fit, entry.fit, strict=False), suite.id.val
    return SuiteRecord(
        name=suite.name,
        version=suite.version,
        title=suite.title,
        id=TestSetRecord(
            **images(suite.id.test),
            **_count(entry.id),
            fit=tuple(SetRecord(**images(path), **_count(data)) for path, data in fit),
            val=None if val is None else SetRecord(**images(val), **_count(entry.val)),
            classes=suite.id.classes,
        ),
        ood=tuple(
            OutlierSetRecord(
                name=outliers.name,
                group=outliers.group,
                **images(outliers.path, rooted=outliers.rooted),
                **_count(entry.ood[outliers.name]),
            )
            for outliers in suite.ood
        ),
        preprocess=dict(suite.preprocess),
        checked=settings.check,
        shifted=tuple(
            ShiftedSetRecord(
                name=one.name,
                **images(one.path, rooted=one.rooted),
                **_count(entry.shifted[one.name]),
            )
            for one in suite.shifted
        )
        or None,
    )


def _count(dataset: RowDataset | None) -> dict[str, Any]:
    """Rows that are used, and those that were left out."""
    if dataset is None:
        return {"n": 0}
    return {"n": len(dataset), "unusable": dict(dataset.unusable) or None}
