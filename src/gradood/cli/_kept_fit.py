"""``gradood fit --keep-partials`` and ``--merge``: a fit that is kept, and more data for it."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from gradood.cli._bad_rows import source_of
from gradood.cli._cluster import ClusterLoadingOptions
from gradood.cli._detector_file import check_target, noun_of, saved, say_passed_over
from gradood.cli._groups import option
from gradood.cli._model_output import NewModelOptions
from gradood.cli._options import Force, Json
from gradood.cli._output import data, document, pairs
from gradood.errors import ConfigError, DataError, ModelMismatchError

if TYPE_CHECKING:
    from gradood._engine.partials import Partials
    from gradood.data import RowDataset
    from gradood.monitor import Monitor

__all__ = ["FitFiles", "kept", "merge_fit", "partials_line"]

_KEPT = "Kept fit"


@dataclass(frozen=True, kw_only=True)
class FitFiles:
    """What a fit reads and writes."""

    source: Annotated[
        str,
        option(
            "PATH",
            "In-distribution training images, or without --methods images that the network was "
            "not trained on: a folder, Parquet or archive; [:2000] draws so many evenly over the "
            "classes.",
            "--data",
        ),
    ]
    out: Annotated[Path, option("FILE", "Where the detector goes: one safetensors file.")]
    keep: Annotated[
        Path | None,
        option(
            "FILE",
            "Keep what the fit accumulated, so that data can be added later; its size is printed.",
            "--keep-partials",
            panel=_KEPT,
        ),
    ] = None
    merge: Annotated[
        Path | None,
        option(
            "FILE",
            "Add --data to this kept fit, of --detector. The result must be calibrated anew.",
            panel=_KEPT,
        ),
    ] = None
    detector: Annotated[
        Path | None, option("FILE", "The detector of the kept fit; with --merge.", panel=_KEPT)
    ] = None
    force: Force = False
    json: Json = False

    def __post_init__(self) -> None:
        check_target(self.out, force=self.force)

    def check(self, *, named: bool, preprocessed: bool) -> None:
        """Refuse what cannot be meant, and files that would be lost.

        Args:
            named: whether methods are named.
            preprocessed: whether preprocessing options are given.

        Raises:
            ConfigError: names the option.
            DataError: a person marked some of the data unknown.
        """
        if (self.merge is None) != (self.detector is None):
            raise ConfigError(
                "--merge and --detector go together: the kept fit, and the detector of that fit."
            )
        if self.merge is not None and (named or preprocessed):
            raise ConfigError(
                "--merge goes on with the methods and the preprocessing of --detector; leave "
                "--methods and preprocessing options out."
            )
        if self.merge is None and self.keep is not None and not named:
            raise ConfigError(
                "--keep-partials is of a fit with --methods; a guard is made anew with more data."
            )
        if self.keep is not None:
            check_target(self.keep, force=self.force, source=self.merge)
            if self.keep.resolve() == self.out.resolve():
                raise ConfigError("--keep-partials and --out name one file; name two.")
        for both, given, other in (
            ("--merge and --out", self.merge, self.out),
            ("--detector and --keep-partials", self.detector, self.keep),
        ):
            if given is not None and other is not None and given.resolve() == other.resolve():
                raise ConfigError(f"{both} name one file, which would be lost; name two.")
        from gradood.triage import check_known

        check_known(self.source)

    def check_place(self, option: str) -> None:
        """Refuse another place than this process.

        Args:
            option: that names it.

        Raises:
            ConfigError: names the option.
        """
        for name, given in (("--keep-partials", self.keep), ("--merge", self.merge)):
            if given is not None:
                raise ConfigError(
                    f"{name} and {option} were both given; a fit is kept in this process."
                )

    def to_dict(self, size: int | None) -> dict[str, Any] | None:
        """The file and its bytes, for what is printed; None if nothing is kept."""
        return None if size is None else {"file": str(self.keep), "bytes": size}


def kept(monitor: "Monitor", batches: Any, file: Path) -> int:
    """Fit, and keep what was accumulated; returns the bytes of the file."""
    from gradood.monitor import save_partials

    partials = monitor.accumulate(batches)
    monitor.finish(partials)
    return save_partials(file, monitor, partials)


def merge_fit(model: NewModelOptions, loading: ClusterLoadingOptions, files: FitFiles) -> None:
    """Add data to a kept fit, save the detector that learned from both, and say so.

    Raises:
        ModelMismatchError: the kept fit is of another model than this one.
        DataError: some of the data is in the fit already.
    """
    from gradood.artifact import check
    from gradood.bench import example_of
    from gradood.monitor import load, load_partials, save_partials

    assert files.merge is not None and files.detector is not None
    check(files.detector)  # Before the model is built, as that may take long.
    loaded = model.load(columns=loading.choice())
    monitor = load(files.detector, loaded.model)
    preprocess = loaded.preprocess_like(monitor.preprocess)
    images = loading.open(files.source, preprocess)
    say_passed_over(images)
    images = loading.usable(images)
    if not monitor._session.unbound.learners:
        raise ConfigError(
            f"no detector of {str(files.detector)!r} learns; there is nothing to add."
        )
    monitor.bind(example_of(images))
    before = load_partials(files.merge, monitor)
    _same_fit(monitor, before, files)
    added = monitor.accumulate(loading.loader(images))
    _check_added(before, added, str(files.merge))
    total = monitor.merge(before, added)
    monitor.finish(total)
    monitor.save(files.out)
    size = None if files.keep is None else save_partials(files.keep, monitor, total)
    result = {
        **saved(files.out),
        "fit": {
            "merged": str(files.merge),
            **source_of(files.source, images),
            "n_before": _samples(before),
            "n_added": len(images),
            "n": _samples(total),
        },
        "partials": files.to_dict(size),
        "subject": loaded.to_dict(),
    }
    document(result) if files.json else data(_lines(result, images))


def partials_line(partials: Mapping[str, Any] | None) -> dict[str, str]:
    """What was kept and how large it is, for readers."""
    if partials is None:
        return {}
    return {"kept fit": f"{partials['file']} ({partials['bytes']:,} bytes)"}


def _same_fit(monitor: "Monitor", kept: "Partials", files: FitFiles) -> None:
    """Refuse partials of another fit than the detector's, of which nothing would be left."""
    fitted = monitor._session.state.fitted
    if fitted is None or kept.seen is None or _keys(fitted) != _keys(kept.seen):
        raise DataError(
            f"{str(files.merge)!r} was kept of another fit than that of "
            f"{str(files.detector)!r}: the samples differ. Give the two files of one fit."
        )


