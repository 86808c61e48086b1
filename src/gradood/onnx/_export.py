"""Export: a monitor as one file, written only after it was found to decide as the monitor does."""

import json
import os
from collections.abc import Collection
from dataclasses import replace
from typing import Any, BinaryIO, Literal, Protocol

import torch
from torch import Tensor

import gradood
from gradood._engine.batches import Batch
from gradood._engine.detector_set import DetectorSet
from gradood._io.atomic import replace as replace_file
from gradood._io.hashing import tensors_digest
from gradood._io.optional import optional_module
from gradood.artifact import check as check_artifact
from gradood.calibration._rule import DecisionRule
from gradood.errors import (
    CalibrationError,
    ConfigError,
    DataError,
    ExportError,
    NotFittedError,
    ParityError,
)
from gradood.evidence import FEATURES, LOGITS
from gradood.monitor import Monitor
from gradood.onnx import _graph
from gradood.onnx._comparison import checked, parity_of
from gradood.onnx._judge import (
    OnnxJudge,
    record_of,
    session_of,
)
from gradood.onnx._openvino import openvino_predict
from gradood.onnx._parity import (
    Parity,
    with_nonfinite_rows,
)
from gradood.onnx._record import GraphRecord, TensorSpec

__all__ = ["Guarded", "export", "exportable", "verify"]

_ROWS = 1024


class Guarded(Protocol):
    """A guard, as far as it is exported."""

    @property
    def monitor(self) -> Monitor[Any]:
        """The monitor that it asks."""
        ...


def exportable(
    monitor: "Monitor[Any] | Guarded", *, part: Literal["model", "head"] = "model"
) -> dict[str, str]:
    """Why a detector is in no graph, by name; empty for those that can be.

    Args:
        monitor: that has seen its model run.
        part: see `export`.

    Raises:
        NotFittedError: it has not.
    """
    detectors = _bound(_monitor(monitor))
    return {name: _graph.refusal(detectors.reads(name), part) or "" for name in detectors.detectors}


def export(
    monitor: "Monitor[Any] | Guarded",
    path: str | os.PathLike[str],
    *,
    example: Tensor | tuple[Tensor, Tensor],
    only: Collection[str] | None = None,
    part: Literal["model", "head"] = "model",
    artifact: str | os.PathLike[str] | None = None,
) -> Parity:
    """Write a calibrated monitor as one ONNX graph: inputs to label, scores, p-values, decisions.

    The graph is run by onnxruntime before anything is written, at batch sizes 1, 7, 64 and 256 with
    rows that are not finite among them, and compared with the monitor: labels and status must be
    equal, scores within 10⁻⁴ of their standard deviation (5·10⁻³ where they count active units),
    and its p-values and decisions exactly those that the calibration gives of its scores.

    Args:
        monitor: calibrated, its model on the CPU; or a guard.
        path: the file; replaced atomically if it exists, and as it was if an error is raised.
        example: inputs to compare on, as the monitor takes them; a few hundred, of all kinds to
            come. For ``part="head"`` the inputs of the model too.
        only: names of the detectors to export; a combination is of all of them, and needs all.
        part: ``"model"``; or ``"head"``, from features and logits on, for what runs the model
            itself in another runtime, such as TensorRT.
        artifact: the file that the monitor was loaded from, whose SHA-256 the graph is to name.

    Returns:
        What was compared.

    Raises:
        ExportError: a detector is in no graph; says why.
        ParityError: the graph does not decide as the monitor does; with a table of what differs.
        CalibrationError: the monitor was not calibrated.
        ConfigError: the model cannot be traced, or an option has a wrong value.
        ModuleNotFoundError: ``pip install "gradood[onnx]"`` is missing.
        OSError: the file cannot be written.

    Cost: some seconds for each hundred layers, and five passes over the example.
    """
    if part not in ("model", "head"):
        raise ConfigError(f"part={part!r}; expected 'model' or 'head'.")
    source = _monitor(monitor)
    detectors, rule = _chosen(source, only)
    _refuse(detectors, part, rule)
    inputs = _rows(example)
    fed = _fed(detectors, inputs, part)
    record = _record(source, detectors, rule, fed, part, artifact)
    arrays = with_nonfinite_rows([x.numpy() for x in fed])
    two = tuple(x[:2] if len(x) > 1 else x.repeat(2, *[1] * (x.ndim - 1)) for x in fed)
    data = _graph.graph_bytes(detectors, record, rule, two)
    parity = checked(data, detectors, rule, record, arrays, inputs)
    if not parity.holds:
        raise ParityError(
            f"the graph does not decide as the monitor does, and was not written:\n{parity}\n"
            "Leave out what fails with only=, or report it with the model."
        )
    data = _stamped(data, replace(record, parity=parity.to_plain()))
    replace_file(os.fspath(path), [data], _reads_back)
    return parity


