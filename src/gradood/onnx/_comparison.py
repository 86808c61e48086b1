"""A monitor and its graph on the same rows."""

import os
from collections.abc import Callable, Mapping
from typing import Any, Literal

import torch
from torch import Tensor

from gradood._engine.batches import Batch
from gradood._engine.detector_set import DetectorSet
from gradood._engine.scoring import score_batch
from gradood._io.optional import optional_module
from gradood.calibration._rule import DecisionRule
from gradood.calibration.results import BatchScores, Result, Results
from gradood.evidence import FEATURES, LOGITS, Activation, Evidence, Linear
from gradood.onnx._judge import OnnxResult, OnnxResults, results_of, session_of
from gradood.onnx._parity import COUNT_LIMIT, SIZES, STEP_LIMIT, Parity, compared, in_batches
from gradood.onnx._pixels import Scaling
from gradood.onnx._record import GraphRecord

__all__ = ["as_arrays", "as_scores", "checked", "openvino_predict", "parity_of"]

_COUNTS = {"positive share", "positive share selected by max pooling", "nonzero share"}
_STEPS = {
    *("ash-b", "ash-p", "ash-s", "itp", "optfs", "ras", "relation", "vra", "vra++", "weiper-kld"),
}
"""Methods whose score jumps where a feature passes a threshold, the edge of a bin, or another."""


def checked(
    data: bytes,
    detectors: DetectorSet,
    rule: DecisionRule,
    record: GraphRecord,
    arrays: list[Any],
    scaling: Scaling | None = None,
) -> Parity:
    session = session_of(data, threads=torch.get_num_threads())
    names = [spec.name for spec in record.outputs]

    def predict(*given: Any) -> OnnxResults:
        fed = {spec.name: array for spec, array in zip(record.inputs, given, strict=True)}
        return results_of(record, dict(zip(names, session.run(names, fed), strict=True)))

    return parity_of(predict, detectors, rule, record, arrays, "onnxruntime", scaling)


def parity_of(
    predict: Any,
    detectors: DetectorSet,
    rule: DecisionRule,
    record: GraphRecord,
    arrays: list[Any],
    runtime: str,
    scaling: Scaling | None = None,
) -> Parity:
    if record.part == "head":
        own = _head_scores(detectors, [torch.from_numpy(array) for array in arrays])
    else:
        rows = torch.from_numpy(arrays[0])
        rows = rows if scaling is None else scaling(rows)
        parts = [score_batch(detectors, Batch(some), (LOGITS,)) for some in rows.split(64)]
        own = BatchScores.joined(parts, detectors.detectors)
    graph = {size: in_batches(predict, arrays, size) for size in SIZES}
    return compared(
        record,
        graph,
        as_arrays(rule.results(own, record.overrides)),
        lambda results: as_arrays(rule.results(as_scores(results), record.overrides)),
        _limits(detectors),
        runtime=runtime,
        exact=runtime != "openvino",
    )


def _head_scores(detectors: DetectorSet, given: list[Tensor]) -> BatchScores:
    """The monitor's scores of features and logits."""
    features, logits = given
    nonfinite = ~(features.isfinite().all(1) & logits.isfinite().all(1))
    clean = [x.masked_fill(nonfinite[:, None], 0.0) for x in given]
    head = Linear(*detectors.binding.network.head.linear())
    evidence = Evidence.of(
        {FEATURES: clean[0], LOGITS: clean[1].double()}, classes=logits.shape[1], head=head
    )
    lost = nonfinite | ~evidence.sound
    scores = {
        name: detectors.measure(name, detectors.reads(name), evidence).masked_fill(lost, torch.inf)
        for name in detectors.detectors
    }
    label = evidence.logits.argmax(1).masked_fill(lost, -1)
    return BatchScores(scores, label, nonfinite, torch.zeros_like(label))


def _limits(detectors: DetectorSet) -> Mapping[str, float]:
    """By detector, where its score has steps."""
    found: dict[str, float] = {}
    for name, detector in detectors.detectors.items():
        reads = detectors.reads(name)
        if detector.name in _STEPS:
            found[name] = STEP_LIMIT
        elif any(isinstance(r, Activation) and r.summary.name in _COUNTS for r in reads):
            found[name] = COUNT_LIMIT
    return found


def as_scores(results: OnnxResults) -> BatchScores:
    """A graph's scores and labels, as what a rule decides about."""
    label = torch.from_numpy(results.label.copy())
    first = next(iter(results.values()))
    bad = torch.tensor([status == "nonfinite_input" for status in first.status])
    scores = {name: torch.from_numpy(result.score.copy()) for name, result in results.items()}
    return BatchScores(scores, label, bad, torch.zeros_like(label))


def as_arrays(results: Results) -> OnnxResults:
    """A monitor's results in NumPy."""

    def one(result: Result) -> OnnxResult:
        return OnnxResult(
            score=result.score.numpy(),
            p_value=result.p_value.numpy(),
            is_ood=result.is_ood.numpy(),
            label=result.label.numpy(),
            status=tuple(result.status),
            class_conditional=result.class_conditional.numpy(),
            overrides=result.overrides,
        )

    each = {name: one(result) for name, result in results.items()}
    combined = results.combined
    return OnnxResults(each, None if combined is None else one(combined))


def openvino_predict(
    path: str | os.PathLike[str], record: GraphRecord, precision: Literal["f32", "default"]
) -> Callable[..., OnnxResults]:
    """What OpenVINO makes of a graph.

    Args:
        path: the graph.
        record: what it says of itself.
        precision: ``"f32"``; or OpenVINO's own choice, which may be bfloat16.
    """
    openvino = optional_module(
        "openvino", "openvino", "runs graphs on Intel hardware", "pip install openvino"
    )
    settings = {"INFERENCE_PRECISION_HINT": "f32"} if precision == "f32" else {}
    model = openvino.Core().compile_model(os.fspath(path), "CPU", settings)

    def predict(*arrays: Any) -> OnnxResults:
        fed = {spec.name: array for spec, array in zip(record.inputs, arrays, strict=True)}
        found = model(fed)
        return results_of(record, {spec.name: found[spec.name] for spec in record.outputs})

    return predict
