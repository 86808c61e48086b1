"""A monitor's work: every method computes from one state, and changes it in one swap, at the end.

A method that raises, or is interrupted, leaves the state as it was.
"""

import threading
from collections.abc import Collection, Iterator
from dataclasses import replace
from typing import Any

from gradood._engine.batches import Batch, Data, first_inputs
from gradood._engine.binding import Binding
from gradood._engine.detector_set import DetectorSet, UnboundSet
from gradood._engine.fitting import accumulate_batches, finish
from gradood._engine.input_range import checked_range
from gradood._engine.partials import (
    OVERLAP,
    Partials,
    overlap_override,
    require_partials,
)
from gradood._engine.progress import on_terminal, shown_batches
from gradood._engine.reproducibility import tolerances
from gradood._engine.scoring import score_batches
from gradood.calibration import Promise
from gradood.calibration._rule import DecisionRule
from gradood.calibration.results import BatchScores, Results
from gradood.errors import (
    CalibrationError,
    LabelMismatchWarning,
    NotFittedError,
    warn_caller,
)
from gradood.evidence import KEYS, LOGITS, Basic, Read
from gradood.monitor._calibration_scores import CalibrationScores
from gradood.monitor._model_snapshot import ModelContent, ModelSnapshot
from gradood.monitor._state import MonitorOptions, MonitorState, kept_reads, summary
from gradood.monitor._warnings import Stage, warn_of_change, warn_of_missing_classes

__all__ = ["Session", "copied"]

_SWAP = threading.Lock()
"""Held where a state takes the place of the one that it was made from. One for all monitors, as it
is never held for long, and a monitor with a lock of its own could not be copied or sent."""


