"""Contributions of units, and of classes, to scores less a reference value."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

from gradood._io.arguments import instance, whole
from gradood.attribution._rules import RULES, rule_of
from gradood.detectors._shared.attributions import Terms
from gradood.detectors.base import Detector, State
from gradood.errors import ConfigError, DataError, NotFittedError, TapError
from gradood.evidence import FEATURES, LOGITS, Evidence, Read, Reads
from gradood.evidence.named_reads import default_name
from gradood.functional.gradnorm import linear_logits

__all__ = ["Contribution", "contributions", "reference_evidence"]


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class Contribution:
    """What the scores of one detector are made of, for each of N samples.

    ``score = reference + units.sum(1) + Σ parts + gap``, and nothing is rescaled to make it so.

    Attributes:
        detector: its name.
        rule: by which units have what they have, in words.
        score: (N,) float64, as the detector gives it.
        reference: (N,) the value from which the contributions count.
        units: (N, width) of each unit of the features; positive is toward out-of-distribution.
        classes: (N, classes) the same sum by classes, or None where the score is of none.
        parts: name → (N,) what is due to no unit.
        gap: (N,) what is left between the score and all of that; rounding, where a rule is exact.
        error: (N,) estimated error of the integrals, summed over the units.

    Rows of samples whose score or features are not finite are NaN.
    """

    detector: str
    rule: str
    score: Tensor
    reference: Tensor
    units: Tensor
    classes: Tensor | None
    parts: Mapping[str, Tensor]
    gap: Tensor
    error: Tensor

    def __len__(self) -> int:
        return len(self.score)

    def __getitem__(self, rows: int | slice | Tensor) -> "Contribution":
        """The contributions of some samples, or of one.

        Raises:
            ConfigError: `rows` are neither places nor a mask of samples.
            IndexError: there is no such sample.
        """
        if not isinstance(rows, slice | Tensor):
            row, size = whole(rows, "rows", least=-sys.maxsize), len(self)
            if not -size <= row < size:
                raise IndexError(f"sample {row} of {size}.")
            rows = slice(row % size, row % size + 1)
        elif isinstance(rows, Tensor) and (rows.is_floating_point() or rows.ndim != 1):
            raise ConfigError(
                f"rows of shape {tuple(rows.shape)} and {rows.dtype}; expected places of samples "
                "or a mask of them, (N,)."
            )
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        chosen = {n: value[rows] for n, value in values.items() if isinstance(value, Tensor)}
        parts = {name: value[rows] for name, value in self.parts.items()}
        return replace(self, **chosen, parts=parts)

    def sound(self, rows: Tensor) -> "Contribution":
        """The same, with NaN of all other rows.

        Args:
            rows: (N,) which are kept.
        """

        def kept(values: Tensor) -> Tensor:
            mask = rows.reshape(-1, *(1 for _ in values.shape[1:]))
            return torch.where(mask, values, torch.nan)

        values = {f.name: getattr(self, f.name) for f in fields(self)}
        chosen = {n: kept(value) for n, value in values.items() if isinstance(value, Tensor)}
        return replace(self, **chosen, parts={n: kept(part) for n, part in self.parts.items()})

    @property
    def relative_gap(self) -> Tensor:
        """(N,) size of the gap relative to ``score − reference``; 0 where both are 0."""
        moved = (self.score - self.reference).abs()
        return torch.where(self.gap == 0, 0.0, self.gap.abs() / moved)

    @property
    def by_units(self) -> bool:
        """Whether units have shares; otherwise all is in `parts`, one for each layer."""
        return not self.rule.startswith("layers:")

    def leading(self, count: int = 5) -> Tensor:
        """(N, count) places of the units with the largest contributions, the largest first.

        Raises:
            ConfigError: `count` is no number of them.
        """
        number = whole(count, "count")
        return self.units.topk(min(number, self.units.shape[1]), 1).indices


def contributions(
    detector: Detector, evidence: Evidence, reference: Tensor, state: State | None = None
) -> Contribution:
    """Each unit's contribution to the scores of a detector, by the rule that it declares.

    Args:
        detector: that says how, as `Detector.attribution`.
        evidence: what the detector reads, and features, logits and head.
        reference: (width,) the feature vector from which contributions count, where the rule takes
            one: the mean of the known features, if there is no better; or (N, width), one for each
            sample.
        state: what the detector has learned; None where it learns nothing.

    Raises:
        TapError: the detector says why its scores have no contributions of units, or nothing; or
            the evidence has no features.
        DataError: the reference is of another width.
        ConfigError: an argument is of another type.
        NotFittedError: the detector learns, and no state was given.

    Cost:
        Closed forms a product or two; integrals some 24 evaluations of the score for each row, and
        more at kinks. Memory for a few (N, width), and (classes, width) for itp and line.
    """
    instance(detector, Detector, "detector", "a detector such as gradood.Energy()")
    instance(evidence, Evidence, "evidence", "Evidence.of(readings, classes=…, head=…)")
    name, _ = rule_of(detector)
    if FEATURES not in evidence._read or LOGITS not in evidence._read:
        raise TapError(
            f"{detector.name} is explained by units of the features, and the evidence has none; "
            "read FEATURES and LOGITS with what the detector reads."
        )
    missing = [read for read in Reads(evidence.reads) if read not in evidence._read]
    if missing:
        raise TapError(
            f"{detector.name} reads {default_name(missing[0])}, which the evidence does not hold, "
            "as results keep logits and features alone; guard.explain(images) reads it again."
        )
    if state is None and detector.must_fit:
        raise NotFittedError(
            f"{detector.name} learns, and its state was not given: state= takes what its finish "
            "gave; monitor.explain(images) of a fitted monitor has it."
        )
    own = {} if state is None else {k: v.to(evidence.device) for k, v in state.items()}
    score = detector.measure(evidence.only(evidence.reads), own)
    sound = score.isfinite() & evidence.features.isfinite().all(1) & evidence.sound
    places = sound.nonzero()[:, 0]
    some = _rows(evidence, places)
    whole_start = reference_evidence(evidence, reference, evidence.size)
    start = _rows(whole_start, places)
    made = RULES[name](detector, some, own, start) if len(places) else _nothing(some)
    return _contribution(detector, score, sound, made)


def reference_evidence(evidence: Evidence, reference: Tensor, size: int) -> Evidence:
    """Feature vectors, and their logits ``W h + b``, as evidence of `size` rows.

    Args:
        evidence: of the samples.
        reference: (width,) for all of them, or (size, width).
        size: rows.

    Raises:
        DataError: it has another width than the features, or is not finite.
    """
    width = evidence.features.shape[1]
    try:
        vector = torch.as_tensor(reference).detach().to(evidence.device, torch.float64)
    except (TypeError, ValueError, RuntimeError) as error:
        raise DataError(f"reference is no feature vector: {error}.") from error
    fits = tuple(vector.shape) in ((width,), (size, width))
    if not fits or not bool(vector.isfinite().all()):
        raise DataError(
            f"reference of shape {tuple(vector.shape)}; expected one finite feature vector "
            f"({width},), such as the mean of the known features, or one for each sample."
        )
    head, rows = evidence.linear, vector.expand(size, -1)
    each = vector if vector.ndim == 2 else vector[None]
    logits = linear_logits(each, head.weight, head.bias).expand(size, -1)
    values: dict[Read, Tensor] = {FEATURES: rows, LOGITS: logits}
    return Evidence(size, evidence.classes, head, None, tuple(values), values)


def _rows(evidence: Evidence, places: Tensor) -> Evidence:
    values = {read: tensor[places] for read, tensor in evidence._read.items()}
    return replace(evidence, size=len(places), labels=None, _read=values)


def _nothing(evidence: Evidence) -> Terms:
    empty = evidence.features.new_zeros(0, dtype=torch.float64)
    return Terms(evidence.features.double(), empty)


def _contribution(detector: Detector, score: Tensor, sound: Tensor, made: Terms) -> Contribution:
    def placed(values: Tensor) -> Tensor:
        table = values.new_full((len(score), *values.shape[1:]), torch.nan)
        table[sound] = values
        return table.cpu()

    found = made.reference + made.units.sum(1)
    for part in made.parts.values():
        found = found + part
    error = made.error if isinstance(made.error, Tensor) else torch.zeros_like(found)
    return Contribution(
        detector=detector.name,
        rule=detector.attribution,
        score=score.cpu(),
        reference=placed(made.reference),
        units=placed(made.units),
        classes=None if made.classes is None else placed(made.classes),
        parts={name: placed(part) for name, part in made.parts.items()},
        gap=placed(score[sound] - found),
        error=placed(error),
    )
