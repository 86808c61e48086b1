"""What a monitor does to explain decisions: known features that it keeps, and reasons it gives."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from gradood._engine.batches import Batch, Data
from gradood._engine.detector_set import DetectorSet
from gradood._engine.rows import row_count
from gradood._engine.scoring import finite_batches
from gradood._io.arguments import whole
from gradood.attribution import (
    Explanation,
    KnownFeatures,
    explained,
    read_evidence,
)
from gradood.attribution.known import Ids, named
from gradood.calibration._why import Reference, with_source
from gradood.calibration.results import Result, Results
from gradood.errors import ConfigError, DataError, NotFittedError
from gradood.evidence import FEATURES, LOGITS, Evidence, Linear
from gradood.monitor._session import Session
from gradood.monitor._warnings import warn_of_change

__all__ = ["Explaining"]

_NEIGHBORS = 3
_NO_REFERENCE = (
    "contributions count from a reference, and no known features are kept to take their mean, as "
    "no file and no new fit keeps them: call remember(known) of this monitor or guard first, make "
    "the guard with explain=True or ids=, or give reference= a feature vector."
)
_ROUNDING = 0.1
"""Of the largest logit: more than a half-precision forward loses."""
_NO_IDS = "The nearest known samples are not named: no ids= were given to be kept."


class Explaining:
    """The part of a monitor that explains; see `gradood.Monitor`."""

    _session: Session

    @property
    def known(self) -> KnownFeatures | None:
        """The known features that were remembered; None until `remember`, and after a fit."""
        return self._session.state.known

    def remember(self, data: Data, *, ids: Ids | None = None) -> "Explaining":
        """Keep features of known samples, by which decisions are explained; returns this monitor.

        Kept are their mean, those of the predicted classes, and each sample's distance to the
        latter; with `ids` the features too. They are in no file that `save` writes.

        Args:
            data: known samples, such as those of the calibration. Labels are ignored.
            ids: what to call each sample, in their order, to name the nearest ones.

        Raises:
            DataError: no sample, one that is not finite, or another number of ids.
            TapError: the model has no head, and so no features.

        Cost:
            One pass over the data; its features in memory while it lasts.
        """
        session = self._session
        names = None if ids is None else named(ids)
        features, labels, classes = [], [], 1
        for batch in finite_batches(session._batches(data, "remember"), "known"):
            reading = _bound(session, batch).reader.read(Batch(batch.inputs), (FEATURES, LOGITS))
            reading.refuse_unsound("known")
            features.append(reading.evidence.features.cpu())
            labels.append(reading.predicted(reading.lost))
            classes = reading.evidence.classes
        width = features[0].shape[1] if features else 0
        known = KnownFeatures.of(
            torch.cat(features) if features else torch.zeros(0, width),
            torch.cat(labels) if labels else torch.zeros(0, dtype=torch.int64),
            classes,
            names,
        )
        session.mark(known=known)
        return self

    def explain(
        self, data: Data, *, reference: Reference = "class", neighbors: int = _NEIGHBORS
    ) -> tuple[Explanation, ...]:
        """Why each sample is decided on as it is, with all that the detectors read.

        Args:
            data: as for `predict`.
            reference: (width,) feature vector from which contributions count, or (N, width), one
                for each sample; ``"class"`` for the mean of the known features (`remember`) that
                were taken for the same class as the sample, ``"mean"`` for that of all.
            neighbors: how many of the nearest known samples are named, where ids were kept.

        Raises:
            NotFittedError: no reference is known.
            CalibrationError: as `predict`.
            ConfigError: `neighbors` is no number of them.
            DataError: `reference` is no vector of the features' width, nor one for each sample.

        Cost:
            Two passes over the data, and `gradood.attribution.contributions` of each detector.
        """
        neighbors = whole(neighbors, "neighbors")
        session, found = self._session, []
        for batch in session._batches(data, "explain"):
            if row_count(batch.inputs):
                results = session.predict(batch, ("logits", "features"))  # type: ignore[arg-type]
                bound = session.state.bound
                assert bound is not None
                evidence = read_evidence(bound, batch.inputs)
                source = _Source(bound, session.state.known)
                start = _rows_of(reference, len(found), row_count(batch.inputs))
                found += source.explanations(results, evidence, start, neighbors, len(found))
        if found and _each(reference) and len(reference) != len(found):
            raise DataError(
                f"reference has {len(reference)} rows for {len(found)} samples; expected one "
                "feature vector, or one for each sample."
            )
        return tuple(found)

    def _with_source(self, results: Results) -> Results:
        """The same results, which know by what they are explained."""
        state = self._session.state
        if state.bound is None:
            return results
        source = _Source(state.bound, state.known)
        for name, result in results.items():
            with_source(result, replace(source, name=name))
        if results.combined is not None:
            with_source(results.combined, source)
        return with_source(results, source)


def _bound(session: Session, batch: Batch) -> DetectorSet:
    if session.state.bound is None:
        session._keep(session.unbound.bind(session.unbound.moved(batch.inputs)))
    bound = session.state.bound
    assert bound is not None
    return bound


@dataclass(frozen=True, eq=False, slots=True)
class _Source:
    """What explains results: the detectors that made them, and known features.

    Attributes:
        bound: with what was learned.
        known: to compare with, or None.
        name: of the detector whose result it is; None for all of them.
    """

    bound: DetectorSet
    known: KnownFeatures | None
    name: str | None = None

    def why(self, result: Result | Results, place: int, reference: Reference) -> Explanation:
        """Of one sample, by what the result keeps."""
        size = len(result.status)
        place = whole(place, "i", least=-sys.maxsize)
        if not -size <= place < size:
            raise IndexError(f"sample {place} of {size}.")
        if result.logits is None or result.features is None:
            raise NotFittedError(
                "this result did not keep the features and logits that explain it; ask for them: "
                "monitor.predict(images, keep=('logits', 'features')), then why(i); or "
                "guard.explain(images), which reads them again."
            )
        row = slice(place % size, place % size + 1)
        linear = self._head()
        if linear is not None:
            _compare_head(linear, result.features[row], result.logits[row])
        values: dict[Any, Tensor] = {FEATURES: result.features[row], LOGITS: result.logits[row]}
        classes = result.logits.shape[1]
        evidence = Evidence(1, classes, linear, None, tuple(values), values)
        (found,) = self.explanations(result[row], evidence, reference, _NEIGHBORS, place % size)
        return found

    def _head(self) -> Linear | None:
        """On the CPU, as it is now; None where the features alone are named."""
        network = self.bound.binding.network
        if not network.head_found:
            return None
        weight, bias = network.head.linear()
        return Linear(weight.detach().cpu(), None if bias is None else bias.detach().cpu())

    def _start(self, reference: Reference, label: Tensor) -> Tensor:
        """What contributions count from: (width,), or (N, width)."""
        if reference is not None and not isinstance(reference, str):
            return reference
        if reference not in ("class", "mean"):
            raise ConfigError(
                f"reference={reference!r:.80}; expected a feature vector, 'class' for the mean of "
                "the known features of the same class, or 'mean' for that of all."
            )
        if self.known is None:
            raise NotFittedError(_NO_REFERENCE)
        return self.known.mean if reference == "mean" else self.known.references(label)

    def explanations(
        self,
        results: Result | Results,
        evidence: Evidence,
        reference: Reference,
        neighbors: int,
        first: int,
    ) -> list[Explanation]:
        """Of every sample of some results."""
        start = self._start(reference, results.label)
        bound = self.bound
        if self.name is not None:
            others = {name: "" for name in bound.detectors if name != self.name}
            bound = replace(bound.without(others), left_out=bound.left_out)
        each, reasons = explained(bound, evidence, start)
        answered = torch.tensor([status == "ok" for status in results.status])
        each = {name: made.sound(answered) for name, made in each.items()}
        by_name = _named(results, self.name)
        deciding = results if isinstance(results, Result) else results.combined
        flagged = by_name if deciding is None else {"": deciding}
        classes = bound.binding.network.link != "none"
        known, found = self.known, []
        near = known.nearest(evidence.features, neighbors) if known else None
        notes = () if known is None or known.ids is not None else (_NO_IDS,)
        for i in range(len(results.status)):
            label = int(results.label[i])
            feature = evidence.features[i]
            sound = bool(feature.isfinite().all()) and label >= 0
            found.append(
                Explanation(
                    place=first + i,
                    label=label,
                    is_ood=any(bool(result.is_ood[i]) for result in flagged.values()),
                    p_values={n: float(result.p_value[i]) for n, result in by_name.items()},
                    scores={n: float(result.score[i]) for n, result in by_name.items()},
                    contributions={n: c[i : i + 1] for n, c in each.items()},
                    unexplained=reasons,
                    typicality=known.typicality(feature, label) if known and sound else None,
                    neighbors=near[i] if near is not None and sound else None,
                    notes=notes,
                    classes=classes,
                    features=feature.cpu() if sound else None,
                )
            )
        return found


def _each(reference: Reference) -> bool:
    """Whether it is one feature vector for each sample."""
    return getattr(reference, "ndim", 1) == 2


def _rows_of(reference: Reference, start: int, size: int) -> Reference:
    """The reference of some samples."""
    if isinstance(reference, str) or not _each(reference):
        return reference
    return reference[start : start + size]


def _named(results: Result | Results, name: str | None) -> Mapping[str, Result]:
    """Results by detector, the combination last."""
    if isinstance(results, Result):
        return {name or "combined": results}
    combined = {} if results.combined is None else {"combined": results.combined}
    return {**results, **combined}


def _compare_head(head: Linear, features: Tensor, logits: Tensor) -> None:
    """Warn if kept logits are not what the head makes of kept features, beyond any rounding."""
    made = features.double() @ head.weight.double().T
    made = made if head.bias is None else made + head.bias.double()
    far = (made - logits.double()).abs().amax() > _ROUNDING * logits.double().abs().amax()
    if bool(far):
        warn_of_change("the head is not as it was when this result was made", "calibrated")
