"""Monitors as one ONNX graph: exported with checked parity, and run without torch.

What exports and verifies needs torch, and is loaded on first use.
"""

import importlib
from typing import TYPE_CHECKING, Any

from gradood.onnx._judge import OnnxJudge, OnnxResult, OnnxResults
from gradood.onnx._record import STATUSES, GraphRecord, TensorSpec

if TYPE_CHECKING:
    from gradood.onnx._export import export, exportable, verify
    from gradood.onnx._parity import Parity
    from gradood.onnx._recalibration import recalibrate

__all__ = [
    "GraphRecord",
    "OnnxJudge",
    "OnnxResult",
    "OnnxResults",
    "Parity",
    "STATUSES",
    "TensorSpec",
    "export",
    "exportable",
    "recalibrate",
    "verify",
]

_HOMES = {
    "Parity": "gradood.onnx._parity",
    "export": "gradood.onnx._export",
    "exportable": "gradood.onnx._export",
    "recalibrate": "gradood.onnx._recalibration",
    "verify": "gradood.onnx._export",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'gradood.onnx' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
