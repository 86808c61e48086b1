"""Data leakage: images that two sets share, networks that two seeds share."""

import warnings
from collections.abc import Iterable, Iterator, Sequence

from gradood.bench.entries import LoadedEntry
from gradood.data import RowDataset
from gradood.errors import GradoodWarning

__all__ = ["warn_of_overlap", "warn_of_twins"]


def warn_of_overlap(opened: LoadedEntry, *, chosen: bool = False, fitted: bool = False) -> None:
    """Warn where methods are fitted or chosen on what they are tested on, or outliers are known.

    Images are the same if they are the same file, by whatever path, or the same row of a Parquet
    file with the same content, under whatever name. Copies of image files are not told.

    Args:
        opened: the data sets of a run.
        chosen: whether hyper-parameters are chosen on the validation images.
        fitted: whether a method is fitted on them.

    Cost: resolves the path of each image file; reads Parquet files once, which `content` keeps.
    """
    for told in _overlaps(opened, chosen, fitted):
        warnings.warn(told, GradoodWarning, stacklevel=3)


def warn_of_twins(opened: Sequence[LoadedEntry]) -> None:
    """Warn where two seeds of a network are the same network, so that their spread says nothing.

    Args:
        opened: the networks of a run; those whose weights come from no file are not compared.
    """
    first: dict[tuple[str, str, str], LoadedEntry] = {}
    for one in opened:
        digest = one.subject.digest
        if digest is None:
            continue
        twin = first.setdefault((one.model.label, one.subject.spec, digest), one)
        if twin is not one:
            warnings.warn(
                f"{twin.model.run} and {one.model.run} have the same weights: they count "
                "as two seeds, and the spread over seeds is too small.",
                GradoodWarning,
                stacklevel=3,
            )


def _overlaps(opened: LoadedEntry, chosen: bool, learned: bool) -> Iterator[str]:
    known = set(opened.id.origins())
    shifted = {name: set(dataset.origins()) for name, dataset in opened.shifted.items()}
    outliers = {name: set(dataset.origins()) for name, dataset in opened.ood.items()}
    # Once through the fit data, which may be large.
    fitted = _shared(known.union(*shifted.values(), *outliers.values()), opened.fit)
    better = "methods that keep the fit data, such as knn, will look better than they are."
    if count := len(known & fitted):
        yield f"{count:,} of the {len(known):,} ID images are among the fit data: {better}"
    used = opened.val is not None and (chosen or learned)
    if used and opened.val is not None and (count := len(_shared(known, [opened.val]))):
        what = "hyper-parameters are chosen" if chosen else "methods are fitted"
        yield (
            f"{count:,} of the {len(known):,} ID images are among the validation images: {what} "
            "on what is tested."
        )
    for name, moved in shifted.items():
        if count := len(moved & known):
            yield (
                f"{count:,} of the {len(moved):,} images of shifted ID {name} are ID images too: "
                "they count twice over the full spectrum."
            )
        if count := len(moved & fitted):
            yield (
                f"{count:,} of the {len(moved):,} images of shifted ID {name} are among the fit "
                f"data: {better}"
            )
    for name, unknown in outliers.items():
        for other, moved in shifted.items():
            if count := len(unknown & moved):
                yield (
                    f"{count:,} of the {len(unknown):,} images of OOD {name} are images of shifted "
                    f"ID {other} too: no method can tell these apart."
                )
        if count := len(unknown & known):
            yield (
                f"{count:,} of the {len(unknown):,} images of OOD {name} are ID images too: no "
                "method can tell these apart."
            )
        if count := len(unknown & fitted):
            yield (
                f"{count:,} of the {len(unknown):,} images of OOD {name} are among the fit data: "
                "methods learn them as known."
            )


def _shared(wanted: set[str], datasets: Iterable[RowDataset]) -> set[str]:
    """Those that are in some of the data sets."""
    return {one for dataset in datasets for one in dataset.origins() if one in wanted}
