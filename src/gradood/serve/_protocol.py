"""Requests and answers of the Open Inference Protocol, version 2: JSON and binary tensors."""

import base64
import binascii
import json
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from gradood.serve._arrays import NUMPY_TYPES, Arrays, packed_bytes
from gradood.serve._expected import Expected, expect, is_size, numbers
from gradood.serve._refusal import Refusal

__all__ = [
    "BINARY_LENGTH",
    "Request",
    "answer",
    "parse",
    "raw_of",
    "strict_json",
    "wanted",
]

BINARY_LENGTH = "Inference-Header-Content-Length"


@dataclass(frozen=True)
class Request:
    """What a client asks.

    Attributes:
        id: of the client's own, or None.
        kind: ``"tensors"`` or ``"images"``.
        rows: inputs.
        shape: of one of them, of tensors.
        body: numbers in C order, or files each with its length before it.
        timeout: seconds that the answer is worth, or None.
        binary: output → whether it is to be binary; ``""`` holds for the others.
        outputs: which are wanted; None for all.
    """

    id: str | None
    kind: str
    rows: int
    shape: tuple[int, ...]
    body: bytes
    timeout: float | None = None
    binary: dict[str, bool] = field(default_factory=dict)
    outputs: tuple[str, ...] | None = None


def strict_json(text: bytes) -> Any:
    """A JSON document without NaN, Infinity, or more depth than Python takes.

    Raises:
        Refusal: it is none.
    """
    try:
        return json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError, UnicodeDecodeError) as error:
        raise Refusal(400, f"the body is no JSON ({type(error).__name__}).") from error


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no number of JSON")


def parse(body: bytes, header_length: int | None, expected: Expected) -> Request:
    """A request.

    Args:
        body: inflated.
        header_length: of its JSON, where binary tensors follow; None if it is all JSON.
        expected: what the model takes.

    Raises:
        Refusal: it is malformed; says where.
    """
    if header_length is not None and not 0 <= header_length <= len(body):
        raise Refusal(400, f"{BINARY_LENGTH} is {header_length}, and the body {len(body)} long.")
    head = strict_json(body if header_length is None else body[:header_length])
    rest = memoryview(b"" if header_length is None else body[header_length:])
    expect(isinstance(head, dict), "the body is no JSON object.")
    inputs = head.get("inputs")
    expect(isinstance(inputs, list) and len(inputs) == 1, "expected a list of one input.")
    tensor = inputs[0]
    expect(isinstance(tensor, dict), "the input is no object.")
    name, shape = expected.name, tensor.get("shape")
    rows = expected.rows(tensor.get("name"), tensor.get("datatype"), shape)
    size = _parameters(tensor).get("binary_data_size")
    if size is not None:
        fits = is_size(size) and size == len(rest)
        expect(
            fits and "data" not in tensor, f"binary_data_size of {name} is not that of its data."
        )
        made = expected.raw(rest, shape)
    else:
        expect(len(rest) == 0, "there is binary data that no input has.")
        expect(isinstance(tensor.get("data"), list), f"{name} has no data.")
        made = (
            packed_bytes(_files(tensor["data"], rows))
            if expected.images
            else numbers(tensor["data"], shape, expected.datatype)
        )
    common = _parameters(head)
    binary, outputs = _outputs(head, default=bool(common.get("binary_data_output", False)))
    return Request(
        id=head["id"] if isinstance(head.get("id"), str) else None,
        kind="images" if expected.images else "tensors",
        rows=rows,
        shape=() if expected.images else tuple(shape[1:]),
        body=made,
        timeout=_timeout(common),
        binary=binary,
        outputs=outputs,
    )


def _parameters(of: dict[str, Any]) -> dict[str, Any]:
    found = of.get("parameters", {})
    expect(found is None or isinstance(found, dict), "parameters are no object.")
    return found or {}


def _timeout(parameters: dict[str, Any]) -> float | None:
    """Seconds; the protocol has microseconds."""
    given = parameters.get("timeout")
    if given is None:
        return None
    expect(type(given) is int and given > 0, "timeout is no whole number of microseconds.")
    return min(given, 2**63) / 1e6


def _files(data: Any, rows: int) -> list[bytes]:
    if len(data) == 1 and isinstance(data[0], list):
        data = data[0]
    expect(len(data) == rows, f"image has {len(data)} values; its shape has {rows}.")
    try:
        return [base64.b64decode(value, validate=True) for value in data]
    except (binascii.Error, ValueError, TypeError) as error:
        raise Refusal(400, "image: data in JSON are files in base64; this is none.") from error


def _outputs(
    head: dict[str, Any], *, default: bool
) -> tuple[dict[str, bool], tuple[str, ...] | None]:
    wanted = head.get("outputs")
    if wanted is None or wanted == []:
        return {"": default}, None
    expect(isinstance(wanted, list), "outputs are no list.")
    binary = {"": default}
    for output in wanted:
        named = isinstance(output, dict) and isinstance(output.get("name"), str)
        expect(named, "an output has no name.")
        binary[output["name"]] = bool(_parameters(output).get("binary_data", default))
    return binary, tuple(output["name"] for output in wanted)


def wanted(request: Request, arrays: Arrays) -> list[str]:
    """Names of the outputs that a client wants.

    Raises:
        Refusal: there is no such output.
    """
    known = [name for name in arrays if not name.startswith("#")]
    names = known if request.outputs is None else list(request.outputs)
    unknown = sorted(set(names) - set(known))
    expect(not unknown, f"there is no output {unknown}; there are {', '.join(known)}.")
    return names


def answer(
    request: Request, arrays: Arrays, model: str, version: str
) -> tuple[bytes, dict[str, str]]:
    """The body of an answer, and the headers that tell how to read it.

    Args:
        request: that is answered.
        arrays: by output.
        model: its name, as the client asked for it.
        version: of the detector.

    Raises:
        Refusal: an output is wanted that there is not.
    """
    outputs: list[dict[str, Any]] = []
    parts: list[bytes] = []
    for name in wanted(request, arrays):
        kind, values = arrays[name]
        output: dict[str, Any] = {"name": name, "datatype": kind, "shape": [len(values)]}
        if request.binary.get(name, request.binary.get("", False)):
            plain = raw_of(kind, values)
            output["parameters"] = {"binary_data_size": len(plain)}
            parts.append(plain)
        elif kind == "BYTES":
            output["data"] = [value.decode() for value in values]
        else:
            output["data"] = values.tolist()
        outputs.append(output)
    head: dict[str, Any] = {"model_name": model, "model_version": version}
    if request.id is not None:
        head["id"] = request.id
    text = json.dumps({**head, "outputs": outputs}, allow_nan=False).encode()
    if not parts:
        return text, {"content-type": "application/json"}
    headers = {"content-type": "application/octet-stream", BINARY_LENGTH: str(len(text))}
    return text + b"".join(parts), headers


def raw_of(kind: str, values: Any) -> bytes:
    """Values in the protocol's binary form."""
    if kind == "BYTES":
        return packed_bytes(values)
    return np.ascontiguousarray(values, NUMPY_TYPES[kind]).tobytes()
