"""The score that is explained: of one detector, or of several on a common scale."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import chain

import torch
from torch import Tensor

from gradood._engine.batches import Batch
from gradood._engine.detector_set import DetectorSet, detached
from gradood._engine.rows import Inputs
from gradood._engine.scoring import score_batch
from gradood._io.arguments import text
from gradood.attribution.contribution import contributions
from gradood.calibration._rule import DecisionRule
from gradood.errors import ConfigError, TapError, UnknownNameError, suggest
from gradood.evidence import FEATURES, KEYS, LOGITS, Basic, Evidence, Linear, Read, gather
from gradood.evidence.tracing import traced

__all__ = ["MappedScore", "mapped_score"]

_DIFFERENTIABLE = (LOGITS, FEATURES, KEYS)


@dataclass(frozen=True, eq=False, slots=True)
class MappedScore:
    """A weighted sum of scores less a constant, as a function of features and logits.

    Attributes:
        name: of the detectors.
        detectors: bound, and fitted where they learn.
        weights: detector → what its score is multiplied by.
        constant: that is subtracted.
    """

    name: str
    detectors: DetectorSet
    weights: Mapping[str, float]
    constant: float

    @property
    def reads_features(self) -> bool:
        """Whether a head is needed."""
        return any(FEATURES in self.detectors.reads(name) for name in self.weights)

    def of_inputs(self, inputs: Inputs) -> Tensor:
        """Scores (batch,) float64 on the CPU, of whatever the detectors read; +inf where none."""
        chosen = {name: self.detectors.detectors[name] for name in self.weights}
        others = {name: "" for name in self.detectors.detectors if name not in chosen}
        scores = score_batch(self.detectors.without(others), Batch(inputs)).scores
        return sum(
            (weight * scores[name] for name, weight in self.weights.items()),
            torch.full((len(inputs),), -self.constant, dtype=torch.float64, device="cpu"),
        )

    def of_features(self, features: Tensor | None, logits: Tensor) -> Tensor:
        """Scores (batch,) in float64, with their graph.

        Args:
            features: (batch, width), or None if none of the detectors reads them.
            logits: (batch, classes).

        Raises:
            TapError: a detector reads more than these.
        """
        network = self.detectors.binding.network
        readings: dict[Read, Tensor] = {LOGITS: logits.double()}
        head: Linear | None = None
        if features is not None:
            wide = torch.promote_types(features.dtype, torch.float32)
            readings[FEATURES] = features.to(wide)
            if network.head_found:
                weight, bias = network.head.linear()
                device = features.device
                head = Linear(weight.to(device), None if bias is None else bias.to(device))
        if any(KEYS in self.detectors.reads(name) for name in self.weights):
            readings[KEYS] = torch.arange(len(logits), device=logits.device)
        classes = 1 if network.link == "none" else logits.shape[1]
        evidence = Evidence.of(readings, classes=classes, head=head)
        total = torch.full_like(readings[LOGITS][:, 0], -self.constant)
        with torch.autocast(logits.device.type, enabled=False), traced():
            for name, weight in self.weights.items():
                state = {
                    key: value.to(logits.device)
                    for key, value in self.detectors.states.get(name, {}).items()
                }
                own = evidence.only(self.detectors.reads(name))
                total = total + weight * self.detectors.detectors[name].measure(own, state)
        return total

    def units(self, x: Inputs, reference: Tensor) -> tuple[Tensor, Tensor]:
        """(batch, width) contributions of the units, each by its detector's rule, and their start.

        Args:
            x: of a batch, finite, on the model's device.
            reference: (width,) features from which contributions count.

        Returns:
            The contributions, and (batch,) the scores at the reference with all that is due to no
            unit; float64.

        Raises:
            TapError: a detector's score has no contributions of units; says why.
        """
        network = self.detectors.binding.network
        own = [self.detectors.reads(name) for name in self.weights]
        evidence = gather(network, x, tuple(dict.fromkeys(chain(*own, (FEATURES, LOGITS)))))
        units = torch.zeros(evidence.features.shape, dtype=torch.float64, device="cpu")
        start = torch.full_like(units[:, 0], -self.constant)
        for name, weight in self.weights.items():
            rows = replace(evidence, reads=self.detectors.reads(name))
            with detached(evidence.device):
                found = contributions(
                    self.detectors.detectors[name],
                    rows,
                    reference,
                    self.detectors.states.get(name),
                )
            if not found.by_units:
                raise TapError(
                    f"{name} is a sum over layers, in which units of the last map have no share; "
                    'take method="occlusion", which maps any detector, or name another detector.'
                )
            units += weight * found.units
            start += weight * (found.reference + sum(found.parts.values()))
        return units.to(evidence.device), start.to(evidence.device)

    def require_differentiable(self) -> None:
        """Refuse detectors that read more than features and logits.

        Raises:
            TapError: names one, and what to do.
        """
        for name in self.weights:
            others = [r for r in self.detectors.reads(name) if r not in _DIFFERENTIABLE]
            if others:
                read = others[0]
                what = read.name if isinstance(read, Basic) else type(read).__name__.lower()
                raise TapError(
                    f"{name} reads more than features and logits (a {what}), so its score cannot "
                    'be followed back to places; take method="occlusion", which maps any '
                    "detector, or name another detector."
                )


def mapped_score(
    detectors: DetectorSet, rule: DecisionRule | None, detector: str | None
) -> MappedScore:
    """What to explain of a monitor.

    Of several detectors, ``Σ (s − median) / (q95 − median)`` with the median and the 95 % quantile
    of each one's calibration scores: 0 is an ordinary input and 1 the usual threshold, for each.

    Args:
        detectors: bound, and fitted where they learn.
        rule: calibrated, or None.
        detector: name of the one that is meant; None for all.

    Raises:
        UnknownNameError: there is no such detector.
        ConfigError: several are meant, and there is no calibration; or the name is no text.
    """
    names = list(detectors.detectors)
    if detector is not None and text(detector, "detector", "the name of one") not in names:
        raise UnknownNameError(f"no detector {detector!r}; {suggest(detector, names)}")
    if detector is not None or len(names) == 1:
        name = detector or names[0]
        return MappedScore(name, detectors, {name: 1.0}, 0.0)
    if rule is None:
        raise ConfigError(
            f"the monitor has {len(names)} detectors and no calibration, by which their scores "
            "become comparable; name one with detector=, or call monitor.calibrate first."
        )
    weights: dict[str, float] = {}
    constant = 0.0
    for name in names:
        scores = rule.each[name].scores
        finite = scores[scores.isfinite()]
        median, high = finite.median(), finite.quantile(0.95)
        weight = 1.0 / max(float(high - median), 1e-12)
        weights[name] = weight
        constant += weight * float(median)
    return MappedScore(" + ".join(names), detectors, weights, constant)
