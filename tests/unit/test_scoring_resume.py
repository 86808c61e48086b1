"""A job that is cut short, goes on; what is damaged is noticed, and what is another is refused."""

import errno
import hashlib
import json
import multiprocessing
import os
import random
import signal
import time

import pytest
from scoring_fake import IDENTITY, Failing, Fake, content, job, put, rows

from gradood._io.lock import exclusive
from gradood.batch import Identity
from gradood.errors import ConfigError, DataError


@pytest.fixture
def images(tmp_path):
    for i in range(40):
        put(tmp_path / "in", f"{i:02}.png", 6 * i)
    return tmp_path / "in"


@pytest.mark.parametrize("error", [KeyboardInterrupt(), RuntimeError("out of order")])
@pytest.mark.parametrize("workers", [0, 1])
def test_finished_shards_are_kept_and_not_repeated(images, tmp_path, error, workers):
    job(images, tmp_path / "whole")
    with pytest.raises(type(error)):
        job(images, tmp_path / "out", Failing(7, error), workers=workers)
    assert multiprocessing.active_children() == []
    assert len(content(tmp_path / "out")) == 2
    rest = Fake()
    summary = job(images, tmp_path / "out", rest, workers=workers)
    assert (summary.resumed, summary.shards, summary.complete) == (2, 4, True)
    assert sum(shape[0] for shape in rest.seen) == 20
    assert content(tmp_path / "out") == content(tmp_path / "whole")
    nothing = Fake()
    assert job(images, tmp_path / "out", nothing).finished == 40
    assert nothing.seen == []


def test_killed_at_any_time(images, tmp_path):
    class Slow(Fake):
        def predict(self, data, /):
            time.sleep(0.008)
            return super().predict(data)

    for i in range(40, 300):
        put(images, f"{i}.png", i)
    (images / "41.png").write_bytes(b"")
    settings = {"shard_rows": 20, "batch_size": 4}
    whole = job(images, tmp_path / "whole", **settings)
    rng, kills, seen = random.Random(3), 0, {}
    while kills < 3:
        child = os.fork()
        if child == 0:
            job(images, tmp_path / "out", Slow(), **settings)
            os._exit(0)
        while len(finished(tmp_path / "out")) == len(seen):  # However slow the machine is.
            time.sleep(0.002)
        time.sleep(rng.uniform(0, 0.06))
        os.kill(child, signal.SIGKILL)
        kills += os.waitpid(child, 0)[1] == signal.SIGKILL
        now = finished(tmp_path / "out")
        assert seen.items() <= now.items()  # None was written again.
        seen = now
    assert 0 < len(seen) < 15
    rest = Fake()
    again = job(images, tmp_path / "out", rest, **settings)
    assert again.resumed == len(seen)
    assert seen.items() <= finished(tmp_path / "out").items()
    found = [row["id"] for row in rows(tmp_path / "out")]
    assert len(set(found)) == len(found) == 300
    assert content(tmp_path / "out") == content(tmp_path / "whole")
    assert again.statuses == whole.statuses == {"empty": 1, "ok": 299}
    left = {p.name for p in (tmp_path / "out").iterdir() if p.suffix != ".parquet"}
    assert left == {"_job.json", "_manifest.jsonl", "_summary.json", ".lock"}


def finished(out):
    """Shards that the manifest knows, and when they were written."""
    manifest = out / "_manifest.jsonl"
    lines = manifest.read_text().split("\n")[:-1] if manifest.exists() else []
    names = [json.loads(line)["file"] for line in lines]
    return {name: (out / name).stat().st_mtime_ns for name in names}


def begun(images, out):
    with pytest.raises(RuntimeError):
        job(images, out, Failing(7, RuntimeError()))


@pytest.mark.parametrize(
    ("identity", "settings", "said"),
    [
        ({"artifact": "b" * 64}, {}, r"artifact was \"a{19}…a{7}\" and is \"b{19}…b{7}\""),
        ({"model": "n"}, {}, "model was"),
        ({"preprocess": {"mode": "L"}}, {}, r'preprocess.mode was "RGB" and is "L"'),
        ({"device": "cuda"}, {}, "device was"),
        ({}, {"batch_size": 5}, "batch_size was 4 and is 5"),
        ({}, {"shard_rows": 20}, "shard_rows was 10 and is 20"),
        ({}, {"max_pixels": 9}, "max_pixels was"),
    ],
)
def test_another_job_is_refused(images, tmp_path, identity, settings, said):
    begun(images, tmp_path / "out")
    before = content(tmp_path / "out")
    other = Identity(**{name: getattr(IDENTITY, name) for name in IDENTITY.__slots__} | identity)
    with pytest.raises(ConfigError, match=said):
        job(images, tmp_path / "out", identity=other, **settings)
    assert content(tmp_path / "out") == before
    job(images, tmp_path / "out", max_bad_fraction=0.5, workers=1)  # These change no score.


