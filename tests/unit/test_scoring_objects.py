"""Results behind a URL: the same files as in a folder, and a job that goes on."""

import json

import fsspec
import pytest
from scoring_fake import Failing, Fake, content, job, put

from gradood.errors import ConfigError, DataError

OUT = "memory://results/job"


@pytest.fixture
def memory():
    files = fsspec.filesystem("memory")
    files.store.clear()
    yield files
    files.store.clear()
    files.pseudo_dirs[:] = [""]


@pytest.fixture
def images(tmp_path):
    for i in range(40):
        put(tmp_path / "in", f"{i:02}.png", 6 * i)
    (tmp_path / "in" / "17.png").write_bytes(b"")
    return tmp_path / "in"


def objects(memory):
    return {path.rpartition("/")[2]: memory.cat_file(path) for path in memory.find("/results/job")}


def shards(memory):
    return {name: data for name, data in objects(memory).items() if name.endswith(".parquet")}


def manifest(memory):
    lines = [
        line
        for name, data in sorted(objects(memory).items())
        if name == "_manifest.jsonl" or name.isdigit()
        for line in data.splitlines()
    ]
    return [json.loads(line) for line in lines]


def test_shards_and_records_are_those_of_a_folder(images, tmp_path, memory):
    here, there = job(images, tmp_path / "out"), job(images, OUT)
    assert shards(memory) == content(tmp_path / "out")
    assert objects(memory)["_job.json"] == (tmp_path / "out" / "_job.json").read_bytes()
    lines = (tmp_path / "out" / "_manifest.jsonl").read_text().splitlines()
    assert manifest(memory) == [json.loads(line) for line in lines]
    assert (there.out, there.statuses) == (OUT, here.statuses)


def test_a_job_that_was_cut_short_goes_on(images, tmp_path, memory):
    job(images, tmp_path / "whole")
    with pytest.raises(RuntimeError):
        job(images, OUT, Failing(7, RuntimeError("out of order")))
    assert len(shards(memory)) == 2
    rest = Fake()
    assert job(images, OUT, rest).resumed == 2
    assert sum(shape[0] for shape in rest.seen) == 20
    assert shards(memory) == content(tmp_path / "whole")
    nothing = Fake()
    assert job(images, OUT, nothing).complete
    assert nothing.seen == []


def test_a_shard_that_is_gone_or_of_no_line_is_made_again(images, tmp_path, memory):
    job(images, OUT)
    names = sorted(shards(memory))
    memory.rm_file(f"/results/job/{names[1]}")
    memory.pipe_file(f"/results/job/{names[2]}", b"damaged")
    rest = Fake()
    assert job(images, OUT, rest).complete
    assert sum(shape[0] for shape in rest.seen) == 19  # One of these two holds the empty file.
    job(images, tmp_path / "whole")
    assert shards(memory) == content(tmp_path / "whole")


def test_what_is_new_or_changed_is_scored(images, tmp_path, memory):
    job(images, OUT)
    put(images, "03.png", 200)
    put(images, "99.png", 100)
    (images / "20.png").unlink()
    summary = job(images, OUT)
    assert (summary.new, summary.changed, summary.gone, summary.kept) == (1, 1, 1, 38)
    assert any("/_removed/" in path for path in memory.find("/results/job"))
    assert job(images, OUT).new == 0


def test_other_files_another_job_and_unknown_urls_are_refused(images, memory):
    memory.pipe_file("/results/job/notes.txt", b"mine")
    with pytest.raises(ConfigError, match=r"holds files, but no job of gradood's"):
        job(images, OUT)
    memory.rm_file("/results/job/notes.txt")
    job(images, OUT)
    with pytest.raises(ConfigError, match="batch_size was 4 and is 5"):
        job(images, OUT, batch_size=5)
    with pytest.raises(DataError, match="which fsspec does not know"):
        job(images, "nosuch://bucket/x")


def test_a_storage_that_refuses_is_an_environment_error(images, memory, monkeypatch):
    def full(*_, **__):
        raise PermissionError("no write access")

    monkeypatch.setattr(type(memory), "pipe_file", full)
    with pytest.raises(OSError, match="no write access"):
        job(images, OUT)
