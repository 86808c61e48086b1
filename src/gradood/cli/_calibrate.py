"""``gradood calibrate``: thresholds that keep a promise."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, cast

from gradood.cli._bad_rows import source_of, without
from gradood.cli._cluster import ClusterLoadingOptions, subject_of
from gradood.cli._detector_file import check_target, combined, noun_of, saved, say_passed_over
from gradood.cli._groups import flag, option
from gradood.cli._guard import GUARANTEE
from gradood.cli._options import BoundModelOptions, Force, Json
from gradood.cli._output import data, document, pairs
from gradood.cli._selection import note_selection

__all__ = ["calibrate"]


@dataclass(frozen=True, kw_only=True)
class GuaranteeOptions:
    """The false-alarm rate that is promised."""

    PANEL: ClassVar[str] = GUARANTEE

    fpr: Annotated[
        float,
        option("SHARE", "Share of in-distribution inputs that may be flagged."),
    ] = 0.05
    mode: Annotated[
        str,
        option(
            "marginal|pac",
            "marginal: on average over calibrations; pac: for this one, with --confidence.",
        ),
    ] = "marginal"
    confidence: Annotated[float, option("SHARE", "Of mode pac.")] = 0.95
    per_class: Annotated[
        bool,
        flag("Keep it within each predicted class that has images enough; rare ones share."),
    ] = False
    allow_overlap: Annotated[
        str | None,
        option("REASON", "Calibrate although some data was fitted on; kept in the file."),
    ] = None

    def check(self) -> str:
        """The promise in words.

        Raises:
            ConfigError: a value is out of range.
        """
        from gradood.calibration import Promise

        promise = Promise(self.fpr, cast(Any, self.mode), self.confidence)
        return f"{promise}{', for each predicted class' if self.per_class else ''}"

    def promised(self) -> dict[str, Any]:
        """The same as values."""
        from gradood.calibration import Promise

        return {
            "promise": Promise(self.fpr, cast(Any, self.mode), self.confidence),
            "per_class": self.per_class,
            "allow_overlap": self.allow_overlap,
        }


@dataclass(frozen=True, kw_only=True)
class CalibrateFiles:
    """What a calibration reads and writes."""

    detector: Annotated[Path, option("FILE", "A fitted detector.")]
    source: Annotated[
        str,
        option(
            "PATH",
            "In-distribution images that neither the detector was fitted on nor the network "
            "trained on: a folder, Parquet or archive; [:2000] draws so many evenly over the "
            "classes.",
            "--data",
        ),
    ]
    out: Annotated[Path, option("FILE", "Where the result goes; may be the same file.")]
    force: Force = False

    def __post_init__(self) -> None:
        check_target(self.out, force=self.force, source=self.detector)


def calibrate(
    model: BoundModelOptions,
    guarantee: GuaranteeOptions,
    loading: ClusterLoadingOptions,
    files: CalibrateFiles,
    json: Json = False,
) -> None:
    """Set a saved detector's thresholds so that its false-alarm rate keeps a promise.

    Images are preprocessed as they were in the fit.
    """
    promise, place = guarantee.check(), loading.spread(model.device)
    from gradood.artifact import read
    from gradood.batch import load_predictor
    from gradood.triage import selection_of

    selected = selection_of(files.source)
    artifact = read(files.detector)  # Before the model is built, as that may take long.
    loaded = model.load(columns=loading.choice())
    predictor = load_predictor(
        artifact, loaded.model, override=model.override, source=str(files.detector)
    )
    monitor = predictor.monitor
    preprocess = loaded.preprocess_like(monitor.preprocess)
    images = loading.open(files.source, preprocess, labeled=False)
    say_passed_over(images)
    images = loading.usable(images)
    if place is None:
        monitor.calibrate(loading.loader(images), **asdict(guarantee))
    else:
        from gradood.scale._calibrating import CalibrationWork, calibrated_on

        subject = subject_of(model, str(files.detector))
        work = CalibrationWork.of(subject, predictor, images, loading.loading())
        calibrated_on(place, monitor, work, **guarantee.promised())
    note_selection(monitor, files.source, selected)
    monitor.save(files.out)
    result = {
        **saved(files.out),
        "data": {**source_of(files.source, images), "selected": selected},
    }
    if json:
        document(result)
    else:
        data(_calibrate_lines(result, promise, noun_of(preprocess.to_dict())))


def _calibrate_lines(result: Mapping[str, Any], promise: str, noun: str) -> str:
    lines = {
        "wrote": f"{result['file']} ({result['bytes']:,} bytes)",
        "sha256": result["sha256"],
        "detectors": ", ".join(result["detectors"]),
        "combined": combined(result, noun),
        "promise": promise,
        "calibrated": f"on {result['data']['n']:,} {noun} of {result['data']['path']}"
        + without(result["data"]),
    }
    if result["overrides"]:
        lines["overridden"] = "; ".join(result["overrides"])
    return pairs(lines)
