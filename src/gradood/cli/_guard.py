"""``gradood fit`` without methods: a guard, fitted and calibrated by one command."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Protocol

from gradood.cli._bad_rows import TolerantLoadingOptions, source_of, without
from gradood.cli._detector_file import combined, noun_of, saved, say_passed_over
from gradood.cli._groups import flag, option
from gradood.cli._model_output import NewModelOptions
from gradood.cli._output import data, document, pairs, say
from gradood.cli._selection import note_selection
from gradood.errors import ConfigError

if TYPE_CHECKING:
    from gradood.data import RowDataset
    from gradood.models._load import LoadedModel

__all__ = ["GUARANTEE", "GuardOptions", "fit_guard"]

GUARANTEE = "Promise"
"""Title of a panel of the help."""


@dataclass(frozen=True, kw_only=True)
class GuardOptions:
    """What a guard is made with, where no methods are named."""

    PANEL: ClassVar[str] = "Guard (without --methods)"

    training: Annotated[
        str | None,
        option(
            "PATH",
            "Training images to fit on; then all of --data calibrates. Else half of --data fits.",
        ),
    ] = None
    fpr: Annotated[
        float | None,
        option("SHARE", "Share of in-distribution inputs that may be flagged; 0.05 if not given."),
    ] = None
    pac: Annotated[
        bool,
        flag("Promise the rate of this very guard with 95 % confidence, not that on average."),
    ] = False

    @property
    def rate(self) -> float:
        """The share of in-distribution inputs that may be flagged."""
        return 0.05 if self.fpr is None else self.fpr

    @property
    def mode(self) -> Literal["marginal", "pac"]:
        """What the rate bounds."""
        return "pac" if self.pac else "marginal"

    def check(self, *, named: bool) -> None:
        """Refuse what cannot be meant.

        Args:
            named: whether methods are named.

        Raises:
            ConfigError: a value is out of range, or none is of use beside methods.
        """
        from gradood.calibration import Promise

        given = [f"--{name}" for name, value in asdict(self).items() if value not in (None, False)]
        if named and given:
            raise ConfigError(
                f"{', '.join(given)} is of a guard, which is made without --methods. With methods, "
                "fit on --data, then promise by gradood calibrate."
            )
        Promise(self.rate, self.mode)


class _Files(Protocol):
    """What `gradood fit` reads and writes."""

    @property
    def source(self) -> str: ...
    @property
    def out(self) -> Path: ...


def fit_guard(
    loaded: "LoadedModel",
    images: "RowDataset",
    loading: TolerantLoadingOptions,
    options: GuardOptions,
    files: _Files,
    model: NewModelOptions,
    *,
    json: bool,
) -> None:
    """Make a guard of images that the network was not trained on, save it, and say so.

    Args:
        loaded: the model.
        images: of `files.source`.
        loading: how files become batches.
        options: of the guard.
        files: the images, and where the guard goes.
        model: what its outputs are.
        json: whether to print JSON.
    """
    import gradood
    from gradood.triage import check_known, selection_of

    selected = selection_of(files.source)
    say(
        f"making a guard of {files.source}, which must be images that the network was not trained "
        "on (with --methods, detectors are fitted on training images)"
    )
    training = None
    if options.training is not None:
        check_known(options.training)
        training = loading.open(options.training, images.preprocess)
        say_passed_over(training)
        training = loading.usable(training)
    guard = gradood.guard(
        loaded.model,
        loading.loader(images),
        fit=None if training is None else loading.loader(training),
        fpr=options.rate,
        mode=options.mode,
        accuracy=loaded.published_accuracy if images.labeled else None,
        **model.readings(),
        preprocess=images.preprocess.to_dict(),
    )
    note_selection(guard.monitor, files.source, selected)
    guard.save(files.out)
    record = guard.monitor._session.state.guard
    assert record is not None
    result = {
        **saved(files.out),
        "left_out": {},
        "guard": asdict(record),
        "known": {**source_of(files.source, images), "labels": images.labeled},
        "training": None if training is None else source_of(options.training, training),
        "subject": loaded.to_dict(),
    }
    document(result) if json else data(_lines(result, str(guard.promise)))


def _lines(result: dict[str, Any], promise: str) -> str:
    record, training, subject = result["guard"], result["training"], result["subject"]
    noun = noun_of(subject["preprocess"])
    fitted = f"{record['fitted']:,} {noun} of {result['known']['path']}"
    if training is not None:
        fitted = f"{training['n']:,} {noun} of {training['path']}"
    elif not record["fitted"]:
        fitted = "nothing, as these methods do not learn"
    lines = {
        "wrote": f"{result['file']} ({result['bytes']:,} bytes)",
        "sha256": result["sha256"],
        "model": f"{subject['model']} ({subject['class']}, {subject['parameters']:,} parameters)",
        "detectors": record["reason"],
        "combined": combined(result, noun),
        "fitted on": fitted,
        "promise": promise,
        "calibrated": f"on {record['known'] - record['fitted']:,} {noun} of "
        f"{result['known']['path']}{without(result['known'])}",
    }
    if record["accuracy"] is not None:
        lines["accuracy"] = f"{record['accuracy']:.1%} on these"
    return pairs(lines)
