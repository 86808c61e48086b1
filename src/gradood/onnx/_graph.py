"""From a monitor's detectors to the bytes of a graph."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from gradood._engine.detector_set import DetectorSet
from gradood._io.optional import optional_module
from gradood.calibration._rule import DecisionRule
from gradood.errors import ConfigError, TapError
from gradood.evidence import (
    FEATURES,
    LOGITS,
    Activation,
    Gradient,
    JacobianNorm,
    ParameterNorm,
    Perturbed,
    Read,
)
from gradood.evidence.tracing import traced
from gradood.onnx._lookup import RuleLookup
from gradood.onnx._pixels import Scaling
from gradood.onnx._record import KEY, GraphRecord
from gradood.onnx._scorer import HeadReader, ModelReader, Scorer

__all__ = ["converted", "graph_bytes", "refusal", "union"]

_OPSET = 20
_LARGEST = 1 << 31
"""Bytes that a file of this format holds."""
_WHY = {
    Gradient: "takes a gradient through inner layers, and a graph has no backward pass",
    JacobianNorm: "takes derivatives of blocks, and a graph has no backward pass",
    ParameterNorm: "takes gradients by parameters, and a graph has no backward pass",
    Perturbed: "perturbs the input along a gradient, and a graph has no backward pass",
}


def union(detectors: DetectorSet) -> tuple[Read, ...]:
    """What all of them read, each request once."""
    reads = (read for name in detectors.detectors for read in detectors.reads(name))
    return tuple(dict.fromkeys(reads))


def refusal(reads: tuple[Read, ...], part: str = "model") -> str | None:
    """Why what a detector reads is in no graph; None if it can be.

    Args:
        reads: of its plan.
        part: ``"model"``, or ``"head"`` for features and logits alone.
    """
    for read in reads:
        for kind, why in _WHY.items():
            if isinstance(read, kind):
                return why
        if read not in (FEATURES, LOGITS) and not isinstance(read, Activation):
            return f"reads {getattr(read, 'name', read)}, which a graph does not have"
        if part == "head" and isinstance(read, Activation):
            return "reads inner layers, and this graph begins at the features"
    return None


def graph_bytes(
    detectors: DetectorSet,
    record: GraphRecord,
    rule: DecisionRule | None,
    example: tuple[Tensor, ...],
    scaling: Scaling | None = None,
) -> bytes:
    """The graph, unchecked.

    Args:
        detectors: bound and fitted, on the CPU.
        record: kept in the graph.
        rule: that decides; None for scores alone.
        example: inputs of at least two rows.
        scaling: of pixels, where such are given.

    Raises:
        ConfigError: the model cannot be traced, or the graph is too large; says why.
        ModuleNotFoundError: a package of the extra is missing.

    Cost: some seconds for each hundred layers.
    """
    for package in ("onnx", "onnxscript"):
        optional_module(package, package, "writes graphs", 'pip install "gradood[onnx]"')
    lookup = None if rule is None else RuleLookup(rule, record.classes)
    with _reader(detectors, record.part) as reader, traced(), torch.no_grad(), _quiet():
        scorer = Scorer(reader, detectors, record, lookup, scaling).eval()
        program = _traced(scorer, example, record)
    data = _serialized(program, record)
    if len(data) >= _LARGEST:
        raise ConfigError(
            f"the graph would have {len(data) / 1e9:.1f} GB, and the format holds 2; a detector "
            "that keeps a bank of samples, such as knn, takes fewer with samples=."
        )
    return data


@contextmanager
def _reader(detectors: DetectorSet, part: str) -> Iterator[nn.Module]:
    """What reads the evidence; of a model, hooks on a view of it until the block ends."""
    reads = tuple(dict.fromkeys((*union(detectors), LOGITS)))
    if part == "head":
        yield HeadReader(reads)
        return
    network = detectors.binding.network
    if network.views.direct:
        raise ConfigError(
            "the model calls its own modules through references that cannot be followed, so that "
            "it cannot be traced; let it call them through its attributes."
        )
    with network.views.view() as view:
        reader = ModelReader(view.module, network, reads)
        try:
            reader.listen(lambda name: view.find(name) or network.module.get_submodule(name))
            yield reader
        finally:
            for handle in reader.handles:
                handle.remove()


def _traced(scorer: Scorer, example: tuple[Tensor, ...], record: GraphRecord) -> Any:
    """The program in the exporter's own form."""
    batch = {0: torch.export.Dim("batch", min=1, max=1 << 20)}
    names = [spec.name for spec in record.inputs], [spec.name for spec in record.outputs]
    try:
        return _converted(scorer, example, (tuple(batch for _ in example),), *names)
    except TapError:
        raise
    except Exception as error:  # torch's own classes have no common base
        cause = error.__cause__ or error
        lines = [line.strip() for line in str(cause).splitlines() if line.strip()]
        said = " ".join(lines[:2])[:300]
        raise ConfigError(
            f"the model and its detectors make no graph of any batch size: {said}. Export fewer "
            "detectors with only=, or part='head'; a forward whose control flow depends on values "
            "cannot be exported."
        ) from error


def converted(
    module: nn.Module, example: tuple[Tensor, ...], inputs: list[str], outputs: list[str]
) -> Any:
    """A module with two named arguments and more as a program, its batch of any size.

    Args:
        module: without control flow that depends on values.
        example: inputs of at least two rows.
        inputs: names.
        outputs: names.
    """
    batch = {0: torch.export.Dim("batch", min=1, max=1 << 20)}
    shapes = (batch, batch, tuple(batch for _ in example[2:]))
    with traced(), torch.no_grad(), _quiet():
        return _converted(module, example, shapes, inputs, outputs)


def _converted(
    module: nn.Module,
    example: tuple[Tensor, ...],
    shapes: Any,
    inputs: list[str],
    outputs: list[str],
) -> Any:
    exported = torch.export.export(module, example, dynamic_shapes=shapes, strict=False)
    return torch.onnx.export(
        exported,
        input_names=inputs,
        output_names=outputs,
        opset_version=_OPSET,
        dynamo=True,
        optimize=True,
        verbose=False,
    )


def _serialized(program: Any, record: GraphRecord) -> bytes:
    """One file's bytes, with the record, and without what names this machine's files."""
    proto = program.model_proto
    for node in proto.graph.node:
        del node.metadata_props[:]
        node.doc_string = ""
    for function in proto.functions:
        for node in function.node:
            del node.metadata_props[:]
            node.doc_string = ""
    for value in (*proto.graph.value_info, *proto.graph.input, *proto.graph.output):
        del value.metadata_props[:]
    del proto.metadata_props[:], proto.graph.metadata_props[:]
    proto.producer_name, proto.producer_version = "gradood", record.version
    proto.metadata_props.add(key=KEY, value=record.to_json())
    return proto.SerializeToString(deterministic=True)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporter's remarks on packages and shapes, of which a user can do nothing."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "torch.export", "onnxscript")]
    loggers += [logging.getLogger("onnx_ir"), logging.getLogger("torch.fx")]
    levels = [logger.level for logger in loggers]
    exporter = logging.getLogger("torch.onnx._internal.exporter._registration")
    loggers.append(exporter)
    levels.append(exporter.level)
    try:
        for logger in loggers:
            logger.setLevel(logging.CRITICAL)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
