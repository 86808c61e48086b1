"""gRPC beside HTTP: the same answers, refusals as codes, limits, keys, health."""

import asyncio
import gc
from contextlib import asynccontextmanager
from io import BytesIO

import numpy as np
import pytest
import torch
from PIL import Image

from gradood.cli import main
from gradood.serve import Limits, Options
from gradood.serve._service import Service

grpc = pytest.importorskip("grpc", reason='needs pip install "gradood[grpc]"')
pytest.importorskip("google.protobuf", reason='needs pip install "gradood[grpc]"')

from gradood.serve._grpc import GrpcServer  # noqa: E402
from gradood.serve._grpc_messages import messages  # noqa: E402

pytestmark = pytest.mark.usefixtures("threads")
INFERENCE = "/inference.GRPCInferenceService"
KEY = b"a-key-of-sixteen-or-more"


class Client:
    """Calls by name, with the answer as a message."""

    def __init__(self, channel):
        self._channel = channel

    async def stream(self, method, *sent):
        call = self._channel.stream_unary(f"{INFERENCE}/{method}")
        return await call(iter([each.SerializeToString() for each in sent]), timeout=20)

    async def __call__(self, method, request=b"", answer=None, **options):
        data = request if isinstance(request, bytes) else request.SerializeToString()
        service = "/grpc.health.v1.Health" if method == "Check" else INFERENCE
        found = await self._channel.unary_unary(f"{service}/{method}")(data, timeout=20, **options)
        kind = "HealthCheckResponse" if method == "Check" else f"{method}Response"
        return getattr(messages(), answer or kind).FromString(found)


@asynccontextmanager
async def served(subject, start=True, **options):
    service = Service(subject, Options(**options))
    server = GrpcServer(service, "127.0.0.1", 0)
    await server.start()
    if start:
        await service.start()
    sizes = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]
    channel = grpc.aio.insecure_channel(f"127.0.0.1:{server.port}", options=sizes)
    try:
        yield service, Client(channel)
    finally:
        await channel.close()
        await server.stop(1)
        await service.stop()


def run(files, body, **options):
    async def go():
        async with served(files[0], **options) as (service, client):
            return await body(service, client)

    try:
        return asyncio.run(go())
    finally:
        gc.collect()  # The library's own tasks end here, and not in another test.


def infer_request(x, raw=True, model="detector", **more):
    x = np.asarray(x, np.float32)
    made = messages().ModelInferRequest(model_name=model, **more)
    tensor = made.inputs.add(name="input", datatype="FP32", shape=x.shape)
    if raw:
        made.raw_input_contents.append(x.tobytes())
    else:
        tensor.contents.fp32_contents.extend(x.ravel().tolist())
    return made


def columns(answer):
    """Outputs by name, raw or typed."""
    found = {}
    kinds = {"FP64": "<f8", "INT64": "<i8", "BOOL": "|b1"}
    for place, output in enumerate(answer.outputs):
        if answer.raw_output_contents and output.datatype in kinds:
            data = answer.raw_output_contents[place]
            found[output.name] = np.frombuffer(data, kinds[output.datatype]).tolist()
        elif not answer.raw_output_contents:
            fields = output.contents.ListFields()
            found[output.name] = list(fields[0][1])
    return found


async def refused(call):
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    error = caught.value
    assert "Traceback" not in error.details() and "/" not in error.details()
    return error.code().name


