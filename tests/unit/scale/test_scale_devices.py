"""Shards made by a process for each device, here CPUs: there is no GPU where the tests run."""

import multiprocessing
import os
import signal
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

import gradood
from gradood.artifact import read
from gradood.batch import Settings, list_images, load_predictor
from gradood.batch import score_images as score_here
from gradood.cli import main
from gradood.data import Preprocess, open_images
from gradood.errors import ConfigError
from gradood.scale import Devices, Loading, Subject, fit, score_images
from gradood.scale._fitting import fitted
from gradood.scale._process_pool import process_pool
from gradood.scale._tasks import Task
from gradood.scale._worker import answered

SETTINGS = Settings(batch_size=4, shard_rows=10, progress=False)


@pytest.fixture(scope="module")
def subject(tmp_path_factory):
    from scale_samples import network

    file = tmp_path_factory.mktemp("devices") / "detector.safetensors"
    preprocess = Preprocess().to_dict()
    monitor = gradood.Monitor(network(), "energy", preprocess=preprocess, progress=False)
    monitor.calibrate(torch.rand(64, 3, 8, 8, generator=torch.Generator().manual_seed(1)))
    monitor.save(file)
    return Subject(model="scale_samples:network", detector=str(file))


@pytest.fixture
def images(tmp_path):
    for i in range(37):
        path = tmp_path / "in" / f"{i:02}.png"
        path.parent.mkdir(exist_ok=True)
        Image.new("RGB", (8, 8), (5 * i, 0, 255 - 5 * i)).save(path)
    (tmp_path / "in" / "13.png").write_bytes(b"no image")
    return tmp_path / "in"


@pytest.fixture
def forked(monkeypatch):
    """Processes by fork, which start at once; they load no GPU here."""
    fork = multiprocessing.get_context("fork")
    monkeypatch.setattr(multiprocessing, "get_context", lambda method=None: fork)


def shards(out):
    return {path.name: path.read_bytes() for path in out.glob("*.parquet")}


def score_local(subject, images, out):
    predictor = load_predictor(read(Path(subject.detector)), subject.load().model)
    return score_here(
        predictor.monitor,
        list_images(str(images)),
        out,
        preprocess=Preprocess(),
        identity=predictor.identity(Preprocess().to_dict(), "cpu"),
        settings=SETTINGS,
    )


def test_shards_are_the_same_bytes_for_any_number_of_devices(subject, images, tmp_path, forked):
    here = score_local(subject, images, tmp_path / "here")
    for text in ("cpu", "cpu:3"):
        out = tmp_path / text
        rows = list_images(str(images))
        there = score_images(subject, rows, out, settings=SETTINGS, cluster=Devices.named(text))
        assert shards(out) == shards(tmp_path / "here")
        assert there.statuses == here.statuses == {"not_an_image": 1, "ok": 36}
        assert (out / "_job.json").read_bytes() == (tmp_path / "here" / "_job.json").read_bytes()


def test_input_and_results_may_be_in_an_object_storage(subject, images, tmp_path, forked):
    import fsspec

    memory = fsspec.filesystem("memory")  # Of this process; forked ones have what was in it.
    for path in images.glob("*.png"):
        memory.pipe_file(f"/photos/{path.name}", path.read_bytes())
    try:
        rows, out = list_images("memory://photos"), "memory://scored/job"
        options = {"settings": SETTINGS, "cluster": Devices.named("cpu:2")}
        summary = score_images(subject, rows, out, **options)
        assert summary.statuses == {"not_an_image": 1, "ok": 36} and summary.complete
        found = {path.rpartition("/")[2]: memory.cat_file(path) for path in memory.find("/scored")}
        kept = {name: data for name, data in found.items() if name.endswith(".parquet")}
        assert len(kept) == 4
        memory.rm_file(f"/scored/job/{min(kept)}")
        again = score_images(subject, rows, out, **options)
        assert again.resumed == 3
        assert memory.cat_file(f"/scored/job/{min(kept)}") == kept[min(kept)]
        local = list_images("memory://photos")
        predictor = load_predictor(read(Path(subject.detector)), subject.load().model)
        identity = predictor.identity(Preprocess().to_dict(), "cpu")
        score_here(
            predictor.monitor,
            local,
            tmp_path / "here",
            preprocess=Preprocess(),
            identity=identity,
            settings=SETTINGS,
        )
        assert shards(tmp_path / "here") == kept
    finally:
        memory.store.clear()
        memory.pseudo_dirs[:] = [""]


@dataclass(frozen=True)
class Ends:
    """Work whose process ends at some tasks, once each."""

    folder: Path
    subject: Subject
    pieces: int = 8
    device = "cpu"

    def on(self, device):
        return replace(self, subject=replace(self.subject, device=device))

    def opened(self):
        return self

    def run(self, task):
        mark = self.folder / str(task.index)
        if task.index % 3 == 0 and not mark.exists():
            mark.write_text("")
            os.kill(os.getpid(), signal.SIGKILL)
        return task.index, self.subject.device


def test_a_process_that_is_killed_is_replaced_on_its_device(tmp_path, forked):
    work = Ends(tmp_path, Subject(model="none"))
    with process_pool(Devices(names=("cpu", "cpu:0")), work) as pool:
        tasks = [Task(n, range(n, n + 1)) for n in range(8)]
        done = [answer.value for _, answer in answered(pool, tasks)]
    assert sorted(index for index, _ in done) == list(range(8))
    assert {device for _, device in done} <= {"cpu", "cpu:0"}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0", "3", "6"]
    assert not [p for p in multiprocessing.active_children() if p.name.startswith("gradood ")]


