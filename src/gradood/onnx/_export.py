"""Export: a monitor as one file, written only after it was found to decide as the monitor does."""

import os
from collections.abc import Collection
from dataclasses import replace
from typing import Any, BinaryIO, Literal

import torch
from torch import Tensor

from gradood._engine.batches import Batch
from gradood._engine.detector_set import DetectorSet
from gradood._io.atomic import replace as replace_file
from gradood._io.optional import optional_module
from gradood.errors import (
    ConfigError,
    DataError,
    ExportError,
    ParityError,
)
from gradood.evidence import FEATURES, LOGITS
from gradood.monitor import Monitor
from gradood.onnx import _graph
from gradood.onnx._comparison import checked, openvino_predict, parity_of
from gradood.onnx._judge import (
    OnnxJudge,
    quantized,
    record_of,
    session_of,
)
from gradood.onnx._parity import (
    Parity,
    with_nonfinite_rows,
)
from gradood.onnx._pixels import Scaling
from gradood.onnx._record import GraphRecord
from gradood.onnx._selection import (
    Guarded,
    bound,
    chosen,
    identity_of,
    monitor_of,
    record_for,
    refuse,
)

__all__ = ["export", "exportable", "verify"]

_ROWS = 4096


def exportable(
    monitor: "Monitor[Any] | Guarded", *, part: Literal["model", "head", "pixels"] = "model"
) -> dict[str, str]:
    """Why a detector is in no graph, by name; empty for those that can be.

    Args:
        monitor: that has seen its model run.
        part: see `export`.

    Raises:
        NotFittedError: it has not.
    """
    detectors = bound(monitor_of(monitor))
    return {name: _graph.refusal(detectors.reads(name), part) or "" for name in detectors.detectors}


def export(
    monitor: "Monitor[Any] | Guarded",
    path: str | os.PathLike[str],
    *,
    example: Tensor | tuple[Tensor, Tensor],
    only: Collection[str] | None = None,
    part: Literal["model", "head", "pixels"] = "model",
    artifact: str | os.PathLike[str] | None = None,
) -> Parity:
    """Write a calibrated monitor as one ONNX graph: inputs to label, scores, p-values, decisions.

    The graph is run by onnxruntime before anything is written, at batch sizes 1, 7, 64 and 256 with
    rows that are not finite among them, and compared with the monitor: labels and status must be
    equal, scores within 2·10⁻⁴ of their standard deviation (5·10⁻³ where a score counts active
    units, 2·10⁻² where it cuts, bins or ranks features), and its p-values and decisions exactly
    those that the calibration gives of its scores.

    Args:
        monitor: calibrated, its model on the CPU; or a guard.
        path: the file; replaced atomically if it exists, and as it was if an error is raised.
        example: inputs of the model to compare on, a few hundred of all kinds to come; for
            ``part="pixels"`` uint8 (batch, height, width, channels), as of `Preprocess.pixels`.
        only: names of the detectors to export; a combination is of all of them, and needs all.
        part: ``"model"``; ``"head"``, from features and logits on, where another runtime runs the
            model; or ``"pixels"``, from images of the right size on, scaled as the detector says.
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
    source = monitor_of(monitor)
    _check_part(part)
    detectors, rule = chosen(source, only)
    refuse(detectors, part, rule)
    inputs = _rows(example)
    scaling = Scaling.of(source.preprocess) if part == "pixels" else None
    fed = _fed(detectors, inputs, part, scaling)
    record = record_for(source, detectors, rule, fed, part, artifact)
    arrays = with_nonfinite_rows([x.numpy() for x in fed])
    two = tuple(x[:2] if len(x) > 1 else x.repeat(2, *[1] * (x.ndim - 1)) for x in fed)
    data = _graph.graph_bytes(detectors, record, rule, two, scaling)
    parity = checked(data, detectors, rule, record, arrays, scaling)
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
    source = monitor_of(monitor)
    judge = OnnxJudge(path)
    record = judge.record
    detectors, rule = chosen(source, record.detectors)
    identity = identity_of(detectors, rule)
    if identity != record.identity:
        raise ExportError(
            f"{os.fspath(path)} was made of a monitor that had learned or promised something else "
            f"({record.identity[:12]}, not {identity[:12]}); export it again."
        )
    inputs = _rows(example)
    scaling = Scaling.of(record.preprocess) if record.part == "pixels" else None
    fed = _fed(detectors, inputs, record.part, scaling)
    arrays = with_nonfinite_rows([x.numpy() for x in fed])
    openvino = runtime == "openvino"
    predict = openvino_predict(path, record, precision) if openvino else judge.predict
    return parity_of(predict, detectors, rule, record, arrays, runtime, scaling)


def _check_part(part: str) -> None:
    if part not in ("model", "head", "pixels"):
        raise ConfigError(f"part={part!r}; expected 'model', 'head' or 'pixels'.")


# -- inputs -------------------------------------------------------------------------------


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


def _fed(
    detectors: DetectorSet, inputs: Tensor, part: str, scaling: Scaling | None
) -> tuple[Tensor, ...]:
    """What the graph is given of these inputs."""
    if scaling is not None:
        scaling.check(inputs)
        detectors.reader.ready(scaling(inputs[:1]))
        return (inputs.contiguous(),)
    ready = detectors.reader.ready(inputs)
    if not isinstance(ready, Tensor):
        raise ExportError("the model takes several inputs; a graph is made of one tensor alone.")
    if part == "model":
        return (ready.contiguous(),)
    wanted = (FEATURES, LOGITS)
    parts = [detectors.reader.read(Batch(rows), wanted).evidence for rows in ready.split(64)]
    features = torch.cat([evidence.features for evidence in parts])
    return features, torch.cat([evidence.logits for evidence in parts])


# -- the file --------------------------------------------------------------------------------


def _stamped(data: bytes, record: GraphRecord) -> bytes:
    """The graph with another record."""
    onnx = optional_module("onnx", "onnx", "writes graphs", 'pip install "gradood[onnx]"')
    if quantized(data):
        record = replace(record, quantized="as the model was")
    proto = onnx.ModelProto.FromString(data)
    for entry in proto.metadata_props:
        if entry.key == _graph.KEY:
            entry.value = record.to_json()
    onnx.checker.check_model(proto, full_check=True)
    return proto.SerializeToString(deterministic=True)


def _reads_back(file: BinaryIO) -> None:
    """Raise unless the temporary file can be run."""
    record_of(session_of(file.read()), "the written graph")
