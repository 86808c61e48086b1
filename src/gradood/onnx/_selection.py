"""What of a monitor goes into a graph: detectors, rule, and the record of both."""

import json
import os
from collections.abc import Collection
from dataclasses import replace
from typing import Any, Literal, Protocol

from torch import Tensor

import gradood
from gradood._engine.detector_set import DetectorSet
from gradood._io.hashing import tensors_digest
from gradood.artifact import check as check_artifact
from gradood.calibration._rule import DecisionRule
from gradood.errors import (
    CalibrationError,
    ConfigError,
    ExportError,
    NotFittedError,
)
from gradood.monitor import Monitor
from gradood.onnx import _graph
from gradood.onnx._record import GraphRecord, TensorSpec, outputs_of

__all__ = ["Guarded", "bound", "chosen", "identity_of", "monitor_of", "record_for", "refuse"]


class Guarded(Protocol):
    """A guard, as far as it is exported."""

    @property
    def monitor(self) -> Monitor[Any]:
        """The monitor that it asks."""
        ...


def monitor_of(given: "Monitor[Any] | Guarded") -> Monitor[Any]:
    if isinstance(given, Monitor):
        return given
    monitor = getattr(given, "monitor", None)
    if not isinstance(monitor, Monitor):
        raise ConfigError(f"{type(given).__name__} was given; expected a Monitor or a Guard.")
    return monitor


def bound(monitor: Monitor[Any]) -> DetectorSet:
    bound = monitor._session.state.bound
    if bound is None or bound.unfitted:
        raise NotFittedError("the monitor was not fitted on its model; call monitor.fit first.")
    return bound


def chosen(monitor: Monitor[Any], only: Collection[str] | None) -> tuple[DetectorSet, DecisionRule]:
    """The detectors to export, and the rule of these."""
    detectors = bound(monitor)
    rule = monitor._session.state.rule
    if rule is None:
        raise CalibrationError(
            "the monitor promises nothing yet, so that a graph of it could decide nothing: call "
            "monitor.calibrate(held_out, fpr=0.05) first."
        )
    if detectors.binding.network.device.type != "cpu":
        raise ConfigError("the model is not on the CPU, where graphs are made: model.cpu() first.")
    if only is None:
        return detectors, rule
    unknown = [name for name in only if name not in detectors.detectors]
    if unknown or not only:
        raise ConfigError(
            f"only={sorted(only)}; expected some of {', '.join(detectors.detectors)}."
        )
    others = {name: "" for name in detectors.detectors if name not in only}
    if not others:
        return detectors, rule
    return detectors.without(others), _of(rule, only)


def _of(rule: DecisionRule, names: Collection[str]) -> DecisionRule:
    """A rule of some detectors; without their combination, which would be another decision."""
    each = {name: made for name, made in rule.each.items() if name in names}
    return DecisionRule(
        each,
        contents=rule.contents,
        fewer_copies=tuple(_of(fewer, names) for fewer in rule.fewer_copies),
    )


def refuse(detectors: DetectorSet, part: str, rule: DecisionRule) -> None:
    refused = {
        name: why
        for name in detectors.detectors
        if (why := _graph.refusal(detectors.reads(name), part)) is not None
    }
    if not refused:
        return
    rest = [name for name in detectors.detectors if name not in refused]
    reasons = "; ".join(f"{name} {why}" for name, why in refused.items())
    advice = f"only={rest} leaves the others" if rest else "take detectors that can be"
    if rule.fusion is not None and rest:
        advice += ", each with its own decision: combined without it they would decide otherwise"
    raise ExportError(f"not every detector can be in a graph: {reasons}. {advice}.")


def record_for(
    monitor: Monitor[Any],
    detectors: DetectorSet,
    rule: DecisionRule,
    fed: tuple[Tensor, ...],
    part: Literal["model", "head", "pixels"],
    artifact: str | os.PathLike[str] | None,
) -> GraphRecord:
    names = ("features", "logits") if part == "head" else ("input",)
    inputs = tuple(
        TensorSpec(name, str(x.dtype).removeprefix("torch."), (-1, *x.shape[1:]))
        for name, x in zip(names, fed, strict=True)
    )
    combine = None if rule.fusion is None else rule.fusion.how
    record = GraphRecord(
        detectors=tuple(detectors.detectors),
        combine=combine,
        bare=len(detectors.detectors) == 1 and combine is None,
        part=part,
        classes=detectors.binding.network.classes,
        per_class=rule.per_class,
        promise=str(rule.promise),
        inputs=inputs,
        outputs=(),
        preprocess=_plain(monitor.preprocess),
        overrides=monitor.overrides,
        identity=identity_of(detectors, rule),
        artifact="" if artifact is None else check_artifact(os.fspath(artifact)).sha256,
        version=gradood.__version__,
    )
    return replace(record, outputs=outputs_of(record))


def _plain(value: Any) -> Any:
    return None if value is None else json.loads(json.dumps(value))


def identity_of(detectors: DetectorSet, rule: DecisionRule) -> str:
    """SHA-256 of what was learned and promised."""
    tensors = {f"rule/{name}": tensor for name, tensor in rule.tensors().items()}
    for name, state in detectors.states.items():
        if name in detectors.detectors:
            tensors |= {f"state/{name}/{key}": value for key, value in state.items()}
    return tensors_digest(tensors)
