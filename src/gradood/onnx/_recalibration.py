"""Quantized graphs: scores that are others need a calibration of their own."""

import os
from dataclasses import replace
from typing import Any, BinaryIO, Literal

import numpy as np
import torch
from torch import Tensor, nn

from gradood._io.atomic import replace as replace_file
from gradood._io.hashing import tensors_digest
from gradood._io.optional import optional_module
from gradood.calibration import Promise
from gradood.calibration._rule import DecisionRule
from gradood.calibration.results import BatchScores
from gradood.errors import CalibrationError, DataError, ExportError, ParityError
from gradood.evidence.content_keys import content_keys
from gradood.onnx._comparison import as_arrays, as_scores
from gradood.onnx._graph import converted
from gradood.onnx._judge import OnnxResults, record_of, results_of, session_of
from gradood.onnx._lookup import RuleLookup
from gradood.onnx._parity import SIZES, STEP_LIMIT, Parity, compared, in_batches
from gradood.onnx._record import KEY, RECALIBRATED, SENTINEL, GraphRecord, TensorSpec

__all__ = ["recalibrate"]


def recalibrate(
    path: str | os.PathLike[str],
    out: str | os.PathLike[str],
    held_out: Tensor,
    *,
    fpr: float,
    mode: Literal["marginal", "pac"] = "marginal",
    confidence: float = 0.95,
) -> Parity:
    """Calibrate a graph that was quantized after its export, on the scores that it gives now.

    A quantized network has other scores, so that the thresholds of the float one promise nothing
    of it. Its scores stay as they are; p-values, decisions and the combination are made anew and
    replace the old ones in the graph, whose record says so.

    Args:
        path: a graph of `gradood.export`, quantized statically, such as by
            ``onnxruntime.quantization.quantize_static`` with ``op_types_to_quantize=["Conv"]``.
        out: where the graph goes; replaced atomically if it exists.
        held_out: inputs (batch, …) of the known kind, that neither network nor detector has seen;
            not those that the quantizer took its ranges from.
        fpr: as of `gradood.Monitor.calibrate`.
        mode: as there.
        confidence: as there.

    Returns:
        What was compared: the graph written, with what the new calibration says of its scores.

    Raises:
        ExportError: rows depend on the batch that they are in, as in a dynamically quantized
            graph, which takes the range of activations over the batch: no calibration holds then.
        CalibrationError: too few samples for the promise; or a graph per class.
        ArtifactError: the file is no graph of gradood's.
        DataError: the inputs are not those of the graph.
        ModuleNotFoundError: ``pip install "gradood[onnx]"`` is missing.

    Cost: four passes over the samples, and some seconds.
    """
    promise, source = Promise(fpr=fpr, mode=mode, confidence=confidence), os.fspath(path)
    with open(path, "rb") as file:
        data = file.read()
    session = session_of(data, source=source)
    record, array = _checked(record_of(session, source), held_out)
    batch = _batch(*_scores(session, record, array), held_out)
    rule = DecisionRule.of(batch, promise, combine=record.combine)  # type: ignore[arg-type]
    record = replace(
        record,
        promise=str(rule.promise),
        identity=tensors_digest(rule.tensors()),
        artifact="",
        quantized=f"{RECALIBRATED} {len(array)} inputs after it was quantized",
        parity={},
    )
    joined = _with_rule(data, record, rule)
    parity = _compared(joined, record, rule, array)
    if not parity.holds:
        raise ParityError(f"the graph does not decide as its calibration does:\n{parity}")
    joined = _recorded(joined, replace(record, parity=parity.to_plain()))
    replace_file(os.fspath(out), [joined], _reads_back)
    return parity


def _checked(record: GraphRecord, held_out: Any) -> tuple[GraphRecord, Any]:
    """The record, and the inputs in NumPy, if the one can be calibrated on the others."""
    if record.per_class:
        raise CalibrationError("a graph with a promise per class cannot be calibrated again yet.")
    if len(record.inputs) > 1 or not isinstance(held_out, Tensor) or not len(held_out):
        raise DataError("held_out is one tensor of the graph's inputs; give such.")
    given: TensorSpec = next(iter(record.inputs))
    array = np.ascontiguousarray(held_out.numpy())
    if array.shape[1:] != given.shape[1:] or str(array.dtype) != given.dtype:
        raise DataError(
            f"held_out has shape {array.shape} and type {array.dtype}; expected "
            f"{given.shape} of {given.dtype}."
        )
    return record, array


def _scores(session: Any, record: GraphRecord, array: Any) -> tuple[dict[str, Tensor], Tensor]:
    """Scores (N,) of each detector, +inf where there is none, and labels.

    Raises:
        ExportError: they depend on the batch.
    """
    names = [spec.name for spec in record.outputs]
    given = record.inputs[0].name

    def run(rows: Any) -> OnnxResults:
        return results_of(record, dict(zip(names, session.run(names, {given: rows}), strict=True)))

    found = {size: in_batches(run, [array], size) for size in SIZES}
    whole = found[max(SIZES)]
    for name in record.detectors:
        score = whole[name].score
        finite = np.isfinite(score)
        spread = float(score[finite].std()) if finite.any() else 0.0
        for size, other in found.items():
            with np.errstate(invalid="ignore"):
                apart = np.abs(np.where(score == other[name].score, 0, score - other[name].score))
            if float(apart.max()) > STEP_LIMIT * (spread or 1.0):
                raise ExportError(
                    f"the {name} score of an input depends on the others of its batch: it differs "
                    f"by {float(apart.max() / (spread or 1.0)):.1e} sd between batches of {size} "
                    f"and of {max(SIZES)}, as in a graph that is quantized dynamically, which "
                    "takes the range of activations over the batch. No calibration holds for such "
                    "a graph; quantize it statically, as by quantize_static of onnxruntime."
                )
    return (
        {name: torch.from_numpy(whole[name].score.copy()) for name in record.detectors},
        torch.from_numpy(whole.label.copy()),
    )


