"""The monitor: a model, the detectors bound to it, what they have learned and what was promised."""

import os
import sys
from collections.abc import Iterator, Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn

from gradood.artifact import Override
from gradood.calibration import Promise
from gradood.calibration.curve import How
from gradood.calibration.results import Decider, Look, Result, Results
from gradood.detectors.base import Detector, Learner, Partial, State
from gradood.engine.batches import Batch, Data
from gradood.engine.binding import Binding
from gradood.engine.detector_set import Detectors, combination, roster
from gradood.engine.partials import OVERLAP, Partials, Seen, overlap_override
from gradood.engine.progress import shown_batches
from gradood.engine.reader import Reader
from gradood.engine.rows import own_terms, refuse_nonfinite
from gradood.errors import CalibrationError, DataError, NotFittedError
from gradood.evidence import KEYS, LOGITS

__all__ = ["Monitor"]


class Monitor:
    """Scores a classifier's inputs for being out-of-distribution.

    All detectors share one forward pass per batch and at most one truncated backward per distinct
    objective. The model is left as it was found: weights, buffers, gradients, modes, hooks, RNG.

    Args:
        model: any classifier, as it is; wrappers are looked through. It is run in evaluation mode,
            on the device it is on.
        detectors: a registry name or a `Detector`; or a list of them; or a mapping that names them,
            for several with the same method. One given bare gives plain tensors, a list or mapping
            always a mapping by name.
        combine: how `calibrate` makes one decision of all detectors: ``"fisher"``,
            ``"stouffer"``, ``"cauchy"`` or ``"min"`` (`gradood.calibration.Fusion`); None for none.
        head: name of the last linear layer, if it cannot be found.
        preprocess: how images became the inputs, in plain values such as the options of
            `gradood.data.Preprocess`; kept with what is saved, and not applied here.
        progress: show a bar on long work; None does on a terminal only.

    Raises:
        UnknownNameError: no detector of that name.
        ConfigError: no detector, two of one name, or no such `combine`.

    Cost:
        Nothing is run until the first batch, on which the model is observed once.

    >>> import torch, gradood
    >>> model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 3))
    >>> gradood.Monitor(model, "energy").score(torch.zeros(2, 3, 2, 2)).shape
    torch.Size([2])
    """

    def __init__(
        self,
        model: nn.Module,
        detectors: Detectors,
        *,
        combine: How | None = None,
        head: str | None = None,
        preprocess: Mapping[str, Any] | None = None,
        progress: bool | None = None,
    ) -> None:
        named, self._bare = roster(detectors)
        self._reader = Reader(model, named, head)
        self.combine: How | None = combination(combine, len(named))
        self.preprocess = None if preprocess is None else dict(preprocess)
        self._progress = sys.stderr.isatty() if progress is None else progress
        self._restored = False
        self._fitted: Seen | None = None
        self._calibrated: Seen | None = None
        self._canary: Tensor | None = None
        self._decider: Decider | None = None
        self._overrides: tuple[Override, ...] = ()

    @property
    def model(self) -> nn.Module:
        """The classifier."""
        return self._reader.model

    @property
    def detectors(self) -> dict[str, Detector]:
        """The detectors by name."""
        return dict(self._reader.detectors)

    @property
    def states(self) -> dict[str, State]:
        """What each fitted detector has learned: named tensors."""
        return dict(self._reader.states)

    @property
    def overrides(self) -> tuple[str, ...]:
        """Refusals that were overridden, each with its reason; stamped on every result."""
        return tuple(f"{override.what}: {override.reason}" for override in self._overrides)

    # -- fitting --------------------------------------------------------------------------

    def fit(self, data: Data) -> "Monitor":
        """Learn from in-distribution data, in one pass for all detectors.

        Args:
            data: with labels if a detector needs them (`gradood.methods`).

        Returns:
            This monitor.

        Raises:
            DataError: no data, labels missing or out of range, inputs not finite.
        """
        self.finish(self.accumulate(data))
        return self

    def accumulate(self, data: Data) -> Partials:
        """What some of the fit data contributes; see `merge` and `finish`.

        Shards may be accumulated anywhere and merged in any order.
        """
        learners = self._learners()
        if not learners:
            first = next((batch.x for batch in self._batches(data, "fit") if len(batch.x)), None)
            if first is not None:
                self.bind(first)
            return Partials({}, None)
        if self._restored:  # What a saved detector reads is known, but not what its fit would.
            self._reader.binding, self._restored = None, False
            self._reader.states, self._decider = {}, None
        total = Partials({}, None)
        for batch in self._batches(data, "fit", labels=True):
            if len(batch.x) == 0:
                continue
            x = self._reader.ready(batch.x)
            refuse_nonfinite(x, "fit")
            binding = self._reader.bind(x)
            labels = None if batch.labels is None else batch.labels.to(x.device)
            evidence = self._reader.gather(x, (*binding.fit_reads, KEYS), labels)
            if not bool(evidence.sound.all()):
                row = int((~evidence.sound).nonzero()[0])
                raise DataError(
                    f"row {row} of a batch of {len(x)} fit inputs has logits of NaN or infinity, "
                    "which the model made of finite inputs; drop such inputs, or repair the model."
                )
            parts: dict[str, Partial] = {}
            for name, learner in learners.items():
                own = evidence.only(binding.plans[name].fit_reads)
                with own_terms(x.device):
                    parts[name] = learner.accumulate(own)
            seen = Seen.of(x, evidence[KEYS], labels, evidence.classes)
            total = self.merge(total, Partials(parts, seen))
        if total.seen is None:
            raise DataError("fit was given no sample; give in-distribution training data.")
        return total

    def merge(self, a: Partials, b: Partials) -> Partials:
        """What two parts of the fit data contribute together."""
        if a.seen is None or b.seen is None:
            return b if a.seen is None else a
        with own_terms():
            parts = {name: one.merge(a[name], b[name]) for name, one in self._learners().items()}
        return Partials(parts, a.seen.merge(b.seen))

    def finish(self, partials: Partials) -> None:
        """Learn from everything accumulated; a calibration made before no longer holds."""
        learners = self._learners()
        if not learners:
            return
        binding = self._reader.binding
        if binding is None or self._restored:
            raise NotFittedError(
                "finish was called before accumulate on this monitor, which has not seen the model "
                "run: call monitor.bind(inputs) first."
            )
        with own_terms():
            self._reader.states = {
                name: learner.finish(partials[name], binding.network, binding.plans[name])
                for name, learner in learners.items()
            }
        self._fitted = partials.seen
        self._decider = self._calibrated = self._canary = None
        self._overrides = ()

    # -- scoring --------------------------------------------------------------------------

    def score(self, data: Data) -> Any:
        """Scores of every sample; higher = more out-of-distribution.

        An input with a NaN or infinity, or one whose score comes out so, scores +inf: it never
        reads as in-distribution.

        Args:
            data: a tensor is one batch; any other iterable is a loader. Labels are ignored.

        Returns:
            (samples,) float64 on the CPU, or a mapping of such by detector name.

        Raises:
            NotFittedError: a detector that learns was not fitted.
            DataError: the input has another shape or type than the first batch seen.
        """
        self._require_fitted()
        parts: dict[str, list[Tensor]] = {name: [] for name in self._reader.detectors}
        for batch in self._batches(data, "score"):
            for name, scores in self._reader.look(batch.x, ()).scores.items():
                parts[name].append(scores)
        empty = torch.empty(0, dtype=torch.float64)
        out = {name: torch.cat(part) if part else empty for name, part in parts.items()}
        return next(iter(out.values())) if self._bare else out

    def _require_fitted(self) -> None:
        unfitted = [name for name in self._learners() if name not in self._reader.states]
        if unfitted:
            raise NotFittedError(
                f"{', '.join(unfitted)} must be fitted first: monitor.fit(loader)."
            )

    # -- deciding -------------------------------------------------------------------------

    def calibrate(
        self,
        data: Data,
        *,
        fpr: float = 0.05,
        mode: Literal["marginal", "pac"] = "marginal",
        confidence: float = 0.95,
        per_class: bool = False,
        allow_overlap: str | None = None,
    ) -> "Monitor":
        """Set the thresholds at which `predict` calls an input out-of-distribution.

        Args:
            data: held-out in-distribution data, drawn like the inputs to come, none of it fitted
                on. Labels are ignored.
            fpr: share of in-distribution inputs that may be flagged.
            mode: what `fpr` bounds: ``"marginal"`` the false-alarm rate on average over
                calibration sets, ``"pac"`` that of this one, with `confidence`.
            confidence: of ``"pac"``.
            per_class: keep the promise within each predicted class; rare classes share a threshold.
            allow_overlap: why it is right that some of the data was fitted on, if it is; stamped
                on every result and on what is saved.

        Returns:
            This monitor.

        Raises:
            CalibrationError: too few samples for the promise (says how many are needed), scores
                that are not finite, or samples that were fitted on.
            NotFittedError: a detector that learns was not fitted.
            DataError: no data, or inputs that are not finite.

        Cost:
            One pass over the data.
        """
        promise = Promise(fpr=fpr, mode=mode, confidence=confidence)
        self._require_fitted()
        seen: Seen | None = None
        looks: list[Look] = []
        for batch in self._batches(data, "calibrate"):
            if len(batch.x) == 0:
                continue
            refuse_nonfinite(batch.x, "calibration")
            looks.append(self._reader.look(batch.x, (LOGITS, KEYS)))
            new = Seen.of(batch.x, looks[-1].keys)
            seen = new if seen is None else seen.merge(new)
        if seen is None:
            raise DataError("calibrate was given no sample; give held-out in-distribution data.")
        overlap = overlap_override(seen, self._fitted, allow_overlap)
        look = Look.joined(looks)
        self._decider = Decider.of(look, promise, combine=self.combine, per_class=per_class)
        self._calibrated = seen
        kept = tuple(one for one in self._overrides if one.what != OVERLAP)
        self._overrides = (*kept, *overlap)
        return self

    def predict(self, data: Data) -> Result | Results:
        """Decide about every sample: out-of-distribution or not, with a p-value.

        Args:
            data: a tensor is one batch; any other iterable is a loader. Labels are ignored.

        Returns:
            A `Result` for one detector given bare, otherwise a mapping of them by detector name;
            see `gradood.calibration.results`. Tensors are on the CPU.

        Raises:
            CalibrationError: `calibrate` was not called.
            DataError: the input has another shape or type than the first batch seen.

        Cost:
            As `score`.
        """
        if self._decider is None:
            raise CalibrationError(
                "nothing was promised yet, so nothing can be decided: call "
                "monitor.calibrate(held_out, fpr=0.05) first. Scores alone: monitor.score."
            )
        looks = [self._reader.look(batch.x, (LOGITS,)) for batch in self._batches(data, "predict")]
        look = Look.joined(looks) if looks else Look.empty(self._reader.detectors)
        results = self._decider.results(look, self.overrides)
        return next(iter(results.values())) if self._bare else results

    # -- saving ---------------------------------------------------------------------------

    def save(self, path: str | os.PathLike[str]) -> None:
        """Save what was learned and promised in one file, which `gradood.load` reads.

        Args:
            path: a safetensors file; replaced atomically if it exists. The model is not in it, but
                what tells it from any other.

        Raises:
            NotFittedError: a detector that learns was not fitted, or nothing was run yet.
            ArtifactError: an option of a detector cannot be saved.
            OSError: the file cannot be written; what was there is unchanged.

        Cost:
            One forward pass of eight inputs, and reading all parameters.
        """
        from gradood.monitor.saving import save

        self._require_fitted()
        save(self, path)

    # -- binding --------------------------------------------------------------------------

    def bind(self, x: Tensor) -> Binding:
        """Observe the model on inputs like those to come, and plan what to read.

        Done by itself on the first batch; useful to see errors and warnings early.

        Args:
            x: (batch ≥ 1, …), finite.

        Raises:
            TapError: a detector cannot read this model.
        """
        return self._reader.bind(self._reader.ready(x))

    def _learners(self) -> dict[str, Learner]:
        return {n: d for n, d in self._reader.detectors.items() if isinstance(d, Learner)}

    def _batches(self, data: Data, what: str, *, labels: bool = False) -> Iterator[Batch]:
        return shown_batches(data, what, bar=self._progress, labels=labels)
