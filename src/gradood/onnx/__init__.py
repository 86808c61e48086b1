"""Monitors as one ONNX graph: exported with checked parity, and run without torch."""

from gradood.onnx._judge import OnnxJudge, OnnxResult, OnnxResults
from gradood.onnx._record import STATUSES, GraphRecord, TensorSpec

__all__ = ["GraphRecord", "OnnxJudge", "OnnxResult", "OnnxResults", "STATUSES", "TensorSpec"]
