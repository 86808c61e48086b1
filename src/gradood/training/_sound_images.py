"""Training data without its broken images, and copies among its two sets."""

import logging
import warnings
from dataclasses import replace
from functools import partial
from typing import Any

from torch.utils.data import Dataset, Subset

from gradood.data import RowDataset
from gradood.data._copies import shared_images
from gradood.data._usable_rows import faults_in, shown_faults
from gradood.errors import BadRowError, DataError, GradoodWarning
from gradood.training._sample_form import SampleForm
from gradood.training.data import TrainingData

__all__ = ["warn_of_copies", "without_bad_images"]

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
    known, id_bad = _sound(data.id, "id", fraction, workers, data.form)
    counts = {"id_left_out": id_bad}
    outliers = data.aux
    if outliers is not None:
        outliers, counts["aux_left_out"] = _sound(outliers, "aux", fraction, workers, data.form)
    pictures = data.mixing_set
    if pictures is not None:
        pictures, counts["mixing_left_out"] = _sound(
            pictures, "mixing", fraction, workers, SampleForm()
        )
    names = {"id_classes": id_classes, "aux_classes": aux_classes}
    return replace(data, id=known, aux=outliers, mixing_set=pictures, **names), counts


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
    dataset: Dataset[Any], purpose: str, fraction: float, workers: int, form: SampleForm
) -> tuple[Dataset[Any], int]:
    size = len(dataset)  # type: ignore[arg-type]
    check = partial(_check, form=form, labeled=purpose == "id")
    bad = faults_in(dataset, check, workers=workers)
    if not bad:
        return dataset, 0
    told = shown_faults(bad)
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


def _check(item: Any, *, form: SampleForm, labeled: bool) -> None:
    if not form.finite(form.sample(item)):
        raise BadRowError("it holds NaN or infinity", "nonfinite_input")
    if labeled:
        form.label(item)
