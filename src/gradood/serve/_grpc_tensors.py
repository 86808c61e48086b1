"""Requests and answers of the Open Inference Protocol as messages of gRPC."""

from typing import Any

from gradood.serve._arrays import Arrays, packed_bytes
from gradood.serve._expected import Expected, expect, numbers
from gradood.serve._grpc_messages import messages
from gradood.serve._protocol import Request, raw_of, wanted
from gradood.serve._refusal import Refusal

__all__ = ["answer_message", "request_of"]

_CONTENTS = {
    **{"FP32": "fp32_contents", "FP64": "fp64_contents", "INT64": "int64_contents"},
    **{"BOOL": "bool_contents", "UINT8": "uint_contents", "BYTES": "bytes_contents"},
}
"""Data type → field of typed contents."""


def request_of(message: Any, expected: Expected, limit: int) -> Request:
    """A request.

    Args:
        message: ``ModelInferRequest``.
        expected: what the model takes.
        limit: bytes of typed contents, whose conversion stops all else.

    Raises:
        Refusal: it is malformed; says where.
    """
    expect(len(message.inputs) == 1, "expected one input.")
    tensor = message.inputs[0]
    shape = list(tensor.shape)
    rows = expected.rows(tensor.name, tensor.datatype, shape)
    raw = list(message.raw_input_contents)
    if raw:
        expect(len(raw) == 1, "there are more raw contents than inputs.")
        expect(not tensor.contents.ByteSize(), "an input has both typed and raw contents.")
        body = expected.raw(memoryview(raw[0]), shape)
    else:
        body = _typed(tensor, expected, shape, limit)
    return Request(
        id=message.id or None,
        kind="images" if expected.images else "tensors",
        rows=rows,
        shape=() if expected.images else tuple(shape[1:]),
        body=body,
        timeout=_timeout(message.parameters),
        binary={"": bool(raw)},
        outputs=tuple(output.name for output in message.outputs) or None,
    )


def _typed(tensor: Any, expected: Expected, shape: list[int], limit: int) -> bytes:
    values = getattr(tensor.contents, _CONTENTS[expected.datatype])
    if expected.images:
        expect(len(values) == shape[0], f"image has {len(values)} values; its shape {shape[0]}.")
        return packed_bytes(list(values))
    size = tensor.contents.ByteSize()
    if size > limit:
        raise Refusal(413, f"typed contents of more than {limit} bytes; send raw contents.")
    return numbers(list(values), shape, expected.datatype)


def _timeout(parameters: Any) -> float | None:
    """Seconds; the protocol has microseconds."""
    for parameter in parameters:
        if parameter.key == "timeout":
            given = parameter.value.int64_param or parameter.value.uint64_param
            expect(given > 0, "timeout is no whole number of microseconds.")
            return given / 1e6
    return None


def answer_message(request: Request, arrays: Arrays, model: str, version: str) -> Any:
    """``ModelInferResponse``, its contents raw where those of the request were.

    Args:
        request: that is answered.
        arrays: by output.
        model: its name, as the client asked for it.
        version: of the detector.

    Raises:
        Refusal: an output is wanted that there is not.
    """
    made = messages().ModelInferResponse(
        model_name=model, model_version=version, id=request.id or ""
    )
    for name in wanted(request, arrays):
        kind, values = arrays[name]
        output = made.outputs.add(name=name, datatype=kind, shape=[len(values)])
        if request.binary[""]:
            made.raw_output_contents.append(raw_of(kind, values))
        else:
            plain = values if kind == "BYTES" else values.tolist()
            getattr(output.contents, _CONTENTS[kind]).extend(plain)
    return made