def test_what_a_process_cannot_open_is_said_here(subject, images, tmp_path, forked):
    from gradood.scale._scoring import ScoreWork, scored

    predictor = load_predictor(read(Path(subject.detector)), subject.load().model)
    work = ScoreWork.of(
        Subject(model="scale_samples:absent", detector=subject.detector),
        predictor,
        Preprocess(),
        SETTINGS,
    )
    rows, identity = list_images(str(images)), predictor.identity({}, "cpu")
    pool_of = partial(process_pool, Devices.named("cpu:2"))
    with pytest.raises(ConfigError, match="no factory 'absent'"):
        scored(work, predictor.monitor, rows, tmp_path / "out", identity, pool_of)


@pytest.mark.filterwarnings("ignore::gradood.errors.GradoodWarning")
def test_a_fit_over_devices_learns_the_bits_of_its_ranges(images, forked, monkeypatch):
    from scale_samples import network, working

    monkeypatch.setattr("gradood.scale._fitting._RANGES", 3)
    (images / "13.png").unlink()
    data, subject = open_images(images), Subject(model="scale_samples:network")
    methods, found = ["knn", "vim", "react", "mahalanobis++"], []
    for place in (None, Devices.named("cpu"), Devices.named("cpu:2")):
        monitor = gradood.Monitor(network(), methods, skip_unusable=True, progress=False)
        if place is None:
            fitted(monitor, data, subject, Loading(batch_size=4), working)
        else:
            fit(monitor, data, subject, loading=Loading(batch_size=4), cluster=place)
        states = monitor.states.items()
        found.append({f"{name}/{key}": x for name, own in states for key, x in own.items()})
    assert found[0].keys() == found[1].keys() == found[2].keys() and len(found[0]) > 5
    for one in found[1:]:
        assert [key for key in one if not torch.equal(one[key], found[0][key])] == []


def tensors(file):
    """Those of a detector as bytes; the file has a date besides."""
    return {name: tensor.numpy().tobytes() for name, tensor in load_file(file).items()}


@pytest.mark.slow
def test_the_commands_fit_and_calibrate_over_devices(images, tmp_path, forked, capsys):
    (images / "13.png").unlink()
    model = ("--model", "scale_samples:network", "--data", str(images), "--batch-size", "4")
    files = {name: str(tmp_path / f"{name}.safetensors") for name in ("a", "b", "one", "two")}
    fit = ("fit", *model, "--methods", "knn,energy", "--devices")
    assert main([*fit, "cpu", "--out", files["a"]]) == 0
    assert main([*fit, "cpu:2", "--out", files["b"]]) == 0
    assert tensors(files["a"]) == tensors(files["b"])
    same = ("--allow-overlap", "a test", "--detector", files["a"], "--out")
    assert main(["calibrate", *model, *same, files["one"]]) == 0
    assert main(["calibrate", *model, *same, files["two"], "--devices", "cpu:2"]) == 0
    assert tensors(files["one"]) == tensors(files["two"])
    capsys.readouterr()
    assert main([*fit[:-3], "--devices", "cpu:2", "--out", str(tmp_path / "c")]) == 2
    assert "--devices was given without --methods" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("cpu", ("cpu",)),
        ("cpu:3", ("cpu", "cpu", "cpu")),
        ("cuda:0, cuda:1", ("cuda:0", "cuda:1")),
        ("cuda:0,cuda:0", ("cuda:0", "cuda:0")),
    ],
)
def test_devices_are_named_by_a_list(text, names):
    devices = Devices.named(text)
    assert devices.names == names and devices.kind == text[:4].strip(":")


@pytest.mark.parametrize("text", ["", "cpu:0", "tpu:x", "cpu,cuda:0", "cuda:0,", "cpu:-1", "2"])
def test_devices_that_are_none_are_refused(text):
    with pytest.raises(ConfigError, match="expected"):
        Devices.named(text)


@pytest.mark.parametrize("text", ["cpu:99999", "cpu:" + "9" * 5000, "cuda:0," * 999 + "cuda:0"])
def test_more_processes_than_a_machine_has_use_for_are_refused(text):
    with pytest.raises(ConfigError, match=r"expected at most \d+ on a machine with \d+ cores"):
        Devices.named(text)


def test_there_are_no_more_processes_than_tasks(tmp_path, forked):
    work = replace(Ends(tmp_path, Subject(model="none")), pieces=2)
    with process_pool(Devices(names=("cpu",) * 5), work) as pool:
        assert len(pool._processes) == 2


def test_no_process_at_all_is_told_as_such():
    with pytest.raises(ConfigError, match="number after cpu is that of the processes"):
        Devices.named("cpu:0")


def test_the_command_spreads_over_devices(subject, images, tmp_path, forked, capsys):
    words = [
        *("score", str(images), "--detector", str(subject.detector), "--workers", "0"),
        *("--model", subject.model, "--batch-size", "4", "--shard-rows", "10"),
    ]
    assert main([*words, "--out", str(tmp_path / "a")]) == 4
    assert main([*words, "--out", str(tmp_path / "b"), "--devices", "cpu:2"]) == 4
    assert shards(tmp_path / "a") == shards(tmp_path / "b") != {}
    capsys.readouterr()
    for more, said in (
        (("--devices", "cpu:2", "--on", "ray"), "--devices and --on"),
        (("--devices", "cpu:2", "--device", "cuda"), "--devices and --device"),
        (("--devices", "cpu:2", "--actors", "2"), "--actors is of --on"),
        (("--devices", "gpu"), "expected such as cuda:0,cuda:1"),
    ):
        assert main([*words, "--out", str(tmp_path / "c"), *more]) == 2
        assert said in capsys.readouterr().err
