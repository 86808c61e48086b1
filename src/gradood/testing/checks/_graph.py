"""Checks that what a detector measures can be one graph for every batch."""

import warnings
from typing import Any

import torch
from torch import Tensor, nn

from gradood.detectors.base import State
from gradood.evidence import Evidence, Reads
from gradood.evidence.tracing import traced
from gradood.onnx._graph import refusal
from gradood.testing.case import Case
from gradood.testing.checks.check import Collection

__all__ = ["GRAPH"]

GRAPH = Collection()


@GRAPH.check()
def traceable(case: Case) -> None:
    """Unless it needs a backward pass, one graph of any batch size scores as the detector does."""
    if refusal(case.reads) is not None:
        return
    state = case.monitor.states.get(case.detector.name, {})
    evidence = case.monitor._session.state.bound.reader.gather(  # type: ignore[union-attr]
        case.x, case.reads, None
    )
    distinct = tuple(dict.fromkeys(case.reads))
    tensors = tuple(evidence[read] for read in distinct)
    module = _Measure(case, evidence, distinct, state)
    batch = torch.export.Dim("batch", min=1, max=1 << 20)
    with traced(), torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.export.export(
            module,
            tuple(tensor[:3] for tensor in tensors),
            dynamic_shapes=(tuple({0: batch} for _ in tensors),),
            strict=False,
        ).module()
        # onnxruntime has it in float32 alone, and scores are in float64.
        assert "softplus" not in str(program.graph), "use gradood.functional.softplus"
        for rows in (slice(0, 1), slice(None)):
            found = program(*(tensor[rows] for tensor in tensors))
            finite = torch.where(found.isfinite(), found, torch.inf)
            case.agree(finite, case.scores[rows], "in a graph", relative=2e-4)


class _Measure(nn.Module):
    def __init__(
        self, case: Case, evidence: Evidence, reads: tuple[Any, ...], state: State
    ) -> None:
        super().__init__()
        self._case, self._evidence, self._distinct, self._state = case, evidence, reads, state

    def forward(self, *tensors: Tensor) -> Tensor:
        given = dict(zip(self._distinct, tensors, strict=True))
        known = self._evidence
        reads = Reads(self._case.reads)
        own = Evidence(tensors[0].shape[0], known.classes, known.head, None, reads, given)
        return self._case.detector.measure(own.only(reads), self._state).double()
