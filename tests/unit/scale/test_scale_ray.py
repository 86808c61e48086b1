"""Ray itself: absent, without room, and with actors that are killed."""

import importlib.util
import json
import os
import signal
import subprocess
import sys
import threading
import time

import pytest
import torch
from PIL import Image
from scale_samples import network

import gradood
from gradood.batch import Settings, list_images, load_predictor
from gradood.batch import score_images as score_here
from gradood.data import Preprocess
from gradood.errors import ConfigError
from gradood.scale import Cluster, Subject, score_images

HAS_RAY = importlib.util.find_spec("ray") is not None
needs_ray = pytest.mark.skipif(not HAS_RAY, reason='needs pip install "gradood[ray]"')


@pytest.mark.slow
def test_importing_it_does_not_import_ray():
    code = "import sys, gradood.scale; assert 'ray' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_without_ray_it_says_what_to_install(monkeypatch):
    from gradood.scale._ray_pool import ray_pool

    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ModuleNotFoundError, match=r'pip install "gradood\[ray\]"'):
        ray_pool(Cluster(), None).__enter__()


@pytest.mark.parametrize("on", ["spark", "ray:", "ray://host:10001", "Ray"])
def test_what_is_no_cluster_is_refused(on):
    with pytest.raises(ConfigError, match="--on"):
        Cluster.named(on)


@pytest.mark.parametrize("options", [{"actors": 0}, {"threads": -1}, {"start_timeout": 0}])
def test_numbers_out_of_range_are_refused(options):
    with pytest.raises(ConfigError, match=next(iter(options))):
        Cluster(**options)


def test_an_address_at_which_nobody_listens_is_refused_at_once(monkeypatch):
    import types

    from gradood.scale._ray_pool import _connect

    def init(**options):
        raise AssertionError("Ray would try for minutes")

    ray = types.SimpleNamespace(init=init, shutdown=lambda: None)
    with pytest.raises(OSError, match=r"127\.0\.0\.1:1': ConnectionRefused"):
        _connect(ray, Cluster(address="127.0.0.1:1"))
    monkeypatch.setattr("gradood.scale._ray_pool._PROBE_TIMEOUT", 0.01)
    with pytest.raises(OSError, match=r"no Ray cluster at '10\.255\.255\.1:6379'"):
        _connect(ray, Cluster(address="10.255.255.1:6379"))


@pytest.fixture(scope="module")
def cluster():
    """Ray on this machine, with room for two actors."""
    import warnings

    os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import ray

        ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)
        yield
        ray.shutdown()


@needs_ray
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_shards_are_those_of_one_process_though_an_actor_was_killed(cluster, tmp_path, caplog):
    for i in range(600):
        path = tmp_path / "in" / f"{i:03}.png"
        path.parent.mkdir(exist_ok=True)
        Image.new("RGB", (64, 64), (i % 256, 0, 255 - i % 256)).save(path)
    file = tmp_path / "detector.safetensors"
    monitor = gradood.Monitor(network(), ["energy", "msp"], combine="fisher")
    monitor.calibrate(torch.rand(64, 3, 64, 64, generator=torch.Generator().manual_seed(1)))
    monitor.save(file)
    subject = Subject(model="scale_samples:network", detector=str(file))
    rows = list_images(str(tmp_path / "in"))
    settings = Settings(batch_size=4, shard_rows=20, progress=False)
    stop = threading.Event()
    manifest = tmp_path / "there" / "_manifest.jsonl"

    def kill_first():
        """The first actor that finishes a shard."""
        while not stop.is_set():
            if manifest.exists() and (lines := manifest.read_text().splitlines()):
                os.kill(json.loads(lines[0])["worker"]["pid"], signal.SIGKILL)
                return
            time.sleep(0.005)

    killer = threading.Thread(target=kill_first)
    killer.start()
    try:
        summary = score_images(
            subject,
            rows,
            tmp_path / "there",
            preprocess=Preprocess(),
            settings=settings,
            cluster=Cluster(actors=2, threads=1),
        )
    finally:
        stop.set()
        killer.join()
    assert summary.complete
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        from gradood.artifact import read

        predictor = load_predictor(read(file), subject.load().model)
        identity = predictor.identity(Preprocess().to_dict(), "cpu")
        score_here(
            predictor.monitor,
            rows,
            tmp_path / "here",
            preprocess=Preprocess(),
            identity=identity,
            settings=settings,
        )
    finally:
        torch.set_num_threads(threads)
    here, there = (
        {path.name: path.read_bytes() for path in (tmp_path / name).glob("*.parquet")}
        for name in ("here", "there")
    )
    assert here == there

    assert "ended" in caplog.text


@needs_ray
@pytest.mark.filterwarnings("ignore")
def test_without_room_it_says_what_is_missing(cluster):
    from gradood.scale._ray_pool import ray_pool
    from gradood.scale._tasks import Task, completed

    class Work:
        device, pieces = "cpu", 1

    small = Cluster(actors=1, threads=64, start_timeout=1)
    with ray_pool(small, Work()) as pool, pytest.raises(OSError, match=r"needs 64 CPU.*has CPU 2"):
        list(completed(pool, [Task(0, range(1))]))
