"""Training data without its broken images, and copies among its two sets."""

import logging
import warnings
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, final

from torch.utils.data import Dataset, Subset

from gradood.data import RowDataset
from gradood.data._copies import shared_images
from gradood.data._worker_pool import run_chunks
from gradood.data._workers import RowTask
from gradood.errors import DataError, GradoodWarning
from gradood.training._inputs import is_finite, sample_of
from gradood.training._samples import label_of
from gradood.training.data import TrainingData

__all__ = ["warn_of_copies", "without_bad_images"]

_CHUNK = 64
_SHOWN = 3
_log = logging.getLogger(__name__)


def without_bad_images(
    data: TrainingData, fraction: float, *, workers: int
) -> tuple[TrainingData, dict[str, int]]:
    """The data without items that cannot be used, and how many of each set were left out.

    Args:
        data: map-style data sets.
        fraction: share of a set that may be left out.
        workers: processes that decode.

    Raises:
        DataError: more of a set than that cannot be used; says which, and why.

    Cost: one decode of every image.
    """
    id_classes, aux_classes = data.names()
    known, id_bad = _sound(data.id, "id", fraction, workers)
    counts = {"id_left_out": id_bad}
    outliers = data.aux
    if outliers is not None:
        outliers, counts["aux_left_out"] = _sound(outliers, "aux", fraction, workers)
    data = replace(data, id=known, aux=outliers, id_classes=id_classes, aux_classes=aux_classes)
    return data, counts


def warn_of_copies(data: TrainingData) -> None:
    """Warn of images that are among the known ones and among the outliers.

    Cost: see `gradood.data._copies.shared_images`.
    """
    copies = [] if data.aux is None else shared_images(data.id, data.aux)
    if copies:
        shown = ", ".join(f"{outlier!r} is {known!r}" for known, outlier in copies[:_SHOWN])
        warnings.warn(
            f"{len(copies)} auxiliary outliers are images of the in-distribution data too ({shown}"
            f"{', …' if len(copies) > _SHOWN else ''}): training would call them known and "
            "unknown at once. Leave them out of the auxiliary set.",
            GradoodWarning,
            stacklevel=2,
        )


def _sound(
    dataset: Dataset[Any], purpose: str, fraction: float, workers: int
) -> tuple[Dataset[Any], int]:
    size = len(dataset)  # type: ignore[arg-type]
    chunks = [range(at, min(at + _CHUNK, size)) for at in range(0, size, _CHUNK)]
    task = _Check(dataset, labeled=purpose == "id")
    found = [fault for faults in run_chunks(task, chunks, workers=workers) for fault in faults]
    bad = {index: why for index, why in found if why is not None}
    if not bad:
        return dataset, 0
    told = "; ".join(list(bad.values())[:_SHOWN]) + ("; …" if len(bad) > _SHOWN else "")
    if len(bad) > fraction * size:
        raise DataError(
            f"{len(bad)} of {size} {purpose} images cannot be used, more than {fraction:g} of "
            f"them: {told}. Repair or remove them, or raise max_bad_fraction."
        )
    _log.warning("%d of %d %s images are left out: %s", len(bad), size, purpose, told)
    good = [index for index in range(size) if index not in bad]
    if isinstance(dataset, RowDataset):
        return dataset.subset(good), len(bad)
    return Subset(dataset, good), len(bad)


@final
class _Check(RowTask[tuple[int, str | None], list[tuple[int, str | None]]]):
    """Whether items of a data set can be used; if not, why."""

    def __init__(self, dataset: Dataset[Any], *, labeled: bool) -> None:
        self.dataset = dataset
        self.labeled = labeled

    def decode(self, row: int) -> tuple[int, str | None]:
        try:
            item = self.dataset[row]
            if not is_finite(sample_of(item)):
                return row, f"image {row} holds NaN or infinity"
            if self.labeled:
                label_of(item)
        except (DataError, OSError, ValueError) as error:
            return row, str(error).rstrip(".")
        return row, None

    def stand_in(self, row: int, status: str, reason: str) -> tuple[int, str | None]:
        return row, f"image {row}: {reason}"

    def collate(self, items: Sequence[tuple[int, str | None]]) -> list[tuple[int, str | None]]:
        return list(items)