def _batch(scores: dict[str, Tensor], labels: Tensor, inputs: Tensor) -> BatchScores:
    lost = ~inputs.flatten(1).isfinite().all(1)
    return BatchScores(scores, labels, lost, content_keys(inputs))


class _Decider(nn.Module):
    """Outputs of a record from the scores, statuses and labels of a graph.

    Args:
        record: with the outputs, in order.
        rule: that decides.
    """

    def __init__(self, record: GraphRecord, rule: DecisionRule) -> None:
        super().__init__()
        self._record, self._rule = record, RuleLookup(rule, record.classes)

    def forward(self, label: Tensor, status: Tensor, *given: Tensor) -> tuple[Tensor, ...]:
        record = self._record
        scores = {
            name: torch.where(score >= SENTINEL, torch.inf, score)
            for name, score in zip(record.detectors, given, strict=True)
        }
        outputs: dict[str, Tensor] = {"label": label + 0}
        parts = dict[str, Tensor](scores)
        statistic = self._rule.statistic(scores)
        if statistic is not None:
            parts["combined"] = statistic
        for part, score in parts.items():
            sound = score.isfinite()
            bad = torch.where(status == 1, 1, torch.where(sound, 0, 2))
            outputs[record.output(part, "score")] = torch.where(sound, score, SENTINEL)
            outputs[record.output(part, "status")] = bad.to(torch.int8)
            decided = self._rule.decided(part if part in scores else None, scores, label)
            for what, value in zip(decided._fields, decided, strict=True):
                outputs[record.output(part, what)] = value
        return tuple(outputs[spec.name] for spec in record.outputs)


def _with_rule(data: bytes, record: GraphRecord, rule: DecisionRule) -> bytes:
    """The graph up to its scores, with another rule behind them."""
    onnx = optional_module("onnx", "onnx", "writes graphs", 'pip install "gradood[onnx]"')
    taken = ["label", record.output(record.detectors[0], "status")]
    taken += [record.output(name, "score") for name in record.detectors]
    whole = onnx.ModelProto.FromString(data)
    fed = [spec.name for spec in record.inputs]
    part = onnx.utils.Extractor(whole).extract_model(fed, taken)
    example = (
        torch.zeros(2, dtype=torch.int64),
        torch.zeros(2, dtype=torch.int8),
        *(torch.zeros(2, dtype=torch.float64) for _ in record.detectors),
    )
    names = [f"given/{name}" for name in taken]
    decider = converted(
        _Decider(record, rule).eval(), example, names, [spec.name for spec in record.outputs]
    ).model_proto
    decider.ir_version = part.ir_version
    joined = onnx.compose.merge_models(
        onnx.compose.add_prefix(part, "model/"),
        decider,
        io_map=[(f"model/{name}", f"given/{name}") for name in taken],
    )
    for node in joined.graph.node:
        for place, name in enumerate(node.input):
            if name.removeprefix("model/") in fed:
                node.input[place] = name.removeprefix("model/")
    for value in joined.graph.input:
        value.name = value.name.removeprefix("model/")
    joined.producer_name, joined.producer_version = "gradood", record.version
    del joined.metadata_props[:], joined.graph.metadata_props[:]
    return _recorded(joined.SerializeToString(deterministic=True), record)


def _recorded(data: bytes, record: GraphRecord) -> bytes:
    onnx = optional_module("onnx", "onnx", "writes graphs", 'pip install "gradood[onnx]"')
    proto = onnx.ModelProto.FromString(data)
    del proto.metadata_props[:]
    proto.metadata_props.add(key=KEY, value=record.to_json())
    return proto.SerializeToString(deterministic=True)


def _compared(data: bytes, record: GraphRecord, rule: DecisionRule, array: Any) -> Parity:
    """The graph with what its rule says of its scores."""
    session = session_of(data)
    names = [spec.name for spec in record.outputs]

    def run(rows: Any) -> OnnxResults:
        fed = {record.inputs[0].name: rows}
        return results_of(record, dict(zip(names, session.run(names, fed), strict=True)))

    graph = {size: in_batches(run, [array], size) for size in SIZES}
    limits = dict.fromkeys(record.detectors, STEP_LIMIT)

    def decided(results: OnnxResults) -> OnnxResults:
        return as_arrays(rule.results(as_scores(results), record.overrides))

    return compared(record, graph, decided(graph[max(SIZES)]), decided, limits)


def _reads_back(file: BinaryIO) -> None:
    record_of(session_of(file.read()), "the written graph")