def verify(
    path: str | os.PathLike[str],
    monitor: "Monitor[Any] | Guarded",
    *,
    example: Tensor,
    runtime: Literal["onnxruntime", "openvino"] = "onnxruntime",
    precision: Literal["f32", "default"] = "f32",
) -> Parity:
    """Compare a graph with the monitor that it was made of, as `export` did.

    Args:
        path: the graph.
        monitor: calibrated as it was.
        example: as of `export`.
        runtime: what runs the graph.
        precision: of OpenVINO: ``"f32"``, or its ``"default"``, which on some processors is
            bfloat16 and then fails here.

    Returns:
        What was compared; `Parity.holds` says whether the graph may stand for the monitor.

    Raises:
        ArtifactError: the file is no graph of gradood's.
        ExportError: the graph is of another monitor.
        ModuleNotFoundError: the runtime is not installed.
    """
    source = _monitor(monitor)
    judge = OnnxJudge(path)
    record = judge.record
    detectors, rule = _chosen(source, record.detectors)
    identity = _identity(detectors, rule)
    if identity != record.identity:
        raise ExportError(
            f"{os.fspath(path)} was made of a monitor that had learned or promised something else "
            f"({record.identity[:12]}, not {identity[:12]}); export it again."
        )
    inputs = _rows(example)
    fed = _fed(detectors, inputs, record.part)
    arrays = with_nonfinite_rows([x.numpy() for x in fed])
    openvino = runtime == "openvino"
    predict = openvino_predict(path, record, precision) if openvino else judge.predict
    return parity_of(predict, detectors, rule, record, arrays, inputs, runtime)


# -- what is exported ------------------------------------------------------------------------


def _monitor(given: "Monitor[Any] | Guarded") -> Monitor[Any]:
    if isinstance(given, Monitor):
        return given
    monitor = getattr(given, "monitor", None)
    if not isinstance(monitor, Monitor):
        raise ConfigError(f"{type(given).__name__} was given; expected a Monitor or a Guard.")
    return monitor


def _bound(monitor: Monitor[Any]) -> DetectorSet:
    bound = monitor._session.state.bound
    if bound is None or bound.unfitted:
        raise NotFittedError("the monitor was not fitted on its model; call monitor.fit first.")
    return bound


def _chosen(
    monitor: Monitor[Any], only: Collection[str] | None
) -> tuple[DetectorSet, DecisionRule]:
    """The detectors to export, and the rule of these."""
    detectors = _bound(monitor)
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


def _refuse(detectors: DetectorSet, part: str, rule: DecisionRule) -> None:
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


def _rows(example: Any) -> Tensor:
    if isinstance(example, tuple | list):
        example = example[0] if len(example) else example
    if not isinstance(example, Tensor) or example.ndim < 2 or len(example) == 0:
        raise DataError(
            "example is no batch of inputs; expected a tensor (batch, …) as the monitor takes it."
        )
    if not bool(torch.isfinite(example).all()):
        raise DataError("example holds NaN or infinity; rows of such are added by themselves.")
    return example.detach().cpu()[:_ROWS]


def _fed(detectors: DetectorSet, inputs: Tensor, part: str) -> tuple[Tensor, ...]:
    """What the graph is given of these inputs."""
    ready = detectors.reader.ready(inputs)
    if part == "model":
        return (ready.contiguous(),)
    wanted = (FEATURES, LOGITS)
    parts = [detectors.reader.read(Batch(rows), wanted).evidence for rows in ready.split(64)]
    features = torch.cat([evidence.features for evidence in parts])
    return features, torch.cat([evidence.logits for evidence in parts])


def _record(
    monitor: Monitor[Any],
    detectors: DetectorSet,
    rule: DecisionRule,
    fed: tuple[Tensor, ...],
    part: Literal["model", "head"],
    artifact: str | os.PathLike[str] | None,
) -> GraphRecord:
    names = ("input",) if part == "model" else ("features", "logits")
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
        identity=_identity(detectors, rule),
        artifact="" if artifact is None else check_artifact(artifact).sha256,
        version=gradood.__version__,
    )
    return replace(record, outputs=_outputs(record))


def _plain(value: Any) -> Any:
    return None if value is None else json.loads(json.dumps(value))


def _outputs(record: GraphRecord) -> tuple[TensorSpec, ...]:
    kinds = {"score": "float64", "p_value": "float64", "is_ood": "bool", "status": "int8"}
    if record.per_class:
        kinds["class_conditional"] = "bool"
    parts = record.decisions[::-1] if record.combine else record.decisions
    parts = tuple(sorted(parts, key=lambda part: part != "combined"))
    named = [
        TensorSpec(record.output(part, what), kind, (-1,))
        for part in parts
        for what, kind in kinds.items()
    ]
    return (TensorSpec("label", "int64", (-1,)), *named)


def _identity(detectors: DetectorSet, rule: DecisionRule) -> str:
    """SHA-256 of what was learned and promised."""
    tensors = {f"rule/{name}": tensor for name, tensor in rule.tensors().items()}
    for name, state in detectors.states.items():
        if name in detectors.detectors:
            tensors |= {f"state/{name}/{key}": value for key, value in state.items()}
    return tensors_digest(tensors)


# -- the file --------------------------------------------------------------------------------


def _stamped(data: bytes, record: GraphRecord) -> bytes:
    """The graph with another record."""
    onnx = optional_module("onnx", "onnx", "writes graphs", 'pip install "gradood[onnx]"')
    proto = onnx.ModelProto.FromString(data)
    for entry in proto.metadata_props:
        if entry.key == _graph.KEY:
            entry.value = record.to_json()
    onnx.checker.check_model(proto, full_check=True)
    return proto.SerializeToString(deterministic=True)


def _reads_back(file: BinaryIO) -> None:
    """Raise unless the temporary file can be run."""
    record_of(session_of(file.read()), "the written graph")
