"""Unmodified clients against a server: `tritonclient` or `kserve`, each in its own environment.

    python benchmarks/serve_clients.py PORT triton|kserve IMAGE
    python benchmarks/serve_clients.py PORT triton-grpc|kserve-grpc IMAGE GRPC_PORT

Prints a line for each case, and how many passed. Inputs are 1x8x8, as of the demo's network. What
comes over gRPC is compared with the answer to plain JSON over HTTP.
"""

import asyncio
import itertools
import json
import sys
import urllib.request
from pathlib import Path

import numpy as np

PORT, CLIENT, IMAGE = int(sys.argv[1]), sys.argv[2], sys.argv[3]
GRPC = sys.argv[4] if len(sys.argv) > 4 else ""
X = np.random.default_rng(0).random((5, 1, 8, 8)).astype(np.float32)
CASES: list[tuple[str, bool]] = []


def case(name: str, passed: bool) -> None:
    """Note a case."""
    CASES.append((name, bool(passed)))
    print("ok  " if passed else "FAIL", name)


def expected(x: np.ndarray) -> dict[str, list]:
    """The answer to plain JSON, asked for without any client."""
    tensor = {
        "name": "input",
        "datatype": "FP32",
        "shape": list(x.shape),
        "data": x.ravel().tolist(),
    }
    request = urllib.request.Request(
        f"http://127.0.0.1:{PORT}/v2/models/detector/infer",
        json.dumps({"inputs": [tensor]}).encode(),
    )
    with urllib.request.urlopen(request) as answer:
        return {output["name"]: output["data"] for output in json.load(answer)["outputs"]}


def triton() -> None:
    """The cases of tritonclient."""
    from tritonclient import http
    from tritonclient.utils import InferenceServerException

    client = http.InferenceServerClient(f"127.0.0.1:{PORT}")
    case("live", client.is_server_live())
    case("ready", client.is_server_ready())
    case("model ready", client.is_model_ready("detector"))
    case("no such model", not client.is_model_ready("nothing"))
    case("server metadata", client.get_server_metadata()["name"] == "gradood")
    told = client.get_model_metadata("detector")
    case("model metadata", told["inputs"][0]["shape"] == [-1, 1, 8, 8])
    version = told["versions"][0]
    case(
        "version metadata", client.get_model_metadata("detector", version)["versions"] == [version]
    )
    for rows, given, wanted, packed in itertools.product(
        (1, 5), (False, True), (None, False, True), (None, "gzip", "deflate")
    ):
        x = X[:rows]
        tensor = http.InferInput("input", list(x.shape), "FP32")
        tensor.set_data_from_numpy(x, binary_data=given)
        outputs = None
        if wanted is not None:
            names = ("score", "is_ood", "label", "status")
            outputs = [http.InferRequestedOutput(name, binary_data=wanted) for name in names]
        found = client.infer(
            "detector", [tensor], outputs=outputs, request_compression_algorithm=packed
        )
        plain = expected(x)
        same = np.allclose(found.as_numpy("score"), plain["score"], rtol=1e-5)
        same &= found.as_numpy("is_ood").tolist() == plain["is_ood"]
        same &= [
            bytes(s) if isinstance(s, bytes) else s.encode() for s in found.as_numpy("status")
        ] == [s.encode() for s in plain["status"]]
        case(f"infer {rows} rows, binary in {given}, out {wanted}, {packed}", same)
    image = http.InferInput("image", [1], "BYTES")
    image.set_data_from_numpy(np.array([Path(IMAGE).read_bytes()], object))
    case("image", client.infer("detector-images", [image]).as_numpy("status")[0] == b"ok")
    try:
        bad = http.InferInput("input", [1, 3, 8, 8], "FP32")
        bad.set_data_from_numpy(np.zeros((1, 3, 8, 8), np.float32))
        client.infer("detector", [bad])
        case("wrong channels", False)
    except InferenceServerException as error:
        case("wrong channels", error.status() == "400")


async def kserve() -> None:
    """The cases of kserve."""
    from kserve import InferenceRESTClient, InferInput, InferRequest
    from kserve.inference_client import RESTConfig

    client = InferenceRESTClient(RESTConfig(protocol="v2"))
    base = f"http://127.0.0.1:{PORT}"
    case("live", await client.is_server_live(base))
    case("ready", await client.is_server_ready(base))
    case("model ready", await client.is_model_ready(base, "detector"))
    for rows, binary, id in itertools.product((1, 5), (False, True), (None, "a1")):
        x = X[:rows]
        tensor = InferInput("input", list(x.shape), "FP32")
        tensor.set_data_from_numpy(x, binary_data=binary)
        request = InferRequest("detector", [tensor], request_id=id)
        found = await client.infer(base, request, model_name="detector")
        outputs = {output.name: output.as_numpy() for output in found.outputs}
        same = np.allclose(outputs["score"], expected(x)["score"], rtol=1e-5)
        case(
            f"infer {rows} rows, binary {binary}, id {id}", same and (id is None or found.id == id)
        )


