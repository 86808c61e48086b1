"""Requests and answers of the Open Inference Protocol, version 2: JSON and binary tensors."""

import base64
import binascii
import json
import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from gradood.serve._arrays import NUMPY_TYPES, Arrays, packed_bytes, split_bytes
from gradood.serve._refusal import Refusal

__all__ = ["BINARY_LENGTH", "Request", "answer", "parse", "strict_json"]

BINARY_LENGTH = "Inference-Header-Content-Length"


@dataclass(frozen=True)
class Request:
    """What a client asks.

    Attributes:
        id: of the client's own, or None.
        kind: ``"tensors"`` or ``"images"``.
        rows: inputs.
        shape: of one of them, of tensors.
        body: float32 in C order, or files each with its length before it.
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


def parse(body: bytes, header_length: int | None, *, images: bool, limit: int) -> Request:
    """A request.

    Args:
        body: inflated.
        header_length: of its JSON, where binary tensors follow; None if it is all JSON.
        images: whether files of images are expected, or preprocessed inputs.
        limit: inputs that one request may have.

    Raises:
        Refusal: it is malformed; says where.
    """
    if header_length is not None and not 0 <= header_length <= len(body):
        raise Refusal(400, f"{BINARY_LENGTH} is {header_length}, and the body {len(body)} long.")
    head = strict_json(body if header_length is None else body[:header_length])
    rest = memoryview(b"" if header_length is None else body[header_length:])
    _expect(isinstance(head, dict), "the body is no JSON object.")
    inputs = head.get("inputs")
    _expect(isinstance(inputs, list) and len(inputs) == 1, "expected a list of one input.")
    tensor = inputs[0]
    name, kind = ("image", "BYTES") if images else ("input", "FP32")
    _expect(isinstance(tensor, dict), "the input is no object.")
    _expect(tensor.get("name") == name, f"expected the input {name!r}.")
    _expect(tensor.get("datatype") == kind, f"{name} has another datatype than {kind}.")
    shape = tensor.get("shape")
    _expect(_is_shape(shape), f"{name} has no shape of whole numbers from 0.")
    rows = shape[0]
    _expect(1 <= rows, f"{name} is empty; expected at least one row.")
    if rows > limit:
        raise Refusal(413, f"{name} has {rows} rows; at most {limit} are answered at once.")
    parameters = _parameters(tensor)
    size = parameters.get("binary_data_size")
    if size is not None:
        fits = _is_size(size) and size == len(rest)
        _expect(
            fits and "data" not in tensor, f"binary_data_size of {name} is not that of its data."
        )
    else:
        _expect(len(rest) == 0, "there is binary data that no input has.")
        _expect(isinstance(tensor.get("data"), list), f"{name} has no data.")
    if images:
        _expect(shape in ([rows], [rows, 1]), "image has another shape than [N].")
        content = _files(tensor, None if size is None else rest, rows)
        made, inner = packed_bytes(content), ()
    else:
        _expect(len(shape) >= 2, "input has one dimension; expected [N, C, H, W].")
        made, inner = _floats(tensor, None if size is None else rest, shape), tuple(shape[1:])
    common = _parameters(head)
    binary, outputs = _outputs(head, default=bool(common.get("binary_data_output", False)))
    return Request(
        id=head["id"] if isinstance(head.get("id"), str) else None,
        kind="images" if images else "tensors",
        rows=rows,
        shape=inner,
        body=made,
        timeout=_timeout(common),
        binary=binary,
        outputs=outputs,
    )


def _expect(held: bool, message: str) -> None:
    if not held:
        raise Refusal(400, message)


def _is_size(value: Any) -> bool:
    return type(value) is int and 0 <= value < 2**48


def _is_shape(value: Any) -> bool:
    return (
        isinstance(value, list)
        and 1 <= len(value) <= 8
        and all(_is_size(side) for side in value)
        and math.prod(value) < 2**40
    )


def _parameters(of: dict[str, Any]) -> dict[str, Any]:
    found = of.get("parameters", {})
    _expect(found is None or isinstance(found, dict), "parameters are no object.")
    return found or {}


def _timeout(parameters: dict[str, Any]) -> float | None:
    """Seconds; the protocol has microseconds."""
    given = parameters.get("timeout")
    if given is None:
        return None
    _expect(type(given) is int and given > 0, "timeout is no whole number of microseconds.")
    return given / 1e6


def _floats(tensor: dict[str, Any], raw: memoryview | None, shape: list[int]) -> bytes:
    count = math.prod(shape)
    if raw is not None:
        _expect(len(raw) == 4 * count, f"input has {len(raw)} bytes; its shape has {4 * count}.")
        return bytes(raw)
    try:
        values = np.asarray(tensor["data"])
    except ValueError as error:
        raise Refusal(400, "the data of input is ragged.") from error
    _expect(values.dtype.kind in "iuf", "the data of input are no numbers.")
    fits = values.size == count and (values.ndim == 1 or list(values.shape) == shape)
    _expect(fits, f"the data of input has {values.size} numbers; its shape has {count}.")
    with np.errstate(over="ignore"):
        return np.ascontiguousarray(values, "<f4").tobytes()


def _files(tensor: dict[str, Any], raw: memoryview | None, rows: int) -> list[bytes]:
    if raw is not None:
        try:
            return split_bytes(raw, rows)
        except ValueError as error:
            raise Refusal(400, f"image: {error}.") from error
    data = tensor["data"]
    if len(data) == 1 and isinstance(data[0], list):
        data = data[0]
    _expect(len(data) == rows, f"image has {len(data)} values; its shape has {rows}.")
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
    _expect(isinstance(wanted, list), "outputs are no list.")
    binary = {"": default}
    for output in wanted:
        named = isinstance(output, dict) and isinstance(output.get("name"), str)
        _expect(named, "an output has no name.")
        binary[output["name"]] = bool(_parameters(output).get("binary_data", default))
    return binary, tuple(output["name"] for output in wanted)


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
    known = [name for name in arrays if not name.startswith("#")]
    wanted = known if request.outputs is None else list(request.outputs)
    unknown = sorted(set(wanted) - set(known))
    _expect(not unknown, f"there is no output {unknown}; there are {', '.join(known)}.")
    outputs: list[dict[str, Any]] = []
    parts: list[bytes] = []
    for name in wanted:
        kind, values = arrays[name]
        output: dict[str, Any] = {"name": name, "datatype": kind, "shape": [len(values)]}
        if request.binary.get(name, request.binary.get("", False)):
            plain = packed_bytes(values) if kind == "BYTES" else _raw(kind, values)
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


def _raw(kind: str, values: Any) -> bytes:
    return np.ascontiguousarray(values, NUMPY_TYPES[kind]).tobytes()