def test_answers_are_those_of_predict_raw_and_typed(files):
    x = torch.rand(40, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    own = files[1].predict(x)

    async def ask(service, client):
        pieces = x.split([1, 2, 7, 30])
        raw = await asyncio.gather(*(client("ModelInfer", infer_request(p)) for p in pieces))
        typed = await client("ModelInfer", infer_request(x, raw=False, id="a1"))
        return raw, typed, service.metrics.page()[0].decode(), service.gate.requests

    raw, typed, page, requests = run(files, ask)
    assert (typed.id, typed.model_name, len(typed.model_version)) == ("a1", "detector", 12)
    assert not typed.raw_output_contents and raw[0].raw_output_contents
    for found in (
        columns(typed),
        {name: [v for part in raw for v in columns(part)[name]] for name in columns(raw[0])},
    ):
        assert found["is_ood"] == own.is_ood.tolist()
        assert found["label"] == own.label.tolist()
        np.testing.assert_allclose(found["score"], own.score, rtol=1e-5)
        np.testing.assert_allclose(found["msp.p_value"], own["msp"].p_value)
    assert columns(typed)["status"] == [b"ok"] * 40
    assert f'route="{INFERENCE}/ModelInfer"' in page and "gradood_request_seconds_count 5" in page
    assert requests == 0


def test_images_and_wanted_outputs(files):
    file = BytesIO()
    Image.fromarray(np.full((8, 8), 99, np.uint8)).save(file, "PNG")
    asked = messages().ModelInferRequest(model_name="detector-images")
    image = asked.inputs.add(name="image", datatype="BYTES", shape=[2])
    image.contents.bytes_contents.extend([file.getvalue(), b"no image"])
    asked.outputs.add(name="status")

    async def ask(service, client):
        return await client("ModelInfer", asked)

    found = run(files, ask)
    assert columns(found) == {"status": [b"ok", b"not_an_image"]}


def test_server_and_models_say_what_they_are(files):
    named = messages().Named

    async def ask(service, client):
        told = await client("ModelMetadata", named(name="detector"))
        return (
            (await client("ServerLive")).live,
            (await client("ServerReady")).ready,
            (await client("ModelReady", named(name="detector", version=told.versions[0]))).ready,
            (await client("Check")).status,
            await client("ServerMetadata"),
            told,
            await refused(client("ModelReady", named(name="other"))),
            await refused(client("ModelMetadata", named(name="detector", version="x"))),
            await refused(client("Check", messages().HealthCheckRequest(service="other"))),
            await refused(client("RepositoryIndex", answer="Empty")),
        )

    live, ready, model, health, server, told, *missing = run(files, ask)
    assert live and ready and model and health == 1 and server.name == "gradood"
    assert list(told.inputs[0].shape) == [-1, 1, 8, 8] and told.inputs[0].datatype == "FP32"
    assert "combined" not in {output.name for output in told.outputs}
    assert missing == ["NOT_FOUND", "NOT_FOUND", "NOT_FOUND", "UNIMPLEMENTED"]


def malformed():
    x = np.zeros((2, 1, 8, 8), np.float32)
    changes = {
        "no input": lambda m: m.ClearField("inputs"),
        "two inputs": lambda m: m.inputs.add(name="input"),
        "name": lambda m: setattr(m.inputs[0], "name", "x"),
        "type": lambda m: setattr(m.inputs[0], "datatype", "FP64"),
        "negative": lambda m: m.inputs[0].shape.__setitem__(0, -1),
        "empty": lambda m: m.inputs[0].shape.__setitem__(0, 0),
        "huge": lambda m: m.inputs[0].shape.__setitem__(0, 2**62),
        "rows": lambda m: m.inputs[0].shape.__setitem__(0, 2000),
        "flat": lambda m: m.inputs[0].ClearField("shape"),
        "short": lambda m: m.raw_input_contents.__setitem__(0, b"abc"),
        "raw twice": lambda m: m.raw_input_contents.append(b"abc"),
        "raw and typed": lambda m: m.inputs[0].contents.fp32_contents.append(1),
        "no data": lambda m: m.ClearField("raw_input_contents"),
        "another field": lambda m: (
            m.ClearField("raw_input_contents"),
            m.inputs[0].contents.fp64_contents.extend([0.0] * 128),
        ),
        "output": lambda m: m.outputs.add(name="nothing"),
        "timeout": lambda m: m.parameters.add(
            key="timeout", value=messages().Value(int64_param=-1)
        ),
        "channels": lambda m: m.inputs[0].shape.__setitem__(slice(None), [1, 2, 8, 8]),
    }
    for name, change in changes.items():
        message = infer_request(x)
        change(message)
        yield name, message
    yield "no message of the protocol", b"\xff\xff\xff"
    images = infer_request(x, model="detector-images")
    yield "tensors for images", images


def test_malformed_messages_are_invalid_arguments_and_leave_nothing_reserved(files):
    async def ask(service, client):
        codes = {name: await refused(client("ModelInfer", some)) for name, some in malformed()}
        sound = await client("ModelInfer", infer_request(np.zeros((1, 1, 8, 8))))
        return codes, service.queue.waiting, service.gate.requests, len(sound.outputs)

    codes, waiting, requests, outputs = run(files, ask)
    assert {n: c for n, c in codes.items() if c != "INVALID_ARGUMENT"} == {}
    assert (waiting, requests) == (0, 0) and outputs > 3


def test_any_other_number_of_messages_than_one_is_unimplemented(files):
    """The code that gRPC's doc/statuscodes.md has for it; the second message was passed over."""

    async def ask(service, client):
        one = infer_request(np.zeros((1, 1, 8, 8)))
        codes = [
            await refused(client.stream("ModelInfer", *sent)) for sent in ([], [one] * 2, [one] * 3)
        ]
        named = messages().Named(name="detector")
        codes.append(await refused(client.stream("ModelMetadata", named, named)))
        sound = await client.stream("ModelInfer", one)
        return codes, service.queue.waiting, service.gate.requests, len(sound)

    codes, waiting, requests, answer = run(files, ask)
    assert codes == ["UNIMPLEMENTED"] * 4
    assert (waiting, requests) == (0, 0) and answer > 50


@pytest.mark.parametrize("packed", [None, "Gzip"])
def test_messages_that_are_too_large_are_refused_inflated_too(files, packed):
    how = None if packed is None else grpc.Compression.Gzip

    async def ask(service, client):
        large = infer_request(np.zeros((1000, 1, 8, 8)))
        code = await refused(client("ModelInfer", large, compression=how))
        small = await client("ModelInfer", infer_request(np.zeros((1, 1, 8, 8))), compression=how)
        return code, service.gate.requests, service.queue.reserved, len(small.outputs)

    code, requests, reserved, outputs = run(files, ask, limits=Limits(max_body=100_000))
    assert (code, requests, reserved) == ("RESOURCE_EXHAUSTED", 0, 0) and outputs > 3


def test_typed_contents_have_a_limit_of_their_own(files):
    async def ask(service, client):
        typed = infer_request(np.zeros((100, 1, 8, 8)), raw=False)
        return await refused(client("ModelInfer", typed))

    assert run(files, ask, limits=Limits(max_json=10_000)) == "INVALID_ARGUMENT"


def test_overload_is_refused_before_the_message_is_read(files):
    async def ask(service, client):
        service.queue.measured(1, 1.0)
        service.queue.running += 10
        try:
            await client("ModelInfer", b"never parsed")
        except grpc.aio.AioRpcError as error:
            found = error.code().name, dict(error.trailing_metadata())["grpc-retry-pushback-ms"]
        live = await client("ServerLive")
        service.queue.running -= 10
        return found, live.live

    assert run(files, ask) == (("RESOURCE_EXHAUSTED", "10000"), True)


def test_keys_are_asked_for_but_by_probes(files):
    async def ask(service, client):
        request = infer_request(np.zeros((1, 1, 8, 8)))
        wrong = [("authorization", "Bearer another-key-of-some-length")]
        right = [("authorization", f"Bearer {KEY.decode()}")]
        return (
            await refused(client("ModelInfer", request)),
            await refused(client("ModelInfer", request, metadata=wrong)),
            await refused(client("ServerMetadata")),
            (await client("ServerLive")).live,
            (await client("Check")).status,
            len((await client("ModelInfer", request, metadata=right)).outputs) > 3,
        )

    found = run(files, ask, keys=(KEY,))
    assert found == (*["UNAUTHENTICATED"] * 3, True, 1, True)


def test_before_a_model_is_loaded_calls_are_unavailable(files):
    async def ask(service, client):
        request = infer_request(np.zeros((1, 1, 8, 8)))
        return (
            await refused(client("ModelInfer", request)),
            (await client("ServerReady")).ready,
            (await client("Check")).status,
        )

    assert run(files, ask, start=False) == ("UNAVAILABLE", False, 2)


def test_deadlines_and_clients_that_go_are_not_computed(files):
    async def ask(service, client):
        for task in service.pool.current.tasks:
            task.cancel()
        request = infer_request(np.zeros((1, 1, 8, 8)))
        late = infer_request(np.zeros((1, 1, 8, 8)))
        late.parameters.add(key="timeout", value=messages().Value(int64_param=2_000_000))
        gone = asyncio.create_task(client("ModelInfer", request))
        waiting = asyncio.create_task(client("ModelInfer", late))
        while service.queue.rows < 2:
            await asyncio.sleep(0.01)
        gone.cancel()
        while service.gate.requests > 0:
            await asyncio.sleep(0.01)
        assert service.queue._batch() == []
        return await refused(waiting), service.queue.rows

    assert run(files, ask) == ("DEADLINE_EXCEEDED", 0)


def test_errors_of_a_model_are_internal_and_say_nothing(files, monkeypatch):
    from gradood.serve._subject import LoadedSubject

    def raising(self, x):
        raise RuntimeError("secret /etc/path")

    async def ask(service, client):
        monkeypatch.setattr(LoadedSubject, "tensors", raising)
        return await refused(client("ModelInfer", infer_request(np.zeros((1, 1, 8, 8)))))

    assert run(files, ask) == "INTERNAL"


def test_a_taken_port_is_told(files, capsys):
    async def ask(service, client):
        port = GrpcServer(service, "127.0.0.1", 0)
        with pytest.raises(OSError, match="cannot listen at 127"):
            GrpcServer(service, "127.0.0.1", port.port)
        await port.stop(0)

    run(files, ask)
    assert main(["serve", "--grpc", "70000", "--onnx", "x.onnx"]) == 2
    assert "--grpc" in capsys.readouterr().err
