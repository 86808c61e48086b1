"""The watch beside a server: whose file it is, when it is written, and how it is exchanged."""

import asyncio
import json
import threading
from contextlib import asynccontextmanager
from dataclasses import replace

import httpx
import pytest
import torch

import gradood
from gradood.cli import main
from gradood.errors import ArtifactError, ConfigError, GradoodError
from gradood.serve import Options
from gradood.serve._app import make_app
from gradood.serve._service import Service
from gradood.serve._watching import Watching

pytestmark = pytest.mark.usefixtures("threads")


@asynccontextmanager
async def watched(subject, file):
    """A server, and what asks it once."""
    service = Service(subject, Options(watch=file))
    await service.start()
    transport = httpx.ASGITransport(make_app(service), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:

        async def ask():
            x = torch.rand(1, 1, 8, 8)
            data = {"name": "input", "datatype": "FP32", "shape": x.shape, "data": x.tolist()}
            answer = await client.post("/v2/models/detector/infer", json={"inputs": [data]})
            return answer.json()["model_version"]

        try:
            yield service, ask
        finally:
            await service.stop()


def kept(path):
    return json.loads(path.read_text())["watch"]["seen"]


@pytest.fixture
def subject(files, tmp_path):
    """Of a detector's file that may be replaced, and the monitors that replace it."""
    monitor = files[1]
    path, others = tmp_path / "detector.safetensors", {}
    for name, rows in (("a", 90), ("b", 100)):
        monitor.calibrate(torch.rand(rows, 1, 8, 8), fpr=0.2).save(tmp_path / name)
        others[name] = (tmp_path / name).read_bytes()
    bare = gradood.Monitor(monitor.model, ["energy", "msp"], progress=False)
    bare.calibrate(torch.rand(80, 1, 8, 8), fpr=0.1).save(tmp_path / "bare")
    others["bare"] = (tmp_path / "bare").read_bytes()
    path.write_bytes(others["a"])
    return replace(files[0], detector=str(path)), path, others


def test_a_detector_that_cannot_be_watched_does_not_take_over(subject, tmp_path):
    served_subject, path, others = subject

    async def go():
        async with watched(served_subject, tmp_path / "w") as (service, ask):
            first = service.pool.current.version
            await ask()
            path.write_bytes(others["bare"])
            assert not await service.swap()
            page = service.page()[0].decode()
            assert service.pool.current.version == first
            assert f'gradood_served{{version="{first}"}} 1.0' in page
            assert await ask() == first
            assert service.watching.watch.seen == 2
            path.write_bytes(others["b"])
            assert await service.swap()  # Nothing stands in the way of the next.
            await ask()
            return first, service.pool.current.version

    first, second = asyncio.run(go())
    assert first != second
    assert (kept(tmp_path / f"w.{first}"), kept(tmp_path / "w")) == (2, 1)


def test_every_state_before_is_kept_however_often_versions_alternate(subject, tmp_path):
    served_subject, path, others = subject

    async def go():
        async with watched(served_subject, tmp_path / "w") as (service, ask):
            for name, requests in (("b", 1), ("a", 2), ("b", 3), ("a", 4)):
                for _ in range(requests):
                    await ask()
                path.write_bytes(others[name])
                assert await service.swap()

    asyncio.run(go())
    states = sorted(kept(p) for p in tmp_path.glob("w.*"))
    assert states == [1, 2, 3, 4]


def test_what_comes_while_the_state_is_written_is_written_next(files, tmp_path, monkeypatch):
    watching = Watching(tmp_path / "w", files[0].detector)
    begun, goes_on = threading.Event(), threading.Event()
    save = gradood.Watch.save

    def slowly(watch, path):
        save(watch, path)
        begun.set()
        assert goes_on.wait(60)

    watching.watch.update([0.0])
    monkeypatch.setattr(gradood.Watch, "save", slowly)
    thread = threading.Thread(target=watching.save)
    thread.start()
    assert begun.wait(60)
    watching.watch.update([0.0])
    goes_on.set()
    thread.join()
    watching.close()
    assert kept(tmp_path / "w") == 2


def test_a_state_has_one_keeper(files, tmp_path, capsys):
    detector = files[0].detector
    watching = Watching(tmp_path / "w", detector)
    with pytest.raises(ConfigError, match=r"/w' is in use .* name another file"):
        Watching(tmp_path / "w", detector)
    (tmp_path / "link").symlink_to(tmp_path / "w")
    with pytest.raises(ConfigError, match="is in use"):
        Watching(tmp_path / "link", detector)
    words = ["watch", "--detector", detector, "--state", str(tmp_path / "w")]
    assert main([*words, "--acknowledge", "seen"]) == 2
    assert "name another file" in capsys.readouterr().err
    watching.watch.update([0.0])
    assert main(words) == 0  # To look is allowed, and changes nothing.
    watching.close()
    assert kept(tmp_path / "w") == 1
    Watching(tmp_path / "w", detector).close()
    with pytest.raises(ArtifactError):
        Watching(tmp_path / "w", tmp_path / "w")  # Which leaves it to others.
    Watching(tmp_path / "w", detector).close()


def test_a_detector_that_changes_while_it_is_loaded_is_followed(subject):
    served_subject, path, others = subject

    async def go():
        service = Service(served_subject, Options(follow=True))
        exchange = service.pool.exchange

        async def slowly(*given):
            found = await exchange(*given)
            path.write_bytes(others["b"])
            followed.append(found.version)
            return found

        followed = []
        service.pool.exchange = slowly
        await service.start()
        service.pool.exchange = exchange
        tending = asyncio.create_task(service.tend())
        for _ in range(100):
            await asyncio.sleep(0.1)
            if service.pool.current.version != followed[0]:
                break
        tending.cancel()
        await service.stop()
        return service.pool.current.version, followed[0]

    second, first = asyncio.run(go())
    assert second != first


def test_a_server_that_ends_takes_over_nothing(subject, tmp_path):
    served_subject, path, others = subject

    async def go():
        service = Service(served_subject, Options(watch=tmp_path / "w"))
        await service.start()
        path.write_bytes(others["b"])
        service.stopping = True
        assert not await service.swap()
        await service.stop()
        assert not list(tmp_path.glob("w.*"))

    asyncio.run(go())


WHOLE = {"detectors": ["energy", "msp"], "combined": True}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"detector": "0" * 64}, "of another detector"),
        ({"detector": None}, "a calibration of its own"),
        (
            {"detectors": ["energy"], "combined": False, "detector": ""},
            "and the detector by energy, msp",
        ),
    ],
)
def test_a_graph_of_another_calibration_is_not_watched_by_this_one(files, tmp_path, changes, said):
    """Its scores were compared with another calibration, in silence where there were several."""
    watching = Watching(tmp_path / "w", files[0].detector)
    for same in (watching.sha256, ""):  # Or it does not say.
        watching.follow(files[0].detector, WHOLE | {"detector": same})
    with pytest.raises(GradoodError, match=said):
        watching.follow(files[0].detector, WHOLE | changes)
    watching.close()


def test_an_exchanged_graph_is_watched_by_its_own_detector(subject, tmp_path):
    _, path, others = subject
    watching = Watching(tmp_path / "w", path)
    watching.watch.update([0.0])
    first = watching.sha256
    path.write_bytes(others["b"])
    second = gradood.artifact.read(path).verified.sha256
    watching.follow(path, WHOLE | {"detector": second})
    assert (watching.sha256, watching.watch.seen) == (second, 0)
    assert kept(tmp_path / f"w.{first[:12]}") == 1
    watching.close()


def test_what_cannot_be_watched_is_answered_all_the_same(subject, tmp_path, monkeypatch):
    """A worker's place ended with the error, and the next requests waited for ever."""

    async def go():
        async with watched(subject[0], tmp_path / "w") as (service, ask):
            monkeypatch.setattr(service.watching, "_results", lambda *_: {}["msp.score"])
            return [await ask() for _ in range(3)]

    assert len(set(asyncio.run(go()))) == 1
