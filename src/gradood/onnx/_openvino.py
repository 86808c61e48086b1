"""OpenVINO as the runtime of `verify`."""

import os
from collections.abc import Callable
from typing import Any, Literal

from gradood._io.optional import optional_module
from gradood.onnx._judge import OnnxResults, results_of
from gradood.onnx._record import GraphRecord

__all__ = ["openvino_predict"]


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