def test_another_listing_or_monitor_is_refused(images, tmp_path):
    begun(images, tmp_path / "out")
    with pytest.raises(ConfigError, match=r"detectors was \[\"mean\"\] and is \[\"other\"\]"):
        job(images, tmp_path / "out", Fake({"other": None}))
    with pytest.raises(ConfigError, match=r"overrides was \[\] and is \[\"reason\"\]"):
        job(images, tmp_path / "out", Fake(overrides=("reason",)))
    (images / "39.png").rename(images / "zz.png")
    with pytest.raises(ConfigError, match=r"holds results of another job: input.names was"):
        job(images, tmp_path / "out")


def test_a_job_that_finished_nothing_can_be_another(images, tmp_path):
    with pytest.raises(RuntimeError):
        job(images, tmp_path / "out", Failing(0, RuntimeError()))
    assert job(images, tmp_path / "out", shard_rows=20).shards == 2


def test_a_folder_with_other_files_is_refused(images, tmp_path):
    with pytest.raises(ConfigError, match="holds files, but no job of gradood"):
        job(images, images)


def test_two_at_once_are_refused(images, tmp_path):
    (tmp_path / "out").mkdir()
    held = multiprocessing.get_context("fork").Event()
    ready = multiprocessing.get_context("fork").Event()

    def hold():
        with exclusive(tmp_path / "out"):
            ready.set()
            held.wait(20)

    process = multiprocessing.get_context("fork").Process(target=hold)
    process.start()
    assert ready.wait(20)
    with pytest.raises(ConfigError, match="another process is at work on"):
        job(images, tmp_path / "out")
    held.set()
    process.join()
    assert job(images, tmp_path / "out").complete


# -- damage -------------------------------------------------------------------------------


def test_a_torn_line_a_lost_shard_and_a_stray_one(images, tmp_path, caplog):
    job(images, tmp_path / "whole")
    begun(images, tmp_path / "out")
    out = tmp_path / "out"
    shards = sorted(out.glob("*.parquet"))
    (out / "scores-00007-of-00009.parquet").write_bytes(shards[0].read_bytes())
    damaged = bytearray(shards[0].read_bytes())
    damaged[len(damaged) // 2] ^= 1
    shards[0].write_bytes(damaged)
    with (out / "_manifest.jsonl").open("a") as stream:
        stream.write('{"shard":2,"file":"scores-0')
    summary = job(images, out)
    assert summary.resumed == 1
    assert content(out) == content(tmp_path / "whole")
    assert "1 finished shards in" in caplog.text
    lines = (out / "_manifest.jsonl").read_text().splitlines()
    assert sorted(json.loads(line)["shard"] for line in lines) == [0, 1, 2, 3]
    for line in map(json.loads, lines):
        assert hashlib.sha256((out / line["file"]).read_bytes()).hexdigest() == line["sha256"]


def test_a_torn_line_does_not_spoil_the_lines_after_it(images, tmp_path):
    """A job that goes on after a line was cut short can be opened again."""
    out = tmp_path / "out"
    with pytest.raises(RuntimeError):
        job(images, out, Failing(7, RuntimeError("out of order")))
    whole = (out / "_manifest.jsonl").read_text()
    with (out / "_manifest.jsonl").open("a") as stream:
        stream.write('{"shard":2,"fi')
    assert job(images, out).resumed == 2
    lines = (out / "_manifest.jsonl").read_text()
    assert lines.startswith(whole) and [json.loads(line)["shard"] for line in lines.split()] == [
        0,
        1,
        2,
        3,
    ]
    nothing = Fake()
    assert job(images, out, nothing).resumed == 4 and nothing.seen == []


def test_a_manifest_that_is_none(images, tmp_path):
    begun(images, tmp_path / "out")
    (tmp_path / "out" / "_manifest.jsonl").write_text("{}\n")
    with pytest.raises(DataError, match=r"line 1 of .* cannot be read"):
        job(images, tmp_path / "out")


@pytest.mark.parametrize("where", ["shard", "manifest"])
@pytest.mark.skipif(not os.path.exists("/proc/self/fd"), reason="needs /proc")
def test_a_full_disk(images, tmp_path, monkeypatch, where):
    out = tmp_path / "out"
    begun(images, out)
    before, manifest = content(out), (out / "_manifest.jsonl").read_bytes()

    def full(file):
        name = os.readlink(f"/proc/self/fd/{file}")
        if name.endswith("_manifest.jsonl") == (where == "manifest"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", full)
        with pytest.raises(OSError, match=r"No space left on device\. Finished shards are kept"):
            job(images, out)
    assert (out / "_manifest.jsonl").read_bytes() == manifest
    assert before.items() <= content(out).items()
    job(images, tmp_path / "whole")
    assert job(images, out).resumed == 2
    assert content(out) == content(tmp_path / "whole")