def same_as_http(outputs: dict[str, np.ndarray], x: np.ndarray) -> bool:
    """Whether outputs are those of plain JSON."""
    plain = expected(x)
    same = outputs.keys() == plain.keys()
    for name, values in plain.items():
        found = outputs[name]
        if name.endswith(("score", "p_value")):
            same &= np.allclose(found, values, rtol=1e-5)
        else:
            same &= [v.decode() if isinstance(v, bytes) else v for v in found.tolist()] == values
    return bool(same)


def triton_grpc() -> None:
    """The cases of tritonclient over gRPC."""
    from tritonclient import grpc
    from tritonclient.utils import InferenceServerException

    client = grpc.InferenceServerClient(f"127.0.0.1:{GRPC}")
    case("live", client.is_server_live())
    case("ready", client.is_server_ready())
    case("model ready", client.is_model_ready("detector"))
    case("server metadata", client.get_server_metadata().name == "gradood")
    told = client.get_model_metadata("detector")
    case("model metadata", list(told.inputs[0].shape) == [-1, 1, 8, 8])
    version = told.versions[0]
    names = [output.name for output in told.outputs]
    case("version ready", client.is_model_ready("detector", version))
    for rows, wanted, packed, deadline in itertools.product(
        (1, 5), (None, names, ["score"]), (None, "gzip", "deflate"), (None, 20.0)
    ):
        x = X[:rows]
        tensor = grpc.InferInput("input", list(x.shape), "FP32")
        tensor.set_data_from_numpy(x)
        outputs = wanted and [grpc.InferRequestedOutput(name) for name in wanted]
        found = client.infer(
            *("detector", [tensor], version),
            outputs=outputs,
            request_id="a1",
            client_timeout=deadline,
            compression_algorithm=packed,
        )
        if wanted == ["score"]:
            same = np.allclose(found.as_numpy("score"), expected(x)["score"], rtol=1e-5)
            same &= len(found.get_response().outputs) == 1
        else:
            same = same_as_http({name: found.as_numpy(name) for name in names}, x)
        same &= found.get_response().id == "a1"
        case(f"infer {rows} rows, outputs {wanted}, {packed}, deadline {deadline}", same)
    image = grpc.InferInput("image", [2], "BYTES")
    image.set_data_from_numpy(np.array([Path(IMAGE).read_bytes(), b"none"], object))
    found = client.infer("detector-images", [image]).as_numpy("status").tolist()
    case("image", found == [b"ok", b"not_an_image"])
    for name, shape, wanted in (
        ("detector", [1, 3, 8, 8], "INVALID_ARGUMENT"),
        ("detector", [1, 64], "INVALID_ARGUMENT"),
        ("nothing", [1, 1, 8, 8], "NOT_FOUND"),
    ):
        try:
            bad = grpc.InferInput("input", shape, "FP32")
            bad.set_data_from_numpy(np.zeros(shape, np.float32))
            client.infer(name, [bad])
            case(f"{name} {shape}", False)
        except InferenceServerException as error:
            case(f"{name} {shape}", error.status() == f"StatusCode.{wanted}")


async def kserve_grpc() -> None:
    """The cases of kserve over gRPC."""
    from kserve import InferenceGRPCClient, InferInput, InferRequest

    async with InferenceGRPCClient(f"127.0.0.1:{GRPC}") as client:
        case("live", await client.is_server_live())
        case("ready", await client.is_server_ready())
        case("model ready", await client.is_model_ready("detector"))
        for rows, binary, id in itertools.product((1, 5), (False, True), (None, "a1")):
            x = X[:rows]
            tensor = InferInput("input", list(x.shape), "FP32")
            tensor.set_data_from_numpy(x, binary_data=binary)
            request = InferRequest("detector", [tensor], request_id=id)
            found = await client.infer(request)
            outputs = {output.name: output.as_numpy() for output in found.outputs}
            same = same_as_http(outputs, x) and (id is None or found.id == id)
            case(f"infer {rows} rows, binary {binary}, id {id}", same)


RUNS = {"triton": triton, "triton-grpc": triton_grpc}
if CLIENT in RUNS:
    RUNS[CLIENT]()
else:
    asyncio.run({"kserve": kserve, "kserve-grpc": kserve_grpc}[CLIENT]())
print(f"{sum(ok for _, ok in CASES)} of {len(CASES)} passed")
sys.exit(not all(ok for _, ok in CASES))
