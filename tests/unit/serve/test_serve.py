"""The server in this process: workers are threads, so that no test pays for a start of torch."""

import asyncio
import base64
import gc
import gzip
import json
import socket
import struct
import threading
import time
from contextlib import asynccontextmanager
from io import BytesIO

import httpx
import numpy as np
import pytest
import torch
from PIL import Image

import gradood
from gradood.errors import ConfigError
from gradood.serve import Limits, Options, Subject, _worker, keys_of, serve
from gradood.serve._admission import check_exposure
from gradood.serve._app import make_app
from gradood.serve._service import Service

INFER = "/v2/models/detector/infer"
IMAGES = "/v2/models/detector-images/infer"
HEADER = "Inference-Header-Content-Length"


@asynccontextmanager
async def served(subject, **options):
    service = Service(subject, Options(**options))
    await service.start()
    transport = httpx.ASGITransport(make_app(service), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        try:
            yield service, client
        finally:
            await service.stop()


def run(files, body, **options):
    async def go():
        async with served(files[0], **options) as (service, client):
            return await body(service, client)

    return asyncio.run(go())


def body_of(x, **more):
    tensor = {"name": "input", "datatype": "FP32", "shape": list(x.shape), "data": x.tolist()}
    return {"inputs": [tensor], **more}


def columns(answer):
    return {output["name"]: output["data"] for output in answer.json()["outputs"]}


def picture(seed=0, size=(8, 8)):
    pixels = np.random.default_rng(seed).integers(0, 256, size, dtype=np.uint8)
    file = BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


pytestmark = pytest.mark.usefixtures("threads")


def test_decisions_and_scores_are_those_of_predict_whatever_the_batches(files):
    x = torch.rand(120, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    expected = files[1].predict(x)

    async def ask(service, client):
        pieces = x.split([1, 2, 7, 1, 1, 30, 40, 38])
        return await asyncio.gather(*(client.post(INFER, json=body_of(p)) for p in pieces))

    answers = run(files, ask)
    assert {answer.status_code for answer in answers} == {200}
    found = {
        name: np.concatenate([columns(answer)[name] for answer in answers])
        for name in columns(answers[0])
    }
    assert found["is_ood"].tolist() == expected.is_ood.tolist()
    assert found["label"].tolist() == expected.label.tolist()
    np.testing.assert_allclose(found["score"], expected.score, rtol=1e-5)
    np.testing.assert_allclose(found["msp.p_value"], expected["msp"].p_value)


def test_json_and_binary_and_compressed_give_the_same(files):
    x = torch.rand(3, 1, 8, 8)
    raw = x.numpy().tobytes()
    tensor = {"name": "input", "datatype": "FP32", "shape": [3, 1, 8, 8]}
    tensor["parameters"] = {"binary_data_size": len(raw)}
    head = json.dumps(
        {"id": "a", "inputs": [tensor], "parameters": {"binary_data_output": True}}
    ).encode()

    async def ask(service, client):
        plain = await client.post(INFER, json=body_of(x, id="a"))
        headers = {"Inference-Header-Content-Length": str(len(head))}
        binary = await client.post(INFER, content=head + raw, headers=headers)
        zipped = await client.post(
            INFER,
            content=gzip.compress(head + raw),
            headers={**headers, "Content-Encoding": "gzip"},
        )
        return plain, binary, zipped

    plain, binary, zipped = run(files, ask)
    assert binary.content == zipped.content
    length = int(binary.headers["Inference-Header-Content-Length"])
    told = json.loads(binary.content[:length])
    assert (told["id"], told["model_name"]) == ("a", "detector")
    assert len(told["model_version"]) == 12
    place, found = length, {}
    for output in told["outputs"]:
        size = output["parameters"]["binary_data_size"]
        found[output["name"]] = (output["datatype"], binary.content[place : place + size])
        place += size
    assert place == len(binary.content)
    assert np.frombuffer(found["score"][1], "<f8").tolist() == columns(plain)["score"]
    assert found["status"][1] == 3 * (struct.pack("<I", 2) + b"ok")


def test_images_are_scored_and_a_broken_one_has_its_status(files):
    encoded = [base64.b64encode(picture()).decode(), base64.b64encode(b"no image").decode()]
    tensor = {"name": "image", "datatype": "BYTES", "shape": [2], "data": encoded}

    async def ask(service, client):
        return (
            await client.post(IMAGES, json={"inputs": [tensor]}),
            await client.post("/score", content=picture()),
            await client.post("/score", content=b"no image"),
        )

    several, one, none = run(files, ask)
    found = columns(several)
    assert found["status"] == ["ok", "not_an_image"]
    assert found["is_ood"][1] is True and found["score"][1] == 3.4028235e38
    assert found["p_value"][1] == 0 and found["label"][1] == -1
    assert one.json()[0]["score"] == pytest.approx(found["score"][0])
    assert none.status_code == 400 and "not_an_image" in none.json()["error"]


def test_what_is_not_finite_is_out_of_distribution_and_json_stays_strict(files):
    x = torch.rand(2, 1, 8, 8)
    x[1, 0, 0, 0] = torch.nan
    raw = x.numpy().tobytes()
    tensor = {"name": "input", "datatype": "FP32", "shape": [2, 1, 8, 8]}
    tensor["parameters"] = {"binary_data_size": len(raw)}
    head = json.dumps({"inputs": [tensor]}).encode()

    async def ask(service, client):
        headers = {"Inference-Header-Content-Length": str(len(head))}
        return await client.post(INFER, content=head + raw, headers=headers)

    found = columns(run(files, ask))
    assert found["status"] == ["ok", "nonfinite_input"]
    assert found["is_ood"][1] is True and found["score"][1] == 3.4028235e38


def malformed():
    good = body_of(torch.rand(1, 1, 8, 8))

    def but(**changes):
        made = json.loads(json.dumps(good))
        made["inputs"][0].update(changes)
        return json.dumps(made)

    yield "no json", b"{", {}
    yield "not utf-8", b"\xff\xfe", {}
    yield "a list", b"[]", {}
    yield "a number", b"7", {}
    yield "nan", but(data=[0]).replace("[0]", "[NaN]"), {}
    yield "infinity", but(data=[0]).replace("[0]", "[-Infinity]"), {}
    yield "deep", b"[" * 100_000, {}
    yield "no inputs", b"{}", {}
    yield "inputs no list", b'{"inputs": {}}', {}
    yield "two inputs", json.dumps({"inputs": good["inputs"] * 2}), {}
    yield "input no object", b'{"inputs": [3]}', {}
    yield "other name", but(name="x"), {}
    yield "other type", but(datatype="FP64"), {}
    yield "unknown type", but(datatype="PICKLE"), {}
    yield "no shape", but(shape=None), {}
    yield "negative", but(shape=[-1, 1, 8, 8]), {}
    yield "fraction", but(shape=[1.5, 1, 8, 8]), {}
    yield "true", but(shape=[True, 1, 8, 8]), {}
    yield "huge", but(shape=[1, 2**40, 2**40, 8]), {}
    yield "many dimensions", but(shape=[1] * 9), {}
    yield "empty", but(shape=[0, 1, 8, 8], data=[]), {}
    yield "too little", but(data=[1.0]), {}
    yield "ragged", but(data=[[1.0], [1.0, 2.0]]), {}
    yield "strings", but(data=["a"] * 64), {}
    yield "objects", but(data=[{}] * 64), {}
    yield "nulls", but(data=[None] * 64), {}
    yield "booleans", but(data=[True] * 64), {}
    yield "data a string", but(data="abc"), {}
    yield "no data", but(data=None), {}
    yield "one dimension", but(shape=[64], data=[0.0] * 64), {}
    yield "wrong channels", but(shape=[1, 3, 8, 8], data=[0.0] * 192), {}
    yield "parameters", but(parameters=3), {}
    yield "size", but(parameters={"binary_data_size": 99}), {}
    yield "both", but(parameters={"binary_data_size": 0}), {}
    yield "timeout", json.dumps({**good, "parameters": {"timeout": "soon"}}), {}
    yield "outputs", json.dumps({**good, "outputs": [{"name": "secret"}]}), {}
    yield "output nameless", json.dumps({**good, "outputs": [{}]}), {}
    yield "header too long", json.dumps(good), {"Inference-Header-Content-Length": "99999"}
    yield "header no number", json.dumps(good), {"Inference-Header-Content-Length": "-1"}
    yield "header of many digits", json.dumps(good), {HEADER: "9" * 5000}
    yield "no gzip", json.dumps(good), {"Content-Encoding": "gzip"}
    yield "cut gzip", gzip.compress(json.dumps(good).encode())[:-9], {"Content-Encoding": "gzip"}
    whole = gzip.compress(json.dumps(good).encode())
    yield "something after gzip", whole + b"more" * 9, {"Content-Encoding": "gzip"}
    yield "gzip twice", whole + whole, {"Content-Encoding": "gzip"}
    yield "brotli", json.dumps(good), {"Content-Encoding": "br"}


def test_malformed_bodies_are_refused_with_a_sentence_and_without_a_path(files):
    cases = list(malformed())
    assert len(cases) >= 40

    async def ask(service, client):
        return [await client.post(INFER, content=body, headers=h) for _, body, h in cases]

    for (name, _, _), answer in zip(cases, run(files, ask), strict=True):
        assert answer.status_code in (400, 413, 415), (name, answer.status_code, answer.text)
        text = answer.json()["error"]
        assert text and "/" not in text and "Traceback" not in text, (name, text)


def test_urls_and_paths_are_no_images(files):
    async def ask(service, client):
        tensor = {"name": "image", "datatype": "BYTES", "shape": [1]}
        return [
            await client.post(IMAGES, json={"inputs": [{**tensor, "data": [data]}]})
            for data in ("file:///etc/passwd", "http://127.0.0.1/x.png", 3)
        ]

    assert [answer.status_code for answer in run(files, ask)] == [400] * 3


def test_limits_of_body_inflation_and_rows(files):
    limits = Limits(max_body=10_000, max_json=5_000, max_rows=4)
    bomb = gzip.compress(b" " * 5_000_000)

    async def ask(service, client):
        async def chunks():
            for _ in range(30):
                yield b" " * 1000

        x = torch.zeros(5, 1, 1, 1)
        return [
            await client.post(INFER, content=b" " * 10_001),
            await client.post(INFER, content=chunks()),
            await client.post(INFER, content=bomb, headers={"Content-Encoding": "gzip"}),
            await client.post(INFER, content=b" " * 6_000),
            await client.post(INFER, json=body_of(x)),
        ]

    assert [answer.status_code for answer in run(files, ask, limits=limits)] == [413] * 5


def test_a_queue_that_is_too_long_refuses_before_the_body_is_read(files):
    async def ask(service, client):
        service.queue.measured(1, 100.0)
        service.queue.running += 1
        read = []

        async def body():
            read.append(1)
            yield b"{}"

        refused = await client.post(INFER, content=body())
        probe = await client.get("/v2/health/live")
        page = await client.get("/metrics")
        service.queue.running -= 1
        return refused, probe, page, read

    refused, probe, page, read = run(files, ask)
    assert refused.status_code == 503 and int(refused.headers["retry-after"]) >= 1
    assert refused.headers["connection"] == "close"
    assert not read
    assert probe.json() == {"live": True} and page.status_code == 200


def test_reservations_are_given_back_however_a_request_ends(files):
    async def ask(service, client):
        for _, body, headers in malformed():
            await client.post(INFER, content=body, headers=headers)
        await client.post(INFER, json=body_of(torch.rand(1, 1, 8, 8)))
        return service.queue.waiting, service.gate.requests

    assert run(files, ask) == (0, 0)


def test_a_deadline_that_passes_in_the_queue_is_not_computed(files):
    async def ask(service, client):
        for task in service.pool.current.tasks:
            task.cancel()
        asked = asyncio.create_task(
            client.post(INFER, json=body_of(torch.rand(1, 1, 8, 8), parameters={"timeout": 1000}))
        )
        await asyncio.sleep(0.05)
        assert service.queue._batch() == []
        return await asked

    assert run(files, ask).status_code == 504


def test_a_deadline_may_be_as_far_as_can_be_written(files):
    x = torch.rand(1, 1, 8, 8)

    async def ask(service, client):
        times = (2**63 - 1, 10**400)
        found = [
            await client.post(INFER, json=body_of(x, parameters={"timeout": t})) for t in times
        ]
        return [answer.status_code for answer in found]

    assert run(files, ask) == [200, 200]


def test_a_client_that_is_gone_is_not_computed(files):
    async def ask(service, client):
        for task in service.pool.current.tasks:
            task.cancel()
        asked = asyncio.create_task(client.post(INFER, json=body_of(torch.rand(1, 1, 8, 8))))
        await asyncio.sleep(0.05)
        assert service.queue.rows == 1
        asked.cancel()
        await asyncio.sleep(0.01)
        return service.queue.waiting, service.queue._batch(), service.queue.rows

    assert run(files, ask) == (0, [], 0)


def test_an_error_that_no_client_waits_for_is_no_word_of_asyncio(files, monkeypatch):
    goes_on, told = threading.Event(), []

    def fails(*_):
        assert goes_on.wait(60)
        return {"error": "x", "status": 500}, b""

    monkeypatch.setattr(_worker, "_answered", fails)

    async def ask(service, client):
        asyncio.get_running_loop().set_exception_handler(lambda _, about: told.append(about))
        asked = asyncio.create_task(client.post(INFER, json=body_of(torch.rand(1, 1, 8, 8))))
        while not service.queue.running:
            await asyncio.sleep(0.01)
        asked.cancel()
        await asyncio.wait([asked])
        goes_on.set()
        while service.queue.running:
            await asyncio.sleep(0.01)
        del asked
        gc.collect()
        await asyncio.sleep(0.01)

    run(files, ask)
    assert told == []


def test_a_worker_that_ends_while_nobody_asks_is_replaced(files):
    """Its end was seen at the next request alone, which it cost, and it counted as ready."""

    async def ask(service, client):
        before = next(iter(service.pool.current.workers))
        before.process.send_signal(9)
        body = body_of(torch.rand(1, 1, 8, 8))
        for wait in (0.0, 0.05):  # A request at once, and one before which it is noticed.
            await asyncio.sleep(wait)
            assert (await client.post(INFER, json=body)).status_code == 200
        assert before not in service.pool.current.workers and service.pool.ready
        (worker,) = service.pool.current.workers
        worker.process.send_signal(9)
        async with asyncio.timeout(30):
            while service.pool.ready:
                await asyncio.sleep(0)
            noticed = (await client.get("/v2/health/ready")).status_code
            while not service.pool.ready:
                await asyncio.sleep(0.01)
        return noticed, service

    noticed, service = run(files, ask)
    assert noticed == 503 and service.metrics.deaths._value.get() == 2 and not service.broken
    assert service.queue.waiting == 0


def test_a_request_that_ends_its_worker_costs_itself_alone(files, monkeypatch):

    answered = _worker._answered

    def poisoned(loaded, head, body):
        if b"\x00\x00\xf6\x42" in bytes(body):  # 123.0
            raise OSError("as if killed")
        return answered(loaded, head, body)

    monkeypatch.setattr(_worker, "_answered", poisoned)
    poison = torch.rand(1, 1, 8, 8)
    poison[0, 0, 0, 0] = 123.0

    async def ask(service, client):
        bodies = [body_of(torch.rand(2, 1, 8, 8)) for _ in range(5)]
        bodies.insert(2, body_of(poison))
        answers = await asyncio.gather(*(client.post(INFER, json=body) for body in bodies))
        later = await client.post(INFER, json=bodies[0])
        return [answer.status_code for answer in answers], later.status_code, service

    statuses, later, service = run(files, ask)
    assert statuses == [200, 200, 503, 200, 200, 200] and later == 200
    assert service.metrics.deaths._value.get() == 2 and not service.broken


@pytest.mark.parametrize(("error", "answered"), [(ConnectionResetError, 200), (EOFError, 503)])
def test_a_request_that_its_worker_had_not_read_is_tried_again_once(files, error, answered):
    """A worker that is killed by others ends with what it had not read yet."""

    async def ask(service, client):
        before = next(iter(service.pool.current.workers))

        async def ended(batch):
            if error is EOFError:
                raise asyncio.IncompleteReadError(b"", 12)
            raise error

        before.ask = ended
        body = body_of(torch.rand(1, 1, 8, 8))
        first = await client.post(INFER, json=body)
        return first.status_code, (await client.post(INFER, json=body)).status_code, service

    first, later, service = run(files, ask)
    assert (first, later) == (answered, 200)
    assert service.metrics.deaths._value.get() == 1 and service.queue.waiting == 0


def test_a_model_that_raises_is_an_error_of_that_request(files, monkeypatch):
    from gradood.serve._subject import LoadedSubject

    tensors = LoadedSubject.tensors

    def raising(self, x):
        if (x == 5).any():
            raise RuntimeError("secret /etc/path")
        return tensors(self, x)

    monkeypatch.setattr(LoadedSubject, "tensors", raising)

    async def ask(service, client):
        bodies = [body_of(torch.rand(1, 1, 8, 8)), body_of(torch.full((1, 1, 8, 8), 5.0))]
        return await asyncio.gather(*(client.post(INFER, json=body) for body in bodies))

    good, bad = run(files, ask)
    assert (good.status_code, bad.status_code) == (200, 500)
    assert "secret" not in bad.text


def test_a_worker_that_answers_nonsense_is_replaced_and_nobody_waits(files, monkeypatch):
    monkeypatch.setattr(_worker, "_answered", lambda *_: ({"arrays": [["a", "FP32", [3], 9]]}, b""))

    async def ask(service, client):
        answers = [await client.post(INFER, json=body_of(torch.rand(1, 1, 8, 8))) for _ in "ab"]
        while not service.pool.ready:
            await asyncio.sleep(0.01)
        return [answer.status_code for answer in answers], (await client.get("/metrics")).text

    codes, page = run(files, ask)
    assert codes == [503, 503] and "gradood_worker_deaths_total 2.0" in page


def test_a_model_is_not_ready_where_the_server_is_not(files):
    async def ask(service, client):
        paths = ("/v2/health/ready", "/v2/models/detector/ready")
        service.stopping = True
        return [(await client.get(path)).status_code for path in paths]

    assert run(files, ask) == [503, 503]


@pytest.mark.parametrize("name", ["", "a/b", "a\n", "\udce9"])
def test_a_name_that_no_address_can_have_is_refused(name):
    with pytest.raises(ConfigError, match="can be in no address"):
        Options(name=name)


class Slowly:
    """A body of which the rest comes when it is told to."""

    def __init__(self, body):
        self.body, self.rest, self.begun = body, asyncio.Event(), asyncio.Event()

    async def __aiter__(self):
        yield self.body[:50]
        self.begun.set()
        await self.rest.wait()
        yield self.body[50:]


@pytest.mark.parametrize("comes", [True, False])
def test_a_body_that_comes_while_the_server_ends_is_answered_or_refused_in_time(files, comes):
    body = Slowly(json.dumps(body_of(torch.rand(1, 1, 8, 8))).encode())

    async def ask(service, client):
        asked = asyncio.create_task(client.post(INFER, content=aiter(body)))
        await body.begun.wait()
        stopping = asyncio.create_task(service.stop())
        await asyncio.sleep(0.2)
        if comes:
            body.rest.set()
        async with asyncio.timeout(20):
            answer = await asked
            await stopping
        late = await client.post(INFER, json=body_of(torch.rand(1, 1, 8, 8)))
        return answer.status_code, answer.json().get("error"), late.status_code

    expected = (200, None, 503) if comes else (503, "the server ends.", 503)
    assert run(files, ask, grace=30.0 if comes else 1.0) == expected


def test_a_batch_that_does_not_end_does_not_keep_the_server(files, monkeypatch):
    def stuck(*_):
        time.sleep(3)
        return {"error": "late", "status": 500}, b""

    monkeypatch.setattr(_worker, "_answered", stuck)

    async def ask(service, client):
        asked = asyncio.create_task(client.post(INFER, json=body_of(torch.rand(1, 1, 8, 8))))
        while not service.queue.running:
            await asyncio.sleep(0.01)
        start = time.monotonic()
        await service.stop()
        return (await asked).status_code, time.monotonic() - start

    code, seconds = run(files, ask, grace=0.5)
    assert code == 503 and seconds < 2


def test_a_deadline_is_told_when_it_passes_and_not_when_a_worker_is_free(files, monkeypatch):
    answered, goes_on = _worker._answered, threading.Event()

    def slowly(*given):
        assert goes_on.wait(60)
        return answered(*given)

    monkeypatch.setattr(_worker, "_answered", slowly)
    x = torch.rand(1, 1, 8, 8)

    async def ask(service, client):
        soon = body_of(x, parameters={"timeout": 100_000})
        taken = asyncio.create_task(client.post(INFER, json=soon))
        while not service.queue.running:
            await asyncio.sleep(0.01)
        late = await client.post(INFER, json=soon)
        assert not taken.done()  # It is computed, so that it is answered.
        goes_on.set()
        return late.status_code, (await taken).status_code, service.queue.waiting

    assert run(files, ask) == (504, 200, 0)


def test_a_new_detector_takes_over_and_a_broken_one_does_not(files, tmp_path):
    subject, monitor = files
    path = tmp_path / "detector.safetensors"
    monitor.save(path)
    from dataclasses import replace

    async def go():
        async with served(replace(subject, detector=str(path)), watch=tmp_path / "w") as (
            service,
            client,
        ):
            first = service.pool.current.version
            monitor.calibrate(torch.rand(90, 1, 8, 8), fpr=0.2).save(path)
            asked = [
                asyncio.create_task(client.post(INFER, json=body_of(torch.rand(1, 1, 8, 8))))
                for _ in range(20)
            ]
            assert await service.swap()
            second = service.pool.current.version
            answers = await asyncio.gather(*asked)
            path.write_bytes(b"broken")
            assert not await service.swap()
            ready = await client.get("/v2/health/ready")
            return first, second, answers, ready.status_code, service.pool.current.version

    first, second, answers, ready, third = asyncio.run(go())
    assert first != second == third and ready == 200
    assert {answer.status_code for answer in answers} == {200}
    assert {answer.json()["model_version"] for answer in answers} <= {first, second}
    assert (tmp_path / "w").exists() and (tmp_path / f"w.{first}").exists()


def test_keys_are_asked_for_but_not_by_probes(files, tmp_path):
    key = "k" * 20
    (tmp_path / "keys").write_text(f"# of the gateway\n{key}\n")
    keys = keys_of(tmp_path / "keys")

    async def ask(service, client):
        def auth(value):
            return {"Authorization": value}

        return [
            (await client.get("/v2/health/live")).status_code,
            (await client.get("/metrics")).status_code,
            (await client.get("/metrics", headers=auth(f"Bearer {key}x"))).status_code,
            (await client.get("/metrics", headers=auth(f"Basic {key}"))).status_code,
            (await client.get("/metrics", headers=auth(f"Bearer {key}"))).status_code,
            (await client.post(INFER, content=b"")).status_code,
        ]

    assert run(files, ask, keys=keys) == [200, 401, 401, 401, 200, 401]
    (tmp_path / "keys").write_text("short\n")
    with pytest.raises(ConfigError, match="16 characters"):
        keys_of(tmp_path / "keys")


def test_an_address_for_others_needs_keys():
    check_exposure("127.0.0.1", keys=False, insecure=False)
    check_exposure("0.0.0.0", keys=True, insecure=False)
    with pytest.raises(ConfigError, match="--api-key-file"):
        check_exposure("0.0.0.0", keys=False, insecure=False)


def test_metadata_unknown_models_and_metrics(files):
    from prometheus_client.parser import text_string_to_metric_families

    async def ask(service, client):
        paths = ("/v2", "/v2/models/detector", "/v2/models/other", "/nowhere", "/watch")
        told = [await client.get(path) for path in paths]
        await client.post(INFER, json=body_of(torch.rand(3, 1, 8, 8)))
        return told, (await client.get("/metrics")).text

    told, page = run(files, ask)
    assert [answer.status_code for answer in told] == [200, 200, 404, 404, 404]
    assert told[1].json()["inputs"] == [
        {"name": "input", "datatype": "FP32", "shape": [-1, 1, 8, 8]}
    ]
    families = list(text_string_to_metric_families(page))
    samples = [sample for family in families for sample in family.samples]
    assert len(samples) <= 200 and all(s.name.startswith("gradood_") for s in samples)
    items = {s.labels["status"]: s.value for s in samples if s.name == "gradood_items_total"}
    assert items == {"ok": 3.0}


def test_the_watch_raises_its_alarm_when_the_stream_changes(files, tmp_path):
    odd = torch.rand(1, 1, 8, 8) * 40 - 20

    async def ask(service, client):
        for _ in range(60):
            x = odd + torch.randn(1, 1, 8, 8)
            await client.post(INFER, json=body_of(x))
        return (await client.get("/watch")).json(), (await client.get("/metrics")).text

    told, page = run(files, ask, watch=tmp_path / "watch.json")
    assert told["seen"] == 60
    assert "gradood_watch_items 60.0" in page
    assert f"gradood_watch_alarm {float(told['alarm'])}" in page
    again = gradood.Watch.load(tmp_path / "watch.json", files[0].detector)
    assert again.seen == 60


def test_a_taken_port_and_a_damaged_file_are_told_before_anything_is_loaded(files, tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(OSError, match="cannot listen"):
            serve(files[0], Options(port=taken.getsockname()[1]))
    (tmp_path / "bad").write_bytes(b"x" * 100)
    with pytest.raises(gradood.errors.ArtifactError):
        serve(Subject(detector=str(tmp_path / "bad"), model="digits_net"), Options(port=0))
