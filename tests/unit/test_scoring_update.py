"""An input that is scored again: what is new or changed is scored, and nothing else."""

import json
import os

import fsspec
import pyarrow.parquet as pq
import pytest
from scoring_fake import Failing, Fake, content, job, put, rows

from gradood.errors import ConfigError


@pytest.fixture
def images(tmp_path):
    for i in range(25):
        put(tmp_path / "in", f"{i:02}.png", 6 * i)
    return tmp_path / "in"


def scores(out):
    found = {row["id"]: row["score"] for row in rows(out)}
    assert len(found) == len(rows(out))
    return found


def did(summary):
    return summary.new, summary.changed, summary.kept, summary.gone


def test_only_what_is_new_or_changed_is_scored(images, tmp_path):
    out = tmp_path / "out"
    assert did(job(images, out)) == (25, 0, 0, 0)
    first = content(out)
    put(images, "03.png", 250)
    put(images, "new.png", 200)
    (images / "24.png").unlink()
    monitor = Fake()
    summary = job(images, out, monitor)
    assert did(summary) == (1, 1, 23, 1)
    assert (summary.rows, summary.finished, summary.complete) == (25, 25, True)
    assert sum(shape[0] for shape in monitor.seen) == 2
    job(images, tmp_path / "fresh")
    assert scores(out) == scores(tmp_path / "fresh")
    fresh = json.loads((tmp_path / "fresh" / "_summary.json").read_text())
    known = json.loads((out / "_summary.json").read_text())
    assert [known[key] for key in ("statuses", "flagged", "unscored")] == [
        fresh[key] for key in ("statuses", "flagged", "unscored")
    ]
    changed = {name for name in first if content(out)[name] != first[name]}
    assert changed == {"scores-00000-of-00003.parquet", "scores-00002-of-00003.parquet"}
    aside = [
        row["id"]
        for path in (out / "_removed").iterdir()
        for row in pq.read_table(path).to_pylist()
    ]
    assert sorted(aside) == ["03.png", "24.png"]
    assert did(job(images, out, Failing(0, AssertionError()))) == (0, 0, 25, 0)


def test_a_change_is_noticed_though_size_and_time_are_as_before(images, tmp_path):
    file = images / "03.png"
    job(images, tmp_path / "out")
    before, status = scores(tmp_path / "out")["03.png"], file.stat()
    old = file.read_bytes()
    put(images, "03.png", 250)
    new = file.read_bytes()
    file.write_bytes(new[: len(old)] + bytes(max(0, len(old) - len(new))))
    os.truncate(file, max(len(old), len(new)))
    put(images, "03.png", 251)
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert did(job(images, tmp_path / "out")) == (0, 1, 24, 0)
    assert scores(tmp_path / "out")["03.png"] != before


def test_a_folder_that_grows_while_runs_are_cut_short(images, tmp_path):
    out = tmp_path / "out"
    with pytest.raises(RuntimeError):
        job(images, out, Failing(3, RuntimeError()))  # One shard of three.
    for i in range(25, 47):
        put(images, f"{i}.png", 3 * i)
    with pytest.raises(RuntimeError):
        job(images, out, Failing(4, RuntimeError()))
    put(images, "00.png", 255)
    put(images, "99.png", 254)
    summary = job(images, out)
    assert did(summary) == (28, 1, 19, 0)
    job(images, tmp_path / "fresh")
    assert scores(out) == scores(tmp_path / "fresh")


def test_an_update_that_is_cut_short_goes_on_bit_by_bit(images, tmp_path):
    for name in ("whole", "out"):
        job(images, tmp_path / name)
    for i in range(25, 47):
        put(images, f"{i}.png", 3 * i)
    put(images, "00.png", 255)
    job(images, tmp_path / "whole")
    with pytest.raises(RuntimeError):
        job(images, tmp_path / "out", Failing(4, RuntimeError()))
    job(images, tmp_path / "out")
    assert content(tmp_path / "out") == content(tmp_path / "whole")


@pytest.mark.parametrize("at", ["job", "aside", "line", "shard"])
def test_killed_while_old_rows_are_taken_out(images, tmp_path, monkeypatch, at):
    out = tmp_path / "out"
    job(images, out)
    put(images, "00.png", 255)
    (images / "11.png").unlink()

    def killed(*arguments):
        raise KeyboardInterrupt

    import gradood.batch._folders as folders
    import gradood.batch._store as store

    real = {"replace": folders.replace}

    def replaced(path, content, verify):
        if {"job": "_job", "aside": "00001-", "shard": "scores-"}.get(at, "?") in path.name[:7]:
            raise KeyboardInterrupt
        real["replace"](path, content, verify)

    with monkeypatch.context() as patch:
        patch.setattr(folders, "replace", replaced)
        if at == "line":
            patch.setattr(store.Store, "_append", killed)
        with pytest.raises(KeyboardInterrupt):
            job(images, out)
    summary = job(images, out)
    assert summary.complete and summary.rows == 24
    job(images, tmp_path / "fresh")
    assert scores(out) == scores(tmp_path / "fresh")


def test_a_shard_that_is_lost_between_updates_is_made_again(images, tmp_path, caplog):
    out = tmp_path / "out"
    job(images, out)
    put(images, "zz.png", 9)
    job(images, out)
    (out / "scores-00001-of-00003.parquet").unlink()
    assert did(job(images, out)) == (10, 0, 16, 0)
    job(images, tmp_path / "fresh")
    assert scores(out) == scores(tmp_path / "fresh")


def test_another_place_is_another_job(images, tmp_path):
    job(images, tmp_path / "out")
    put(tmp_path / "other", "a.png", 1)
    with pytest.raises(ConfigError, match=r"input.place was"):
        job(tmp_path / "other", tmp_path / "out")


def test_more_of_the_same_place(images, tmp_path):
    job(f"{images}[:10]", tmp_path / "out")
    assert did(job(images, tmp_path / "out")) == (15, 0, 10, 0)


def test_what_storages_tell_and_do_not_tell(images, tmp_path, monkeypatch):
    memory = fsspec.filesystem("memory")
    memory.store.clear()
    for path in images.iterdir():
        memory.pipe(f"/inbox/{path.name}", path.read_bytes())
    out = tmp_path / "out"
    job("memory://inbox", out)
    assert did(job("memory://inbox", out)) == (0, 0, 25, 0)
    memory.pipe("/inbox/03.png", (images / "04.png").read_bytes())
    assert did(job("memory://inbox", out)) == (0, 1, 24, 0)
    known = type(memory).info
    monkeypatch.setattr(
        type(memory), "info", lambda self, path, **o: {**known(self, path), "created": None}
    )
    assert did(job("memory://inbox", out)) == (0, 25, 0, 0)
    assert did(job("memory://inbox", out)) == (0, 25, 0, 0)
    memory.store.clear()


def test_what_is_passed_over_is_counted(images, tmp_path):
    for name in ("a.heic", "b.HEIC", "c.txt", "none"):
        (images / name).write_bytes(b"x")
    assert job(images, tmp_path / "out").passed_over == {
        ".heic": 2,
        ".txt": 1,
        "without an ending": 1,
    }