class Session:
    """A monitor's options, its state, and the work that turns one state into the next.

    Args:
        options: of the monitor.
        state: to start from.
        progress: whether to show a bar on long work; None does on a terminal only.
    """

    def __init__(self, options: MonitorOptions, state: MonitorState, progress: bool | None) -> None:
        self.options = options
        self.state = state
        self._progress = on_terminal() if progress is None else progress

    def __str__(self) -> str:
        return summary(self.options, self.state)

    @property
    def unbound(self) -> UnboundSet:
        """The model, and all detectors that were given."""
        return self.options.unbound

    # -- binding and fitting --------------------------------------------------------------

    def bind(self, data: Data) -> Binding:
        """What a fit reads of the model, observed on the first batch unless it was before."""
        inputs = first_inputs(data, self.unbound.form)
        bound = self.state.learning
        if bound is None:
            bound = self.unbound.bind(self.unbound.moved(inputs))
            self._keep(bound)
        else:
            bound.reader.ready(inputs)
        return bound.binding

    def fit(self, data: Data) -> None:
        """Learn from all of the fit data; without a detector that learns, only bind."""
        content = self._content() if self.unbound.learners else None
        partials, bound = self._accumulated(data)
        if bound is not None and bound.learners:
            self._learn(bound, partials, content)
        else:
            self._keep(bound)

    def accumulate(self, data: Data) -> Partials:
        """What some of the fit data contributes."""
        content = self._content()
        partials, bound = self._accumulated(data)
        self._keep(bound)
        snapshot = self._snapshot(bound, content, "fitted")
        return partials if snapshot is None else partials.read_off(frozenset({snapshot.digest}))

    def finish(self, partials: Partials) -> None:
        """Learn from everything accumulated."""
        bound = self.state.learning
        if not (bound or self.unbound).learners:
            return
        if bound is None:
            raise NotFittedError(
                "finish was called before accumulate on this monitor, which has not seen the model "
                "run: call monitor.bind(inputs) first."
            )
        require_partials(partials)
        self._learn(self.unbound.unfitted(bound), partials, self._content())

    def _accumulated(self, data: Data) -> tuple[Partials, DetectorSet | None]:
        unbound, bound = self.unbound, self.state.learning
        if bound is not None:
            bound = unbound.unfitted(bound)
        stream = self._batches(data, "fit", labels=bool((bound or unbound).learners))
        return accumulate_batches(unbound, bound, stream)

    # -- scoring and deciding -------------------------------------------------------------

    def score(self, data: Data, *, covered: bool = False) -> BatchScores:
        """Scores of every sample.

        Args:
            data: as for `gradood.Monitor.score`.
            covered: warn if classes of the fit data are missing, by what the model predicts.

        Raises:
            NotFittedError: a detector that learns was not fitted.
        """
        state = self._fitted()
        scores = self._scored(state, data, "score", (LOGITS,) if covered else ())
        if covered:
            warn_of_missing_classes(
                state, scores, "the in-distribution data", "The figures are of the "
            )
        self._compare(state.fit_model, "fitted")
        return scores

    def predict(self, data: Data, keep: Collection[str] = ()) -> Results:
        """Decisions about every sample.

        Args:
            data: as `gradood.Monitor.predict` takes it.
            keep: see there.

        Raises:
            ConfigError: something else is to be kept.
            CalibrationError: there is no rule yet; names the detectors that are not fitted either.
        """
        kept = kept_reads(keep)
        state = self.state
        if state.rule is None:
            unfitted = state.unfitted(self.unbound)
            if unfitted:
                raise CalibrationError(
                    f"{', '.join(unfitted)} must be fitted first: monitor.fit(loader); then call "
                    "monitor.calibrate(held_out, fpr=0.05)."
                )
            raise CalibrationError(
                "nothing was promised yet, so nothing can be decided: call "
                "monitor.calibrate(held_out, fpr=0.05) first. Scores alone: monitor.score."
            )
        scores = self._scored(state, data, "predict", (LOGITS, KEYS), kept)
        self._compare(state.calibration_model, "calibrated")
        return state.rule.results(scores, state.stamps)

    def calibrate(
        self, data: Data, promise: Promise, *, per_class: bool, allow_overlap: str | None
    ) -> None:
        """Thresholds that keep a promise; see `gradood.Monitor.calibrate`."""
        before, content = self.to_calibrate()
        batches = checked_range(self._batches(data, "calibrate"), before.fitted)
        measured = CalibrationScores.of(self.unbound, before.bound, batches)
        self.promise(promise, measured, before, content, per_class, allow_overlap)

    def to_calibrate(self) -> tuple[MonitorState, ModelContent | None]:
        """The state that is calibrated, and what the model holds now; for `promise`."""
        return self._fitted(), self._content()

    def promise(
        self,
        promise: Promise,
        measured: CalibrationScores,
        before: MonitorState,
        content: ModelContent | None,
        per_class: bool,
        allow_overlap: str | None,
    ) -> None:
        """Thresholds by the scores of calibration data; see `gradood.Monitor.calibrate`."""
        scores, bound = measured.scores, measured.bound
        overlap = overlap_override(measured.samples, before.fitted, allow_overlap)
        within, how = tolerances(bound, measured.sample, scores), self.unbound.combine
        rule = DecisionRule.of(scores, promise, combine=how, per_class=per_class, tolerances=within)
        snapshot = self._calibrated_on(before, bound, content)
        warn_of_missing_classes(
            before, scores, "the calibration data", "The promise holds for the "
        )
        others = tuple(override for override in before.overrides if override.what != OVERLAP)
        with _SWAP:
            if before.bound is not None and self.state.bound is not before.bound:
                raise CalibrationError(
                    "the monitor was fitted while it was calibrated, so the thresholds are those "
                    "of other scores; calibrate again."
                )
            self.state = replace(
                self.state,
                bound=bound,
                rule=rule,
                calibrated=measured.samples,
                overrides=(*others, *overlap),
                calibration_model=snapshot,
                guard=before.guard and before.guard.recalibrated(len(measured.samples.keys)),
                notes=(),
            )

    def _fitted(self) -> MonitorState:
        """The state, if it can score."""
        state = self.state
        state.require_fitted(self.unbound)
        return state

    def _scored(
        self,
        state: MonitorState,
        data: Data,
        what: str,
        extra: tuple[Read, ...],
        keep: tuple[Basic, ...] = (),
    ) -> BatchScores:
        batches = checked_range(self._batches(data, what), state.fitted or state.calibrated)
        scores, bound = score_batches(self.unbound, state.bound, batches, extra, keep=keep)
        self._keep(bound)
        return scores

    def _batches(self, data: Data, what: str, *, labels: bool = False) -> Iterator[Batch]:
        form = self.unbound.form
        return shown_batches(data, what, bar=self._progress, labels=labels, form=form)

    # -- the model ------------------------------------------------------------------------

    def _content(self) -> ModelContent | None:
        """What the model holds now, to be compared once its statistics are made."""
        return ModelContent.of(self.unbound.model)

    def _snapshot(
        self, bound: DetectorSet | None, content: ModelContent | None, what: Stage
    ) -> ModelSnapshot | None:
        """The model that a pass over data began with; warns if the pass ended with another."""
        if bound is None or content is None:
            return None
        snapshot = ModelSnapshot.of(bound.binding.network, content)
        changes = snapshot.changes()
        if changes:
            warn_of_change(f"the model changed while it was {what}: {'; '.join(changes)}", what)
        return snapshot

    def _calibrated_on(
        self, before: MonitorState, bound: DetectorSet, content: ModelContent | None
    ) -> ModelSnapshot | None:
        """The model that was calibrated on; warns if it is not the one that was fitted on."""
        snapshot, fitted = self._snapshot(bound, content, "calibrated"), before.fit_model
        if fitted is None:
            return snapshot
        changes = fitted.differences(content) or fitted.changes()
        if not changes:
            return fitted
        warn_of_change(f"the model is not as it was fitted on: {'; '.join(changes)}", "fitted")
        return snapshot

    def _compare(self, snapshot: ModelSnapshot | None, what: Stage) -> None:
        """Warn if the model is not as it was fitted, or calibrated, on."""
        changes = [] if snapshot is None else snapshot.changes()
        if changes:
            warn_of_change(f"the model is not as it was {what} on: {'; '.join(changes)}", what)

    def _learn(self, bound: DetectorSet, partials: Partials, content: ModelContent | None) -> None:
        """A fit: nothing that was calibrated or overridden before holds any longer."""
        fitted = self.unbound.checked(finish(bound, partials))
        snapshot = self._snapshot(fitted, content, "fitted")
        if snapshot is not None and partials.models - {snapshot.digest}:
            warn_of_change("parts of the fit were read off a model with other weights", "fitted")
        with _SWAP:
            self.state = MonitorState(bound=fitted, fitted=partials.seen, fit_model=snapshot)
        agreement = None if partials.seen is None else partials.seen.agreement
        doubt = None if agreement is None else agreement.doubt()
        if doubt is not None:
            warn_caller(doubt, LabelMismatchWarning)

    def mark(self, **notes: Any) -> None:
        """Note how the guard was made whose monitor this is, or the known samples."""
        with _SWAP:
            self.state = replace(self.state, **notes)

    def _keep(self, bound: DetectorSet | None) -> None:
        """A binding, unless another thread was first."""
        with _SWAP:
            self.state = self.state.with_binding(bound)


def copied(monitor: Any) -> Any:
    """A monitor with the same options and state; what either learns later, it learns apart."""
    made = object.__new__(type(monitor))
    session = monitor._session
    apart = Session(session.options, session.state, session._progress)
    vars(made).update(vars(monitor), _session=apart)
    return made
