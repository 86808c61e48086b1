"""The monitor of a guard: detectors chosen, known data split, fitted, calibrated and looked at."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from gradood._engine.batches import Batch, Data, batches
from gradood._engine.binding import check_classes, observed
from gradood._engine.forms import InputForm, check_model_input
from gradood._engine.roster import Detectors, roster, warn_of_one_output
from gradood._engine.rows import Inputs, moved, row_count
from gradood._io.arguments import plain, real
from gradood.artifact import GuardRecord
from gradood.calibration import Promise, required, required_fused
from gradood.calibration._curve import How
from gradood.detectors.base import Detector, Learner
from gradood.errors import (
    CalibrationError,
    ConfigError,
    DataError,
    TrainingDataWarning,
    warn_caller,
)
from gradood.monitor import Monitor
from gradood.registry import create
from gradood.rejection._default import LEAST, default_choice, sizes_of
from gradood.rejection._memorization import LabelFit, doubts, predicted_batches
from gradood.rejection._partition import Known, repeatable
from gradood.taps import Link, Network, check_link, check_output, device_of, named_layer, unwrap

__all__ = ["make"]

_SHARE = 0.5
"""Of the known data, to fit on."""


@dataclass(frozen=True, slots=True)
class _Roster:
    """The detectors by name, and why these."""

    detectors: Mapping[str, Detector]
    reason: str

    @property
    def learns(self) -> bool:
        return any(isinstance(detector, Learner) for detector in self.detectors.values())

    @property
    def needs_labels(self) -> bool:
        learners = (d for d in self.detectors.values() if isinstance(d, Learner))
        return any(learner.labels for learner in learners)

    def required(self, promise: Promise) -> int:
        """Samples that the calibration needs at least."""
        return (required if len(self.detectors) == 1 else required_fused)(promise)


def make(
    model: nn.Module,
    known: Data,
    *,
    detectors: Detectors | None,
    fit: Data | None,
    promise: Promise,
    combine: How | None,
    accuracy: float | None,
    options: dict[str, Any],
) -> Monitor[Any]:
    """The monitor of a guard; see `gradood.guard`."""
    module = unwrap(model)
    explain, ids = options.pop("explain", False), options.pop("ids", None)
    check_output(options.get("output"))
    accuracy = _checked_accuracy(accuracy)
    named = None if detectors is None else _named(detectors)
    if detectors == "all":  # Those that run.
        options = {"skip_unusable": True, **options}
    check_model_input(options.get("model_input"))
    check_link(options.get("link"))
    form = InputForm(model, options.get("model_input"), options.get("link"))
    data = Known.of(known, form)
    fit = None if fit is None else repeatable(fit, form)
    inputs = moved(data.first, device_of(module))
    network = _observed(model, inputs, options)
    labels = _first_labels(data.data if fit is None else fit, form)
    labeled = data.labeled if fit is None else labels is not None
    if network.paired and options.get("link") is None:
        warn_of_one_output(network, labels)
        options = {**options, "link": "softmax"}  # Said once.
    if network.link == "softmax":
        check_classes("known", torch.tensor(data.labels, device="cpu"), network.classes)
    chosen = named or _default(network, inputs, data, fit, promise, labeled)
    data = _divided(data, chosen, promise, network.link, separate=fit is not None)
    monitor = _monitor(model, chosen, combine, options)
    compared = _fit(monitor, network, chosen, data, fit, labeled)
    if fit is not None:
        _refuse_shared(monitor, data)
    seen = LabelFit(network, form, "known", data.rows - data.fitted)
    monitor.calibrate(
        seen.watched(_made(data.part(fit=False))),
        fpr=promise.fpr,
        mode=promise.mode,
        confidence=promise.confidence,
    )
    found = tuple(doubts(seen, compared, accuracy))
    record = GuardRecord(
        reason=chosen.reason,
        known=data.rows,
        fitted=data.fitted,
        labeled=data.labeled,
        accuracy=seen.accuracy,
        doubts=found,
    )
    _remember(monitor, data, explain, ids)
    monitor._session.mark(guard=record)
    for doubt in found:
        warn_caller(doubt, TrainingDataWarning)
    return monitor


def _observed(model: nn.Module, inputs: Inputs, options: Mapping[str, Any]) -> Network:
    """The network; a head that was named and is none is an error, whatever reads it."""
    head = named_layer(options.get("head"), options.get("features"))
    network = observed(
        model,
        inputs,
        head=head,
        output=options.get("output"),
        link=options.get("link") or "softmax",
    )
    if head is not None:
        _ = network.head
    return network


def _made(part: Iterable[Any]) -> Iterator[Batch]:
    """Inputs that were made once already, as batches of which none are made again."""
    for item in part:
        yield Batch(*item) if isinstance(item, tuple) else Batch(item)


def _named(detectors: Detectors) -> _Roster:
    found, _ = roster(detectors)
    return _Roster(found, f"{', '.join(found)}: named by the user")


def _default(
    network: Network,
    inputs: Inputs,
    data: Known,
    fit: Data | None,
    promise: Promise,
    labeled: bool,
) -> _Roster:
    least = required_fused(promise)
    source = fit
    if fit is None:
        part = data.split(_SHARE, least)
        # None: all of it calibrates.
        source = _made(part.part(fit=True)) if part.fitted else None
    given: Iterable[Batch] = ()
    if source is not None and labeled:
        given = batches(source, labels=True, form=data.form)
    elif source is not None:
        given = predicted_batches(network, source, data.form)
    pairs = ((batch.inputs, batch.labels) for batch in given)
    what = "known" if fit is None else "fit"
    what = None if network.link == "none" else what
    sizes = sizes_of(pairs, network.classes, what, combined=data.distinct >= least)
    choice = default_choice(network, inputs, sizes)
    return _Roster({name: create(name) for name in choice.detectors}, choice.reason)


def _divided(
    data: Known, chosen: _Roster, promise: Promise, link: Link, *, separate: bool
) -> Known:
    """The known data with a part to fit on, where that is needed.

    Raises:
        CalibrationError: there are too few samples, copies counted once.
    """
    need = chosen.required(promise)
    splits = chosen.learns and not separate
    if data.distinct >= need + splits:
        return data.split(_SHARE, need) if splits else data
    parts = f"{need} to calibrate by" + (" and some to fit on" if splits else "")
    copies = "" if data.distinct == data.rows else f", {data.distinct} of which differ"
    by = ", ".join(chosen.detectors)
    ways = ["give more", *(["fit= with data to fit on"] if splits else []), "promise less"]
    few = required(promise) + isinstance(create(LEAST[link]), Learner)
    least = f"; by detectors='{LEAST[link]}' alone it needs {few}" if few < need + splits else ""
    raise CalibrationError(
        f"known holds {data.rows} samples{copies}; {promise} by {by} needs at least "
        f"{need + splits}: {parts}. {'; or '.join(ways).capitalize()}{least}."
    )


def _monitor(
    model: nn.Module, chosen: _Roster, combine: How | None, options: Mapping[str, Any]
) -> Monitor[Any]:
    detectors = dict(chosen.detectors)
    if len(detectors) > 1:
        return Monitor(model, detectors, combine=combine or "fisher", **options)
    if combine is not None:
        raise ConfigError(
            f"combine={combine!r} with one detector, {chosen.reason}; give several, or None."
        )
    (only,) = detectors.values()
    return Monitor(model, only, **options)


def _first_labels(data: Data, form: InputForm) -> Tensor | None:
    """Labels of the first batch of the data with a row, or None.

    Raises:
        DataError: there is none, of data to fit on.
    """
    for batch in batches(data, labels=True, form=form):
        if row_count(batch.inputs):
            return batch.labels
    raise DataError("fit holds no sample; give in-distribution data, or leave fit= out.")


def _fit(
    monitor: Monitor[Any],
    network: Network,
    chosen: _Roster,
    data: Known,
    fit: Data | None,
    labeled: bool,
) -> LabelFit | None:
    """Fit the monitor, if it learns, on `fit` or else on a part of the known data.

    Args:
        monitor: to be fitted.
        network: the observed model.
        chosen: the detectors.
        data: known.
        fit: batches, or None.
        labeled: whether that which is fitted on has labels.

    Returns:
        How well the labels of `fit` are predicted; None if there are none.
    """
    source: Data = _made(data.part(fit=True)) if fit is None else fit
    seen = None
    if fit is not None and labeled:
        seen = LabelFit(network, data.form, "fit")
        source = seen.watched(fit)
    if chosen.learns:
        learned = labeled or not chosen.needs_labels or network.link == "none"
        monitor.fit(source if learned else predicted_batches(network, source, data.form))
    elif seen is not None:
        for _ in source:
            pass
    return seen


def _refuse_shared(monitor: Monitor[Any], known: Known) -> None:
    """Refuse known samples that were learned from as data of `fit`.

    Raises:
        CalibrationError: says how many there are.
    """
    fitted = monitor._session.state.fitted
    shared = 0
    if fitted is not None:
        shared = int(known.counts[torch.isin(known.contents, fitted.keys)].sum())
    if shared:
        raise CalibrationError(
            f"{shared} of {known.rows} known samples were also fitted on, as they are in fit= too, "
            "so their scores are not those of new data and no false-alarm rate can be promised. "
            "Leave them out of one of the two, or leave fit= out: then known is divided."
        )


def _remember(monitor: Monitor[Any], known: Known, explain: bool, ids: Any) -> None:
    if explain or ids is not None:
        monitor.remember(known.data, ids=ids)


def _checked_accuracy(given: object) -> float | None:
    accuracy = plain(given)
    number = real(accuracy)
    if accuracy is not None and (number is None or not 0 < number <= 1):
        percent = f" {number:g} % is {number / 100:g}." if number is not None and 1 < number else ""
        raise ConfigError(f"accuracy={accuracy!r}; expected a number above 0, at most 1.{percent}")
    return accuracy