def _keys(summary: Any) -> list[int]:
    return summary.keys.sort().values.tolist()


def _check_added(before: "Partials", added: "Partials", source: str) -> None:
    import torch

    assert before.seen is not None and added.seen is not None
    if before.models != added.models:
        raise ModelMismatchError(
            f"{source!r} was accumulated on a model with other weights; fit all of the data anew."
        )
    again = int(torch.isin(added.seen.keys, before.seen.keys).sum())
    if again:
        raise DataError(
            f"{again} of the {len(added.seen.keys)} added samples are in the fit already, and "
            "would count twice; leave them out."
        )


def _samples(partials: "Partials") -> int:
    return 0 if partials.seen is None else len(partials.seen.keys)


def _lines(result: Mapping[str, Any], images: "RowDataset") -> str:
    fit, noun = result["fit"], noun_of(images.preprocess.to_dict())
    lines = {
        "wrote": f"{result['file']} ({result['bytes']:,} bytes)",
        "sha256": result["sha256"],
        "fitted on": f"{fit['n']:,} {noun}: {fit['n_before']:,} of {fit['merged']}, and "
        f"{fit['n_added']:,} of {fit['path']}",
        "detectors": ", ".join(result["detectors"]),
        **partials_line(result["partials"]),
        "calibrated": "no: what was promised before holds no longer; gradood calibrate",
    }
    return pairs(lines)
