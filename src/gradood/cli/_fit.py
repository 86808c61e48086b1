"""``gradood fit``: from data to a saved detector."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, cast

from gradood.cli._bad_rows import source_of, without
from gradood.cli._cluster import ClusterLoadingOptions, subject_of
from gradood.cli._detector_file import noun_of, saved, say_passed_over
from gradood.cli._groups import option
from gradood.cli._guard import GuardOptions, fit_guard
from gradood.cli._kept_fit import FitFiles, kept, merge_fit, partials_line
from gradood.cli._model_output import NewModelOptions
from gradood.cli._options import (
    METHODS,
    MethodOptions,
    PreprocessOptions,
)
from gradood.cli._output import data, document, pairs, say
from gradood.errors import ConfigError

if TYPE_CHECKING:
    from gradood.calibration._curve import How
    from gradood.data import RowDataset
    from gradood.models._load import LoadedModel
    from gradood.monitor import Monitor
    from gradood.scale._pools import Place

__all__ = ["fit"]


@dataclass(frozen=True, kw_only=True)
class FusedMethodOptions(MethodOptions):
    """The detectors, and how they decide together."""

    methods: Annotated[
        str | None,
        option(
            "A,B|all",
            "Methods; label=method adds a second one of a method. Without this, a guard: methods "
            "chosen for the model, fitted and calibrated on images it was not trained on.",
        ),
    ] = None
    combine: Annotated[
        str | None,
        option(
            "NAME",
            "Make one decision of several methods: fisher, stouffer, cauchy or min.",
            panel=METHODS,
        ),
    ] = None

    def spread(self, loading: ClusterLoadingOptions, device: str) -> "Place | None":
        """Where the fit is made; None for this process.

        Args:
            loading: options of the command.
            device: that the model was asked for on.

        Raises:
            ConfigError: a guard, which is made in this process.
        """
        place = loading.spread(device)
        if place is not None and self.methods is None:
            given = "--on" if loading.on is not None else "--devices"
            raise ConfigError(
                f"{given} was given without --methods; a guard is made in this process."
            )
        return place

    def check(self) -> None:
        """Refuse what cannot be meant, before the model is built, as that may take long.

        Raises:
            ConfigError: an option of a method, or how several decide, and no method.
        """
        from gradood._engine.roster import combination

        combination(cast("How | None", self.combine), 2)
        if self.methods is not None:
            self.select()
        elif self.assignments or self.combine is not None:
            given = "--option" if self.assignments else "--combine"
            raise ConfigError(f"{given} was given without --methods; name the methods, or all.")


def fit(
    model: NewModelOptions,
    methods: FusedMethodOptions,
    preprocessing: PreprocessOptions,
    loading: ClusterLoadingOptions,
    guard: GuardOptions,
    files: FitFiles,
) -> None:
    """Fit detectors and save them in one file; without --methods make a guard, ready to decide.

    With --methods the file needs calibration before it decides: gradood calibrate. Without, methods
    are chosen for the model, fitted and calibrated on images that it was not trained on. With
    --merge, data is added to a fit that was kept.
    """
    changes = preprocessing.values()
    named = methods.methods is not None
    files.check(named=named, preprocessed=bool(changes))
    if loading.spread(model.device) is not None:
        files.check_place("--on" if loading.on is not None else "--devices")
    if files.merge is not None:
        merge_fit(model, loading, files)
        return
    methods.check()
    guard.check(named=named)
    place = methods.spread(loading, model.device)
    loaded = model.load(changes, loading.choice())
    images = loading.open(files.source, loaded.preprocess)
    say_passed_over(images)
    images = loading.usable(images)
    if methods.methods is None:
        fit_guard(loaded, images, loading, guard, files, model, json=files.json)
        return
    monitor = _monitor(loaded, images, methods, model)
    size = _learn(monitor, images, model, loading, files, place)
    for name, reason in monitor.left_out.items():
        say(f"left out {name}: {reason}")
    monitor.save(files.out)
    learned = len(images) if monitor.states else 0
    result = {
        **saved(files.out),
        "left_out": monitor.left_out,
        "fit": {
            **source_of(files.source, images),
            "n": learned,
            "labels": images.labeled,
        },
        "partials": files.to_dict(size),
        "subject": loaded.to_dict(),
    }
    document(result) if files.json else data(_fit_lines(result))


def _learn(
    monitor: "Monitor",
    images: "RowDataset",
    model: NewModelOptions,
    loading: ClusterLoadingOptions,
    files: FitFiles,
    place: "Place | None",
) -> int | None:
    """Fit, here or elsewhere; the bytes of the kept fit, or None if none was asked for."""
    if place is not None:
        from gradood import scale

        scale.fit(monitor, images, subject_of(model), loading=loading.loading(), cluster=place)
        return None
    if files.keep is not None:
        return kept(monitor, loading.loader(images), files.keep)
    monitor.fit(loading.loader(images))
    return None


def _monitor(
    loaded: "LoadedModel",
    images: "RowDataset",
    methods: FusedMethodOptions,
    model: NewModelOptions,
) -> "Monitor":
    """A monitor of the methods, of which those that were not named may be left out."""
    from gradood.bench import check_classes, example_of
    from gradood.monitor import Monitor

    selection = methods.select()
    monitor = Monitor(
        loaded.model,
        dict(selection.detectors),
        combine=cast("How | None", methods.combine),
        **model.readings(),
        preprocess=images.preprocess.to_dict(),
        skip_unusable=selection.detectors.keys() - selection.required,
    )
    # Also a monitor that learns nothing must know its model to be saved.
    network = monitor.bind(example_of(images)).network
    if network.link == "softmax":
        check_classes("fit", images.labels, network.classes)
    return monitor


def _fit_lines(result: Mapping[str, Any]) -> str:
    subject, learned = result["subject"], result["fit"]
    labels = "with labels" if learned["labels"] else "without labels"
    noun = noun_of(subject["preprocess"])
    fitted = f"{learned['n']:,} {noun} of {learned['path']}, {labels}{without(learned)}"
    lines = {
        "wrote": f"{result['file']} ({result['bytes']:,} bytes)",
        "sha256": result["sha256"],
        "model": f"{subject['model']} ({subject['class']}, {subject['parameters']:,} parameters)",
        "fitted on": fitted if learned["n"] else "nothing, as these methods do not learn",
        "detectors": ", ".join(result["detectors"]),
        "combined": result["combine"] or "no",
        **partials_line(result["partials"]),
        "calibrated": "no: it scores but does not decide until gradood calibrate",
    }
    return pairs(lines)
